"""Defects of a shape: something is gone, added or displaced."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .brush import Brush, anchor, blob, grid, sample, strokes
from .noise import Field, Rng, Scene, cover, emboss, fbm, mix, muted, soften, turn


def hole(scene: Scene, brush: Brush) -> Scene:
    """A round or torn opening through which darkness or the back shows."""
    rng = brush.rng
    patch = blob(scene, replace(brush, extent=brush.extent * 0.6), rng.uniform(0.03, 0.25), 0.0, 1.5)
    inner = scene.back * np.float32(rng.uniform(0.15, 0.7)) if rng.random() < 0.6 else scene.colour * np.float32(0.15)
    wall = np.clip(emboss(soften(patch, 0.03), scene.light), -9, 9)[..., None] * np.float32(0.014)
    return scene.painted(mix(scene.colour - wall, inner + wall * 2, patch))


def _part(scene: Scene, rng: Rng, x: float, y: float) -> Field | None:
    """The numbered piece at (x, y), or another one where there is none; None if it is too small or too large."""
    if scene.parts is None or rng.random() >= 0.75:
        return None
    size = scene.alpha.shape[0]
    row, column = (min(size - 1, max(0, int((t + 1) / 2 * size))) for t in (y, x))
    number = scene.parts[row, column]
    if not number and scene.parts.any():
        number = rng.choice(np.unique(scene.parts[scene.parts > 0]))
    gone = (scene.parts == number).astype(np.float32)
    return gone if 0.002 < gone.mean() < 0.2 else None


def _bite(scene: Scene, brush: Brush, x: float, y: float) -> Field:
    """A round or square piece, mostly at the object's edge, else around (x, y)."""
    rng, size = brush.rng, scene.alpha.shape[0]
    edge = np.flatnonzero((scene.alpha > 0.3) & (soften(scene.alpha, 0.05) < 0.75))
    if len(edge) and rng.random() < 0.85:
        spot = int(edge[rng.integers(len(edge))])
        x, y = (spot % size + 0.5) / size * 2 - 1, (spot // size + 0.5) / size * 2 - 1
    u, v = turn(*grid(size), rng.uniform(0, 2 * np.pi), 1.0, x, y)
    r = brush.radius * rng.uniform(1.1, 1.6)
    d = np.hypot(u, v) - r if rng.random() < 0.5 else np.maximum(np.abs(u) - r, np.abs(v) - r * 0.8)
    return cover(d + 0.1 * r * fbm(rng, size, min(2 / r, size / 4), 3), 2 / size)


def missing_part(scene: Scene, brush: Brush) -> Scene:
    """A tooth, tile or wire that is gone, or a piece broken off the edge: what lies behind shows."""
    x, y = anchor(scene, brush.rng)
    part = _part(scene, brush.rng, x, y)
    if part is not None:
        return scene.without(part)
    gone = _bite(scene, brush, x, y)
    wall = np.clip(emboss(soften(gone, 0.02), scene.light), -9, 9)[..., None] * np.float32(0.01)
    return scene.painted(scene.colour - wall).without(gone)


def foreign_body(scene: Scene, brush: Brush) -> Scene:
    """Something small that lies on the surface, shaded and with a shadow."""
    rng, size = brush.rng, scene.alpha.shape[0]
    u, v = turn(*grid(size), rng.uniform(0, np.pi), brush.radius, *anchor(scene, rng))
    long = np.exp(rng.uniform(0, 0.9))
    u, v = u / long, v * long
    shape = rng.integers(3)
    d = np.hypot(u, v) - 0.95 if shape == 0 else np.maximum(np.abs(u), np.abs(v)) - 0.85
    if shape == 2:
        d = np.hypot(u, v) - 0.8 - 0.25 * np.cos(int(rng.integers(2, 5)) * np.arctan2(v, u) + rng.uniform(0, 6))
    d = d + 0.1 * fbm(rng, size, min(1.5 / brush.radius, size / 4), 2)
    patch = cover(d * brush.radius / long, 2 / size)
    base = muted(rng, 0.1, 0.95, 0.9)
    base = base + (base - scene.colour.mean((0, 1))) * np.float32(max(0.0, brush.strength - 0.9))
    bump = emboss(np.clip(-d * rng.uniform(0.8, 2.5), 0, 1).astype(np.float32), scene.light) * brush.radius
    tone = 1 - 0.3 * np.clip(bump, -1.5, 1.5) + 0.08 * fbm(rng, size, 20, 2)
    far = max(1, round(0.012 * size))
    shadow = np.roll(soften(patch, 0.03), (round(far * scene.light[1]), round(far * scene.light[0])), (0, 1)) * (
        1 - patch
    )
    colour = mix(scene.colour * (1 - 0.4 * shadow)[..., None], base * tone[..., None], patch)
    return replace(scene, colour=colour, alpha=np.maximum(scene.alpha, patch))


def bend(scene: Scene, brush: Brush) -> Scene:
    """The surface pulled, swirled or pinched in one place."""
    rng = brush.rng
    x, y = grid(scene.alpha.shape[0])
    cx, cy = anchor(scene, rng)
    r = np.clip(brush.radius * 1.6, 0.2, 0.55)
    fall = np.exp(-(((x - cx) ** 2 + (y - cy) ** 2) / (r * r) * 2.0)).astype(np.float32)
    amount, kind = brush.strength * rng.uniform(0.5, 1.0), rng.integers(3)
    if kind == 0:
        angle = rng.uniform(0, 2 * np.pi)
        dx, dy = (fall * np.float32(t * amount * r * 0.55) for t in (np.cos(angle), np.sin(angle)))
    elif kind == 1:
        angle = fall * np.float32(rng.choice([-1, 1]) * amount * 1.3)
        du, dv = x - cx, y - cy
        dx, dy = du * (np.cos(angle) - 1) - dv * np.sin(angle), du * np.sin(angle) + dv * (np.cos(angle) - 1)
    else:
        grow = fall * np.float32(rng.choice([-0.55, 0.8]) * amount)
        dx, dy = (x - cx) * grow, (y - cy) * grow
    stack = np.concatenate([scene.colour, scene.alpha[..., None]], -1)
    moved = sample(stack, x + dx, y + dy)
    shade = 1 - np.float32(0.08) * np.clip(emboss(fall, scene.light) * r, -1.5, 1.5) * min(1.0, amount)
    return replace(scene, colour=moved[..., :3] * shade[..., None], alpha=moved[..., 3])


def dent(scene: Scene, brush: Brush) -> Scene:
    """A hollow or a bump that only the light shows."""
    rng = brush.rng
    patch = blob(scene, replace(brush, extent=brush.extent * 0.8), rng.uniform(0.0, 0.2), 1.0)
    slope = emboss(soften(patch, 0.25 * brush.radius), scene.light) * brush.radius
    sign = rng.choice([-1.0, 1.0])
    tone = 1 + sign * np.clip(slope * 0.55 * brush.strength, -0.7, 0.9) - 0.08 * patch
    return scene.painted(scene.colour * tone[..., None] + np.clip(sign * slope, 0, 1)[..., None] * 0.1)


def thread(scene: Scene, brush: Brush) -> Scene:
    """A loose curly strand that lies across the scene, with its shadow."""
    rng, size = brush.rng, scene.alpha.shape[0]
    x, y = anchor(scene, rng)
    heading, length = rng.uniform(0, 2 * np.pi), np.clip(brush.radius * rng.uniform(4, 8), 0.4, 2.0)
    start = (x - 0.4 * length * np.cos(heading), y - 0.4 * length * np.sin(heading))
    curl = heading + np.cumsum(np.cumsum(rng.normal(0, 0.03, 40)))
    moves = np.stack([np.cos(curl), np.sin(curl)], 1) * (length / 40)
    path = (np.asarray(start) + np.cumsum(moves, 0)).astype(np.float32)
    line = strokes(size, [(path, rng.uniform(0.018, 0.035))])
    far = max(1, round(0.01 * size))
    shadow = np.roll(line, (round(far * scene.light[1]), round(far * scene.light[0])), (0, 1)) * (1 - line)
    base = muted(rng, 0.05, 0.95, 0.8)
    base = np.clip(base + (base - scene.colour.mean((0, 1))) * np.float32(brush.strength - 0.3), 0, 1)
    twist = 1 + 0.15 * fbm(rng, size, 30, 1)
    colour = mix(scene.colour * (1 - 0.35 * shadow)[..., None], base * twist[..., None], line)
    return replace(scene, colour=colour, alpha=np.maximum(scene.alpha, line))
