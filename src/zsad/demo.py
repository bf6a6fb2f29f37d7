"""The demonstration: a method on a labelled folder, as numbers and as one page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from zsad.api import input_size
from zsad.data.images import read_image
from zsad.data.index import samples_of
from zsad.evaluate import Scored, score_samples
from zsad.methods.base import Method
from zsad.report import Example, write_page
from zsad.table import COLUMNS, Row, table


def run(
    method: Method, root: Path, page: Path, progress: Callable[[], None] | None = None
) -> tuple[list[Row], list[str]]:
    """Evaluate a method on a folder and write a page about it.

    Args:
        method: Ready to predict.
        root: A labelled folder, see :func:`zsad.data.index.samples_of`.
        page: The HTML file; it appears whole or not at all.
        progress: Called once per image.

    Returns:
        One row per class, and their mean as the last; the errors of images that could not be read.
    """
    samples = samples_of(root)
    examples: list[Example] = []
    errors: list[str] = []

    def seen() -> Iterator[Scored]:
        for scored in score_samples(method, samples, input_size(method)):
            if scored.error:
                errors.append(scored.error)
            else:
                examples.append(example(scored, method.thresholds.image))
            if progress:
                progress()
            yield scored

    rows = table(seen())
    write_page(
        page,
        title="zsad: defects on drawn objects nobody trained on",
        subtitle=f"{method.name} on {method.backbone.name}, {len(examples)} images of {len(rows) - 1} classes",
        table=[{"class": row.class_name, "images": row.images, **row.values} for row in rows],
        columns=[("class", "class"), ("images", "images"), *COLUMNS],
        examples=examples,
        facts=facts(method),
        note="AUPRO up to a false positive rate of 0.3. AUPRO released: as the code of many papers computes it, "
        "for comparing with them; the two are different numbers.",
        scale=method.shown_range,
        contour=method.contour,
        threshold=method.thresholds.image,
    )
    return rows, errors


def example(scored: Scored, threshold: float) -> Example:
    """A scored sample as the page shows it."""
    sample = scored.sample
    return Example(
        heading=f"{sample.class_name}, {sample.defect or 'unknown'}".replace("_", " "),
        score=scored.score,
        label=int(sample.known_anomalous),
        decision="anomalous" if scored.score >= threshold else "normal",
        image=read_image(sample.image),
        map=scored.map.numpy(),
        mask=None if scored.mask is None else scored.mask.numpy(),
    )


def facts(method: Method) -> list[tuple[str, str]]:
    """What a reader should know about the numbers."""
    learnable = sum(p.numel() for p in method.parameters())
    return [
        ("method", method.name),
        ("backbone", " + ".join(f"{model.name} (sha256 {model.digest[:12]})" for model in method.backbones)),
        ("learned parameters", f"{learnable:,}"),
        ("input", f"{input_size(method)} x {input_size(method)} pixels"),
        ("decision", f"anomalous from {method.thresholds.image:.2f} on, the best F1 on the training images"),
    ]
