"""Objects of the unseen half. Nothing here is used by the auxiliary half."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .noise import Canvas, Field, Scene, around, box, cover, emboss, fbm, hsv, lattice, lay, mix, muted, turn


def _frame(c: Canvas, low: float, high: float) -> tuple[Field, Field, float]:
    """Coordinates of an object somewhere in the middle, turned anyhow, and a pixel's width in them."""
    scale = c.rng.uniform(low, high)
    cx, cy = c.rng.uniform(-0.1, 0.1, 2)
    u, v = turn(c.x, c.y, c.rng.uniform(0, 2 * np.pi), scale, cx, cy)
    return u, v, c.pixel / scale


def _plated(c: Canvas) -> Field:
    """Zinc, nickel or yellow brass."""
    if c.rng.random() < 0.65:
        return hsv(c.rng.uniform(0.5, 0.7), c.rng.uniform(0.0, 0.13), c.rng.uniform(0.35, 0.78))
    return hsv(c.rng.uniform(0.09, 0.14), c.rng.uniform(0.25, 0.5), c.rng.uniform(0.5, 0.8))


def _chamfer(c: Canvas, inside: Field, width: float) -> Field:
    """Light on a slanted edge of `width`, from the distance to the outline (positive inside)."""
    return width * emboss(np.clip(inside / width, 0, 1).astype(np.float32), c.light)


def hex_nut(c: Canvas) -> Scene:
    """A hexagon nut seen from above, with its thread."""
    rng = c.rng
    u, v, px = _frame(c, 0.6, 0.85)
    r, angle = np.hypot(u, v), np.arctan2(v, u)
    flat = ((angle * 3 / np.pi) % 1 - 0.5) * (np.pi / 3)
    hexagon = r * np.cos(flat) - 0.87
    bore = rng.uniform(0.4, 0.55)
    d = np.maximum(np.maximum(hexagon, r - 0.98), bore - r)
    circle = _chamfer(c, 0.84 - r, 0.05) * (r > 0.6)
    turns = np.clip((bore + 0.1 - r) / 0.1, 0, 1)
    thread = turns * 0.3 * np.sin(r * 150 + angle) - 0.25 * turns
    wear = rng.uniform(0.03, 0.1) * fbm(rng, c.size, 4, 5, 0.8)
    sheen = 0.1 * np.cos(2 * angle + rng.uniform(0, 6)) * (r > bore + 0.1)
    base = _plated(c)
    tone = 1 + wear + sheen + thread - 0.25 * circle - 0.3 * _chamfer(c, -d, 0.04)
    return lay(c, base * tone[..., None], cover(d, px))


def key(c: Canvas) -> Scene:
    """A door key with a cut blade."""
    rng = c.rng
    u, v, px = _frame(c, 0.8, 0.95)
    head, blade = rng.uniform(0.3, 0.4), rng.uniform(0.1, 0.14)
    x = u + 1 - head
    style = rng.integers(3)
    bow = np.hypot(x, v) - head if style == 0 else box(x, v, head * 0.95, head * 0.85, 0.12 + 0.06 * style)
    ring = rng.uniform(0.25, 0.35) * head - np.hypot(x + head * 0.45, v)
    cuts = rng.uniform(0.0, 1.3, 9).astype(np.float32) * blade * 0.8
    place = np.clip((u + 0.05) * 9, 0, 7.999)
    left = place.astype(np.int32)
    ramp = np.clip((place - left) * 2 - 0.5, 0, 1)
    depth = np.where(u > -0.02, cuts[left] * (1 - ramp) + cuts[left + 1] * ramp, 0)
    shaft = np.maximum(np.maximum(v - blade + depth, -blade - v), np.maximum(u - 1 + 0.8 * np.abs(v), -0.9 - u))
    d = np.maximum(np.minimum(bow, shaft), ring)
    slot = np.clip(1 - np.abs(v + blade * 0.35) / (blade * 0.25), 0, 1) * (u > -0.25) * 0.3
    line = 0.12 * (np.abs(np.abs(bow) - 0.06) < 0.012)
    tone = 1 - slot - line - 0.35 * _chamfer(c, -d, 0.04) + 0.05 * fbm(rng, c.size, 6, 5, 0.7)
    tone = tone + 0.06 * lattice(rng, u * 2 + 9, v * 24 + 9)
    return lay(c, _plated(c) * tone[..., None], cover(d, px))


def button(c: Canvas) -> Scene:
    """A sewing button with two or four holes, plain or pearly."""
    rng = c.rng
    u, v, px = _frame(c, 0.55, 0.85)
    r = np.hypot(u, v)
    far, size = rng.uniform(0.18, 0.26), rng.uniform(0.07, 0.11)
    a, b = (np.abs(u), np.abs(v)) if rng.random() < 0.6 else (np.abs(u), v + far)
    d = np.maximum(r - 1, size - np.hypot(a - far, b - far))
    rim, dish = rng.uniform(0.65, 0.82), rng.uniform(0.1, 0.4)
    profile = np.clip((r - rim) / 0.1, 0, 1) * np.clip((1 - r) / 0.14, 0, 1)
    pearl = rng.uniform(0, 0.12) * lattice(rng, u * 1.2 + 9 + 0.3 * fbm(rng, c.size, 3, 3), v * 4 + 9)
    tone = 1 - dish * 0.3 * emboss(profile.astype(np.float32), c.light) * 0.2 - 0.08 * (r < rim) + pearl
    tone = tone + 0.06 * emboss((1 - r**2).astype(np.float32), c.light) + 0.015 * fbm(rng, c.size, 12, 3)
    dark = np.clip(1 - (np.hypot(a - far, b - far) - size) / 0.04, 0, 1) * 0.25
    return lay(c, muted(rng, 0.2, 0.95, 0.8) * (tone - dark)[..., None], cover(d, px))


def blister(c: Canvas) -> Scene:
    """A strip of tablets under clear domes."""
    rng = c.rng
    u, v, px = _frame(c, 0.78, 0.92)
    rows, columns = int(rng.integers(2, 4)), int(rng.integers(3, 6))
    pitch = min(1.8 / columns, 1.4 / rows)
    wide, tall = columns * pitch / 2 + 0.06, rows * pitch / 2 + 0.06
    d = box(u, v, wide, tall, 0.08)
    iu, iv = np.floor(u / pitch + columns / 2), np.floor(v / pitch + rows / 2)
    a, b = u - (iu + 0.5 - columns / 2) * pitch, v - (iv + 0.5 - rows / 2) * pitch
    within = (iu >= 0) & (iu < columns) & (iv >= 0) & (iv < rows)
    size, long = pitch * rng.uniform(0.3, 0.37), rng.choice([1.0, 1.0, 0.7])
    tablet = np.where(within, np.hypot(a, b / long) - size, 1).astype(np.float32)
    foil = hsv(rng.uniform(), rng.uniform(0, 0.12), rng.uniform(0.55, 0.85))
    grid = np.sin(u * 75) * np.sin(v * 75) * 0.05 + 0.04 * fbm(rng, c.size, 4, 4, 0.6)
    dome = np.clip(1 - np.abs(tablet - pitch * 0.06) / (pitch * 0.05), 0, 1)
    facing = (a * c.light[0] + b * c.light[1]) / size
    strip = foil * (1 + grid - 0.15 * dome + 0.25 * dome * facing)[..., None]
    body = muted(rng, 0.4, 0.97, 0.7)
    top = np.clip(-tablet / size, 0, 1)
    tone = 0.75 + 0.3 * np.sqrt(top) - 0.12 * facing + 0.02 * fbm(rng, c.size, 24, 2)
    if rng.random() < 0.4:
        tone = tone - 0.15 * np.clip(1 - np.abs(b) / 0.02, 0, 1) * (top > 0.15)
    pill = cover(tablet, px)
    glare = (
        0.35 * np.exp(-(((a + size * 0.35) / (size * 0.22)) ** 2) - ((b + size * 0.3) / (size * 0.15)) ** 2) * within
    )
    colour = mix(strip, body * tone[..., None], pill) + glare[..., None]
    number = np.where(pill > 0.2, iv * columns + iu + 1, 0).astype(np.int32)
    scene = lay(c, colour, cover(d, px), number)
    hollow = foil * (0.6 - 0.25 * facing + 0.3 * (1 - top))[..., None]
    assert scene.bare is not None
    back, bare = mix(scene.back, hollow, pill), mix(scene.bare, hollow, pill)
    return replace(scene, back=back.astype(np.float32), bare=bare.astype(np.float32))


def leaf(c: Canvas) -> Scene:
    """A pressed leaf with veins and a stalk."""
    rng = c.rng
    u, v, px = _frame(c, 0.78, 0.95)
    v = v + rng.uniform(-0.15, 0.15) * u**2
    t = np.clip((u + 0.7) / 1.65, 1e-4, 1 - 1e-4)
    peak = rng.uniform(0.6, 1.1)
    half = rng.uniform(0.35, 0.58) * np.sin(np.pi * t**peak) ** rng.uniform(0.7, 1.1)
    teeth = rng.choice([0, 0.02, 0.04]) * np.abs((u * rng.uniform(9, 14)) % 1 - 0.5)
    ends = np.maximum(u - 0.95, -0.7 - u)
    blade = np.maximum(np.abs(v) - half + teeth, ends) + 0.006 * fbm(rng, c.size, 12, 2)
    stalk = np.maximum(np.abs(v) - 0.022, np.maximum(u - 0.1, -1.0 - u))
    d = np.minimum(blade, stalk)
    bow = u - np.abs(v) * rng.uniform(0.6, 1.1)
    side = np.abs((bow * rng.uniform(4, 7) + np.sign(v) * 0.15) % 1 - 0.5)
    veins = np.clip(1 - side / 0.07, 0, 1) * 0.5 + np.clip(1 - np.abs(v) / 0.025, 0, 1)
    cells = fbm(rng, c.size, 16, 3, 0.8)
    green = around(rng, rng.choice([0.28, 0.24, 0.2, 0.12, 0.06]), rng.uniform(0.35, 0.65), rng.uniform(0.3, 0.62))
    other = green * around(rng, 0.15, 0.3, 0.9)
    base = mix(green, other, np.clip(0.5 + 0.5 * fbm(rng, c.size, 2, 3) + d, 0, 1))
    tone = 1 + 0.06 * cells - 0.03 * emboss(np.clip(veins, 0, 1).astype(np.float32), c.light) * 0.5
    colour = mix(base * tone[..., None], green * 1.4 + 0.05, np.clip(veins, 0, 1) * rng.uniform(0.3, 0.7))
    return lay(c, colour, cover(d, px))
