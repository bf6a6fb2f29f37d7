"""Metrics of any number of images in bounded memory: scores come in parts, and streams of different parts add up.

A stream counts scores in histograms (:mod:`zsad.metrics.histogram`), and tells from these what a metric can be at least
and at most (:mod:`zsad.metrics.bounds`). Its state, and so every value to the last bit, depends on nothing but the
images: not on their order, nor on how they were cut into parts, nor on how streams were merged.

``Value.error`` says how far a value may be from the exact one; it was worked out from this very data. It is 0, but for
the weights of regions, as long as the scores take few enough bins to stay apart, and usually below 1e-4 after that. It
is more where most scores crowd together while others fill bins of many magnitudes, since a state that depends on the
set of scores alone cannot be finer where they crowd; and for float64 scores closer together than float32 can tell.
docs/metrics.md has numbers. Weights are rounded to whole numbers, which adds the mean area of a region / 2**37.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor

from zsad.errors import ZsadError
from zsad.metrics import formulas
from zsad.metrics.aupimo import NO_NORMAL_IMAGE, check_rates
from zsad.metrics.bounds import Evidence
from zsad.metrics.exact import Mode, check_limit, check_mode, check_threshold
from zsad.metrics.histogram import BLOCK, PAGES, Histogram, blocks
from zsad.metrics.inputs import pair, stack
from zsad.metrics.regions import region_areas
from zsad.metrics.released import released_thresholds
from zsad.metrics.state import Facts, pack, unpack
from zsad.metrics.values import NO_NORMAL, Value, undefined

UNIT = 2**36  # what all pixels of a region weigh together, and all anomalous ones of an image
REGIONS = 2**26  # with more, sums of weights could leave 64 bits


S = TypeVar("S", bound="Stream")


class Stream:
    """What streams of image scores and of maps have in common."""

    kinds: ClassVar[dict[str, int]]  # names of histograms, and how many sums over elements each has

    def __init__(self, pages: int = PAGES) -> None:
        """Of no images.

        Args:
            pages: Bounds the memory and so the number of bins; 2 or more. Streams that are to be merged have the same.
                A page of 1024 bins takes 16 KiB, or 32 KiB for anomalous pixels; all that are filled stay in memory.
        """
        if pages < 2:
            raise ZsadError(f"a stream needs 2 pages or more, got {pages}; leave it out for the usual {PAGES}.")
        self._histograms = {name: Histogram(sums, pages) for name, sums in self.kinds.items()}
        self._facts = Facts()

    @classmethod
    def of(cls: type[S], state: Mapping[str, Tensor]) -> S:
        """The stream that gave this state.

        Raises:
            ZsadError: If no stream of this kind can have given it.
        """
        stream = cls.__new__(cls)
        stream._histograms, stream._facts = unpack(state, cls.kinds)
        return stream

    def state(self) -> dict[str, Tensor]:
        """All that the stream knows, as ``safetensors`` takes it; the same whenever the images are the same."""
        return pack(self._histograms, self._facts)

    def __reduce__(self) -> tuple[Any, ...]:
        """For copies and pickles."""
        return type(self).of, (self.state(),)

    @property
    def images(self) -> int:
        """How many have been added."""
        return self._facts.images

    @property
    def _double(self) -> bool:
        """Whether some scores were float64."""
        return any(histogram.low.dtype == torch.float64 for histogram in self._histograms.values())

    @property
    def pages(self) -> int:
        """How many each histogram may have."""
        return min(histogram.room for histogram in self._histograms.values())

    def merge(self, other: Stream) -> None:
        """Add everything that another stream was given; it stays as it is.

        Raises:
            ZsadError: If it is of another kind or has other ``pages``, or if there are too many regions for one.
        """
        if type(other) is not type(self):
            raise ZsadError(
                f"expected another {type(self).__name__}, got {type(other).__name__}; merge like with like."
            )
        if self.pages != other.pages:
            raise ZsadError(f"expected a stream of {self.pages} pages, got {other.pages}; give all streams the same.")
        self._check_regions(other._facts.regions)
        for name, histogram in other._histograms.items():
            self._histograms[name].merge(histogram)
        self._facts += other._facts

    def auroc(self) -> Value:
        """As :func:`zsad.metrics.auroc`."""
        return self._evidence().mean(formulas.beaten)

    def average_precision(self) -> Value:
        """As :func:`zsad.metrics.average_precision`."""
        return self._evidence().average_precision()

    def f1_max(self) -> tuple[Value, float]:
        """As :func:`zsad.metrics.f1_max`. The threshold reaches the value, and none more than its error more."""
        return self._evidence().f1_max()

    def f1_at(self, threshold: float) -> Value:
        """As :func:`zsad.metrics.f1_at`."""
        return self._overlap_at(threshold, 2)

    def _evidence(self) -> Evidence:
        raise NotImplementedError

    def _known(self, *normal: str) -> Evidence:
        """Of histograms of normal elements, and of the anomalous ones."""
        histograms = [self._histograms[name] for name in (*normal, "anomalous")]
        level = max(histogram.level for histogram in histograms)
        device = next((histogram.pages.device for histogram in histograms if len(histogram.pages)), torch.device("cpu"))
        *parts, anomalous = (histogram.table().at(level).to(device) for histogram in histograms)
        return Evidence(parts, anomalous)

    def _named(self, evidence: Evidence) -> dict[str, Value]:
        return {
            "auroc": evidence.mean(formulas.beaten),
            "ap": evidence.average_precision(),
            "f1_max": evidence.f1_max()[0],
        }

    def _overlap_at(self, threshold: float, twice: int) -> Value:
        check_threshold(threshold)
        if not self._double:
            threshold = float(torch.tensor(threshold, dtype=torch.float32))
        return self._evidence().overlap_at(threshold, twice)

    def _check_regions(self, more: int) -> None:
        if self._facts.regions + more > REGIONS:
            raise ZsadError(
                f"a stream takes {REGIONS} regions, got {self._facts.regions} and {more} more; begin another one."
            )


class ImageStream(Stream):
    """Metrics of scores that come in parts.

    >>> stream = ImageStream()
    >>> stream.add([0.1, 0.4], [0, 0])
    >>> stream.add([0.4, 0.8], [1, 1])
    >>> stream.metrics(), stream.images
    ({'auroc': 0.875, 'ap': 0.8333333333333333, 'f1_max': 0.8}, 4)
    """

    kinds: ClassVar[dict[str, int]] = {"normal": 1, "anomalous": 1}

    def add(self, scores: Any, labels: Any) -> None:
        """Some more scores, of any shape.

        Args, errors: as :func:`zsad.metrics.auroc`; after an error, the stream is as it was.
        """
        if labels is None:
            raise ZsadError("a stream needs labels, got None; leave out scores without ground truth.")
        values, truth = pair(scores, labels)
        self._histograms["normal"].add(values.masked_select(~truth))
        self._histograms["anomalous"].add(values.masked_select(truth))
        self._facts += Facts(values.numel())

    def metrics(self) -> dict[str, Value]:
        """All image metrics, named as by :func:`zsad.metrics.image_metrics`."""
        return self._named(self._evidence())

    def _evidence(self) -> Evidence:
        return self._known("normal")


class PixelStream(Stream):
    """Metrics of maps that come in parts, in whatever sizes.

    >>> stream = PixelStream()
    >>> stream.add([[[0.9, 0.2]]], [[[1, 0]]])
    >>> stream.add([[[0.1, 0.3]], [[0.2, 0.2]]], [[[0, 0]], [[0, 0]]])
    >>> stream.metrics(), stream.images
    ({'auroc': 1.0, 'ap': 1.0, 'f1_max': 1.0, 'aupro': 1.0}, 3)
    """

    kinds: ClassVar[dict[str, int]] = {"sound": 1, "around": 1, "anomalous": 3}  # sound: pixels of normal images

    def add(self, maps: Any, masks: Any) -> None:
        """Some more maps.

        Args:
            maps: [N, H, W], array or tensor; N, H and W may differ from call to call.
            masks: [N, H, W], 0 or 1; an empty mask is a normal image.

        Raises:
            ZsadError: As :func:`zsad.metrics.aupro`, and if masks are None or there are more than 2**26 regions in all;
                the stream is as it was.
        """
        if masks is None:
            raise ZsadError("a stream needs masks, got None; leave out images without ground truth.")
        values, truth = stack(maps, masks)
        if self._facts.regions + int(truth.count_nonzero()) > REGIONS:
            self._check_regions(sum(region_areas(mask)[1] for mask in truth))
        for scores, mask in zip(values, truth, strict=True):
            self._add(scores, mask)

    def iou_at(self, threshold: float) -> Value:
        """As :func:`zsad.metrics.iou_at`."""
        return self._overlap_at(threshold, 1)

    def aupro(self, limit: float = 0.3, mode: Mode = "exact") -> Value:
        """As :func:`zsad.metrics.aupro`; "released" here means up to the error, not to the last bit.

        It is NaN where the bins leave open whether the released code gives a number.
        """
        check_mode(mode)
        check_limit(limit)
        if mode == "exact":
            return self._evidence().mean(partial(formulas.area, limit=limit), weight=1)
        evidence = self._evidence()
        thresholds = released_thresholds(*evidence.ends(), np.float64 if self._double else np.float32)
        return evidence.released(thresholds, limit)

    def aupimo(self, low: float = 1e-5, high: float = 1e-4) -> Value:
        """As :func:`zsad.metrics.aupimo`; the rate is that of all pixels of normal images, whatever their sizes."""
        check_rates(low, high)
        value = self._known("sound").mean(partial(formulas.log_area, low=low, high=high), weight=2)
        return undefined(NO_NORMAL_IMAGE) if value.reason == NO_NORMAL else value

    def metrics(self, limit: float = 0.3) -> dict[str, Value]:
        """All pixel metrics, named as by :func:`zsad.metrics.pixel_metrics`."""
        check_limit(limit)
        evidence = self._evidence()
        return self._named(evidence) | {"aupro": evidence.mean(partial(formulas.area, limit=limit), weight=1)}

    def _add(self, scores: Tensor, mask: Tensor) -> None:
        hits, regions = scores.masked_select(mask), 0
        self._histograms["around" if len(hits) else "sound"].add(scores.masked_select(~mask))
        if len(hits):
            areas, regions = region_areas(mask)
            for part in blocks(len(hits), BLOCK):
                size = areas[part]
                weights = [torch.ones_like(size), _weight(size), _weight(torch.full_like(size, len(hits)))]
                self._histograms["anomalous"].add(hits[part], torch.stack(weights))
        self._facts += Facts(1, regions)

    def _evidence(self) -> Evidence:
        return self._known("sound", "around")


def _weight(elements: Tensor) -> Tensor:
    """Of so many elements, what each weighs: the nearest whole number."""
    return (UNIT + elements // 2) // elements
