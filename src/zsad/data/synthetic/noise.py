"""Canvas, noise, colour and shape helpers that every generator builds on.

Lengths are relative: the image spans [-1, 1] in both directions at every size, so scenes have the same proportions
at 64 and 512 (but one seed gives another scene at another size: finer noise takes more random numbers).
Fields are [S, S], float32 for speed wherever it comes naturally; colours are in [0, 1], a scene's colour [S, S, 3].
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Field = NDArray[np.floating]
Rng = np.random.Generator


@dataclass(frozen=True)
class Canvas:
    """What a generator draws on: pixel coordinates in [-1, 1] (x right, y down), randomness and the light."""

    size: int
    rng: Rng
    x: Field
    y: Field
    light: tuple[float, float]  # unit vector from the light over the image plane

    @property
    def pixel(self) -> float:
        """Width of a pixel in the units of x and y."""
        return 2.0 / self.size


@dataclass(frozen=True)
class Scene:
    """A drawn scene before the camera: something of `colour` and `alpha` in front of `back`."""

    colour: Field  # [S, S, 3]
    alpha: Field  # [S, S], 1 where the object or texture is
    back: Field  # [S, S, 3], what shows where a piece is missing
    parts: NDArray[np.int32] | None = None  # [S, S], numbered removable pieces, 0 elsewhere
    light: tuple[float, float] = (0.7, 0.7)
    bare: Field | None = None  # [S, S, 3], the back without the object's shadow

    def compose(self) -> Field:
        """The picture [S, S, 3] in [0, 1]."""
        return np.clip(mix(self.back, self.colour, self.alpha), 0, 1).astype(np.float32)

    def painted(self, colour: Field) -> Scene:
        """The same scene with another surface."""
        return replace(self, colour=colour)

    def without(self, gone: Field) -> Scene:
        """The same scene with a piece removed, and most of that piece's shadow."""
        back = self.back if self.bare is None else mix(self.back, self.bare, gone * np.float32(0.85))
        return replace(self, alpha=self.alpha * (1 - gone), back=back)


def canvas(size: int, rng: Rng) -> Canvas:
    """An empty canvas of `size` pixels with light from a random side."""
    line = ((np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1).astype(np.float32)
    x, y = np.meshgrid(line, line)
    angle = rng.uniform(0, 2 * np.pi)
    return Canvas(size, rng, x, y, (float(np.cos(angle)), float(np.sin(angle))))


def turn(x: Field, y: Field, angle: float, scale: float = 1.0, cx: float = 0.0, cy: float = 0.0) -> tuple[Field, Field]:
    """Coordinates in a frame at (cx, cy), turned by `angle` and enlarged by `scale`."""
    c, s = np.float32(np.cos(angle) / scale), np.float32(np.sin(angle) / scale)
    dx, dy = x - np.float32(cx), y - np.float32(cy)
    return c * dx + s * dy, c * dy - s * dx


def resized(grid: Field, size: int) -> Field:
    """A small grid [h, w] stretched smoothly to [size, size]."""
    picture = Image.fromarray(np.ascontiguousarray(grid, dtype=np.float32))
    return np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC))


def fbm(rng: Rng, size: int, cells: float, octaves: int = 3, gain: float = 0.5) -> Field:
    """Fractal value noise [size, size], mean about 0 and deviation about 1; `cells` lumps across the image."""
    total, power, weight = np.zeros((size, size), np.float32), 0.0, 1.0
    for octave in range(octaves):
        count = max(2, round(cells * 2**octave))
        if count > size and octave:
            break
        total += weight * resized(rng.standard_normal((count + 1, count + 1), dtype=np.float32), size)
        power, weight = power + weight**2, weight * gain
    return total * np.float32(1.3 / np.sqrt(power))


def lattice(rng: Rng, u: Field, v: Field) -> Field:
    """Value noise at any coordinates, one lump per unit, deviation about 0.7; turn or stretch (u, v) to taste."""
    table = rng.standard_normal((64, 64), dtype=np.float32).ravel()
    fu, fv = np.floor(u), np.floor(v)
    iu, iv = fu.astype(np.int32), fv.astype(np.int32)
    a, b = u - fu, v - fv
    a, b = a * a * (3 - 2 * a), b * b * (3 - 2 * b)
    left, right, up, down = iu & 63, (iu + 1) & 63, (iv & 63) * 64, ((iv + 1) & 63) * 64
    top = table[up + left] * (1 - a) + table[up + right] * a
    return (top * (1 - b) + (table[down + left] * (1 - a) + table[down + right] * a) * b).astype(np.float32)


def worley(rng: Rng, u: Field, v: Field, jitter: float = 0.9) -> tuple[Field, Field, NDArray[np.int32]]:
    """Distances to the nearest and second nearest of one random point per unit cell, and the nearest one's number."""
    px = (rng.random(4096, dtype=np.float32) - 0.5) * jitter + 0.5
    py = (rng.random(4096, dtype=np.float32) - 0.5) * jitter + 0.5
    iu, iv = np.floor(u).astype(np.int32), np.floor(v).astype(np.int32)
    near = np.full(u.shape, 9.0, np.float32)
    second, number = near.copy(), np.zeros(u.shape, np.int32)
    for dv in (-1, 0, 1):
        for du in (-1, 0, 1):
            cu, cv = iu + du, iv + dv
            key = ((cv & 63) << 6) | (cu & 63)
            d = (cu + px[key] - u) ** 2 + (cv + py[key] - v) ** 2
            closer = d < near
            second = np.where(closer, near, np.minimum(second, d))
            number = np.where(closer, key, number)
            near = np.minimum(near, d)
    return np.sqrt(near), np.sqrt(second), number


def cover(distance: Field, pixel: float) -> Field:
    """Share of each pixel inside a shape, from its signed distance (negative inside): an antialiased fill."""
    share: Field = np.clip(0.5 - distance / np.float32(pixel), 0, 1)
    return share


def box(u: Field, v: Field, half_u: float, half_v: float, corner: float = 0.0) -> Field:
    """Signed distance to a box with rounded corners."""
    qu, qv = np.abs(u) - np.float32(half_u - corner), np.abs(v) - np.float32(half_v - corner)
    outside = np.hypot(np.maximum(qu, 0), np.maximum(qv, 0))
    return outside + np.minimum(np.maximum(qu, qv), 0) - np.float32(corner)


def mix(a: Field, b: Field, share: Field) -> Field:
    """From a to b by share [S, S]; a and b are pictures [S, S, 3] or single colours [3]."""
    return a + (b - a) * share[..., None]


def emboss(height: Field, light: tuple[float, float]) -> Field:
    """Slope of a height field against the light, per unit of x and y: positive where it faces the light."""
    step = np.float32(height.shape[0] / 4)
    slope = np.zeros_like(height)
    slope[:, 1:-1] += (height[:, 2:] - height[:, :-2]) * (step * np.float32(light[0]))
    slope[1:-1] += (height[2:] - height[:-2]) * (step * np.float32(light[1]))
    slope[:, 0], slope[:, -1], slope[0], slope[-1] = slope[:, 1], slope[:, -2], slope[1], slope[-2]
    return slope


def soften(field: Field, radius: float) -> Field:
    """A field in [0, 1] blurred by a Gaussian of `radius` in units of x and y."""
    grey = Image.fromarray((np.clip(field, 0, 1) * 255).astype(np.uint8))
    blurred = grey.filter(ImageFilter.GaussianBlur(radius * field.shape[0] / 2))
    return np.asarray(blurred, dtype=np.float32) / np.float32(255)


def hsv(hue: float, saturation: float, value: float) -> Field:
    """A colour [3] from hue (any real, period 1), saturation and value."""
    rgb = colorsys.hsv_to_rgb(hue % 1.0, min(max(saturation, 0.0), 1.0), min(max(value, 0.0), 1.0))
    return np.array(rgb, np.float32)


def muted(rng: Rng, low: float = 0.25, high: float = 0.8, saturation: float = 0.4) -> Field:
    """Any quiet colour [3], with value in [low, high]."""
    return hsv(rng.uniform(), saturation * rng.beta(1.2, 2.0), rng.uniform(low, high))


def around(rng: Rng, hue: float, saturation: float, value: float, spread: float = 1.0) -> Field:
    """A colour [3] near a given one."""
    wobble = rng.normal(0, spread, 3)
    return hsv(hue + 0.025 * wobble[0], saturation * (1 + 0.25 * wobble[1]), value * (1 + 0.16 * wobble[2]))


def backdrop(c: Canvas) -> Field:
    """Something plain to lay an object on: paper, cloth, a table, a belt; [S, S, 3]."""
    rng, size = c.rng, c.size
    base = muted(rng, 0.12, 0.92, rng.choice([0.1, 0.3, 0.45]))
    tone = np.float32(rng.choice([0.005, 0.02, 0.05])) * fbm(rng, size, rng.uniform(2, 8), 4, 0.6)
    if rng.random() < 0.3:
        u, v = turn(c.x, c.y, rng.uniform(0, np.pi))
        tone = tone + np.float32(rng.uniform(0.01, 0.04)) * lattice(rng, u * rng.uniform(1, 4), v * 30)
    return base * (1 + tone[..., None])


def lay(c: Canvas, colour: Field, alpha: Field, parts: NDArray[np.int32] | None = None) -> Scene:
    """An object on a backdrop, with its soft shadow."""
    back = backdrop(c)
    depth, far = c.rng.uniform(0.15, 0.6), c.rng.uniform(0.01, 0.07)
    shadow = soften(alpha, far + 0.01)
    shift = round(far * c.size / 2)
    shadow = np.roll(shadow, (round(shift * c.light[1]), round(shift * c.light[0])), (0, 1))
    bare = back.astype(np.float32)
    back = bare * (1 - np.float32(depth) * shadow)[..., None]
    return Scene(colour.astype(np.float32), alpha, back.astype(np.float32), parts, c.light, bare)


def sheet(c: Canvas, colour: Field, parts: NDArray[np.int32] | None = None) -> Scene:
    """A texture that fills the image; behind it lies something darker than its mean colour."""
    under = (
        colour[::4, ::4].mean((0, 1))
        * np.float32(c.rng.uniform(0.15, 0.5))
        * (1 + 0.1 * fbm(c.rng, c.size, 8)[..., None])
    )
    full = np.ones((c.size, c.size), np.float32)
    return Scene(colour.astype(np.float32), full, under.astype(np.float32), parts, c.light)
