"""The backbones that have a name: where their weights are published, what is known of the files. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from zsad.download import UrlFile
from zsad.errors import unknown

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class HubFile:
    """A weight file in a Hugging Face repository, at one commit. sha256 and size are None where not publicly known."""

    repository: str
    revision: str
    file: str
    sha256: str | None = None
    size: int | None = None  # bytes


@dataclass(frozen=True)
class Backbone:
    """One row of the registry. Sources are tried in the order hub, url; `tiny` has neither, it is in the package."""

    name: str
    hub: HubFile | None
    url: UrlFile | None
    licence: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    activation: str
    text: bool = False  # has a text tower, and so needs a tokenizer
    input: int = 518  # side of the network input in pixels: the papers', or what was best for `tiny` (docs/tiny.md)


# Text to tokens for OpenAI's own .pt files. Address, hash and size: openai/CLIP at the commit in the address.
MERGES = UrlFile(
    "https://raw.githubusercontent.com/openai/CLIP/d05afc436d78f1c48dc0dbf8e5980a9d471f35f6/clip/bpe_simple_vocab_16e6.txt.gz",
    "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a",
    1_356_917,
)


def _clip(name: str, hub: HubFile, sha256: str, file: str) -> Backbone:
    """A CLIP of OpenAI. The hash is part of its address: openai/CLIP d05afc43, clip/clip.py, `_MODELS`."""
    url = UrlFile(f"https://openaipublic.azureedge.net/clip/models/{sha256}/{file}", sha256)
    return Backbone(name, hub, url, "MIT", OPENAI_MEAN, OPENAI_STD, "quick_gelu", text=True)


def _plus_240(name: str, file: str) -> Backbone:
    """A ViT-B/16+ of open_clip. Address: mlfoundations/open_clip 89fb801f, src/open_clip/pretrained.py:277-285."""
    url = UrlFile(f"https://github.com/mlfoundations/open_clip/releases/download/v0.2-weights/{file}")
    return Backbone(name, None, url, "MIT", OPENAI_MEAN, OPENAI_STD, "gelu", text=True, input=240)


def _dinov2(size: str, hub: HubFile | None, activation: str = "gelu") -> Backbone:
    """A DINOv2. Address: facebookresearch/dinov2 b8931f7b, dinov2/hub/backbones.py; no hash is published there."""
    letter, _, registers = size.partition("-")
    model = f"dinov2_vit{letter}14"
    file = f"{model}{'_reg4' if registers else ''}_pretrain.pth"
    url = UrlFile(f"https://dl.fbaipublicfiles.com/dinov2/{model}/{file}")
    name = f"dinov2-{letter}-14{'-reg' if registers else ''}"
    return Backbone(name, hub, url, "Apache-2.0", IMAGENET_MEAN, IMAGENET_STD, activation)


# Revisions and, where given, hashes and sizes of the Hugging Face files were looked up in public repositories that pin
# them: revisions of CLIP B/32, B/16, L/14 and of DINOv2 without registers in embeddings-benchmark/mteb a905523d
# (mteb/models/model_implementations/clip_models.py, dino_models.py); those of CLIP L/14@336 and of DINOv2 L and g with
# registers, and every hash and size, in scripts that download and check these files. They were not downloaded here.
# None: no published value was found.
_ROWS = (
    Backbone("tiny", None, None, "MIT", OPENAI_MEAN, OPENAI_STD, "gelu", text=True, input=192),
    _clip(
        "clip-vit-b-32",
        HubFile(
            "openai/clip-vit-base-patch32",
            "3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268",
            "pytorch_model.bin",
            "a63082132ba4f97a80bea76823f544493bffa8082296d62d71581a4feff1576f",
            605_247_071,
        ),
        "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af",
        "ViT-B-32.pt",
    ),
    _clip(
        "clip-vit-b-16",
        HubFile("openai/clip-vit-base-patch16", "57c216476eefef5ab752ec549e440a49ae4ae5f3", "pytorch_model.bin"),
        "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f",
        "ViT-B-16.pt",
    ),
    _clip(
        "clip-vit-l-14",
        HubFile(
            "openai/clip-vit-large-patch14",
            "32bd64288804d66eefd0ccbe215aa642df71cc41",
            "model.safetensors",
            "a2bf730a0c7debf160f7a6b50b3aaf3703e7e88ac73de7a314903141db026dcb",
            1_710_540_580,
        ),
        "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836",
        "ViT-L-14.pt",
    ),
    _clip(
        "clip-vit-l-14-336",
        HubFile(
            "openai/clip-vit-large-patch14-336",
            "ce19dc912ca5cd21c8a653c79e251e808ccabcd1",
            "pytorch_model.bin",
            "c6032c2e0caae3dc2d4fba35535fa6307dbb49df59c7e182b1bc4b3329b81801",
            1_711_974_081,
        ),
        "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02",
        "ViT-L-14-336px.pt",
    ),
    _plus_240("clip-vit-b-16-plus-240", "vit_b_16_plus_240-laion400m_e32-699c4b84.pt"),  # WinCLIP's and AnoVL's
    _plus_240("clip-vit-b-16-plus-240-e31", "vit_b_16_plus_240-laion400m_e31-8fb26589.pt"),  # CLIP-AD's
    _dinov2("s", HubFile("facebook/dinov2-small", "ed25f3a31f01632728cabb09d1542f84ab7b0056", "model.safetensors")),
    _dinov2("b", HubFile("facebook/dinov2-base", "f9e44c814b77203eaa57a6bdbbd535f21ede1415", "model.safetensors")),
    _dinov2("l", HubFile("facebook/dinov2-large", "47b73eefe95e8d44ec3623f8890bd894b6ea2d6c", "model.safetensors")),
    _dinov2(
        "g", HubFile("facebook/dinov2-giant", "611a9d42f2335e0f921f1e313ad3c1b7178d206d", "model.safetensors"), "swiglu"
    ),
    _dinov2("s-reg", None),
    _dinov2("b-reg", None),
    _dinov2(
        "l-reg",
        HubFile(
            "facebook/dinov2-with-registers-large", "e4c89a4e05589de9b3e188688a303d0f3c04d0f3", "model.safetensors"
        ),
    ),
    _dinov2(
        "g-reg",
        HubFile(
            "facebook/dinov2-with-registers-giant", "8d0d49f77fb8b5dd78842496ff14afe7dd4d85cb", "model.safetensors"
        ),
        "swiglu",
    ),
    Backbone(  # address: facebookresearch/dino 04c0ad95, hubconf.py; no hash is published there
        "dino-b-8",
        None,
        UrlFile("https://dl.fbaipublicfiles.com/dino/dino_vitbase8_pretrain/dino_vitbase8_pretrain.pth"),
        "Apache-2.0",
        IMAGENET_MEAN,
        IMAGENET_STD,
        "gelu",
    ),
)

BACKBONES: dict[str, Backbone] = {row.name: row for row in _ROWS}


def backbone(name: str) -> Backbone:
    """The row of a name.

    >>> backbone("clip-vit-l-14-336").licence
    'MIT'

    Raises:
        ZsadError: If there is no such row; names the nearest one.
    """
    if name not in BACKBONES:
        raise unknown("backbone", name, BACKBONES, "zsad weights list")
    return BACKBONES[name]
