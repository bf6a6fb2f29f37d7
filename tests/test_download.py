"""Downloads, from a server on this machine: whole, continued, checked, and refused where there is no network."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from huggingface_hub import constants

from zsad.backbones.download import download, fetch
from zsad.backbones.registry import IMAGENET_MEAN, IMAGENET_STD, Backbone, HubFile, UrlFile
from zsad.errors import ZsadError


class Handler(BaseHTTPRequestHandler):
    """Serves `server.files`, with ranges; the first `server.cuts` answers stop after half of their bytes."""

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        self.server.asked.append((self.command, self.path, self.headers.get("Range")))
        data = self.server.files.get(self.path)
        if data is None:
            return self.send_error(404)
        start = int((self.headers.get("Range") or "bytes=0-")[6:].partition("-")[0])
        if start >= len(data):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data) - start))
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", REVISION)
        self.end_headers()
        if body:
            cut = self.server.cuts > 0
            self.server.cuts -= cut
            self.wfile.write(data[start : start + (len(data) - start) // 2 if cut else None])
        return None

    def log_message(self, *_: object) -> None:
        pass


REVISION = "0123456789abcdef0123456789abcdef01234567"
DATA = bytes(range(256)) * 64
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def hub(server: ThreadingHTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ThreadingHTTPServer:
    """The server in the place of huggingface.co, with an empty cache."""
    monkeypatch.setattr(constants, "ENDPOINT", address(server, ""))
    template = address(server, "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    prefix = f"/org/some/resolve/{REVISION}"
    server.files |= {f"{prefix}/config.json": b"{}", f"{prefix}/model.safetensors": DATA}
    return server


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.files, running.asked, running.cuts = {"/model.pth": DATA}, [], 0
    Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield running
    running.shutdown()
    running.server_close()


def address(server: ThreadingHTTPServer, path: str = "/model.pth") -> str:
    return f"http://127.0.0.1:{server.server_address[1]}{path}"


def row(hub: HubFile | None = None, url: UrlFile | None = None, text: bool = False) -> Backbone:
    return Backbone("some", hub, url, "MIT", IMAGENET_MEAN, IMAGENET_STD, "gelu", text)


def test_a_download_is_the_whole_file_and_leaves_nothing_else(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    path, digest = fetch(UrlFile(address(server), SHA256), tmp_path / "new")
    assert (path.read_bytes(), digest) == (DATA, SHA256)
    assert [file.name for file in path.parent.iterdir()] == ["model.pth"]


def test_a_file_that_is_there_is_not_downloaded_again(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    fetch(UrlFile(address(server), SHA256), tmp_path)
    fetch(UrlFile(address(server), SHA256), tmp_path)
    assert len(server.asked) == 1


@pytest.mark.parametrize("sha256", [SHA256, None])
def test_a_cut_download_is_continued_by_the_next_call(
    sha256: str | None, server: ThreadingHTTPServer, tmp_path: Path
) -> None:
    server.cuts = 1
    with pytest.raises(OSError, match=f"cut after {len(DATA) // 2} of {len(DATA)} bytes"):
        fetch(UrlFile(address(server), sha256), tmp_path, attempts=1)
    assert [file.name for file in tmp_path.iterdir()] == ["model.pth.part"]
    path, _ = fetch(UrlFile(address(server), sha256), tmp_path, attempts=1)
    assert path.read_bytes() == DATA
    assert [asked[2] for asked in server.asked] == [None, f"bytes={len(DATA) // 2}-"]


def test_a_cut_download_is_continued_within_one_call(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    server.cuts = 2
    path, _ = fetch(UrlFile(address(server), SHA256), tmp_path, attempts=3)
    assert path.read_bytes() == DATA


def test_a_complete_part_is_checked_and_taken(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    (tmp_path / "model.pth.part").write_bytes(DATA)
    assert fetch(UrlFile(address(server), SHA256), tmp_path)[0].read_bytes() == DATA


def test_a_wrong_hash_is_an_error_and_the_data_are_removed(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    with pytest.raises(ZsadError, match=f"expected {'0' * 64}"):
        fetch(UrlFile(address(server), "0" * 64), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_changed_file_in_the_cache_is_an_error(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    fetch(UrlFile(address(server), SHA256), tmp_path)[0].write_bytes(b"changed")
    with pytest.raises(ZsadError, match="delete it"):
        fetch(UrlFile(address(server), SHA256), tmp_path)


def test_offline_asks_nobody_and_says_what_was_tried_and_the_ways_out(
    server: ThreadingHTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZSAD_HOME", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    some = row(HubFile("org/some", REVISION, "model.safetensors"), UrlFile(address(server)))
    with pytest.raises(ZsadError) as error:
        download(some, offline=True)
    message = str(error.value)
    assert not server.asked
    for part in ("org/some at 01234567", address(server), "--backbone tiny", "--backbone PATH", "HF_HOME"):
        assert part in message


def test_without_offline_the_environment_decides(
    server: ThreadingHTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZSAD_HOME", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ZsadError, match="in the caches"):
        download(row(url=UrlFile(address(server))))
    assert not server.asked


def test_an_address_is_used_where_hugging_face_fails(
    hub: ThreadingHTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZSAD_HOME", str(tmp_path))
    some = row(HubFile("org/some", REVISION, "absent.safetensors"), UrlFile(address(hub), SHA256))
    assert download(some, offline=False) == (tmp_path / "some" / "model.pth", SHA256)


def test_hugging_face_is_asked_for_the_pinned_revision_and_then_works_offline(hub: ThreadingHTTPServer) -> None:
    some = row(HubFile("org/some", REVISION, "model.safetensors", SHA256))
    path, digest = download(some, offline=False)
    assert (path.read_bytes(), digest) == (DATA, SHA256)
    assert (path.parent / "config.json").is_file()
    hub.asked.clear()
    assert download(some, offline=True) == (path, digest)
    assert not hub.asked


def test_a_file_from_hugging_face_with_a_wrong_hash_is_not_used(hub: ThreadingHTTPServer) -> None:
    with pytest.raises(ZsadError, match=f"has SHA-256 {SHA256}, expected {'0' * 64}"):
        download(row(HubFile("org/some", REVISION, "model.safetensors", "0" * 64)), offline=False)
