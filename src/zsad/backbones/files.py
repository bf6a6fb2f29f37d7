"""Tensors out of weight files, without ever running code that a file brings along."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from zsad.errors import ZsadError

#: What a folder is searched for, in this order. Hugging Face's names first, then open_clip's.
FOLDER_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
)


def weight_files(path: Path) -> list[Path]:
    """The files that hold the weights of a file or folder: one, or the shards that an index names.

    Raises:
        ZsadError: If there is nothing at the path, or nothing that is known in the folder.
    """
    if not path.exists():
        raise ZsadError(f"no file or folder at {path}; expected one with weights, or a name of `zsad weights list`")
    if path.is_dir():
        known = [path / name for name in FOLDER_FILES if (path / name).is_file()]
        if not known:
            names = ", ".join(FOLDER_FILES)
            raise ZsadError(f"no weights in {path}; expected one of {names}. Give a file with another name itself.")
        path = known[0]
    if not path.name.endswith(".index.json"):
        return [path]
    shards = sorted(set(read_json(path).get("weight_map", {}).values()))
    absent = [name for name in shards if not (path.parent / name).is_file()]
    if absent or not shards:
        raise ZsadError(
            f"{path} names {len(shards)} shards; absent: {', '.join(absent[:5]) or 'all'}; copy them beside it"
        )
    return [path.parent / name for name in shards]


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; empty where there is no such file."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ZsadError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ZsadError(f"{path} holds a {type(content).__name__}; expected a JSON object")
    return content


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive, as OpenAI's published .pt files are."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Every tensor of a weight file on the CPU, in its own type; safetensors files stay mapped, not copied.

    TorchScript archives are not run: see :func:`read_torchscript`. Other PyTorch files go through
    `torch.load(weights_only=True)`. Training checkpoints hold their weights under "state_dict".

    Raises:
        ZsadError: If the file is damaged, or holds something else than tensors.
    """
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        if is_torchscript(path):
            return read_torchscript(path)
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except ZsadError:
        raise
    except Exception as error:  # each format raises its own, from OSError to bare Exception
        reason = str(error).strip().partition("\n")[0]
        raise ZsadError(
            f"{path} cannot be read as weights: {reason}\n"
            "  Expected safetensors, a TorchScript archive or a PyTorch file that holds tensors only; "
            "the file may be damaged or still downloading."
        ) from error
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ZsadError(f"{path} holds no table of tensors; save the model's state_dict() and use that file")
    return state


_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class _Module:
    """Stands for every class that a TorchScript archive defines; its attributes are what the archive stored."""


def _tensor(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object) -> Tensor:
    return storage.as_strided(size, stride, offset)


def _first(value: object, *_: object) -> object:
    return value


class _Reader(pickle.Unpickler):
    """Builds tensors and attribute tables only; anything else that a pickle asks for is refused."""

    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(archive.open(f"{root}data.pkl"))
        self.archive, self.root = archive, root

    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] == "__torch__":
            return _Module
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch.jit._pickle":  # type tags of lists and dictionaries
            return _first
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        raise pickle.UnpicklingError(f"the archive asks for {module}.{name}, which is not a tensor")

    def persistent_load(self, pid: Any) -> Tensor:
        _, dtype, key, _, numel = pid
        data = self.archive.read(f"{self.root}data/{key}")
        return torch.frombuffer(bytearray(data), dtype=dtype, count=numel) if numel else torch.empty(0, dtype=dtype)


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """The tensors of a TorchScript archive under their dotted names, without running it.

    Such an archive is a zip file: `code/` holds programs, `data.pkl` the tree of modules, `data/` the bytes of the
    tensors. Only the last two are read, by an unpickler that knows tensors and attribute tables and refuses the rest;
    torch.jit.load would compile what is in `code/`, and torch.load(weights_only=True) refuses such archives.
    """
    with zipfile.ZipFile(path) as archive:
        root = next(name for name in archive.namelist() if name.endswith("/data.pkl")).removesuffix("data.pkl")
        return dict(_walk(_Reader(archive, root).load()))


def _walk(module: object, prefix: str = "") -> Iterable[tuple[str, Tensor]]:
    for name, value in vars(module).items():
        if isinstance(value, Tensor):
            yield prefix + name, value
        elif isinstance(value, _Module):
            yield from _walk(value, f"{prefix}{name}.")
