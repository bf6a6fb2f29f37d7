"""The page: self-contained, escaped, complete, and honest about what it shows."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from zsad.errors import ZsadError
from zsad.report import Example, groups, write_page


class Page(HTMLParser):
    """Tags and text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data.strip())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def example(score: float, label: int, heading: str = "gear, crack") -> Example:
    mask = np.eye(4) > 0 if label else None
    return Example(heading, score, label, "", Image.new("RGB", (12, 8)), np.full((4, 4), score), mask)


def write(tmp_path: Path, **options: Any) -> str:
    row = {"class": "gear", "n": 12, "auroc": 0.91234}
    filled = {
        "title": "Title",
        "subtitle": "below",
        "table": [row, {"class": "mean", "n": 12, "auroc": float("nan")}],
        "columns": [("class", "class"), ("n", "images"), ("auroc", "AUROC")],
        "examples": [example(0.9, 1), example(0.2, 0)],
        "facts": [("method", "none")],
    }
    write_page(tmp_path / "page.html", **{**filled, **options})
    return (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_note_stands_below_the_table(tmp_path: Path) -> None:
    html = write(tmp_path, note="what to know")
    assert html.index("</table>") < html.index("what to know") < html.index("<h2>Scores")
    assert '<p class="quiet"></p>' not in write(tmp_path)


def test_the_page_needs_nothing_else(tmp_path: Path) -> None:
    html = write(tmp_path)
    page = Page(html)
    assert not [tag for tag in ("script", "link", "iframe", "object") if page.all(tag)]
    assert page.all("img") and all((image["src"] or "").startswith("data:image/") for image in page.all("img"))
    assert not re.search(r"url\(|@import|https?:", html)


def test_every_picture_decodes_and_has_words(tmp_path: Path) -> None:
    images = Page(write(tmp_path)).all("img")
    for image in images:
        data = base64.b64decode((image["src"] or "").partition(",")[2])
        Image.open(io.BytesIO(data)).verify()
    assert len(images) == 1 + 3 + 2 and all(image["alt"] for image in images)  # scale, anomalous, normal


def test_what_comes_from_outside_is_escaped(tmp_path: Path) -> None:
    evil = '<script>alert("x")</script>'
    options = {
        "title": evil,
        "subtitle": evil,
        "facts": [(evil, evil)],
        "note": evil,
        "examples": [example(0.5, 1, evil)],
    }
    html = write(tmp_path, table=[{"class": evil}], columns=[("class", evil)], **options)
    assert "<script" not in html and evil in Page(html).words


def test_numbers_have_three_decimals_and_the_mean_stands_out(tmp_path: Path) -> None:
    page = Page(write(tmp_path))
    assert {"0.912", "12", "–"} <= set(page.words)
    assert [row.get("class") for row in page.all("tr")] == [None, None, "mean"]


def test_groups_show_the_best_and_the_worst_and_no_image_twice() -> None:
    examples = [example(i / 20, i % 2) for i in range(20)]
    found = {heading: chosen for heading, _, chosen in groups(examples, each=2)}
    assert [e.score for e in found["Clear hits"]] == [19 / 20, 17 / 20]
    assert [e.score for e in found["Worst misses"]] == [1 / 20, 3 / 20]
    assert [e.score for e in found["Worst false alarms"]] == [18 / 20, 16 / 20]
    shown = [id(e) for chosen in found.values() for e in chosen]
    assert len(found["Random selection"]) == 2 and len(set(shown)) == len(shown)


def test_the_random_selection_is_the_same_every_time() -> None:
    examples = [example(i / 40, i % 2) for i in range(40)]
    assert groups(examples, 3)[-1] == groups(examples, 3)[-1] != groups(examples, 3, seed=1)[-1]


@pytest.mark.parametrize(
    "scores", [[(0.3, 0)], [(0.5, 0), (0.5, 1)], [(-3e-9, 0), (2e-9, 1)], [(1e6, 0), (1e6 + 1, 1)]]
)
def test_the_histogram_counts_every_image(tmp_path: Path, scores: list[tuple[float, int]]) -> None:
    page = Page(write(tmp_path, examples=[example(*pair) for pair in scores], threshold=scores[0][0]))
    titles = [re.search(r"images: (\d+)$", words) for words in page.words]
    assert sum(int(title[1]) for title in titles if title) == len(scores)
    bars = [bar for bar in page.all("rect") if bar["width"] != "11"]
    assert all(0 <= float(bar["x"] or -1) <= 800 and 0 < float(bar["height"] or 0) <= 95 for bar in bars)


def test_a_page_without_examples_or_table_is_still_a_page(tmp_path: Path) -> None:
    page = Page(write(tmp_path, examples=[], table=[], facts=[]))
    assert "Title" in page.words and not page.all("svg") and not page.all("table") and not page.all("img")


def test_a_page_that_cannot_be_written_is_told_by_name(tmp_path: Path) -> None:
    (tmp_path / "page.html").mkdir()
    with pytest.raises(ZsadError, match=r"cannot write .*page\.html"):
        write(tmp_path)
