"""Downloads, from a server on this machine: whole, continued, checked, and refused where there is no network."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from huggingface_hub import constants

from zsad.backbones.download import download
from zsad.backbones.registry import IMAGENET_MEAN, IMAGENET_STD, Backbone, HubFile
from zsad.download import UrlFile, fetch
from zsad.errors import ZsadError


class Handler(BaseHTTPRequestHandler):
    """Serves `server.files`, with ranges; the first `server.cuts` answers stop after half of their bytes.

    What `server.lacks` names, it does not do right: "ranges", "If-Range", "ETag", "length", "strong" (its tags are
    weak), "offset" (it sends the whole as a part).
    """

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        self.server.asked.append((self.command, self.path, self.headers.get("Range")))
        data = self.server.files.get(self.path)
        if data is None:
            return self.send_error(404)
        tag = f'"{hashlib.sha256(data).hexdigest()}"'
        lacks = getattr(self.server, "lacks", ())
        start = int((self.headers.get("Range") or "bytes=0-")[6:].partition("-")[0])
        if "strong" in lacks:
            tag = f"W/{tag}"
        matches = self.headers.get("If-Range") in (None, tag) and not (self.headers.get("If-Range") or "").startswith(
            "W"
        )
        if "ranges" in lacks or ("If-Range" not in lacks and not matches):
            start = 0
        if start >= len(data):
            return self.send_error(416)
        status, start = 206 if start else 200, 0 if "offset" in lacks else start
        self.send_response(status)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        if "length" not in lacks:
            self.send_header("Content-Length", str(len(data) - start))
        if "ETag" not in lacks:
            self.send_header("ETag", tag)
        if data.startswith(b"<p>"):
            self.send_header("Content-Type", "text/html; charset=utf-8")
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


@contextmanager
def serving(files: Mapping[str, bytes]) -> Iterator[ThreadingHTTPServer]:
    """A server of files on this machine, in a thread of its own."""
    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.files, running.asked, running.cuts = dict(files), [], 0
    Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield running
    running.shutdown()
    running.server_close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving({"/model.pth": DATA}) as running:
        yield running


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
    assert (tmp_path / "model.pth.part").read_bytes() == DATA[: len(DATA) // 2]
    assert not (tmp_path / "model.pth").exists()
    path, _ = fetch(UrlFile(address(server), sha256), tmp_path, attempts=1)
    assert path.read_bytes() == DATA
    assert [file.name for file in tmp_path.iterdir()] == ["model.pth"]
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


def cut(server: ThreadingHTTPServer, folder: Path) -> None:
    """Half of a file whose hash nobody published."""
    server.cuts = 1
    with pytest.raises(OSError, match="cut after"):
        fetch(UrlFile(address(server)), folder, attempts=1)


OTHER = bytes(reversed(DATA))  # as long as DATA


@pytest.mark.parametrize(
    ("lacks", "new", "answers"),
    [
        ((), OTHER, 1),
        (("If-Range",), OTHER, 2),
        (("ETag",), OTHER + b"longer", 2),
        (("ETag",), OTHER[: len(DATA) // 4], 2),
    ],
)
def test_a_file_that_changed_since_it_was_cut_is_taken_anew(
    lacks: tuple[str, ...], new: bytes, answers: int, server: ThreadingHTTPServer, tmp_path: Path
) -> None:
    server.lacks = lacks
    cut(server, tmp_path)
    server.files["/model.pth"] = new
    assert fetch(UrlFile(address(server)), tmp_path, attempts=1)[0].read_bytes() == new
    assert len(server.asked) == 1 + answers


def test_a_server_that_sends_all_of_a_file_again_is_believed(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    server.lacks = ("ranges",)
    server.cuts = 1
    assert fetch(UrlFile(address(server), SHA256), tmp_path)[0].read_bytes() == DATA
    assert [asked[2] for asked in server.asked] == [None, f"bytes={len(DATA) // 2}-"]


def test_a_server_with_weak_tags_continues_as_well(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    server.lacks = ("strong",)
    cut(server, tmp_path)
    part = tmp_path / "model.pth.part"
    part.write_bytes(OTHER[: part.stat().st_size])
    found, _ = fetch(UrlFile(address(server)), tmp_path)
    assert found.read_bytes() == OTHER[: len(DATA) // 2] + DATA[len(DATA) // 2 :]


def test_a_cut_that_the_server_does_not_tell_is_seen_by_the_published_size(
    server: ThreadingHTTPServer, tmp_path: Path
) -> None:
    server.lacks = ("length",)
    server.cuts = 1
    with pytest.raises(OSError, match=f"cut after {len(DATA) // 2} of {len(DATA)} bytes"):
        fetch(UrlFile(address(server), size=len(DATA)), tmp_path, attempts=1)


@pytest.mark.parametrize("sha256", [SHA256, None])
def test_an_answer_that_begins_elsewhere_is_not_appended(
    sha256: str | None, server: ThreadingHTTPServer, tmp_path: Path
) -> None:
    server.lacks = ("offset",)
    server.cuts = 1
    assert fetch(UrlFile(address(server), sha256), tmp_path)[0].read_bytes() == DATA


def test_data_of_an_unknown_version_are_not_continued(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    (tmp_path / "model.pth.part").write_bytes(OTHER[:100])
    assert fetch(UrlFile(address(server)), tmp_path)[0].read_bytes() == DATA


def test_data_that_were_complete_when_the_program_was_killed_are_not_asked_for_again(
    server: ThreadingHTTPServer, tmp_path: Path
) -> None:
    cut(server, tmp_path)
    (tmp_path / "model.pth.part").write_bytes(DATA)
    server.asked.clear()
    assert fetch(UrlFile(address(server)), tmp_path) == (tmp_path / "model.pth", SHA256)
    assert not server.asked


@pytest.mark.parametrize("page", [b"\r\n<!DOCTYPE html><p>log in", b"<HTML>confirm", b"<p>of this type"])
@pytest.mark.parametrize("sha256", [SHA256, None])
def test_a_page_in_place_of_a_file_is_an_error_with_its_address_and_takes_nothing_away(
    page: bytes, sha256: str | None, server: ThreadingHTTPServer, tmp_path: Path
) -> None:
    server.cuts = 1
    with pytest.raises(OSError, match="cut after"):
        fetch(UrlFile(address(server), sha256), tmp_path, attempts=1)
    server.lacks, server.files["/model.pth"] = ("ranges",), page
    with pytest.raises(ZsadError, match=f"{address(server)} gave a web page.*browser"):
        fetch(UrlFile(address(server), sha256), tmp_path)
    server.lacks, server.files["/model.pth"] = (), DATA
    assert fetch(UrlFile(address(server), sha256), tmp_path)[0].read_bytes() == DATA
    assert server.asked[-1][2] == f"bytes={len(DATA) // 2}-"


def test_another_size_than_published_is_told_before_anything_is_written(
    server: ThreadingHTTPServer, tmp_path: Path
) -> None:
    with pytest.raises(ZsadError, match=r"file there has 16,384 bytes, expected 99"):
        fetch(UrlFile(address(server), size=99), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_told_and_what_came_is_kept(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))  # stands for a disk without room; also tells in pieces
    try:
        with pytest.raises(ZsadError, match=r"model\.pth\.part cannot grow.*make room"):
            fetch(UrlFile(address(server), SHA256), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(server.asked) == 1
    assert fetch(UrlFile(address(server), SHA256), tmp_path)[0].read_bytes() == DATA
    assert server.asked[1][2] == "bytes=10000-"


def test_progress_tells_the_bytes_that_are_there_and_their_total(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    server.cuts, told = 1, []
    fetch(UrlFile(address(server)), tmp_path, progress=lambda *numbers: told.append(numbers))
    assert told == [(len(DATA) // 2, len(DATA)), (len(DATA), len(DATA))]


def test_the_file_is_called_as_the_row_says_where_the_address_does_not(
    server: ThreadingHTTPServer, tmp_path: Path
) -> None:
    server.files = {"/download?id=7": DATA}
    assert fetch(UrlFile(address(server, "/download?id=7"), name="set.zip"), tmp_path)[0] == tmp_path / "set.zip"


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
