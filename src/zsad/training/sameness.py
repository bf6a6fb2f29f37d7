"""Whether a run can go on: the same config and the same data, or an error that names what differs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from zsad.data.files import many
from zsad.download import sha256
from zsad.errors import ZsadError

#: keys that may change on the way: where things are and how they are kept. Images are compared by their contents.
FREE = ("data", "root", "targets", "workers", "device", "cache", "cache_folder", "cache_limit", "keep", "save_every")
_NONE = "not there"  # the value of a key that a config lacks
WAYS = "--overwrite starts again, --out names another checkpoint"


def must_be_same_config(folder: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Complain if any key differs that the result depends on.

    Raises:
        ZsadError: Naming each with both values.
    """
    before, after = dict(_flat(old)), dict(_flat(new))
    differ = [key for key in {**before, **after} if before.get(key, _NONE) != after.get(key, _NONE)]
    lines = [f"{key}: {before.get(key, _NONE)}, now {after.get(key, _NONE)}" for key in differ]
    if lines:
        said = "\n  ".join([*lines, WAYS])
        raise ZsadError(f"{folder} was begun with another config, so training cannot go on there:\n  {said}")


def _flat(config: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Keys and values that count, those of inner mappings as outer.inner."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{key}.")
        elif above or key not in FREE:
            yield above + key, json.dumps(value, ensure_ascii=False)


def must_be_same_data(manifest: Path, digest: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Complain unless samples have the same contents, truth and order; the files may have moved.

    Args:
        manifest: What was trained on, in JSON lines.
        digest: Its SHA-256.
        rows: What is to be trained on.

    Raises:
        ZsadError: Saying how many images came, went and changed.
    """
    if not manifest.is_file() or sha256([manifest]) != digest:
        raise ZsadError(f"{manifest} is missing or was changed, so it is not known what was trained on; {WAYS}")
    old = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    if list(map(_truth, old)) == list(map(_truth, rows)):
        return
    before, after = _by_place(old), _by_place(rows)
    changed = sum(before[place] != after[place] for place in before.keys() & after.keys())
    came, went = len(after.keys() - before.keys()), len(before.keys() - after.keys())
    differ = f"{came} came, {went} went, {changed} changed" if came or went or changed else "in another order"
    raise ZsadError(
        f"{manifest.parent} was begun with other images ({differ}, of {many(len(old), 'image')}), "
        f"so training cannot go on there; {WAYS}"
    )


def _truth(row: Mapping[str, Any]) -> dict[str, Any]:
    """All that a row says, but where the files are; of a mask, whether there is one."""
    return {key: bool(value) if key == "mask" else value for key, value in row.items() if key != "image"}


def _by_place(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[Any, ...], dict[str, Any]]:
    return {(row["image"], row["part"], row["class_name"]): _truth(row) for row in rows}
