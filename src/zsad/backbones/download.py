"""Published weights onto this machine: from Hugging Face or the authors' own address, checked before use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from huggingface_hub import constants, hf_hub_download

from zsad.backbones.registry import MERGES, Backbone, HubFile
from zsad.download import UrlFile, cache_folder, checked, fetch
from zsad.errors import ZsadError

_WAYS_OUT = """Ways out:
  --backbone tiny   the small model that ships with zsad
  --backbone PATH   a file or folder with these weights, copied from elsewhere
  HF_HOME=FOLDER    a Hugging Face cache copied from a machine that has them; HF_HUB_OFFLINE=1 then uses nothing else"""


def download(row: Backbone, offline: bool | None = None) -> tuple[Path, str]:
    """The weight file of a registry row, with config.json or the tokenizer beside it, from a cache or the network.

    Hugging Face first (its cache, HF_HOME, HF_HUB_OFFLINE, HF_ENDPOINT and proxies count), then the authors' own
    address, kept under :func:`zsad.download.cache_folder`.

    Args:
        row: A row with at least one source.
        offline: True uses caches only; None as HF_HUB_OFFLINE says.

    Returns:
        The file and its SHA-256, which was compared with the row's where that is known.

    Raises:
        ZsadError: What was tried, why each failed, and the ways out.
    """
    offline = constants.HF_HUB_OFFLINE if offline is None else offline
    sources: list[tuple[str, Callable[[], tuple[Path, str]]]] = []
    if row.hub is not None:
        hub = row.hub
        sources.append((f"huggingface.co/{hub.repository} at {hub.revision[:8]}", lambda: _from_hub(row, hub, offline)))
    if row.url is not None:
        url = row.url
        sources.append((url.url, lambda: _from_url(row, url, offline)))
    tried = []
    for name, get in sources:
        try:
            return get()
        except Exception as error:  # huggingface_hub lets the errors of its HTTP client through
            tried.append(f"  tried {name}: {_reason(error)}")
    raise ZsadError("\n".join([f"no weights for {row.name}{' in the caches' if offline else ''}:", *tried, _WAYS_OUT]))


def _reason(error: Exception) -> str:
    text = str(error).strip().partition("\n")[0]
    return text if isinstance(error, ZsadError) else f"{type(error).__name__}: {text}"


def _from_hub(row: Backbone, hub: HubFile, offline: bool) -> tuple[Path, str]:
    def get(name: str) -> Path:
        return Path(hf_hub_download(hub.repository, name, revision=hub.revision, local_files_only=offline))

    for name in ("config.json", "tokenizer.json") if row.text else ("config.json",):
        get(name)
    path = get(hub.file)
    return path, checked(path, hub.sha256)


def _from_url(row: Backbone, source: UrlFile, offline: bool) -> tuple[Path, str]:
    folder = cache_folder() / row.name
    if row.text:
        fetch(MERGES, folder, offline=offline)
    return fetch(source, folder, offline=offline)
