"""What features on disk are known by: everything they depend on, so that none is ever taken for another."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

import zsad
from zsad.backbones.clip import CLIP
from zsad.data.contents import contents
from zsad.data.reading import Reading
from zsad.errors import ZsadError
from zsad.methods.base import Method, Stage
from zsad.types import Sample

#: what turns files into features and masks: folders and files of the package
CODE = ("backbones", "methods", "data", "maps.py", *(f"training/{name}.py" for name in ("images", "opening", "source")))


def about(method: Method, stage: Stage, size: int, reading: Reading, dtype: str, precision: str) -> dict[str, Any]:
    """All that the features of a stage depend on beside the sample, as values of JSON.

    Args:
        method: Whose backbones, and what else it has that is frozen.
        stage: Whose features.
        size: Side of the network input in pixels.
        reading: How files become pixels.
        dtype: What features are kept as, "float32" or "float16".
        precision: What the tower computes in.

    Raises:
        ZsadError: If the method's class stands in no file, so that a change of it would go unnoticed.
    """
    others = [module for module in method.frozen if not isinstance(module, CLIP)]
    made = {
        "encoding": stage.encoding,
        "backbones": [_tower(towers) for towers in method.backbones],
        "others": [{"class": type(module).__qualname__, "tensors": _tensors_digest(module)} for module in others],
        "size": size,
        "reading": asdict(reading),
        "dtype": dtype,
        "precision": precision,
        "matmul": torch.get_float32_matmul_precision(),
        "device": method.backbone.logit_scale.device.type,
        "code": _code_digest((*_package_files(), *_class_files(type(method)))),
        "versions": {"zsad": zsad.__version__, **{name: version(name) for name in ("torch", "pillow", "numpy")}},
    }
    return json.loads(json.dumps(made))  # type: ignore[no-any-return]


def sample_keys(samples: Sequence[Sample], progress: Callable[[int], object] | None = None) -> list[str]:
    """A SHA-256 per sample, over the contents of its image and of its mask, whether it has one, and its part.

    Names and places of files do not count, nor do label and class name, which are no part of what is kept.

    Args:
        samples: Of files.
        progress: Called with 1 after every file; each is read once.

    Raises:
        ZsadError: If a file cannot be read.
    """
    for sample in samples:
        if type(sample) is not Sample:
            raise TypeError(f"features of {type(sample).__name__} are not kept, only those of files as they are")
    files = [path for sample in samples for path in (sample.image, sample.mask) if path is not None]
    known = contents(files, progress=progress)
    return [_key(known[sample.image], sample.mask and known[sample.mask], sample.part) for sample in samples]


def _key(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _tower(towers: CLIP) -> dict[str, Any]:
    """An image tower: the hash of its weights, and what no weight tells, such as the activation."""
    return {
        "name": towers.name,
        "sha256": towers.digest or _tensors_digest(towers),
        "tensors": str(towers.visual.cls.dtype),
        "tower": asdict(towers.visual.size),
        "mean": towers.mean,
        "std": towers.std,
    }


def _tensors_digest(module: nn.Module) -> str:
    """SHA-256 over names and values of all tensors of a module."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _package_files() -> list[Path]:
    """The source files that :data:`CODE` names."""
    package = Path(zsad.__file__).parent
    return [file for name in CODE for file in sorted((package / name).rglob("*.py")) or [package / name]]


def _class_files(kind: type[Method]) -> list[Path]:
    """Where a method's classes stand that are not the package's own."""
    own = [base for base in kind.__mro__ if issubclass(base, Method) and not base.__module__.startswith("zsad.")]
    try:
        return sorted({Path(inspect.getfile(base)) for base in own})
    except (TypeError, OSError) as error:
        raise ZsadError(
            f"{kind.__qualname__} stands in no file, so the cache on disk could not tell when it changes; put it into "
            "a module, or use --cache memory"
        ) from error


@cache
def _code_digest(files: Iterable[Path]) -> str:
    """SHA-256 over the contents of source files, as they are when it is first asked."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(hashlib.sha256(file.read_bytes()).digest() if file.is_file() else b"")
    return digest.hexdigest()
