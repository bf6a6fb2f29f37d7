"""docs/training.md says what there is to configure, and its example is read."""

from __future__ import annotations

import re
from pathlib import Path

from zsad.options import shown
from zsad.training.config import KEYS, TrainConfig, read_config
from zsad.training.sameness import FREE

PAGE = (Path(__file__).parents[1] / "docs" / "training.md").read_text()


def test_every_key_is_in_the_table_with_its_default() -> None:
    table = PAGE[PAGE.index("| key | default | |") :].split("\n\n")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]*?) ?\|", table, re.M))
    assert list(rows) == list(KEYS)
    defaults = TrainConfig().values()
    for key, said in rows.items():
        if key not in ("switches", "reading") and said not in ("as published", "by the device"):
            assert said == (shown(defaults[key]).removesuffix(".0") if defaults[key] is not None else "")


def test_the_example_of_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(PAGE[PAGE.index("```yaml") :].split("```")[1].removeprefix("yaml\n"))
    config = read_config(tmp_path / "own.yaml")
    assert config.rate == 5e-4 and config.switches == {"layers": (24,), "guide": "dinov2-b-14-reg"}


def test_the_keys_that_may_change_on_the_way_are_named() -> None:
    sentence = PAGE[PAGE.index("how they are kept may change:") :].split(". ")[0]
    assert tuple(re.findall(r"`(\w+)`", sentence)) == FREE
