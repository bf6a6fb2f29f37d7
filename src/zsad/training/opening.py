"""A source is opened: what is on disk is looked up, and what is to be kept is computed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import psutil
import torch

from zsad.cache import FeatureCache, Space, about, sample_keys
from zsad.errors import ZsadError
from zsad.methods.features import Features
from zsad.training.hardware import Hardware
from zsad.training.images import DTYPES, Encoded, Images
from zsad.training.plan import Course
from zsad.training.source import MODES, Cache, InMemory, Kept, OnDisk, Progress, Rows, Source, other_shape
from zsad.types import Sample

MEMORY = 4 * 2**30  # bytes of features that "auto" keeps in memory
CHUNK = 64 * 2**20  # bytes of features that are encoded before they are written to disk
AGREE = 1e-3  # kept and computed features may differ by this share of the largest value: devices and threads round


@dataclass(frozen=True)
class Opening:
    """What is known while a source is opened."""

    samples: Sequence[Sample]
    images: Images
    course: Course
    cache: Cache
    hardware: Hardware
    progress: Progress | None
    like: Features  # of the first sample
    first: Rows  # of the same, as they would be kept
    space: Space | None = None  # on disk
    keys: Sequence[str] = ()
    missing: Sequence[int] = ()  # positions that are not on disk
    room: int = 0  # bytes that may be written

    @property
    def one(self) -> int:
        """Bytes of a sample."""
        return sum(tensor.nbytes for tensor in self.first.values())


def open_source(
    samples: Sequence[Sample],
    images: Images,
    course: Course,
    cache: Cache,
    hardware: Hardware,
    progress: Progress | None = None,
) -> Source:
    """A source for one stage of a training; features that are to be kept are computed here.

    "auto" reads from disk what is all there; else it keeps up to :data:`MEMORY`, and half of what is free, in memory,
    else on disk what there is room for, else nothing; nothing either where images are altered in every epoch. Several
    processes share what is on disk, and keep nothing in memory. The first image is always encoded, and compared with
    what the cache says of it.

    Raises:
        ZsadError: If a file cannot be read, there is no room, or the cache holds something else than the tower says.
    """
    if cache.mode == "none":
        return Source(samples, images)
    opening = look(samples, images, course, cache, hardware, progress)
    mode = MODES[hardware.from_main(MODES.index(mode_of(opening)))]
    kept, where = {"memory": _memory, "disk": _disk, "none": _nothing}[mode](opening)
    return Source(samples, images, kept, opening.like, where)


def look(
    samples: Sequence[Sample],
    images: Images,
    course: Course,
    cache: Cache,
    hardware: Hardware,
    progress: Progress | None = None,
) -> Opening:
    """What there is to know before features are computed: those of the first image, and what is on disk already."""
    first = next(images.encoded([samples[:1]]))
    opening = Opening(samples, images, course, cache, hardware, progress, first.features, _rows(first, cache.dtype))
    return _looked_up(opening) if cache.mode in ("auto", "disk") else opening


def _looked_up(opening: Opening) -> Opening:
    """With what the disk knows."""
    images, cache, keys = opening.images, opening.cache, sample_keys(opening.samples)
    store, stage = FeatureCache(cache.folder, cache.limit), opening.course.stage
    described = about(images.method, stage, images.size, images.reading, cache.dtype, opening.hardware.precision)
    space = store.space(described)
    absent = set(space.missing(keys))
    first_of = {key: i for i, key in reversed([*enumerate(keys)])}  # equal images are encoded once
    missing = sorted(first_of[key] for key in absent)
    return replace(opening, space=space, keys=keys, missing=missing, room=store.room())


def mode_of(opening: Opening) -> str:
    """What to do; see :func:`open_source`."""
    mode, alone = opening.cache.mode, opening.hardware.processes == 1
    needed = opening.one * len(opening.samples)
    if mode == "memory" and not alone:
        raise ZsadError("several processes share features on disk, not in memory; use --cache disk, or one process")
    free = psutil.virtual_memory().available
    if mode == "memory" and needed > free:
        raise ZsadError(f"{_gigabytes(needed)} of features do not fit into memory; use --cache disk or --cache none")
    if mode != "auto":
        return mode
    if opening.course.alter:
        return "none"
    if not opening.missing:
        return "disk"
    if alone and needed <= min(MEMORY, free / 2):
        return "memory"
    return "disk" if opening.one * len(opening.missing) <= opening.room else "none"


def _memory(opening: Opening) -> tuple[Kept, str]:
    kept, every = InMemory(opening.first, len(opening.samples)), range(len(opening.samples))
    for some, rows in _encoded(opening, every):
        kept.put(some[0], rows)
    return kept, f"in memory, {_gigabytes(opening.one * len(every))}"


def _disk(opening: Opening) -> tuple[Kept, str]:
    """Encode what is missing, each process its share; everybody may read it afterwards."""
    space, hardware = opening.space, opening.hardware
    assert space is not None
    _must_have_room(opening)
    share = [i for i in opening.missing if i % hardware.processes == hardware.rank]
    waiting: list[tuple[Sequence[int], Rows]] = []
    for some, rows in _encoded(opening, share):
        waiting.append((some, rows))
        held = sum(len(some) for some, _ in waiting)
        if held * opening.one >= CHUNK or some[-1] == share[-1]:
            keys = [opening.keys[i] for some, _ in waiting for i in some]
            _must_be_unchanged([opening.samples[i] for some, _ in waiting for i in some], keys)
            space.add(keys, {name: torch.cat([rows[name] for _, rows in waiting]) for name in rows})
            waiting = []
    hardware.wait()
    if space.missing(opening.keys):
        raise ZsadError("features are gone that were on disk a moment ago; was the cache cleared? Start it again")
    kept = OnDisk(space, opening.keys)
    _must_agree(kept.rows([0]), opening.first)
    total, new = len(opening.samples), len(opening.missing)
    return kept, f"on disk, {_gigabytes(opening.one * total)}, {total - new} of {total} images were there"


def _encoded(opening: Opening, chosen: Sequence[int]) -> Iterator[tuple[Sequence[int], Rows]]:
    """The rows of some positions, a few at a time, with those positions."""
    together = opening.images.together
    groups = [chosen[i : i + together] for i in range(0, len(chosen), together)]
    encoded, done = opening.images.encoded([[opening.samples[i] for i in group] for group in groups]), 0
    for group, part in zip(groups, encoded, strict=True):
        if part.features.size != opening.like.size:
            raise other_shape(opening.samples[group[0]])
        yield group, _rows(part, opening.cache.dtype)
        done += len(group)
        if opening.progress:
            opening.progress(done, len(chosen))


def _must_have_room(opening: Opening) -> None:
    """Raise a ZsadError unless what is missing can be written."""
    if (needed := opening.one * len(opening.missing)) > opening.room:
        raise ZsadError(
            f"{_gigabytes(needed)} of features do not fit into the cache, where there is room for "
            f"{_gigabytes(opening.room)} on the disk and within its limit of {_gigabytes(opening.cache.limit)}; "
            "zsad cache list shows what is there, zsad cache clear removes it; or use --cache none, "
            "--set cache_dtype=float16, another --set cache_folder or a larger --set cache_limit"
        )


def _nothing(opening: Opening) -> tuple[None, str]:
    if opening.course.alter:
        return None, "computed again in every epoch, as images are altered at random"
    needed = _gigabytes(opening.one * len(opening.samples))
    return None, f"computed again in every epoch: to keep them takes {needed}, and there is no room for that"


def _rows(encoded: Encoded, dtype: str) -> Rows:
    """As they are kept."""
    kept = {name: tensor.to(DTYPES[dtype]) for name, tensor in encoded.features.tensors().items()}
    return {**kept, "mask": torch.from_numpy(np.packbits(encoded.masks.numpy(), axis=2))}


def _must_agree(kept: Rows, computed: Rows) -> None:
    """Raise a ZsadError if the cache holds something else than the tower says."""
    for name, tensor in computed.items():
        a, b = kept[name].double(), tensor.double()
        if a.shape != b.shape or (b.numel() and not (a - b).abs().max() <= AGREE * b.abs().max()):
            raise ZsadError(
                "the cache holds other features than the tower computes now: it is damaged, or something that its keys "
                "do not know has changed; zsad cache list shows what is there, zsad cache clear removes it"
            )


def _must_be_unchanged(samples: Sequence[Sample], keys: Sequence[str]) -> None:
    """Raise a ZsadError if a file is not any more what it was when its key was made: nobody knows what was read."""
    for sample, before, now in zip(samples, keys, sample_keys(samples), strict=True):
        if before != now:
            raise ZsadError(f"{sample.image}, or its mask, was changed while it was read; start the training again")


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
