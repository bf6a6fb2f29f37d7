"""Checkpoints that the authors of the methods published, by name. Imports no torch.

Addresses are pinned to commits. Licences are those that the repositories state; training sets and tables are those of
their scripts and papers. AFR-CLIP published none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zsad.backbones.registry import BACKBONES
from zsad.download import UrlFile
from zsad.errors import ZsadError, unknown


@dataclass(frozen=True)
class Released:
    """One published checkpoint; its SHA-256, git's SHA-1 or both name its content."""

    name: str  # method/auxiliary set
    file: UrlFile
    blob: str | None  # git's SHA-1 of the file, where the repository holds the file itself
    trained_on: str
    backbone: str
    licence: str
    reproduces: str  # which published numbers
    switches: Mapping[str, Any] = field(default_factory=dict)  # it was tested with, where they are not the defaults

    @property
    def method(self) -> str:
        """The method it belongs to."""
        return self.name.partition("/")[0]

    def difference(self, sha256: str, blob: str) -> str:
        """How the hashes of a file differ from those that are known; empty where they agree."""
        pairs = (("SHA-256", self.file.sha256, sha256), ("git SHA-1", self.blob, blob))
        wrong = [f"{kind} {found}, expected {known}" for kind, known, found in pairs if known not in (None, found)]
        return "; ".join(wrong)

    def must_fit(self, backbone: str) -> None:
        """Complain about a named backbone that it was not trained on.

        Raises:
            ZsadError: Naming the right one.
        """
        if backbone in BACKBONES and backbone != self.backbone:
            raise ZsadError(
                f"{self.name} was trained on {self.backbone}, not on {backbone}; add --backbone {self.backbone}"
            )


def _anomalyclip(name: str, folder: str, blob: str, trained_on: str, reproduces: str) -> Released:
    """zqhang/AnomalyCLIP 45ed4dd, train.sh and test.sh; the files' hashes are git's own."""
    commit = "45ed4dd35c05797d854294b5e8d585c545920089"
    url = f"https://raw.githubusercontent.com/zqhang/AnomalyCLIP/{commit}/checkpoints/{folder}/epoch_15.pth"
    return Released(name, UrlFile(url), blob, trained_on, "clip-vit-l-14-336", "MIT", reproduces)


def _crane(name: str, path: str, size: int, hashes: tuple[str, str], reproduces: str, **switches: Any) -> Released:
    """AlirezaSalehy/Crane 39181f9, test.sh; both hashes were taken from the files."""
    commit = "39181f9f718a28c1b06b5aa72bfb81e74b9a2cc3"
    url = f"https://raw.githubusercontent.com/AlirezaSalehy/Crane/{commit}/checkpoints/{path}"
    trained_on = "VisA, test split" if path.startswith("trained_on_visa") else "MVTec AD, test split"
    file = UrlFile(url, hashes[0], size)
    return Released(name, file, hashes[1], trained_on, "clip-vit-l-14-336", "MIT", reproduces, switches)


def _visualad(name: str, folder: str, sha256: str, trained_on: str, reproduces: str) -> Released:
    """7HHHHH/VisualAD 8479132, README.md and scripts/CLIP.sh; hash and size stand in the git-lfs pointers."""
    commit = "8479132d641456345019aed1c8bb6b2d11941068"
    url = f"https://media.githubusercontent.com/media/7HHHHH/VisualAD/{commit}/weight/{folder}/CLIP.pth"
    file = UrlFile(url, sha256, 126_119_090)
    return Released(name, file, None, trained_on, "clip-vit-l-14-336", "MIT (README only)", reproduces)


def _vip2clip(name: str, file: str, blob: str, trained_on: str, reproduces: str) -> Released:
    """kim0806/ViP2-CLIP 4b5884f, README.md, train.sh and test.sh; the files' hashes are git's own."""
    commit = "4b5884f6c6bd42001fe47ccaeef32e4f1a8f5a93"
    url = f"https://raw.githubusercontent.com/kim0806/ViP2-CLIP/{commit}/models/{file}"
    return Released(name, UrlFile(url), blob, trained_on, "clip-vit-l-14-336", "none stated", reproduces)


def _aprilgan(name: str, file: str, blob: str, trained_on: str, reproduces: str) -> Released:
    """ByChelsea/VAND-APRIL-GAN f13b8a6, train.sh and test_zero_shot.sh; the files' hashes are git's own."""
    commit = "f13b8a634e04f9fde8fa03db125b25af5695d8e1"
    url = f"https://raw.githubusercontent.com/ByChelsea/VAND-APRIL-GAN/{commit}/exps/pretrained/{file}"
    return Released(name, UrlFile(url), blob, trained_on, "clip-vit-l-14-336", "MIT", reproduces)


def _clipad(name: str, file: str, blob: str, trained_on: str, reproduces: str) -> Released:
    """ByChelsea/CLIP-AD f004973, train_SDP_plus.sh and test_SDP_plus.sh; the files' hashes are git's own."""
    commit = "f004973a41344d8c0966934af0c01781989b80e3"
    url = f"https://raw.githubusercontent.com/ByChelsea/CLIP-AD/{commit}/pretrained_models/{file}"
    return Released(name, UrlFile(url), blob, trained_on, "clip-vit-b-16-plus-240-e31", "none stated", reproduces)


def _adaclip(name: str, file: str, sha256: str, trained_on: str, reproduces: str) -> Released:
    """caoyunkang/AdaCLIP e27ee32, train.sh and test.sh; the authors' own addresses are on Google Drive.

    This one is a copy that Cubert GmbH announced to them (their issue 59). Hashes, size and revision are those that
    cubert-hyperspectral/cuvis-ai-adaclip 912ce74 pins (cuvis_ai_adaclip/weights.py); nothing was downloaded here.
    """
    commit = "16153b4ba74c2fe54a99679fc2e1b1e29993dc3f"
    url = f"https://huggingface.co/cubert-gmbh/adaclip/resolve/{commit}/{file}"
    copy = UrlFile(url, sha256, 42_673_907)
    return Released(name, copy, None, trained_on, "clip-vit-l-14-336", "MIT (code only)", reproduces)


#: how test.sh of Crane tests Crane+
_PLUS = {"guide": "dinov2-b-14-reg", "layers": (24,)}

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
    _crane(
        "crane/mvtec",
        "trained_on_mvtec_crane/epoch_5.pth",
        576_693,
        (
            "dc9bf1584c8abd8744f39e9607fdea8a04c8d30aa147de595d22bf444488e4c8",
            "078cf30d576f7b1b3652d68c4ddded575397b02f",
        ),
        "Crane Tables 1 and 2, without D-Attn, all sets but MVTec AD",
    ),
    _crane(
        "crane/visa",
        "trained_on_visa_crane/epoch_5.pth",
        576_693,
        (
            "66d070e3b72b61704495bdadd0f8c4979b62a23ca7211cfe08bd08ec7c0ab831",
            "354e75448658baf28d452b66fdcbc51d49a9dccd",
        ),
        "Crane Table 1, without D-Attn, MVTec AD",
    ),
    _crane(
        "crane/mvtec-plus",
        "trained_on_mvtec_cranep/epoch_5.pth",
        577_159,
        (
            "9163f13a9c0a75ac63de16239b850cf70d366b5591b083bea2c0c41e76beed53",
            "b8f0df94a926414ce51b06ff26c9d37dfc3c4131",
        ),
        "Crane Table 1, with D-Attn, all sets but MVTec AD (DAGM with soft_mean=true)",
        **_PLUS,
        soft_mean=False,
    ),
    _crane(
        "crane/mvtec-plus-medical",
        "trained_on_mvtec_cranep/epoch_1.pth",
        576_693,
        (
            "233cc4e623716f1aa26ebe374dd11aa7d77205266a52902837857c5a0fdc9e21",
            "cd9efdc951a7f2b882235840def88ae2345c422b",
        ),
        "Crane Table 2, with D-Attn",
        **_PLUS,
        soft_mean=True,
    ),
    _crane(
        "crane/visa-plus",
        "trained_on_visa_cranep/epoch_5.pth",
        577_159,
        (
            "732c7d1b76745950c56b0f9846f46f297619dcbb1db69a61e7b8fa5609ac10ab",
            "284c46268433d5152bf8f2f50e86029d8757dc4a",
        ),
        "Crane Table 1, with D-Attn, MVTec AD",
        **_PLUS,
        soft_mean=False,
    ),
    _visualad(
        "visualad/mvtec",
        "train_on_mvtec",
        "596f3ed0c0cfe78a314b41fc42a8adfc26b86ab1928f058ce256135cb407b32c",
        "MVTec AD, test split",
        "VisualAD Table 1 (CLIP), VisA",
    ),
    _visualad(
        "visualad/visa",
        "train_on_visa",
        "fed8ed5e0973e9adb53a2c91e066eb5ba3f9a42fbf80f115a26998629d1f0a5b",
        "VisA, test split",
        "VisualAD Table 1 (CLIP), all sets but VisA",
    ),
    _vip2clip(
        "vip2clip/mvtec",
        "mvtec_train_epoch_10.pth",
        "2988d3d425552fde7ed8c33433dea402c43103c5",
        "MVTec AD, test split",
        "ViP2-CLIP Tables 1 and 2, all sets but MVTec AD",
    ),
    _vip2clip(
        "vip2clip/visa",
        "visa_train_epoch_10.pth",
        "5d95c734a7a4b52b41704d322f4c046b8c1fcbcf",
        "VisA, test split",
        "ViP2-CLIP Table 1, MVTec AD",
    ),
    _aprilgan(
        "aprilgan/mvtec",
        "mvtec_pretrained.pth",
        "a057cec6c2ba5996baa0160a51e155908156813f",
        "MVTec AD, test split",
        "APRIL-GAN in ViP2-CLIP Tables 1 and 2, all sets but MVTec AD",
    ),
    _aprilgan(
        "aprilgan/visa",
        "visa_pretrained.pth",
        "86d6848c543f8393663d35c0333498ffb5ce9b68",
        "VisA, test split",
        "APRIL-GAN in ViP2-CLIP Table 1, MVTec AD",
    ),
    _clipad(
        "clipad/mvtec",
        "train_on_mvtec.pth",
        "d9102b131ceb8d1d668fbf6bce4e6940eb02986c",
        "MVTec AD, test split",
        "CLIP-AD's SDP+, VisA, pixels (with eps=1.5, min_samples=25 and sigma=2)",
    ),
    _clipad(
        "clipad/visa",
        "train_on_visa.pth",
        "854cc1034a1d49207f66b2ca20fd2c7aefbb75ca",
        "VisA, test split",
        "CLIP-AD's SDP+, MVTec AD, pixels",
    ),
    _adaclip(
        "adaclip/mvtec",
        "pretrained_mvtec_colondb.pth",
        "be51a42c052bd4cf060e54f503a1f5d0b2a3b899bc8dc2e243042f18b215427e",
        "MVTec AD and CVC-ColonDB, test splits",
        "AdaCLIP in AFR-CLIP Tables 1 and 2, about, all sets but MVTec AD and CVC-ColonDB",
    ),
    _adaclip(
        "adaclip/visa",
        "pretrained_visa_clinicdb.pth",
        "3deabbbaf1e412cfdfcb42923a500b986f4b9ee96ccbc7a735d89dbc87df44c8",
        "VisA and CVC-ClinicDB, test splits",
        "AdaCLIP in AFR-CLIP Tables 1 and 2, about, MVTec AD and CVC-ColonDB",
    ),
    _adaclip(
        "adaclip/all",
        "pretrained_all.pth",
        "33e8d3db1cb4aab030866b8b70a46e10aa27ebf2c23b5463cb07f2574addd98c",
        "fourteen sets, among them MVTec AD and VisA",
        "nothing: a demonstration",
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


def hashes(path: Path) -> tuple[str, str]:
    """SHA-256 of a file, and the SHA-1 that git knows its content by."""
    data = path.read_bytes()
    blob = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False)
    return hashlib.sha256(data).hexdigest(), blob.hexdigest()


def recognised(path: Path) -> Released | None:
    """The published checkpoint that a file holds, whatever its name; None for any other file."""
    found = hashes(path)
    return next((row for row in RELEASED.values() if not row.difference(*found)), None)
