"""Numbers and examples as one self-contained HTML page."""

from __future__ import annotations

import base64
import io
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray
from PIL import Image

from zsad.pictures import Map, Scale, colour_bar, fitted, heat
from zsad.writing import whole

SIDE = 260  # longer side of a picture on the page
BINS = 32


@dataclass(frozen=True)
class Example:
    """One image and what was found on it."""

    heading: str  # such as "marble, scratch"
    score: float  # finite
    label: int  # 0 normal, 1 anomalous
    decision: str  # "normal", "anomalous", or "" for none
    image: Image.Image
    map: Map  # [h, w], any size
    mask: NDArray[np.bool_] | None = None  # [h, w] ground truth, any size


@dataclass(frozen=True)
class _Figure:
    """An example as the template shows it."""

    heading: str
    score: str
    truth: str
    decision: str
    pictures: list[tuple[str, str, str]]  # caption, alternative text, data URI


@dataclass(frozen=True)
class _Group:
    heading: str
    words: str
    figures: list[_Figure]


@dataclass(frozen=True)
class _Bar:
    """One bin of the histogram, in the units of the drawing: 0..1 to the right, 0..1 up or down."""

    x: float
    width: float
    height: float
    words: str


def write_page(
    out: Path,
    *,
    title: str,
    subtitle: str,
    table: Sequence[dict[str, float | str]],
    columns: Sequence[tuple[str, str]],
    examples: Sequence[Example],
    facts: Sequence[tuple[str, str]],
    note: str = "",
    scale: Scale = (0.0, 1.0),
    contour: float | None = None,
    threshold: float | None = None,
    each: int = 6,
    seed: int = 0,
) -> None:
    """Write one HTML file that needs nothing else: styles, pictures and drawings are in it, and no script.

    Args:
        out: The file; it appears whole or not at all.
        title: Heading and title of the page.
        subtitle: One line below it.
        table: A row per class. Numbers get three decimals, integers none, NaN a dash. A row is bold where the value of
            the first column is "mean".
        columns: Key and heading of each column, in order.
        examples: The gallery shows the best, the worst and some others; all of them are in the histogram.
        facts: Name and value, for the summary.
        note: Below the table.
        scale: The one colour scale of all maps, see :data:`zsad.pictures.Scale`.
        contour: Value of the maps at which a contour is drawn; None draws none.
        threshold: Score from which on an image is called anomalous, for the histogram; None draws no line.
        each: Examples in each group of the gallery.
        seed: Of the random selection.

    Raises:
        ZsadError: If the file cannot be written.
    """
    environment = Environment(
        loader=PackageLoader("zsad"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["cell"] = cell
    page = environment.get_template("report.html").render(
        title=title,
        subtitle=subtitle,
        table=table,
        columns=columns,
        facts=facts,
        note=note,
        groups=[
            _Group(heading, words, [_figure(example, scale, contour) for example in chosen])
            for heading, words, chosen in groups(examples, each, seed)
        ],
        histogram=_histogram(examples, threshold) if examples else None,
        scale=_uri(colour_bar(240, 14, scale, contour), "PNG"),
        ends=[f"{end:.3g}" for end in scale],
        contour=None if contour is None else f"{contour:.3g}",
    )
    with whole(out) as part:
        part.write_text(page, encoding="utf-8")


def groups(examples: Sequence[Example], each: int, seed: int = 0) -> list[tuple[str, str, list[Example]]]:
    """The groups of the gallery that are not empty: heading, explanation and at most `each` examples.

    No example is in two groups: a miss is not a clear hit again, and the random selection is from the others.
    """
    anomalous = sorted((e for e in examples if e.label == 1), key=lambda e: e.score)
    alarms = sorted((e for e in examples if e.label == 0), key=lambda e: -e.score)[:each]
    misses, hits = anomalous[:each], anomalous[each:][::-1][:each]
    shown = {id(example) for example in (*hits, *misses, *alarms)}
    rest = [example for example in examples if id(example) not in shown]
    drawn = random.Random(seed).sample(rest, min(each, len(rest)))
    found = [
        ("Clear hits", "The anomalous images with the highest scores.", hits),
        ("Worst misses", "The anomalous images with the lowest scores.", misses),
        ("Worst false alarms", "The normal images with the highest scores.", alarms),
        ("Random selection", "Drawn from all other images.", drawn),
    ]
    return [group for group in found if group[2]]


def cell(value: Any) -> str:
    """A value of the table as text.

    >>> [cell(value) for value in (0.91234, 12, "gear", float("nan"))]
    ['0.912', '12', 'gear', '–']
    """
    if isinstance(value, float | np.floating):
        return "–" if math.isnan(value) else f"{value:.3f}"
    return str(value)


def _figure(example: Example, scale: Scale, contour: float | None) -> _Figure:
    photograph = fitted(example.image, SIDE)
    words = f"{example.heading}, score {example.score:.3f}"
    pictures = [
        ("photograph", f"Photograph: {words}", _uri(photograph, "WEBP")),
        ("map", f"Anomaly map: {words}", _uri(heat(photograph, example.map, scale, contour), "WEBP")),
    ]
    if example.mask is not None:
        mask = Image.fromarray(example.mask.astype(np.uint8) * 255).resize(photograph.size, Image.Resampling.NEAREST)
        marked = f"{example.mask.mean():.1%} of the image marked"
        pictures.append(("ground truth", f"Ground truth: {example.heading}, {marked}", _uri(mask.convert("1"), "PNG")))
    truth = "anomalous" if example.label == 1 else "normal"
    return _Figure(example.heading, f"{example.score:.3f}", truth, example.decision, pictures)


def _uri(picture: Image.Image, kind: Literal["WEBP", "PNG"]) -> str:
    """A picture as a data URI."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **({"quality": 85} if kind == "WEBP" else {"optimize": True}))
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _histogram(examples: Sequence[Example], threshold: float | None) -> dict[str, Any]:
    """Bars of both labels, ticks and threshold; heights are shares of the label's images, the highest bar is 1."""
    scores = np.array([e.score for e in examples])
    labels = np.array([e.label for e in examples])
    ends = [*scores, threshold] if threshold is not None else scores
    ticks = _ticks(float(np.min(ends)), float(np.max(ends)))
    low, span = ticks[0], ticks[-1] - ticks[0]
    edges = np.linspace(low, ticks[-1], BINS + 1)
    counts = [np.histogram(scores[labels == label], edges)[0] for label in (0, 1)]
    shares = [count / max(count.sum(), 1) for count in counts]
    highest = max(share.max() for share in shares)
    return {
        "names": [f"{name} ({count.sum()})" for name, count in zip(("normal", "anomalous"), counts, strict=True)],
        "bars": [_bars(share / highest, count, edges) for share, count in zip(shares, counts, strict=True)],
        "ticks": [((tick - low) / span, f"{tick:.4g}") for tick in ticks],
        "threshold": None if threshold is None else ((threshold - low) / span, f"{threshold:.3g}"),
    }


def _bars(heights: NDArray[np.float64], counts: NDArray[np.int64], edges: NDArray[np.float64]) -> list[_Bar]:
    """The bins that are not empty."""
    return [
        _Bar(i / BINS, 1 / BINS, heights[i], f"{edges[i]:.3g} to {edges[i + 1]:.3g}, images: {counts[i]}")
        for i in np.flatnonzero(counts)
    ]


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers from below `low` to above `high`, four to nine of them."""
    raw = max(high - low, 1e-6 * max(abs(high), 1e-6)) / 5
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(i * step, 12) for i in range(first, max(last, first + 1) + 1)]
