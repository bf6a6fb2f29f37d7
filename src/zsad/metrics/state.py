"""What a stream knows, as plain tensors for files and for other processes, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

import torch
from torch import Tensor

from zsad.errors import ZsadError
from zsad.metrics.histogram import BITS, Histogram, Table

MOST = 2**20  # pages; a larger number is no number of pages
PARTS = ("low", "high", "sums", "level", "pages")  # of a histogram


@dataclass(frozen=True)
class Facts:
    """What a stream knows beside its histograms."""

    images: int = 0
    regions: int = 0

    def __add__(self, other: Facts) -> Facts:
        """Of the images of both."""
        return Facts(self.images + other.images, self.regions + other.regions)


def pack(histograms: Mapping[str, Histogram], facts: Facts) -> dict[str, Tensor]:
    """Tensors by name, on the CPU."""
    state = {name: torch.tensor(value) for name, value in asdict(facts).items()}
    for kind, histogram in histograms.items():
        table = histogram.table().to(torch.device("cpu"))
        state |= {f"{kind}.low": table.low, f"{kind}.high": table.high, f"{kind}.sums": table.sums}
        state |= {f"{kind}.level": torch.tensor(table.level), f"{kind}.pages": torch.tensor(histogram.room)}
    return state


def unpack(state: Mapping[str, Tensor], kinds: Mapping[str, int]) -> tuple[dict[str, Histogram], Facts]:
    """What was packed; ``kinds`` are the names of the histograms, and how many sums each has.

    Raises:
        ZsadError: If such a stream cannot have given it.
    """
    names = {fact.name for fact in fields(Facts)} | {f"{kind}.{part}" for kind in kinds for part in PARTS}
    if differing := sorted(names ^ set(state)):
        verb = "lacks" if differing[0] in names else "has nothing to do with"
        raise ZsadError(f'the state of this kind of stream {verb} "{differing[0]}"; load it as the kind that gave it.')
    facts = Facts(*(int(_some(state, fact.name, torch.int64, 0)) for fact in fields(Facts)))
    _need(facts.images >= 0, "images", "a count")
    _need(facts.regions >= 0, "regions", "a count")
    return {kind: _histogram(state, kind, sums) for kind, sums in kinds.items()}, facts


def _histogram(state: Mapping[str, Tensor], kind: str, columns: int) -> Histogram:
    """One of the histograms, checked."""
    pages, level = (int(_some(state, f"{kind}.{part}", torch.int64, 0)) for part in ("pages", "level"))
    _need(2 <= pages <= MOST, f"{kind}.pages", f"from 2 to {MOST}")
    _need(0 <= level <= 31 - BITS, f"{kind}.level", f"from 0 to {31 - BITS}")
    precision = torch.float64 if getattr(state[f"{kind}.low"], "dtype", None) == torch.float64 else torch.float32
    low, high = (_some(state, f"{kind}.{part}", precision, 1) for part in ("low", "high"))
    sums = _some(state, f"{kind}.sums", torch.int64, 2)
    _need(low.shape == high.shape, f"{kind}.high", f"of shape [{len(low)}]")
    shape = f"[{columns}, {len(low)}]"
    _need(sums.shape == (columns, len(low)) and bool((sums > 0).all()), f"{kind}.sums", f"{shape}, and positive")
    table = Table(low, high, sums, level)
    bins, same = table.bins(low), table.bins(low) == table.bins(high)
    _need(bool((bins[1:] > bins[:-1]).all() and low.isfinite().all()), f"{kind}.low", "finite, and ascend by bins")
    _need(bool((same & (low <= high)).all()), f"{kind}.high", "in the bins of the lowest scores")
    histogram = Histogram.of(table, pages)
    _need(histogram.level == level, f"{kind}.level", f"the lowest for {pages} pages")
    return histogram


def _some(state: Mapping[str, Tensor], name: str, dtype: torch.dtype, axes: int) -> Tensor:
    tensor = state[name]
    fits = isinstance(tensor, Tensor) and tensor.dtype == dtype and tensor.ndim == axes
    _need(fits, name, f"a tensor of {dtype} with {axes} axes")
    return tensor


def _need(fits: bool, name: str, expected: str) -> None:
    if not fits:
        raise ZsadError(f'"{name}" in the state of a stream must be {expected}; load the file that was saved.')
