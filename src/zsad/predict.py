"""Images to predictions, on disk if wanted: a row for every file, a map and an overlay for every image."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save

from zsad.data.dataset import Batch, Notes, batches
from zsad.data.fit import restore
from zsad.data.images import read_image
from zsad.data.reading import Reading
from zsad.errors import ZsadError
from zsad.evaluate import NOT_FINITE
from zsad.methods.base import Method
from zsad.pictures import overlay, resize_map
from zsad.results import Results, Row
from zsad.types import Sample
from zsad.writing import NameTooLongError

__all__ = ["Row", "predict_files"]


@dataclass(frozen=True)
class _Task:
    """How the files of a run are predicted."""

    method: Method
    size: int
    batch_size: int
    device: torch.device
    threshold: float | None
    contour: float  # value of the map
    names: dict[Path, str]  # what each file shows
    named: str  # the same for settings.json
    reading: Reading
    workers: int
    notes: Notes | None


def predict_files(
    method: Method,
    paths: Sequence[Path],
    out: Path | None,
    *,
    size: int,
    batch_size: int = 8,
    device: str | None = None,
    threshold: float | None = None,
    contour: float | None = None,
    overlays: bool = True,
    maps: bool = True,
    resume: bool = False,
    overwrite: bool = False,
    class_name: str | Mapping[Path, str] = "object",
    reading: Reading = Reading(),
    workers: int = 0,
    notes: Notes | None = None,
    progress: Callable[[int], None] | None = None,
) -> Iterator[Row]:
    """Predict image files: one row each, in their order; a file that cannot be read gives a row with an error.

    To `out` go `maps/<name>.tiff`, float32 at the size of the upright image; `overlays/<name>.png`, see
    :func:`zsad.pictures.overlay`; and, once the last row has been taken, `predictions.csv` and `predictions.jsonl`.
    For the names see :func:`zsad.results.relative_names`. Each file appears whole or not at all. Kept in memory are one
    batch, what workers have read ahead, one image, and a few hundred bytes for every file.

    Args:
        method: Set to evaluation, as its backbone is.
        paths: Image files, as from :func:`zsad.data.files.find_images`.
        out: Folder to write to, made where missing; None writes nothing.
        size: Side of the network input in pixels.
        batch_size: Images that are computed at a time.
        device: Where method and backbone are moved first, as torch names it; None leaves them where the backbone is.
        threshold: Score from which on an image is called anomalous; None decides nothing.
        contour: Value of the map whose contour the overlays show; None takes the method's own threshold.
        overlays: Whether to write overlays.
        maps: Whether to write maps.
        resume: Go on with an earlier run: an image with a row and all its files is not computed again.
        overwrite: Remove the results of an earlier run first.
        class_name: For methods whose prompts name the object: one for all, or one for each file.
        reading: How files become pixels. Maps are those of the whole image, whatever its fit.
        workers: Processes that read ahead; 0 reads in this one.
        notes: Takes the rules that were applied in reading.
        progress: Called before a row is given, with the number of rows including it.

    Raises:
        ZsadError: At once if `out` has results and neither `resume` nor `overwrite` is chosen, or was made with other
            settings or from other files, if results would take the place of an image, or if a file has no class name.
            While rows are taken, if a file cannot be written.
    """
    if resume and overwrite:
        raise ZsadError("--resume goes on with earlier results and --overwrite removes them; choose one")
    paths = [Path(path) for path in paths]
    level = method.contour if contour is None else contour
    place = torch.device(device) if device else method.backbone.logit_scale.device
    names, named = _names(paths, class_name)
    task = _Task(method, size, batch_size, place, threshold, level, names, named, reading, workers, notes)
    if out is None:
        return _counted(_computed(task, paths, None), progress)
    results = Results(Path(out), paths, maps, overlays)
    kept = results.begin(_settings(task), resume, overwrite)
    todo = [path for path in paths if path not in kept]
    return _counted(results.recorded(paths, kept, _computed(task, todo, results)), progress)


def _names(paths: Sequence[Path], given: str | Mapping[Path, str]) -> tuple[dict[Path, str], str]:
    """What each file shows; and the one name of all, or a digest of who is called what."""
    if isinstance(given, str):
        return dict.fromkeys(paths, given), given
    if unnamed := [str(path) for path in paths if path not in given]:
        raise ZsadError(f"{unnamed[0]}: no class name; give one name for all files, or one for each")
    pairs = sorted((os.path.realpath(path), given[path]) for path in paths)
    digest = hashlib.sha256(json.dumps(pairs).encode()).hexdigest()
    return {path: given[path] for path in paths}, f"one for each file, sha256 {digest}"


def _settings(task: _Task) -> dict[str, Any]:
    """What the results depend on, apart from the images."""
    method = task.method
    state = {key: value.detach().cpu().contiguous() for key, value in method.state_dict().items()}
    return {
        "method": method.name,
        "config": {key: str(value) for key, value in dataclasses.asdict(method.config).items()},
        "weights_sha256": hashlib.sha256(save(state)).hexdigest(),
        **method.trained_on,
        **{name: getattr(task, name) for name in ("size", "threshold", "contour")},
        "class_name": task.named,
        "reading": _changed(task.reading),
    }


def _changed(reading: Reading) -> dict[str, Any] | None:
    """The switches that were changed; None where none was, as in runs from before there were any."""
    usual = dataclasses.asdict(Reading())
    return {key: value for key, value in dataclasses.asdict(reading).items() if value != usual[key]} or None


def _counted(rows: Iterator[Row], progress: Callable[[int], None] | None) -> Iterator[Row]:
    for count, row in enumerate(rows, start=1):
        if progress is not None:
            progress(count)
        yield row


def _computed(task: _Task, paths: list[Path], results: Results | None) -> Iterator[Row]:
    """A row for each path in order, once its files are written."""
    for module in (task.method, *task.method.frozen):
        module.to(task.device).eval()
    backbone = task.method.backbone
    read = batches(
        [Sample(path, class_name=task.names[path]) for path in paths],
        task.size,
        backbone.mean,
        backbone.std,
        task.batch_size,
        task.workers,
        with_masks=False,
        reading=task.reading,
        multiple=backbone.visual.size.patch,
    )
    start = time.perf_counter()
    for batch in read:
        if task.notes is not None:
            task.notes.add(batch)
        said = _said(task, batch)
        share = (time.perf_counter() - start) / len(batch.covers)
        for sample in batch.covers:
            start = time.perf_counter()
            row = _saved(task, *said[sample.image], results)
            yield dataclasses.replace(row, seconds=round(share + time.perf_counter() - start, 4))
        start = time.perf_counter()


def _said(task: _Task, batch: Batch) -> dict[Path, tuple[Row, NDArray[np.float32] | None]]:
    """Row and map [H, W] of every image of a batch; no map where there is an error."""
    said: dict[Path, tuple[Row, NDArray[np.float32] | None]] = {
        sample.image: (Row(sample.image, error=error), None) for sample, error in batch.errors
    }
    if not batch.samples:
        return said
    made = task.method.predict(batch.images.to(task.device), [sample.class_name for sample in batch.samples])
    maps = restore(made.map.float(), batch.boxes, (task.size, task.size)).cpu().numpy()
    for sample, score, map in zip(batch.samples, made.score.float().cpu().numpy(), maps, strict=True):
        row = _row(sample.image, score, map, task.threshold)
        said[sample.image] = row, None if row.error else map
    return said


def _row(path: Path, score: np.float32, map: NDArray[np.float32], threshold: float | None) -> Row:
    if not (np.isfinite(score) and np.isfinite(map).all()):
        return Row(path, error=f"{path}: {NOT_FINITE}")
    top, mean, p99 = _short(map.max()), _short(map.mean(dtype=np.float64)), _short(np.percentile(map, 99))
    decision = "" if threshold is None else "anomalous" if score >= np.float32(threshold) else "normal"
    return Row(path, _short(score), top, mean, p99, decision)


def _short(value: np.floating[Any]) -> float:
    """The number with the fewest digits that is the same in single precision."""
    return float(str(np.float32(value)))


def _saved(task: _Task, row: Row, map: NDArray[np.float32] | None, results: Results | None) -> Row:
    """The row, when map and overlay are written; an error if the image is gone by now or its name is too long."""
    if map is None or results is None or not (results.maps or results.overlays):
        return row
    try:
        image = read_image(row.path, task.reading)
    except ZsadError as error:
        return Row(row.path, error=str(error))
    plane = resize_map(map, image.size) if results.maps else None
    try:
        results.save(row.path, plane, _picture(task, row, image, map) if results.overlays else None)
    except NameTooLongError as error:
        return Row(row.path, error=f"{error} for the image")
    return row


def _picture(task: _Task, row: Row, image: Image.Image, map: NDArray[np.float32]) -> Image.Image:
    scale = task.method.shown_range
    return overlay(image, map, scale=scale, score=row.score, decision=row.decision, threshold=task.contour)
