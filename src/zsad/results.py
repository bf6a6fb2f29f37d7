"""The folder of a prediction run: rows, maps and pictures, each written whole, so that a killed run can go on."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from zsad.errors import ZsadError
from zsad.writing import whole, writing


@dataclass(frozen=True)
class Row:
    """What is said about one file, and a row of predictions.csv. Its numbers are NaN where there is an error."""

    path: Path  # as given
    score: float = math.nan  # higher is more anomalous; the range is the method's
    map_max: float = math.nan  # of the map at the size of the network input, as the next two
    map_mean: float = math.nan
    map_p99: float = math.nan  # 99th percentile
    decision: str = ""  # "anomalous" from the threshold on, "normal" below it, "" without a threshold
    error: str = ""  # why there is no prediction
    seconds: float = 0.0  # equal share of reading and computing the batch, and writing this image's files


class Results:
    """Where each file of a run goes, and what an earlier run left there.

    Args:
        out: The folder.
        paths: Every image of the run; they decide the names.
        maps: Whether a map belongs to an image's results.
        overlays: Whether an overlay does.

    Raises:
        ZsadError: If a map or an overlay would be written over one of the images.
    """

    def __init__(self, out: Path, paths: Sequence[Path], maps: bool = True, overlays: bool = True) -> None:
        self.out, self.maps, self.overlays = out, maps, overlays
        self._names = relative_names(paths)
        self._csv, self._jsonl, self._settings = (
            out / name for name in ("predictions.csv", "predictions.jsonl", "settings.json")
        )
        self._running = out / "predictions.jsonl.part"
        self._images = {path: os.path.realpath(path) for path in self._names}
        self._spare_images(map(self.map_file, self._names) if maps else ())
        self._spare_images(map(self.overlay_file, self._names) if overlays else ())

    def map_file(self, path: Path) -> Path:
        """Where the map of an image goes."""
        return self.out / "maps" / f"{self._names[path]}.tiff"

    def overlay_file(self, path: Path) -> Path:
        """Where the overlay of an image goes."""
        return self.out / "overlays" / f"{self._names[path]}.png"

    def begin(self, settings: Mapping[str, Any], resume: bool = False, overwrite: bool = False) -> dict[Path, Row]:
        """Prepare the folder and give the rows of an earlier run that need not be computed again.

        Args:
            settings: All that the results depend on, as JSON values; written to settings.json, with a digest of the
                images' names.
            resume: Go on with what is there.
            overwrite: Remove what is there: rows, settings, and, where the settings are those of a run, all .tiff in
                maps/ and .png in overlays/.

        Raises:
            ZsadError: If there are results and neither is chosen; if they were made with other settings, from other
                files, or with settings that cannot be read; or if one of the images would be removed.
        """
        settings = {**settings, "files_sha256": self._digest()}
        if overwrite:
            self._remove()
        earlier = [file for file in (self._running, self._jsonl, self._csv) if file.exists()]
        if earlier and not resume:
            raise ZsadError(
                f"{self.out} has results of an earlier run ({earlier[0].name}); "
                "--resume goes on with it, --overwrite removes it, --out names another folder"
            )
        if earlier:
            self._check(settings)
        kept = {row.path: row for row in self._earlier_rows() if self._is_complete(row)}
        with whole(self._settings) as part:
            part.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        self._write_lines(kept.values())
        return kept

    def save(self, path: Path, map: NDArray[np.float32] | None, picture: Image.Image | None) -> None:
        """Write what there is of an image's map [H, W] and overlay.

        Raises:
            NameTooLongError: If the image's name is too long for its results.
            ZsadError: If a file cannot be written for another reason.
        """
        if map is not None:
            with whole(self.map_file(path)) as part:
                tifffile.imwrite(part, map)
        if picture is not None:
            with whole(self.overlay_file(path)) as part:
                picture.save(part, "PNG", compress_level=3)  # half the time of 6, as small

    def recorded(self, paths: Sequence[Path], kept: Mapping[Path, Row], computed: Iterator[Row]) -> Iterator[Row]:
        """Rows in the order of `paths`, from `kept` or else the next computed one, each on disk before it is given.

        The two prediction files appear after the last row.
        """
        rows = []
        for path in paths:
            row = kept.get(path)
            if row is None:
                row = next(computed)
                with writing(self._running), self._running.open("a", encoding="utf-8") as file:
                    file.write(_line(row))
            rows.append(row)
            yield row
        self._write_lines(rows)
        with whole(self._csv) as part, part.open("w", encoding="utf-8", errors="surrogateescape", newline="") as table:
            writer = csv.writer(table)
            writer.writerow(field.name for field in fields(Row))
            writer.writerows(("" if value is None else value for value in _values(row).values()) for row in rows)
        with writing(self._jsonl):
            self._running.replace(self._jsonl)

    def _write_lines(self, rows: Iterable[Row]) -> None:
        with whole(self._running) as part, part.open("w", encoding="utf-8") as file:
            file.writelines(map(_line, rows))

    def _earlier_rows(self) -> Iterator[Row]:
        """What can be read of earlier rows; the last line of a killed run may be torn."""
        for file in (self._jsonl, self._running):
            for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
                try:
                    values: dict[str, Any] = json.loads(line)
                    numbers = {key: math.nan for key, value in values.items() if value is None}
                    yield Row(**{**values, **numbers, "path": Path(values["path"])})
                except (ValueError, TypeError, KeyError, AttributeError):
                    continue

    def _is_complete(self, row: Row) -> bool:
        """Whether an image of this run has its prediction and all its files."""
        if row.error or row.path not in self._names:
            return False
        has_map = not self.maps or os.path.exists(self.map_file(row.path))  # False too for a name that is too long
        return has_map and (not self.overlays or os.path.exists(self.overlay_file(row.path)))

    def _digest(self) -> str:
        """Hex SHA-256 of the images' places and names, in whatever order they are given."""
        named = sorted((self._images[path], name) for path, name in self._names.items())
        return hashlib.sha256(json.dumps(named).encode()).hexdigest()

    def _spare_images(self, files: Iterable[Path]) -> None:
        images = set(self._images.values())
        for file in files:
            if os.path.realpath(file) in images:
                raise ZsadError(f"{file} is one of the images, and results would take its place; choose another --out")

    def _check(self, settings: Mapping[str, Any]) -> None:
        old, ways = self._earlier_settings(), "--overwrite removes its results, --out names another folder"
        new = json.loads(json.dumps(settings))
        other = [key for key, value in new.items() if old.get(key) != value]
        if other == ["files_sha256"]:
            raise ZsadError(f"{self.out} was made from other files, so the run cannot go on there; {ways}")
        if other:
            lines = [f"{key}: {old.get(key)!r}, now {new[key]!r}" for key in other]
            said = "\n  ".join([*lines, ways])
            raise ZsadError(f"{self.out} was made with other settings, so the run cannot go on there:\n  {said}")

    def _earlier_settings(self) -> dict[str, Any]:
        """What settings.json says; ZsadError if it is missing or not that of a run."""
        try:
            settings = json.loads(self._settings.read_text(encoding="utf-8"))
            reason = "does not hold the settings of a run"
        except FileNotFoundError:
            settings, reason = None, "is missing"
        except (OSError, ValueError) as error:
            settings, reason = None, f"cannot be read as JSON ({error})"
        if isinstance(settings, dict) and "method" in settings:
            return settings
        raise ZsadError(
            f"{self._settings} {reason}, so it is not known how the results there were made and the run cannot go on; "
            "--overwrite starts again, --out names another folder"
        )

    def _remove(self) -> None:
        files = [self._running, self._jsonl, self._csv]
        with suppress(ZsadError):  # other people's maps/ and overlays/ stay
            self._earlier_settings()
            files += [*(self.out / "maps").rglob("*.tiff"), *(self.out / "overlays").rglob("*.png")]
        self._spare_images(files)
        for file in (*files, self._settings):  # last: a removal that is stopped can be done again
            with writing(file):
                file.unlink(missing_ok=True)


def relative_names(paths: Sequence[Path]) -> dict[Path, str]:
    """A name for every file, with folders: its path below the folder that all share, equal for no two files.

    The suffix is left out, unless two files would then have the same name; then all names keep theirs.

    >>> relative_names([Path("a/1.png"), Path("a/b/1.png")])
    {...Path('a/1.png'): '1', ...Path('a/b/1.png'): 'b/1'}
    >>> relative_names([Path("a/1.png"), Path("a/1.jpg")])
    {...Path('a/1.png'): '1.png', ...Path('a/1.jpg'): '1.jpg'}
    """
    if not paths:
        return {}
    full = {path: Path(os.path.abspath(path)) for path in paths}
    root = os.path.commonpath([path.parent for path in full.values()])
    below = {path: file.relative_to(root) for path, file in full.items()}
    short = {file.with_suffix("").as_posix().casefold() for file in below.values()}
    clash = len(short) < len(set(full.values()))
    return {path: (file if clash else file.with_suffix("")).as_posix() for path, file in below.items()}


def _values(row: Row) -> dict[str, Any]:
    """A row with JSON's values: None in place of NaN."""
    values = {**asdict(row), "path": str(row.path)}
    return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in values.items()}


def _line(row: Row) -> str:
    return json.dumps(_values(row)) + "\n"
