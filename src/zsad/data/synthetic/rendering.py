"""From a category, a defect and a seed to a picture and its exact mask."""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from zsad.errors import ZsadError, unknown

from .brush import Brush
from .categories import CATEGORIES
from .defects import DEFECTS
from .noise import Canvas, Field, Rng, Scene, canvas

VISIBLE = 0.04  # a pixel differs visibly from here on, in any channel
CLEAR = 0.08  # mean difference in the mask below which a defect is drawn again
SMALLEST, LARGEST = 0.0015, 0.13  # share of the image that a mask may have
TRIES = 8


@dataclass(frozen=True)
class Rendered:
    """A picture and where it is damaged."""

    image: NDArray[np.uint8]  # [H, W, 3], sRGB
    mask: NDArray[np.bool_]  # [H, W]
    category: str
    defect: str | None


def _rng(seed: int, *words: str) -> Rng:
    return np.random.default_rng(np.random.SeedSequence([seed, *(crc32(word.encode()) for word in words)]))


def _illumination(c: Canvas) -> Field:
    """Uneven light and vignette [S, S, 1], and a colour cast: [S, S, 3]."""
    rng = c.rng
    slope = rng.uniform(0, 0.18)
    gain: Field = 1 - np.float32(slope) * (c.x * c.light[0] + c.y * c.light[1])
    gain = gain - np.float32(rng.uniform(0, 0.12)) * (c.x**2 + c.y**2)
    cast = 1 + rng.normal(0, 0.025, 3) + rng.normal(0, 0.05)
    return (gain[..., None] * cast).astype(np.float32)


def _camera(picture: Field, rng: Rng) -> NDArray[np.uint8]:
    """Slight blur, then sensor noise; [S, S, 3] uint8."""
    size = picture.shape[0]
    small = Image.fromarray((np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8))
    small = small.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.7) * max(size, 96) / 160))
    level = rng.uniform(0.3, 3.5)
    grain = rng.standard_normal((size, size, 1), dtype=np.float32) * level
    grain = grain + rng.standard_normal((size, size, 3), dtype=np.float32) * (level * 0.5)
    return np.clip(np.asarray(small, np.float32) + grain + 0.5, 0, 255).astype(np.uint8)


def _grown(seen: NDArray[np.bool_], by: int) -> NDArray[np.bool_]:
    """Dilation by a square of 2 `by` + 1 pixels."""
    wide, tall = seen.copy(), seen
    for step in range(1, by + 1):
        wide[:, step:] |= seen[:, :-step]
        wide[:, :-step] |= seen[:, step:]
    tall = wide.copy()
    for step in range(1, by + 1):
        tall[step:] |= wide[:-step]
        tall[:-step] |= wide[step:]
    return tall


def difference(clean: Field, damaged: Field, close: int) -> tuple[NDArray[np.bool_], float]:
    """Mask [H, W] of visible differences, closed by `close` pixels, and their mean strength."""
    change = np.abs(clean - damaged)
    delta = np.maximum(np.maximum(change[..., 0], change[..., 1]), change[..., 2])
    seen = delta > VISIBLE
    if not seen.any():
        return seen, 0.0
    grown = _grown(np.pad(seen, 2 * close), close)
    closed = ~_grown(~grown, close)
    return closed[2 * close : -2 * close, 2 * close : -2 * close], float(delta[seen].mean())


def _worth(share: float, contrast: float) -> float:
    """1 for a mask of a good size and a visible difference, less for one too small, too large or too faint."""
    return min(share / SMALLEST, 1.0) * min(contrast / CLEAR, 1.0) * min(LARGEST / max(share, 1e-9), 1.0)


def _damage(scene: Scene, light: Field, defect: str, rng: Rng) -> tuple[Field, NDArray[np.bool_]]:
    """The damaged picture and its mask, drawn again (bounded) while it is too faint, too small or too large."""
    clean = np.clip(scene.compose() * light, 0, 1)
    close = max(1, round(len(clean) * (0.03 if defect == "bend" else 0.008)))
    extent, strength = float(np.exp(rng.uniform(np.log(0.004), np.log(0.08)))), float(rng.uniform(0.45, 1.15))
    best, picture, marked = -1.0, clean, np.zeros(clean.shape[:2], bool)
    for _ in range(TRIES):
        damaged = np.clip(DEFECTS[defect].draw(scene, Brush(rng, extent, strength)).compose() * light, 0, 1)
        mask, contrast = difference(clean, damaged, close)
        share = float(mask.mean())
        worth = _worth(share, contrast)
        if worth > best:
            best, picture, marked = worth, damaged, mask
        if best == 1.0:
            break
        extent, strength = (
            (extent * 0.6, strength) if share > LARGEST else (min(extent * 1.25, 0.1), min(strength * 1.35, 2.0))
        )
    return picture, marked


def _check(category: str, defect: str | None, seed: int, size: int) -> None:
    if category not in CATEGORIES:
        raise unknown("synthetic category", category, CATEGORIES, "zsad.data.synthetic.CATEGORIES")
    allowed = CATEGORIES[category].defects
    if defect is not None and defect not in allowed:
        raise ZsadError(f'{category} has no defect "{defect}"; it has {", ".join(allowed)}.')
    if size < 32 or seed < 0:
        raise ZsadError(f"Expected size >= 32 and seed >= 0, got size {size} and seed {seed}.")


def render(category: str, defect: str | None, seed: int, size: int = 128) -> Rendered:
    """One picture of a category, whole (`defect` None) or damaged, with its mask.

    The scene and the camera depend on (category, seed) only: with the same seed, a whole and a damaged picture show the
    same thing under the same noise, so take different seeds for unrelated pictures.

    Args:
        category: A name in CATEGORIES.
        defect: A name in DEFECTS that the category allows, or None.
        seed: Not negative.
        size: Height and width in pixels, 32 or more.

    Returns:
        Rendered: uint8 [size, size, 3], and the mask [size, size], True where the damaged scene differs visibly from
        the clean one before blur and noise, holes in it closed.

    Raises:
        ZsadError: If the category is unknown, does not have this defect, or size or seed is too small.

    >>> render("gear", "crack", seed=0, size=64).image.shape
    (64, 64, 3)
    """
    _check(category, defect, seed, size)
    drawn = canvas(size, _rng(seed, category))
    scene, light = CATEGORIES[category].draw(drawn), _illumination(drawn)
    picture: Field = scene.compose() * light
    mask = np.zeros((size, size), bool)
    if defect is not None:
        picture, mask = _damage(scene, light, defect, _rng(seed, category, defect))
    return Rendered(_camera(picture, _rng(seed, category, "camera")), mask, category, defect)
