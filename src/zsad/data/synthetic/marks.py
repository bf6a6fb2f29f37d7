"""Defects of a surface: the shape stays whole."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .brush import Brush, anchor, blob, grid, sample, strokes, walk
from .noise import Scene, cover, emboss, fbm, hsv, mix, muted, soften, turn


def scratch(scene: Scene, brush: Brush) -> Scene:
    """One or a few thin, nearly straight marks, lighter or darker than the surface."""
    rng, size = brush.rng, scene.alpha.shape[0]
    heading, length = rng.uniform(0, 2 * np.pi), np.clip(brush.radius * rng.uniform(2.5, 5), 0.25, 1.4)
    x, y = anchor(scene, rng)
    paths = []
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        at = np.array([x, y]) + rng.normal(0, 0.05, 2) - 0.5 * length * np.array([np.cos(heading), np.sin(heading)])
        path = walk(rng, (at[0], at[1]), length * rng.uniform(0.7, 1), heading + rng.normal(0, 0.08), 0.06, 12)
        paths.append((path, rng.uniform(0.012, 0.04)))
    line = strokes(size, paths) * np.clip(1 + 0.3 * fbm(rng, size, 6, 2), 0.3, 1)
    depth = brush.strength * rng.uniform(0.25, 0.5)
    target = np.ones(3, np.float32) if rng.random() < 0.55 else np.zeros(3, np.float32)
    groove = emboss(soften(line, 0.01), scene.light)[..., None] * np.float32(0.006)
    return scene.painted(mix(scene.colour, target, np.clip(line * depth * 1.3, 0, 0.9)) - groove)


def crack(scene: Scene, brush: Brush) -> Scene:
    """A jagged dark line with branches."""
    rng, size = brush.rng, scene.alpha.shape[0]
    heading, length = rng.uniform(0, 2 * np.pi), np.clip(brush.radius * rng.uniform(2.5, 5), 0.3, 1.5)
    width = rng.uniform(0.014, 0.035)
    x, y = anchor(scene, rng)
    start = (x - 0.5 * length * np.cos(heading), y - 0.5 * length * np.sin(heading))
    trunk = walk(rng, start, length, heading, 0.45, 14)
    paths = [(trunk[:8], width), (trunk[7:], width * 0.7)]
    for _ in range(int(rng.integers(0, 4))):
        fork = trunk[rng.integers(2, 12)]
        side = heading + rng.choice([-1, 1]) * rng.uniform(0.4, 1.2)
        paths.append((walk(rng, (fork[0], fork[1]), length * rng.uniform(0.15, 0.45), side, 0.45, 7), width * 0.6))
    line = strokes(size, paths)
    lip = np.clip(emboss(soften(line, 0.015), scene.light), -12, 12)[..., None] * np.float32(0.012)
    dark = scene.colour * np.float32(max(0.0, 0.45 - 0.3 * brush.strength))
    return scene.painted(
        mix(scene.colour, dark, np.clip(line * (0.55 + 0.4 * brush.strength), 0, 1)) - lip * brush.strength
    )


def stain(scene: Scene, brush: Brush) -> Scene:
    """A liquid's trace: tinted, soft or with a darker rim; the surface shows through."""
    rng = brush.rng
    patch = blob(scene, brush, rng.uniform(0.1, 0.35), rng.uniform(0.05, 0.8))
    tint = hsv(rng.uniform(), rng.uniform(0.1, 0.7), rng.uniform(0.2, 0.75))
    depth = np.float32(np.clip(brush.strength * rng.uniform(0.5, 1.0), 0, 0.92))
    rim = patch * (1 - patch) * 4 * rng.uniform(0, 0.4) if rng.random() < 0.5 else 0 * patch
    wet = scene.colour * (0.35 + 0.65 * tint) if rng.random() < 0.6 else mix(scene.colour, tint, 0 * patch + 0.6)
    return scene.painted(mix(scene.colour, wet, patch * depth) * (1 - rim * depth)[..., None])


def colour_shift(scene: Scene, brush: Brush) -> Scene:
    """A patch of another hue or brightness, the relief unchanged."""
    rng = brush.rng
    patch = blob(scene, brush, rng.uniform(0.05, 0.3), rng.uniform(0.1, 1.0), 3.0)
    grey = (scene.colour @ np.full(3, 1 / 3, np.float32))[..., None]
    kind = rng.random()
    gain = rng.permutation([1 + 0.45 * brush.strength, 1.0, 1 - 0.4 * brush.strength]).astype(np.float32)
    if kind < 0.5:
        other = grey * np.maximum(gain, 0.1)
    elif kind < 0.75:
        other = scene.colour * np.float32(1 + 0.5 * brush.strength) + np.float32(0.06)
    else:
        other = scene.colour * np.float32(max(0.15, 1 - 0.4 * brush.strength))
    return scene.painted(mix(scene.colour, np.clip(other, 0, 1), patch))


def contamination(scene: Scene, brush: Brush) -> Scene:
    """A cluster of small specks of dirt or dust."""
    rng, size = brush.rng, scene.alpha.shape[0]
    x, y = grid(size)
    cx, cy = anchor(scene, rng)
    count = int(rng.integers(5, 22))
    at = (rng.normal(0, brush.radius * 0.9, (2, count)) + np.array([[cx], [cy]])).astype(np.float32)
    radii = (brush.radius * rng.uniform(0.6, 1.8, count) / np.sqrt(count)).astype(np.float32)
    d = np.full((size, size), 9, np.float32)
    for px, py, r in zip(*at, radii, strict=True):
        d = np.minimum(d, np.hypot(x - px, y - py) - max(r, 0.02))
    patch = cover(d + 0.01 * fbm(rng, size, 20, 2), 2 / size)
    speck = muted(rng, 0.05, 0.95, 0.7) * (1 + 0.15 * fbm(rng, size, 24, 2)[..., None])
    return scene.painted(mix(scene.colour, speck, np.clip(patch * (0.5 + 0.4 * brush.strength), 0, 1)))


def scuff(scene: Scene, brush: Brush) -> Scene:
    """A rubbed patch: structure worn away, with fine parallel marks."""
    rng, size = brush.rng, scene.alpha.shape[0]
    patch = blob(scene, brush, 0.3, rng.uniform(0.3, 0.9), 4.0)
    u, v = turn(*grid(size), rng.uniform(0, np.pi), 1.0)
    marks = fbm(rng, size, 24, 1)
    marks = sample(marks[..., None], u * 0.12, v)[..., 0]
    share = patch.sum() + 1e-3
    flat = (scene.colour * patch[..., None]).sum((0, 1)) / share
    target = flat + np.float32(rng.choice([-0.16, 0.2, 0.25])) * np.float32(brush.strength)
    worn = mix(scene.colour, target, 0 * patch + 0.65) + (0.07 * brush.strength * marks)[..., None]
    return scene.painted(mix(scene.colour, worn, patch))


def burn(scene: Scene, brush: Brush) -> Scene:
    """A scorched patch: brown towards the edge, charred in the middle."""
    rng, size = brush.rng, scene.alpha.shape[0]
    patch = blob(scene, replace(brush, extent=brush.extent * 1.2), rng.uniform(0.15, 0.35), 1.2)
    heat = np.clip(patch * (0.5 + 0.6 * brush.strength), 0, 1)
    brown, char = hsv(rng.uniform(0.05, 0.1), 0.6, 0.5), hsv(0.06, 0.2, rng.uniform(0.04, 0.14))
    singed = mix(scene.colour, scene.colour * brown * 1.2, np.clip(heat * 2, 0, 1))
    ash = char * (1 + 0.5 * fbm(rng, size, 24, 3, 0.8)[..., None])
    return scene.painted(mix(singed, ash, np.clip(heat * 2.2 - 1.1, 0, 0.92)))
