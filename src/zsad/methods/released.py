"""Checkpoints that the authors of the methods published, by name. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from zsad.backbones.registry import UrlFile
from zsad.errors import unknown


@dataclass(frozen=True)
class Released:
    """One published checkpoint."""

    name: str  # method/auxiliary set
    file: UrlFile
    blob: str  # git's SHA-1 of the file, which names its content where no SHA-256 is published
    trained_on: str
    backbone: str
    licence: str
    reproduces: str  # which published numbers

    @property
    def method(self) -> str:
        """The method it belongs to."""
        return self.name.partition("/")[0]


def _anomalyclip(name: str, folder: str, blob: str, trained_on: str, reproduces: str) -> Released:
    """zqhang/AnomalyCLIP 45ed4dd, checkpoints/; the blobs' names are git's own."""
    commit = "45ed4dd35c05797d854294b5e8d585c545920089"
    url = f"https://raw.githubusercontent.com/zqhang/AnomalyCLIP/{commit}/checkpoints/{folder}/epoch_15.pth"
    return Released(name, UrlFile(url), blob, trained_on, "clip-vit-l-14-336", "MIT", reproduces)


_ROWS = (
    _anomalyclip(
        "anomalyclip/mvtec",
        "9_12_4_multiscale_visa",
        "72adc786e031b49ea288ba5f815f0d38cf158708",
        "MVTec AD, test split",
        "AnomalyCLIP Tables 1 and 2, all sets but MVTec AD",
    ),
    _anomalyclip(
        "anomalyclip/visa",
        "9_12_4_multiscale",
        "c90f1d9d92d158b436a8fc193f984d4cec8b1fc8",
        "VisA, test split",
        "AnomalyCLIP Table 1, MVTec AD",
    ),
)
RELEASED = {row.name: row for row in _ROWS}


def released(name: str) -> Released:
    """The row of a published checkpoint.

    Raises:
        ZsadError: If there is none of that name.

    >>> released("anomalyclip/mvtec").backbone
    'clip-vit-l-14-336'
    """
    if name not in RELEASED:
        raise unknown("weights", name, RELEASED, "zsad weights list")
    return RELEASED[name]
