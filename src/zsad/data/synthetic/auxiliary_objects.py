"""Objects of the auxiliary half. Nothing here is used by the unseen half."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from .noise import (
    Canvas,
    Field,
    Rng,
    Scene,
    around,
    box,
    cover,
    emboss,
    fbm,
    hsv,
    lattice,
    lay,
    mix,
    muted,
    turn,
)


def _pose(c: Canvas, low: float = 0.7, high: float = 0.9, shift: float = 0.08) -> tuple[Field, Field, float]:
    """Object coordinates, and the width of a pixel in them."""
    rng = c.rng
    scale = rng.uniform(low, high)
    u, v = turn(c.x, c.y, rng.uniform(0, 2 * np.pi), scale, *rng.uniform(-shift, shift, 2))
    return u, v, c.pixel / scale


def _metal(rng: Rng) -> Field:
    """Steel, brass or copper."""
    hue, saturation = [(0.6, 0.08), (0.6, 0.04), (0.12, 0.35), (0.06, 0.38)][rng.choice(4, p=[0.4, 0.3, 0.2, 0.1])]
    return around(rng, hue, saturation, rng.uniform(0.4, 0.75))


def _rim(c: Canvas, distance: Field, width: float, depth: float) -> Field:
    """Shading of a bevelled edge along a shape."""
    return -depth * width * emboss(np.clip(-distance / width, 0, 1).astype(np.float32), c.light)


def gear(c: Canvas) -> Scene:
    """A toothed wheel with a bore, sometimes with openings in its web."""
    rng = c.rng
    u, v, px = _pose(c)
    r, angle = np.hypot(u, v), np.arctan2(v, u)
    teeth, deep = int(rng.integers(9, 22)), rng.uniform(0.08, 0.17)
    wave = np.clip(rng.uniform(1.2, 3) * np.cos(teeth * angle), -1, 1)
    d = r - (1 - deep) - deep * wave
    bore = rng.uniform(0.12, 0.3)
    d = np.maximum(d, bore - r)
    if rng.random() < 0.6:
        holes = int(rng.integers(3, 7))
        sector = (angle * holes / (2 * np.pi)) % 1 - 0.5
        middle = (bore + 1 - 2 * deep) / 2
        size = min((1 - 2 * deep - bore) * 0.3, middle * np.sin(np.pi / holes) * 0.7)
        d = np.maximum(
            d, size - np.hypot(r * np.cos(sector * 2 * np.pi / holes) - middle, r * np.sin(sector * 2 * np.pi / holes))
        )
    sheen = 0.12 * np.cos(2 * (angle + rng.uniform(0, 6))) + 0.05 * lattice(rng, r * 30, angle * 0.5 + 9)
    tone = 1 + sheen + _rim(c, d, 0.06, 0.35) + 0.04 * fbm(rng, c.size, 10, 4, 0.8)
    tone = tone * np.where(np.abs(r - bore - 0.1) < 0.03, rng.uniform(0.8, 1), 1)
    number = np.floor((angle * teeth / (2 * np.pi)) + 0.5).astype(np.int32) % teeth + 1
    parts = np.where(r > 1 - 2 * deep, number, 0).astype(np.int32)
    return lay(c, _metal(rng) * tone[..., None], cover(d, px), parts)


def washer(c: Canvas) -> Scene:
    """A flat ring with turning marks."""
    rng = c.rng
    u, v, px = _pose(c, 0.6, 0.9)
    r, angle = np.hypot(u, v), np.arctan2(v, u)
    d = np.maximum(r - 1, rng.uniform(0.35, 0.65) - r)
    marks = rng.uniform(0.02, 0.08) * lattice(rng, r * rng.uniform(20, 40), angle * 0.6 + 9)
    sheen = rng.uniform(0.05, 0.25) * np.cos(2 * (angle - rng.uniform(0, 6)))
    tone = 1 + marks + sheen + _rim(c, d, rng.uniform(0.03, 0.08), 0.4) + 0.04 * fbm(rng, c.size, 5, 5, 0.8)
    return lay(c, _metal(rng) * tone[..., None], cover(d, px))


def capsule(c: Canvas) -> Scene:
    """A two-coloured pill, sometimes with printed letters."""
    rng = c.rng
    u, v, px = _pose(c, 0.7, 0.92)
    thick = rng.uniform(0.3, 0.42)
    cut = rng.uniform(-0.1, 0.1)
    sleeve = np.where(u > cut, 0.0, 0.015).astype(np.float32)
    d = np.hypot(np.maximum(np.abs(u) - (1 - thick), 0), v) - thick + sleeve
    one, two = muted(rng, 0.4, 0.95, 0.8), muted(rng, 0.4, 0.95, 0.8)
    colour = mix(one, two, cover(cut - u, px))
    if rng.random() < 0.5:
        at, ink = rng.uniform(0.15, 0.35), np.clip(5 * lattice(rng, u * 14 + 9, v * 9 + 9), 0, 1)
        label = ink * cover(box(u - at, v, 0.2, 0.07), px)
        colour = mix(colour, muted(rng, 0.1, 0.3), label * 0.8)
    across = np.clip(v / thick, -1, 1)
    tone = 0.55 + 0.5 * np.sqrt(np.maximum(1 - across**2, 0)) + 0.015 * fbm(rng, c.size, 6, 4)
    shine = rng.uniform(0.1, 0.45) * np.exp(-(((across - rng.uniform(-0.6, 0.6)) / 0.16) ** 2))
    return lay(c, colour * tone[..., None] + (shine * (np.abs(u) < 0.8))[..., None] * 0.6, cover(d, px))


def _print_board(rng: Rng, side: int, base: Field) -> Image.Image:
    """Traces, pads and parts on a board of `side` pixels, seen straight from above."""

    def rgb(colour: Field) -> tuple[int, ...]:
        return tuple(int(255 * min(1.0, float(t))) for t in colour)

    board = Image.new("RGB", (side, side), rgb(base))
    draw, cell, copper = ImageDraw.Draw(board), side / 12, rgb(around(rng, 0.12, 0.35, 0.7))
    for _ in range(int(rng.integers(10, 20))):
        x, y = rng.integers(1, 12, 2)
        dx, dy = [(1, 0), (0, 1), (1, 1), (1, -1)][rng.integers(4)]
        length = rng.integers(2, 6)
        path = [(x * cell, y * cell), ((x + dx * length) * cell, (y + dy * length) * cell)]
        draw.line([*path, (path[1][0] + 2 * cell * dy, path[1][1])], rgb(base * 1.45), max(1, int(cell / 5)))
    for x, y in rng.integers(1, 12, (int(rng.integers(6, 16)), 2)) * cell:
        draw.ellipse((x - cell / 4, y - cell / 4, x + cell / 4, y + cell / 4), copper)
    for _ in range(int(rng.integers(3, 8))):
        w, h = rng.choice([1, 1.5, 2, 3], 2) * cell * 0.5
        x, y = rng.integers(2, 11, 2) * cell
        for pin in np.arange(-w, w + 1, cell / 2):
            draw.line((x + pin, y - h - cell / 4, x + pin, y + h + cell / 4), (190, 190, 185), max(1, int(cell / 6)))
        draw.rectangle((x - w, y - h, x + w, y + h), rgb(muted(rng, 0.08, 0.3, 0.2)))
    for x, y in ((1, 1), (11, 1), (1, 11), (11, 11)):
        draw.ellipse((x * cell - cell / 2, y * cell - cell / 2, x * cell + cell / 2, y * cell + cell / 2), copper)
    return board


def circuit_board(c: Canvas) -> Scene:
    """A small printed board with chips, pads and traces."""
    rng = c.rng
    scale, wide, angle = rng.uniform(0.6, 0.72), rng.uniform(0.8, 1.15), rng.uniform(0, 2 * np.pi)
    u, v = turn(c.x, c.y, angle, scale)
    base = around(rng, rng.choice([0.38, 0.4, 0.6, 0.0, 0.13]), 0.6, rng.uniform(0.22, 0.42))
    board = _print_board(rng, max(64, 2 * c.size), base)
    side = board.width
    a, b = np.cos(angle) / scale, np.sin(angle) / scale
    k = side / c.size
    h = c.size / 2
    affine = (k * a / wide, k * b / wide, side / 2 - k * h * (a + b) / wide, -k * b, k * a, side / 2 - k * h * (a - b))
    board = board.reduce(2).resize((side, side)) if c.size >= 64 else board
    flat = board.transform((c.size, c.size), Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR)
    colour = np.asarray(flat, np.float32) / np.float32(255)
    d = box(u, v, wide, 1.0, 0.06)
    holes = np.hypot(np.abs(u) - wide * 5 / 6, np.abs(v) - 5 / 6)
    d = np.maximum(d, 0.05 - holes)
    tone = 1 + 0.03 * fbm(rng, c.size, 4, 4) + _rim(c, d, 0.03, 0.3)
    return lay(c, colour * tone[..., None], cover(d, c.pixel / scale))


def screw(c: Canvas) -> Scene:
    """A threaded screw from the side."""
    rng = c.rng
    u, v, px = _pose(c, 0.8, 0.95)
    thick, turns = rng.uniform(0.1, 0.17), rng.uniform(8, 15)
    head, neck, tip = rng.uniform(0.25, 0.36), rng.uniform(-0.62, -0.3), rng.uniform(0.1, 0.3)
    phase = (u * turns - v / thick * 0.35) % 1
    threaded = np.clip((u - neck) * 20, 0, 1)
    ridge = np.abs(phase - 0.5) * 2
    taper = np.clip((1 - u) / tip, 0, 1) ** 0.7
    d = np.maximum(np.abs(v) - thick * taper * (1 - 0.28 * threaded * ridge), np.maximum(u - 1, -0.8 - u))
    flare = np.clip((u + 1) / 0.22, 0, 1)
    profile = np.sqrt(flare) * head if rng.random() < 0.5 else head - np.maximum(u + 0.9, 0) * head * 2.2
    d = np.minimum(d, np.maximum(np.abs(v) - profile, np.maximum(-1 - u, u + 0.78)))
    across = np.clip(v / np.where(u < -0.78, head, thick), -1, 1)
    tone = 0.55 + 0.55 * np.sqrt(1 - 0.9 * across**2) - 0.3 * threaded * (ridge - 0.5)
    tone = tone + 0.25 * np.exp(-(((across + 0.35) / 0.2) ** 2)) + 0.04 * fbm(rng, c.size, 8, 4, 0.7)
    return lay(c, _metal(rng) * 0.9 * tone[..., None], cover(d, px))


def bottle_cap(c: Canvas) -> Scene:
    """A crimped cap with a printed emblem."""
    rng = c.rng
    u, v, px = _pose(c, 0.65, 0.88)
    r, angle = np.hypot(u, v), np.arctan2(v, u)
    flutes = int(rng.integers(17, 24))
    wave = np.cos(flutes * angle)
    d = r - 0.96 - 0.04 * wave
    base, ink = muted(rng, 0.3, 0.9, 0.8), muted(rng, 0.3, 0.9, 0.7)
    ring = rng.uniform(0.45, 0.68)
    emblem = r - ring * (0.75 + 0.25 * rng.uniform(0, 1) * np.cos(int(rng.integers(2, 8)) * angle))
    colour = mix(base, ink, cover(emblem, px))
    colour = mix(colour, muted(rng, 0.3, 0.95, 0.6), cover(np.abs(r - ring * 1.1) - rng.uniform(0.01, 0.04), px))
    skirt = np.clip((r - 0.76) / 0.06, 0, 1)
    dome = emboss((1 - 0.3 * r**2).astype(np.float32), c.light)
    tone = 1 + 0.3 * dome + skirt * (0.18 * wave - 0.15) - 0.25 * skirt * (u * 0 + np.clip(r - 0.8, 0, 1))
    tone = tone + 0.12 * np.cos(2 * angle + rng.uniform(0, 6)) + 0.02 * fbm(rng, c.size, 10, 3)
    return lay(c, colour * tone[..., None], cover(d, px))


def biscuit(c: Canvas) -> Scene:
    """A baked biscuit, round or square, docked or with dark chips."""
    rng = c.rng
    u, v, px = _pose(c, 0.62, 0.88)
    r, angle = np.hypot(u, v), np.arctan2(v, u)
    waves = rng.choice([0, 0.02, 0.035]) * np.cos(int(rng.integers(16, 30)) * angle)
    rough = rng.uniform(0.004, 0.02) * fbm(rng, c.size, 10, 3)
    d = (r - 0.95 if rng.random() < 0.65 else box(u, v, 0.85, rng.uniform(0.6, 0.85), 0.15)) + waves + rough
    base = around(rng, 0.085, rng.uniform(0.4, 0.6), rng.uniform(0.55, 0.8), 0.6)
    brown = np.exp(d * rng.uniform(4, 9)) * rng.uniform(0.1, 0.45)
    crumb = fbm(rng, c.size, rng.uniform(14, 26), 3, 0.8)
    tone = 1 - brown + 0.05 * crumb - 0.012 * emboss(crumb, c.light) * 0.5 + 0.06 * fbm(rng, c.size, 3)
    tone = tone + _rim(c, d, 0.12, 0.35)
    colour = base * np.clip(tone, 0.1, 1.3)[..., None]
    style = rng.random()
    if style < 0.4:
        gap = rng.uniform(0.24, 0.34)
        dots = np.hypot((u / gap) % 1 - 0.5, (v / gap) % 1 - 0.5) * gap - 0.035
        colour = mix(colour, base * 0.45, cover(np.maximum(dots, d + 0.15), px))
    elif style < 0.75:
        x, y = rng.uniform(-0.65, 0.65, (2, int(rng.integers(6, 14)), 1, 1)).astype(np.float32)
        chips = (np.hypot(u - x, v - y) - rng.uniform(0.05, 0.12, x.shape).astype(np.float32)).min(0) + rough * 1.5
        colour = mix(colour, hsv(0.06, 0.5, 0.22), cover(np.maximum(chips, d + 0.08), px * 2))
    return lay(c, colour, cover(d, px))
