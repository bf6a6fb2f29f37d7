"""docs/data.md says what the catalog and the rules of reading say."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from zsad.data.catalog import Dataset, catalog
from zsad.data.decoding.rules import Rule
from zsad.data.files import ABNORMAL_NAMES, IMAGE_NAMES, MASK_NAMES, NORMAL_NAMES
from zsad.data.reading import Reading
from zsad.types import Sample

PAGE = (Path(__file__).parents[1] / "docs" / "data.md").read_text()


def row_of(first: str) -> str:
    """The line of a table that begins with a cell."""
    (line,) = (line for line in PAGE.splitlines() if line.startswith(f"| {first} |"))
    return line


@pytest.mark.parametrize("row", catalog().values(), ids=lambda row: row.name)
def test_every_dataset_is_in_the_table_with_all_counts_of_its_test_split(row: Dataset) -> None:
    line = row_of(f"`{row.name}`")
    assert f"[{row.title}]({row.page})" in line and f"| {row.licence} |" in line and f"| {len(row.classes)} |" in line
    assert all(f"{c.normal:,} + {c.anomalous:,}" in line for c in row.counts if c.split == "test")


@pytest.mark.parametrize("rule", Rule)
def test_every_rule_of_reading_is_in_the_table(rule: Rule) -> None:
    assert row_of(rule.note) == f"| {rule.note} | {rule.files} | {rule.done} |"


@pytest.mark.parametrize(
    ("name", "cell"),
    [(field.name, field.default) for field in fields(Reading)],
)
def test_every_switch_of_reading_is_in_the_table_with_its_default(name: str, cell: object) -> None:
    told = f"`{cell}`" if isinstance(cell, str) else f"{cell:,g}" if isinstance(cell, float) else cell
    told = f"{cell:,}" if isinstance(cell, int) else "none" if cell == () else told
    assert row_of(f"`{name}`").split(" | ")[1] == told


@pytest.mark.parametrize(
    ("kind", "words"),
    [("normal", NORMAL_NAMES), ("anomalous", ABNORMAL_NAMES), ("masks", MASK_NAMES), ("images", IMAGE_NAMES)],
)
def test_every_word_that_tells_what_a_folder_holds_is_in_the_table(kind: str, words: tuple[str, ...]) -> None:
    assert row_of(kind) == f"| {kind} | {', '.join(word.replace('_', ' ') for word in words)} |"


def test_every_column_of_a_manifest_is_in_the_table() -> None:
    assert all(row_of(f"`{field.name}`") for field in fields(Sample))
