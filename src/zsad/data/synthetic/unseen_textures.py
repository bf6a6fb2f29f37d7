"""Textures of the unseen half. Nothing here is used by the auxiliary half."""

from __future__ import annotations

import numpy as np

from .noise import Canvas, Scene, around, backdrop, cover, emboss, fbm, hsv, lattice, mix, muted, sheet, turn


def wood_planks(c: Canvas) -> Scene:
    """Boards side by side, each with its own grain."""
    rng = c.rng
    u, v = turn(c.x, c.y, rng.uniform(0, np.pi))
    count = rng.uniform(0.4, 1.8)
    across = v * count + 20 + rng.random()
    board = np.floor(across).astype(np.int32)
    shift, shade = rng.uniform(0, 40, 64).astype(np.float32), rng.normal(0, 0.07, 64).astype(np.float32)
    along = u * rng.uniform(0.5, 1.2) + shift[board & 63]
    width = v + rng.uniform(0.05, 0.16) * lattice(rng, along, v * 1.5 + shift[board & 63])
    rings = width * rng.uniform(5, 12) + 0.2 * lattice(rng, along * 2, v * 6)
    saw = rings - np.floor(rings)
    grain = rng.uniform(0.1, 0.28) * (saw - 0.5) * np.clip((1 - saw) * 8, 0, 1)
    fibre = rng.uniform(0.03, 0.07) * lattice(rng, along * 3, v * 30)
    gap = np.clip(1 - (0.5 - np.abs(across - board - 0.5)) / (count * rng.uniform(0.01, 0.03)), 0, 1)
    base = around(rng, rng.uniform(0.05, 0.1), rng.uniform(0.25, 0.6), rng.uniform(0.4, 0.75))
    tone = (1 + shade[board & 63] - grain + fibre) * (1 - 0.65 * gap)
    return sheet(c, (base * np.maximum(tone, 0.05)[..., None]) ** np.array([0.95, 1.05, 1.15], np.float32))


def marble(c: Canvas) -> Scene:
    """Clouds and thin veins in polished stone."""
    rng = c.rng
    u, v = turn(c.x, c.y, rng.uniform(0, np.pi))
    drift = rng.uniform(0.1, 0.25)
    u, v = u + drift * fbm(rng, c.size, 2.5, 4, 0.55), v * 1.5 + drift * fbm(rng, c.size, 2.5, 4, 0.55)
    scale = rng.uniform(1, 2.5)
    veins = np.exp(-np.abs(lattice(rng, u * scale + 9, v * scale + 9)) * rng.uniform(9, 30))
    fine = np.exp(-np.abs(lattice(rng, u * 3 + 9, v * 3 + 9)) * 30) * rng.uniform(0.2, 0.6)
    clouds = fbm(rng, c.size, 2, 5, 0.6)
    base = muted(rng, 0.2, 0.93, 0.3)
    vein = base * np.float32(rng.uniform(0.3, 0.7)) if base.max() > 0.5 else muted(rng, 0.5, 0.9, 0.2)
    share = np.clip((veins + fine) * np.clip(0.5 + 0.4 * clouds, 0.05, 1) * rng.uniform(0.7, 1.2), 0, 1)
    tone = 1 + rng.uniform(0.05, 0.13) * clouds + 0.02 * fbm(rng, c.size, 20, 3, 0.9)
    return sheet(c, mix(base * tone[..., None], vein, share))


def knit(c: Canvas) -> Scene:
    """Columns of v-shaped stitches, plain or striped."""
    rng = c.rng
    u, v = turn(c.x, c.y, rng.uniform(0, 2 * np.pi))
    count = rng.uniform(3, 6.5)
    u = (u + 0.012 * fbm(rng, c.size, 3, 2)) * count + 30
    v = (v + 0.012 * fbm(rng, c.size, 3, 2)) * count * rng.uniform(1.1, 1.5) + 60
    column = np.floor(u).astype(np.int32)
    a = u - column - 0.5
    v = v + np.abs(a) * rng.uniform(1.0, 1.6)
    row = np.floor(v).astype(np.int32)
    b = v - row - 0.5
    leg = np.abs(np.abs(a) - 0.25) * 4
    height = np.sqrt(np.maximum(1 - 0.75 * leg**2 - 2.2 * b**2, 0))
    slope = (b * c.light[1] + np.sign(a) * (np.abs(a) - 0.25) * c.light[0]) * rng.uniform(0.1, 0.35)
    wool = 0.06 * lattice(rng, u * 7, v * 3 + a * 9) + 0.04 * fbm(rng, c.size, 5, 4)
    one = muted(rng, 0.25, 0.85, 0.6)
    stripes = int(rng.integers(2, 7)) if rng.random() < 0.4 else 1000
    two = muted(rng, 0.25, 0.85, 0.5)
    colour = mix(one, two, ((row // stripes) & 1 if stripes < 1000 else 0 * row).astype(np.float32))
    return sheet(c, colour * (0.42 + 0.6 * height - slope + wool)[..., None])


def hexagon_mesh(c: Canvas) -> Scene:
    """A honeycomb of flat or round bars over something plain."""
    rng = c.rng
    u, v = turn(c.x, c.y, rng.uniform(0, np.pi))
    count, bar = rng.uniform(1.8, 4.2), rng.uniform(0.07, 0.16)
    u, v = u * count + 30, v * count + 30
    tall = np.float32(np.sqrt(3))
    au, av = u - np.floor(u) - 0.5, v - (np.floor(v / tall) + 0.5) * tall
    bu, bv = u - np.floor(u + 0.5), v - np.floor(v / tall + 0.5) * tall
    first = au**2 + av**2 < bu**2 + bv**2
    a, b = np.where(first, au, bu), np.where(first, av, bv)
    sides = np.stack([a, a / 2 + b * tall / 2, b * tall / 2 - a / 2])
    side = np.abs(sides).argmax(0)
    toward = np.take_along_axis(sides, side[None], 0)[0]
    edge = np.abs(toward) - 0.5
    alpha = cover(-edge - bar, c.pixel * count)
    normal = np.array([[1, 0], [0.5, 0.866], [-0.5, 0.866]], np.float32)
    nu, nv = normal[side, 0] * np.sign(toward), normal[side, 1] * np.sign(toward)
    middle_u, middle_v = u - a + nu * 0.5, v - b + nv * 0.5
    number = np.rint(middle_u * 4).astype(np.int32) * 1024 + np.rint(middle_v * 4 / tall * 2).astype(np.int32)
    across = np.clip(edge / bar, -1, 0)
    round_bar = rng.uniform(0, 0.5) * (across + 1) * (nu * c.light[0] + nv * c.light[1])
    tone = 1 - 0.2 * across**2 - round_bar + 0.06 * fbm(rng, c.size, 16, 3, 0.8)
    colour = muted(rng, 0.35, 0.85, 0.35) * tone[..., None]
    back = backdrop(c) * np.float32(rng.uniform(0.25, 0.85))
    parts = np.where(alpha > 0.3, number, 0).astype(np.int32)
    return Scene(colour.astype(np.float32), alpha, back.astype(np.float32), parts, c.light)


def concrete(c: Canvas) -> Scene:
    """Cast concrete: cloudy, sandy, with small pores and sometimes the seams of its mould."""
    rng = c.rng
    base = hsv(rng.uniform(0, 0.7), rng.uniform(0, 0.12), rng.uniform(0.4, 0.78))
    clouds = rng.uniform(0.02, 0.07) * fbm(rng, c.size, 2.5, 4, 0.6)
    sand = fbm(rng, c.size, 40, 2, 0.9)
    pores = np.clip((fbm(rng, c.size, rng.uniform(22, 36), 1) - rng.uniform(2.2, 2.9)) * 2.5, 0, 1)
    tone = 1 + clouds + rng.uniform(0.01, 0.05) * sand - 0.5 * pores + 0.008 * emboss(sand, c.light) * 0.3
    if rng.random() < 0.35:
        u, _ = turn(c.x, c.y, rng.uniform(0, np.pi))
        seam = np.abs((u * rng.uniform(0.5, 1.3) + rng.random()) % 1 - 0.5)
        tone = tone - 0.18 * np.clip(1 - seam / 0.015, 0, 1)
    return sheet(c, base * tone[..., None])
