"""Pictures of predictions that a person can read: map over photograph, contours, score, one fixed scale."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from zsad.errors import ZsadError

# Eleven colours of the perceptually uniform scale "inferno" (N. Smith and S. van der Walt, 2015, CC0), low to high.
_INFERNO = (
    (0, 0, 4), (22, 11, 57), (66, 10, 104), (106, 23, 110), (147, 38, 103), (188, 55, 84),
    (221, 81, 58), (243, 120, 25), (252, 165, 10), (246, 215, 70), (252, 255, 164),
)  # fmt: skip
PAPER, INK, QUIET, EDGE = (255, 255, 255), (28, 30, 34), (105, 109, 117), (222, 224, 228)
DECISIONS = {"anomalous": (190, 50, 20), "normal": (0, 105, 120)}
_LINE, TRUTH = (255, 255, 255), (0, 230, 215)  # contour of the map, of the ground truth
_GREY = 205  # what the colour bar lies on, in place of a photograph
_BAR = 150  # width of the colour bar
_FINER = 3  # contours are found on a grid this much finer than the picture

Map = NDArray[np.floating[Any]]
Scale = tuple[float, float]  # the values of the first and of the last colour, in the units of the map


def colour(map: Map, scale: Scale) -> NDArray[np.uint8]:
    """Values as colours of one fixed scale, from dark violet to light yellow.

    Args:
        map: [h, w]; what lies outside the scale takes the colour of the nearer end, NaN the first colour.
        scale: See :data:`Scale`.

    Returns:
        [h, w, 3], sRGB.

    Raises:
        ZsadError: If the scale does not rise.

    >>> colour(np.array([[-1.0, 0.5, 2.0]]), scale=(0.0, 1.0))[0].tolist()
    [[0, 0, 4], [189, 56, 83], [252, 255, 164]]
    """
    return _table()[(_unit(map, scale) * 255 + 0.5).astype(np.uint8)]


def heat(image: Image.Image, map: Map, scale: Scale, threshold: float | None = None) -> Image.Image:
    """A photograph under its map: the higher the value, the less of the photograph remains.

    Args:
        image: Any mode; its size is that of the result.
        map: [h, w], any size, stretched over the image.
        scale: As in :func:`colour`.
        threshold: The area at or above this value gets a white contour; None draws none.

    Returns:
        RGB. The photograph's own colours are muted, so that colour means the map.
    """
    unit = _unit(resize_map(map, image.size), scale)
    photograph = np.asarray(image.convert("RGB"), np.float32)
    grey = np.asarray(image.convert("L"), np.float32)[..., None]
    blended = _blend(0.3 * photograph + 0.7 * grey, unit)
    if threshold is not None:
        fine = resize_map(map, (image.width * _FINER, image.height * _FINER)) >= threshold
        blended = _outlined(blended, _to_plane(fine).reduce(_FINER), _LINE)
    return _to_image(blended)


def outlined(image: Image.Image, mask: NDArray[np.bool_]) -> Image.Image:
    """A photograph with a contour close around a mask [h, w] of any size; even a single marked pixel stays visible."""
    finer = (image.width * _FINER, image.height * _FINER)
    touched = np.asarray(_to_plane(mask).resize(finer, Image.Resampling.BOX)) > 0
    covered = _to_plane(touched).filter(ImageFilter.MaxFilter(2 * _FINER + 1)).reduce(_FINER)
    return _to_image(_outlined(np.asarray(image.convert("RGB"), np.float32), covered, TRUTH))


def resize_map(map: Map, size: tuple[int, int]) -> NDArray[np.float32]:
    """A map [h, w] at another size, bilinear, averaged where it gets smaller; `size` is (width, height) as in Pillow.

    >>> resize_map(np.eye(4), (6, 8)).shape
    (8, 6)
    """
    plane = Image.fromarray(np.ascontiguousarray(map, np.float32))
    return np.asarray(plane.resize(size, Image.Resampling.BILINEAR))


def colour_bar(width: int, height: int, scale: Scale = (0.0, 1.0), threshold: float | None = None) -> Image.Image:
    """The scale of :func:`heat`, over grey, with a mark at the threshold."""
    ramp = np.broadcast_to(np.linspace(0, 1, width, dtype=np.float32), (height, width))
    bar = _to_image(_blend(np.full((height, width, 3), _GREY, np.float32), ramp))
    if threshold is not None:
        x = round(np.clip((threshold - scale[0]) / (scale[1] - scale[0]), 0, 1) * (width - 1))
        draw = ImageDraw.Draw(bar)
        draw.rectangle((x - 2, 0, x + 2, height), fill=INK)
        draw.rectangle((x - 1, 0, x + 1, height), fill=_LINE)
    return bar


def overlay(
    image: Image.Image,
    map: Map,
    *,
    scale: Scale,
    score: float,
    decision: str = "",
    mask: NDArray[np.bool_] | None = None,
    threshold: float | None = None,
    side: int = 320,
) -> Image.Image:
    """One picture of a prediction: photograph, map and, where given, ground truth; below them score and scale.

    Args:
        image: The photograph, any size and mode; its aspect ratio is kept.
        map: [h, w], any size, stretched over the photograph.
        scale: As in :func:`colour`; the same for all pictures of a run.
        score: Written below.
        decision: "normal", "anomalous", or "" for none.
        mask: [h, w] ground truth of any size; adds a third panel with its contour.
        threshold: Contour of the map at this value, in its units; None draws none.
        side: Longer side of a panel, in pixels.

    Returns:
        RGB on white.

    Raises:
        ZsadError: If the scale does not rise.
    """
    photograph = fitted(image, side)
    name = "map" if threshold is None else f"map, contour at {threshold:.3g}"
    panels = {"photograph": photograph, name: heat(photograph, map, scale, threshold)}
    if mask is not None:
        panels["ground truth" if mask.any() else "ground truth: no defect"] = outlined(photograph, mask)
    return _framed(panels, scale, score, decision, threshold)


def contact_sheet(overlays: Sequence[Image.Image], columns: int = 2) -> Image.Image:
    """Pictures in rows of `columns`, each in a cell as large as the largest; white where there is none.

    Raises:
        ZsadError: If there is no picture, or no column.

    >>> contact_sheet([Image.new("RGB", (30, 20))] * 3, columns=2).size
    (60, 40)
    """
    if not overlays or columns < 1:
        raise ZsadError(f"a contact sheet needs pictures and columns; got {len(overlays)} and {columns}")
    columns = min(columns, len(overlays))
    width, height = max(p.width for p in overlays), max(p.height for p in overlays)
    sheet = Image.new("RGB", (columns * width, -(-len(overlays) // columns) * height), PAPER)
    for i, picture in enumerate(overlays):
        sheet.paste(picture, (i % columns * width, i // columns * height))
    return sheet


def _framed(
    panels: dict[str, Image.Image], scale: Scale, score: float, decision: str, threshold: float | None
) -> Image.Image:
    """Panels in a row, each under its name; below them a strip with the score and the scale."""
    margin, gap, top, strip = 14, 10, 34, 48
    wide, high = next(iter(panels.values())).size
    cell = max(wide, 190)  # room for the words, however narrow the panels
    size = (2 * margin + len(panels) * (cell + gap) - gap, top + high + strip)
    frame = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(frame)
    for i, (name, panel) in enumerate(panels.items()):
        left = margin + i * (cell + gap)
        draw.text((left, top - 8), name, fill=QUIET, font=font(14), anchor="ls")
        frame.paste(panel, (left, top))
        draw.rectangle((left - 1, top - 1, left + wide, top + high), outline=EDGE)
    middle = top + high + strip // 2
    _write_score(frame, (margin, middle), score, decision)
    _draw_scale(frame, (size[0] - margin, middle), scale, threshold)
    return frame


def _write_score(frame: Image.Image, at: tuple[int, int], score: float, decision: str) -> None:
    """The score, and the decision in a coloured pill, right of a point."""
    x, y = at
    draw = ImageDraw.Draw(frame)
    words = f"score {score:.3f}"
    draw.text((x, y), words, fill=INK, font=font(18), anchor="lm")
    if decision:
        left = x + round(draw.textlength(words, font(18))) + 12
        width = round(draw.textlength(decision, font(15))) + 22
        pill = Image.new("L", (4 * width, 4 * 26))  # drawn larger, for smooth ends
        ImageDraw.Draw(pill).rounded_rectangle((0, 0, 4 * width - 1, 4 * 26 - 1), 4 * 13, fill=255)
        frame.paste(DECISIONS.get(decision, QUIET), (left, y - 13), pill.reduce(4))
        draw.text((left + width / 2, y), decision, fill=PAPER, font=font(15), anchor="mm")


def _draw_scale(frame: Image.Image, at: tuple[int, int], scale: Scale, threshold: float | None) -> None:
    """The colour bar between its two values, left of a point."""
    x, y = at
    draw = ImageDraw.Draw(frame)
    first, last = (f"{end:.3g}" for end in scale)
    draw.text((x, y), last, fill=QUIET, font=font(14), anchor="rm")
    right = x - round(draw.textlength(last, font(14))) - 6
    frame.paste(colour_bar(_BAR, 12, scale, threshold), (right - _BAR, y - 6))
    draw.text((right - _BAR - 6, y), first, fill=QUIET, font=font(14), anchor="rm")


def _outlined(pixels: NDArray[np.float32], covered: Image.Image, line: tuple[int, int, int]) -> NDArray[np.float32]:
    """Colours [h, w, 3] with the edge of an area that covers 0..255 of each pixel: a line over a dark shadow."""
    for tint, blur, strength in (((0, 0, 0), 2.0, 0.55), (line, 0.9, 1.0)):
        share = np.asarray(covered.filter(ImageFilter.GaussianBlur(blur)), np.float32)[..., None] / 255
        alpha = strength * np.clip(3 * share * (1 - share) * 4 - 0.8, 0, 1)  # highest where half is covered
        pixels = pixels + alpha * (np.asarray(tint, np.float32) - pixels)
    return pixels


def _blend(ground: NDArray[np.float32], unit: NDArray[np.float32]) -> NDArray[np.float32]:
    """Ground [h, w, 3] under the colours of values [h, w] in 0..1; low values let it through."""
    alpha = (0.8 * np.sqrt(unit) * unit.clip(0, 0.25) / 0.25)[..., None]
    blended: NDArray[np.float32] = ground + alpha * (colour(unit, (0.0, 1.0)) - ground)
    return blended


def _unit(map: Map, scale: Scale) -> NDArray[np.float32]:
    first, last = scale
    if not last > first:
        raise ZsadError(f"the last value of the colour scale must be above the first; got {first} and {last}")
    unit: NDArray[np.float32] = np.clip(np.nan_to_num((map - first) / (last - first)), 0, 1).astype(np.float32)
    return unit


def fitted(image: Image.Image, side: int) -> Image.Image:
    """RGB with `side` as the longer side."""
    scale = side / max(image.size)
    width, height = (max(1, round(length * scale)) for length in image.size)
    return image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)


def _to_plane(mask: NDArray[np.bool_]) -> Image.Image:
    return Image.fromarray(mask.astype(np.uint8) * 255)


def _to_image(pixels: NDArray[np.float32]) -> Image.Image:
    return Image.fromarray((np.clip(pixels, 0, 255) + 0.5).astype(np.uint8))


@cache
def _table() -> NDArray[np.uint8]:
    """256 colours, straight lines between the anchors."""
    places, anchors = np.linspace(0, 255, len(_INFERNO)), np.asarray(_INFERNO)
    lines = [np.interp(np.arange(256), places, channel) for channel in anchors.T]
    return (np.stack(lines, 1) + 0.5).astype(np.uint8)


@cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The typeface of all pictures; `size` in pixels."""
    return ImageFont.load_default(size)
