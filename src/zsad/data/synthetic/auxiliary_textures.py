"""Textures of the auxiliary half. Nothing here is used by the unseen half."""

from __future__ import annotations

import numpy as np

from .noise import (
    Canvas,
    Scene,
    around,
    backdrop,
    emboss,
    fbm,
    hsv,
    lattice,
    mix,
    muted,
    sheet,
    soften,
    turn,
    worley,
)


def woven_fabric(c: Canvas) -> Scene:
    """Plain or twill weave of two yarns."""
    rng = c.rng
    u, v = turn(c.x, c.y, rng.uniform(0, np.pi))
    u, v = u + 0.01 * fbm(rng, c.size, 3, 2), v + 0.01 * fbm(rng, c.size, 3, 2)
    count = rng.uniform(3.5, 9)
    u, v = u * count * rng.uniform(0.8, 1.2) + 40, v * count + 40
    iu, iv = np.floor(u).astype(np.int32), np.floor(v).astype(np.int32)
    a, b = u - iu - 0.5, v - iv - 0.5
    period = int(rng.choice([2, 2, 3, 4]))
    over = ((iu + iv) % period) < period // 2
    warp = muted(rng, 0.3, 0.85)
    weft = warp * rng.uniform(0.75, 1.2) if rng.random() < 0.6 else muted(rng, 0.3, 0.85)
    yarn = np.where(over, rng.normal(0, 0.05, 128)[iu & 127], rng.normal(0, 0.05, 128)[iv & 127])
    across, along = np.where(over, a, b), np.where(over, b, a)
    round_yarn = 1 - 2.6 * across**2 - 0.9 * along**2
    fibre = 0.05 * lattice(rng, np.where(over, u * 6, u * 2), np.where(over, v * 2, v * 6))
    slope = np.where(over, a * c.light[0], b * c.light[1]) * rng.uniform(-0.4, -0.1)
    tone = (0.5 + 0.5 * round_yarn + yarn + fibre + slope) * 1.05
    return sheet(c, np.where(over[..., None], warp, weft) * tone[..., None])


def brushed_metal(c: Canvas) -> Scene:
    """Fine parallel strokes and a broad reflection."""
    rng = c.rng
    u, v = turn(c.x, c.y, rng.uniform(0, np.pi))
    fine = rng.uniform(18, 30)
    strokes = lattice(rng, u * rng.uniform(0.4, 2), v * fine) + 0.6 * lattice(rng, u * 3, v * fine * 0.4)
    wide = lattice(rng, u * 0.3 + 5, v * rng.uniform(0.5, 2))
    tone = 1 + rng.uniform(0.04, 0.11) * strokes + rng.uniform(0.02, 0.12) * wide
    base = hsv(rng.choice([0.6, 0.58, 0.1, 0.08]), rng.uniform(0, 0.22), rng.uniform(0.4, 0.78))
    return sheet(c, base * tone[..., None])


def granite(c: Canvas) -> Scene:
    """Speckled stone: grains of a few colours at two scales."""
    rng = c.rng
    u, v = c.x + 0.018 * fbm(rng, c.size, 12, 2), c.y + 0.018 * fbm(rng, c.size, 12, 2)
    count = rng.uniform(8, 18)
    near, _, grain = worley(rng, u * count + 30, v * count + 30)
    base = muted(rng, 0.35, 0.75, 0.35)
    palette = np.stack([base * t for t in (1.0, 1.15, 0.85, rng.uniform(0.3, 0.7))] + [muted(rng, 0.3, 0.8)])
    share = rng.dirichlet([4, 3, 3, 1.5, 1])
    colour = palette[rng.choice(5, 4096, p=share)[grain]]
    tone = 1.05 - 0.25 * near**2 + 0.05 * fbm(rng, c.size, 20, 3, 0.8)
    dark = np.clip(fbm(rng, c.size, c.size / 4, 1) - rng.uniform(1.5, 2.4), 0, 1)
    return sheet(c, colour * (tone * (1 - 0.6 * dark))[..., None])


def leather(c: Canvas) -> Scene:
    """Soft bumps between creases."""
    rng = c.rng
    u, v = turn(c.x, c.y, rng.uniform(0, np.pi))
    warp = rng.uniform(0.05, 0.12)
    u, v = u + warp * fbm(rng, c.size, 5, 3), v * rng.uniform(0.6, 1) + warp * fbm(rng, c.size, 5, 3)
    count = rng.uniform(6, 14)
    near, second, _ = worley(rng, u * count + 30, v * count + 30, 0.8)
    height = np.clip((second - near) * 2.2, 0, 1)
    slope = emboss(soften(height, 0.012), c.light) / count
    base = around(rng, rng.choice([0.04, 0.07, 0.0, 0.6, 0.3]), rng.uniform(0.1, 0.6), rng.uniform(0.25, 0.65))
    tone = 0.8 + 0.2 * height - rng.uniform(0.1, 0.3) * slope + 0.05 * fbm(rng, c.size, 3, 5, 0.7)
    return sheet(c, base * tone[..., None])


def ceramic_tiles(c: Canvas) -> Scene:
    """Glazed tiles with grout, each its own shade."""
    rng = c.rng
    u, v = turn(c.x, c.y, rng.choice([0, rng.normal(0, 0.1), rng.uniform(0, np.pi)]))
    count, long = rng.uniform(1.2, 2.8), rng.choice([1.0, 1.0, 1.5, 2.0])
    u, v = u * count / long + 20 + rng.random(), v * count + 20 + rng.random()
    row = np.floor(v).astype(np.int32)
    u = u + np.float32(rng.choice([0, 0, 0.5])) * (row & 1)
    column = np.floor(u).astype(np.int32)
    edge = np.minimum((0.5 - np.abs(u - column - 0.5)) * long, 0.5 - np.abs(v - row - 0.5))
    gap = rng.uniform(0.03, 0.07)
    inside = np.clip((edge - gap) / (c.pixel * count) + 0.5, 0, 1)
    number = (row & 63) * 64 + (column & 63) + 1
    shade = 1 + rng.normal(0, rng.uniform(0.01, 0.08), 4200)[number]
    base = muted(rng, 0.35, 0.9, 0.5)
    bevel = emboss(np.clip((edge - gap) / 0.06, 0, 1).astype(np.float32), c.light)
    glaze = 0.02 * fbm(rng, c.size, 3, 4) + rng.uniform(0, 0.04) * fbm(rng, c.size, 14, 3)
    face = base * (shade + glaze - 0.02 * bevel)[..., None]
    grout = muted(rng, 0.25, 0.85, 0.15) * (1 + 0.07 * fbm(rng, c.size, 30, 2)[..., None])
    return sheet(c, mix(grout, face, inside), np.where(inside > 0.4, number, 0).astype(np.int32))


def wire_grid(c: Canvas) -> Scene:
    """Crossing round wires over something plain."""
    rng = c.rng
    u, v = turn(c.x, c.y, rng.uniform(0, np.pi))
    count, radius = rng.uniform(2.2, 5), rng.uniform(0.1, 0.2)
    u, v = u * count * rng.choice([1, 1, 0.7]) + 30, v * count + 30
    iu, iv = np.floor(u).astype(np.int32), np.floor(v).astype(np.int32)
    a, b = u - iu - 0.5, v - iv - 0.5
    over = ((iu + iv) & 1) == 0
    soft = c.pixel * count
    one, two = (np.clip((radius - np.abs(d)) / soft + 0.5, 0, 1) for d in (a, b))
    first = np.where(over, one > 0.5, (one > 0.5) & (two < 0.5))
    across = np.clip(np.where(first, a, b) / radius, -1, 1)
    facing = np.where(first, c.light[0], c.light[1])
    shine = rng.uniform(0.2, 0.5)
    tone = 0.55 + 0.45 * np.sqrt(1 - 0.95 * across**2) - shine * facing * across + 0.05 * fbm(rng, c.size, 20, 2)
    colour = muted(rng, 0.35, 0.85, 0.25) * tone[..., None]
    side = np.where(one > two, np.sign(b) > 0, np.sign(a) > 0) + 2 * (one > two)
    parts = np.where(np.maximum(one, two) > 0.3, ((iv & 63) * 64 + (iu & 63)) * 4 + side + 1, 0)
    back = backdrop(c) * np.float32(rng.uniform(0.3, 0.9))
    alpha = np.maximum(one, two).astype(np.float32)
    return Scene(colour.astype(np.float32), alpha, back.astype(np.float32), parts.astype(np.int32), c.light)


def cork(c: Canvas) -> Scene:
    """Pressed crumbs with dark pores."""
    rng = c.rng
    u, v = c.x + 0.06 * fbm(rng, c.size, 6, 3), c.y + 0.06 * fbm(rng, c.size, 6, 3)
    count = rng.uniform(4, 10)
    near, second, crumb = worley(rng, u * count + 30, v * count + 30)
    base = around(rng, 0.08, rng.uniform(0.25, 0.55), rng.uniform(0.45, 0.75))
    shade = 1 + rng.normal(0, rng.uniform(0.05, 0.14), 4096)[crumb]
    seam = np.clip(1 - (second - near) * 7, 0, 1) * rng.uniform(0.1, 0.35)
    pores = np.clip(fbm(rng, c.size, rng.uniform(16, 30), 2) - rng.uniform(1.3, 2.0), 0, 0.8)
    tone = shade - seam - 0.5 * pores + 0.06 * fbm(rng, c.size, 24, 2) - 0.1 * near
    return sheet(c, base * np.maximum(tone, 0.1)[..., None])
