"""AUPRO of the released function on small maps: the maps, and the command that records the values.

    python -m tests.parity.aupro PATH/metrics.py > values.json

needs numpy and what the released file imports (scikit-image, scikit-learn), not zsad. golden/aupro.json holds what it
writes under NumPy 2, and with the versions of scikit-image and scikit-learn that the released requirements.txt names.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import platform
import sys
import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Case = tuple[NDArray[np.float64], NDArray[np.bool_]]  # maps, masks


def uniform(shape: tuple[int, ...], seed: int) -> NDArray[np.float64]:
    """Numbers in [0, 1) of whole-number arithmetic, so the same with every version of NumPy."""
    x = np.arange(np.prod(shape), dtype=np.uint64) + np.uint64(seed << 32)
    for factor in (0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93, 0xD6E8FEB86659FD93):
        x = x * np.uint64(factor)
        x ^= x >> np.uint64(32)
    return (x >> np.uint64(11)).astype(np.float64).reshape(shape) / 2.0**53


def smooth(maps: NDArray[np.float64], times: int) -> NDArray[np.float64]:
    """Each pixel averaged with its neighbours."""
    for _ in range(times):
        for axis in (1, 2):
            maps = (np.roll(maps, 1, axis) + maps + np.roll(maps, -1, axis)) / 3.0
    return maps


def discs(count: int, side: int) -> NDArray[np.bool_]:
    """Masks with one to three discs each, but none in the first."""
    y, x = np.mgrid[:side, :side]
    masks = np.zeros((count, side, side), dtype=bool)
    for i in range(1, count):
        for j in range(1 + i % 3):
            centre_y, centre_x, radius = (7 * i + 11 * j) % side, (5 * i + 13 * j) % side, 2 + (i + j) % 4
            masks[i] |= (y - centre_y) ** 2 + (x - centre_x) ** 2 <= radius**2
    return masks


def blobs() -> Case:
    masks = discs(5, 24)
    return smooth(uniform(masks.shape, 1), 2) + smooth(masks * 0.25, 1), masks


def many_regions() -> Case:
    masks = uniform((2, 48, 48), 2) < 0.07  # over 128 regions: their order matters to the last bit
    return uniform(masks.shape, 3) + masks * 0.5, masks


def ties() -> Case:
    masks = discs(4, 20)
    return np.floor(24 * uniform(masks.shape, 4) + 8 * masks) / 32.0, masks


def whole_numbers() -> Case:
    masks = discs(4, 20)
    return np.floor(201 * uniform(masks.shape, 5)), masks  # each equal to a threshold


def around_thresholds() -> Case:
    maps, masks = whole_numbers()
    return 1.0 + maps * 0.0045, masks  # each a threshold but for rounding


def far_from_zero() -> Case:
    maps, masks = blobs()
    return 1000.0 + maps, masks  # thresholds are a few float32 apart


def one_threshold_more() -> Case:
    maps, masks = blobs()
    return 25.0 * maps, masks  # the step is rounded down: 201 thresholds


def outlier() -> Case:
    maps, masks = blobs()
    maps[2, 3, 4] = 40.0
    return maps, masks


def negative() -> Case:
    maps, masks = blobs()
    return -maps, ~masks


def constant() -> Case:
    masks = discs(3, 12)
    return np.full(masks.shape, 0.5), masks


def one_rate() -> Case:
    masks = discs(3, 12)
    return masks * 1.0, masks  # every threshold has FPR 0


def one_threshold() -> Case:
    maps = np.where(uniform((2, 12, 12), 8) < 0.6, 199.0, 0.0)
    maps[0, 0, :2] = 200.0, 0.0  # above the last threshold; the one before has FPR 0.6
    return maps, maps == 200


def without_regions() -> Case:
    return uniform((2, 8, 8), 6), np.zeros((2, 8, 8), dtype=bool)


def without_normal_pixels() -> Case:
    return uniform((2, 8, 8), 7), np.ones((2, 8, 8), dtype=bool)


DEFINED = (blobs, many_regions, ties, whole_numbers, around_thresholds, far_from_zero)
DEFINED += (one_threshold_more, outlier, negative)
UNDEFINED = (constant, one_rate, one_threshold, without_regions, without_normal_pixels)
CASES: dict[str, Callable[[], Case]] = {make.__name__: make for make in DEFINED + UNDEFINED}
RUNS = [f"{make.__name__} float{bits} {limit}" for make in DEFINED for bits in (32, 64) for limit in (0.3, 0.05)]
RUNS += [f"{make.__name__} float32 0.3" for make in UNDEFINED]


def inputs(run: str) -> tuple[NDArray[np.floating], NDArray[np.bool_], float]:
    """Maps, masks and limit of a run."""
    name, dtype, limit = run.split()
    maps, masks = CASES[name]()
    return maps.astype(dtype), masks, float(limit)


def digest(run: str) -> str:
    """Of the maps and the masks, which tells whether they are those of the recorded value."""
    maps, masks, _ = inputs(run)
    return hashlib.sha256(maps.tobytes() + masks.tobytes()).hexdigest()[:16]


def record(file: str) -> dict[str, object]:
    """What the released function returns, or the error that it raises; masks are float32, as in its script."""
    spec = importlib.util.spec_from_file_location("released", file)
    assert spec and spec.loader, file
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    values = {}
    for run in RUNS:
        maps, masks, limit = inputs(run)
        try:
            value = float(module.cal_pro_score(masks.astype(np.float32), maps, expect_fpr=limit)).hex()
        except (ValueError, ZeroDivisionError) as error:
            value = type(error).__name__
        values[run] = f"{digest(run)} {value}"
    versions = {name: importlib.metadata.version(name) for name in ("numpy", "scikit-image", "scikit-learn")}
    return {"made_by": {"python": platform.python_version()} | versions, "values": values}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    json.dump(record(sys.argv[1]), sys.stdout, indent=1)
