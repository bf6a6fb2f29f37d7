"""How a defect is placed and outlined: patches, lines and shifted pictures on a scene's foreground."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from .noise import Field, Rng, Scene, cover, fbm, turn


@dataclass(frozen=True)
class Brush:
    """How a defect is to be drawn."""

    rng: Rng
    extent: float  # wanted share of the image area, in (0, 0.1]
    strength: float  # contrast, in (0, 2]; 1 is clear

    @property
    def radius(self) -> float:
        """Radius of a disc of that area, where the image spans [-1, 1]."""
        return float(np.sqrt(4 * self.extent / np.pi))


def grid(size: int) -> tuple[Field, Field]:
    line = ((np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1).astype(np.float32)
    x, y = np.meshgrid(line, line)
    return x, y


def anchor(scene: Scene, rng: Rng) -> tuple[float, float]:
    """A random place on the foreground, not at the very edge of the image."""
    x, y = grid(scene.alpha.shape[0])
    spots = np.flatnonzero((scene.alpha > 0.95) & (np.abs(x) < 0.88) & (np.abs(y) < 0.88))
    if not len(spots):
        return 0.0, 0.0
    spot = spots[rng.integers(len(spots))]
    return float(x.flat[spot]), float(y.flat[spot])


def blob(scene: Scene, brush: Brush, rough: float = 0.3, soft: float = 0.0, stretch: float = 2.0) -> Field:
    """An irregular patch [S, S] in [0, 1] on the foreground."""
    rng, size = brush.rng, scene.alpha.shape[0]
    long = np.exp(rng.uniform(0, np.log(stretch)) / 2)
    u, v = turn(*grid(size), rng.uniform(0, np.pi), 1.0, *anchor(scene, rng))
    r = np.hypot(u / long, v * long) / brush.radius
    d = (r - 1 + rough * fbm(rng, size, min(1.2 / brush.radius, size / 4), 3)) * brush.radius
    return cover(d, 2 / size + soft * brush.radius)


def strokes(size: int, paths: list[tuple[Field, float]]) -> Field:
    """Polylines, each [n, 2] in [-1, 1] with its width, drawn antialiased: [S, S] in [0, 1]."""
    big = Image.new("L", (size * 4, size * 4))
    draw = ImageDraw.Draw(big)
    for path, width in paths:
        points = [tuple(p) for p in ((path + 1) * (size * 2)).tolist()]
        pixels = max(3, round(width * size * 2))
        draw.line(points, 255, pixels, joint="curve")
        for x, y in (points[0], points[-1]):
            draw.ellipse((x - pixels / 2, y - pixels / 2, x + pixels / 2, y + pixels / 2), 255)
    return np.asarray(big.reduce(4), np.float32) / np.float32(255)


def walk(rng: Rng, start: tuple[float, float], length: float, heading: float, jag: float, steps: int) -> Field:
    """A path [steps + 1, 2] that leaves `start` along `heading` and wanders by `jag` radians a step."""
    angles = heading + np.cumsum(rng.normal(0, jag, steps)) * 0.6 + rng.normal(0, jag, steps) * 0.7
    moves = np.stack([np.cos(angles), np.sin(angles)], 1) * (length / steps)
    return np.concatenate([[start], np.asarray(start) + np.cumsum(moves, 0)]).astype(np.float32)


def sample(picture: Field, x: Field, y: Field) -> Field:
    """A picture [S, S, C] read at coordinates in [-1, 1], bilinear, clamped at the border."""
    size = picture.shape[0]
    px, py = (np.clip((t + 1) * (size / 2) - 0.5, 0, size - 1.001).astype(np.float32) for t in (x, y))
    ix, iy = px.astype(np.int32), py.astype(np.int32)
    a, b = (px - ix)[..., None], (py - iy)[..., None]
    flat, at = picture.reshape(-1, picture.shape[-1]), iy * size + ix
    top = flat[at] * (1 - a) + flat[at + 1] * a
    low = flat[at + size] * (1 - a) + flat[at + size + 1] * a
    mixed: Field = top * (1 - b) + low * b
    return mixed
