"""Published files onto this machine: checked before use, put in place in one step, continued where they were cut."""

from __future__ import annotations

import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from huggingface_hub import constants, hf_hub_download

from zsad.backbones.files import sha256
from zsad.backbones.registry import MERGES, Backbone, HubFile, UrlFile
from zsad.errors import ZsadError

_CHUNK = 1 << 20
_WAYS_OUT = """Ways out:
  --backbone tiny   the small model that ships with zsad
  --backbone PATH   a file or folder with these weights, copied from elsewhere
  HF_HOME=FOLDER    a Hugging Face cache copied from a machine that has them; HF_HUB_OFFLINE=1 then uses nothing else"""


def cache_folder() -> Path:
    """Where plain downloads are kept: $ZSAD_HOME, else ~/.cache/zsad."""
    return Path(os.environ.get("ZSAD_HOME") or Path.home() / ".cache" / "zsad")


def download(row: Backbone, offline: bool | None = None) -> tuple[Path, str]:
    """The weight file of a registry row, with config.json or the tokenizer beside it, from a cache or the network.

    Hugging Face first (its cache, HF_HOME, HF_HUB_OFFLINE, HF_ENDPOINT and proxies count), then the authors' own
    address, kept under :func:`cache_folder`.

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
    return path, _checked(path, hub.sha256)


def _from_url(row: Backbone, source: UrlFile, offline: bool) -> tuple[Path, str]:
    folder = cache_folder() / row.name
    if row.text:
        fetch(MERGES, folder, offline=offline)
    return fetch(source, folder, offline=offline)


def _checked(path: Path, expected: str | None) -> str:
    """The SHA-256 of a file, which must be the expected one where that is known."""
    found = sha256([path])
    if expected is not None and found != expected:
        raise ZsadError(f"{path} has SHA-256 {found}, expected {expected}; delete it and try again")
    return found


def fetch(source: UrlFile, folder: Path, *, offline: bool = False, attempts: int = 3) -> tuple[Path, str]:
    """One file over HTTPS. Data gather in NAME.part, which a later call continues; NAME appears only when checked.

    Args:
        source: Address, and hash and size where known. Proxies come from the environment, as urllib reads them.
        folder: Where the file goes; made where absent.
        offline: Only look whether it is there.
        attempts: How many connections are tried, each taking up where the last was cut.

    Returns:
        The file and its SHA-256.

    Raises:
        ZsadError: If the file is absent and offline, or its hash is wrong (the data are removed then).
        OSError: If the network fails.
    """
    target = folder / source.url.rpartition("/")[2]
    if target.is_file():
        return target, _checked(target, source.sha256)
    if offline:
        raise ZsadError(f"not in {folder}, and offline")
    folder.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    for left in reversed(range(attempts)):
        try:
            _continue(source.url, part)
            break
        except (OSError, http.client.HTTPException) as error:
            if not left or isinstance(error, urllib.error.HTTPError):
                raise
    found = sha256([part])
    if source.sha256 is not None and found != source.sha256:
        part.unlink()
        raise ZsadError(f"the data have SHA-256 {found}, expected {source.sha256}; they were removed, try again")
    part.replace(target)
    return target, found


def _continue(url: str, part: Path) -> None:
    """Append to `part` what it lacks of the file at an address."""
    done = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        response = urllib.request.urlopen(request, timeout=30)
    except urllib.error.HTTPError as error:
        if error.code == 416 and done:  # nothing left to send: complete, or not the same file; the hash tells
            return
        raise
    with response, part.open("ab" if response.status == 206 else "wb") as file:
        expected = int(response.headers.get("Content-Length", -1))
        got = 0
        while chunk := response.read(_CHUNK):
            file.write(chunk)
            got += len(chunk)
    if got < expected:
        raise ConnectionError(f"the connection was cut after {got} of {expected} bytes")
