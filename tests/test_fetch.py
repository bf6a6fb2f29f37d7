"""Datasets from a server on this machine: downloaded, unpacked safely, in place whole or not at all."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.miniatures import mask, picture
from tests.test_download import address, serving
from zsad.data import fetch as module
from zsad.data import unpack as unpacking
from zsad.data.catalog import Dataset
from zsad.data.fetch import fetch, instructions
from zsad.data.found import Found
from zsad.data.layouts import class_folders
from zsad.data.unpack import unpack
from zsad.download import UrlFile
from zsad.errors import ZsadError

FILES = [
    "nut/ground_truth/crack/000_mask.png",
    "nut/test/crack/000.png",
    "nut/test/good/000.png",
    "nut/train/good/000.png",
]


def packed(kind: str, files: Mapping[str, bytes]) -> bytes:
    """An archive with these names as they are, however bad."""
    data = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(data, "w") as zipped:
            for name, content in files.items():
                zipped.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
        return data.getvalue()
    with tarfile.open(fileobj=data, mode=f"w:{kind.removeprefix('tar.').removeprefix('tar')}") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return data.getvalue()


@pytest.fixture
def nut(tmp_path: Path) -> dict[str, bytes]:
    """The files of a small dataset of one class."""
    root = tmp_path / "made"
    for name in FILES:
        (mask if "mask" in name else picture)(root / name)
    return {name: (root / name).read_bytes() for name in FILES}


@pytest.fixture
def server(nut: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving({"/nuts.zip": packed("zip", nut)}) as running:
        yield running


def nut_in_here(root: Path) -> Found | None:
    """A layout that does not look deeper."""
    return class_folders(root) if (root / "nut").is_dir() else None


def row(server: ThreadingHTTPServer, *names: str, known: bool = True) -> Dataset:
    """A dataset in some of the server's archives, with their hashes where they are `known`."""
    digests = [hashlib.sha256(server.files[f"/{name}"]).hexdigest() if known else None for name in names]
    return Dataset(
        name="nuts",
        title="The Nuts",
        domain="industrial",
        modality="photography",
        classes={"nut": "nut"},
        counts=(),
        metrics=("image", "pixel"),
        page="https://example.org/nuts",
        licence="CC BY 4.0",
        layouts=(nut_in_here,),
        tree="nut/test/good/000.png\nnut/ground_truth/crack/000_mask.png\n",
        archives=tuple(
            UrlFile(address(server, f"/{name}"), digest) for name, digest in zip(names, digests, strict=True)
        ),
    )


def tree(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def beside(root: Path) -> list[str]:
    """What a fetch left beside the dataset."""
    return sorted(path.name for path in root.parent.iterdir() if path.name.startswith(f"{root.name}."))


# --- from an address to a dataset


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tar.xz"])
def test_a_dataset_arrives_whole_and_leaves_nothing_beside_it(
    kind: str, server: ThreadingHTTPServer, nut: dict[str, bytes], tmp_path: Path
) -> None:
    server.files[f"/nuts.{kind}"] = packed(kind, nut)
    root = tmp_path / "data" / "nuts"
    assert fetch(row(server, f"nuts.{kind}"), root) == root
    assert {name: (root / name).read_bytes() for name in tree(root)} == nut
    assert not beside(root)


def test_the_only_folder_of_an_archive_is_found(
    server: ThreadingHTTPServer, nut: dict[str, bytes], tmp_path: Path
) -> None:
    files = {f"The Nuts/2022/{name}": content for name, content in nut.items()} | {"readme.txt": b"", "__MACOSX/x": b""}
    server.files["/inner.zip"] = packed("zip", files)
    root = tmp_path / "nuts"
    assert fetch(row(server, "inner.zip"), root) == root / "The Nuts/2022"
    assert tree(root / "The Nuts/2022") == FILES


def test_several_archives_become_one_dataset(
    server: ThreadingHTTPServer, nut: dict[str, bytes], tmp_path: Path
) -> None:
    for i, part in enumerate((FILES[:2], FILES[2:])):
        server.files[f"/{i}.zip"] = packed("zip", {name: nut[name] for name in part} | {"licence.txt": b"the same"})
    root = tmp_path / "nuts"
    assert fetch(row(server, "0.zip", "1.zip"), root) == root
    assert tree(root) == ["licence.txt", *FILES]


def test_one_name_with_two_contents_is_an_error(
    server: ThreadingHTTPServer, nut: dict[str, bytes], tmp_path: Path
) -> None:
    server.files["/more.zip"] = packed("zip", {FILES[2]: b"another"})
    with pytest.raises(ZsadError, match=f"{FILES[2]} comes twice"):
        fetch(row(server, "nuts.zip", "more.zip"), tmp_path / "nuts")
    assert not (tmp_path / "nuts").exists()


def test_the_licence_is_told_before_anything_is_asked_for(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    told = []
    fetch(row(server, "nuts.zip"), tmp_path / "nuts", say=lambda line: told.append((line, len(server.asked))))
    (first, asked), *others = told
    assert "https://example.org/nuts" in first
    assert "CC BY 4.0" in first
    assert asked == 0
    assert others[-1] == ("unpacking nuts.zip", 1)


def test_progress_ends_with_all_bytes_of_the_download_and_of_the_unpacking(
    server: ThreadingHTTPServer, nut: dict[str, bytes], tmp_path: Path
) -> None:
    told: list[tuple[int, int | None]] = []
    fetch(row(server, "nuts.zip"), tmp_path / "nuts", progress=lambda *numbers: told.append(numbers))
    size, unpacked = len(server.files["/nuts.zip"]), sum(map(len, nut.values()))
    assert told[0] == (size, size)
    assert told[-1] == (unpacked, unpacked)


def test_the_archive_is_kept_where_asked_and_then_taken_again(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    root = tmp_path / "nuts"
    fetch(row(server, "nuts.zip"), root, keep_archive=True)
    assert tree(tmp_path / "nuts.download") == ["nuts.zip"]
    root.rename(tmp_path / "away")
    fetch(row(server, "nuts.zip"), root)
    assert len(server.asked) == 1


def test_other_files_beside_the_archives_stay(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    (tmp_path / "nuts.download").mkdir()
    (tmp_path / "nuts.download" / "mine.zip").touch()
    fetch(row(server, "nuts.zip"), tmp_path / "nuts")
    assert tree(tmp_path / "nuts.download") == ["mine.zip"]


# --- stopped, and called again


def test_a_download_that_was_cut_goes_on(
    server: ThreadingHTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_ATTEMPTS", 1)
    server.cuts = 1
    size = len(server.files["/nuts.zip"])
    with pytest.raises(ZsadError, match=rf"(?s)cut after {size // 2} of {size}.*goes on where it was cut"):
        fetch(row(server, "nuts.zip", known=False), tmp_path / "nuts")
    assert not (tmp_path / "nuts").exists()
    assert tree(fetch(row(server, "nuts.zip", known=False), tmp_path / "nuts")) == FILES
    assert server.asked[-1][2] == f"bytes={size // 2}-"


def test_a_fetch_that_was_killed_while_unpacking_unpacks_again_and_downloads_nothing(
    server: ThreadingHTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, half, told = tmp_path / "nuts", tmp_path / "nuts.download" / ".unpacked", []

    def killed(*numbers: int | None) -> None:
        told.append(numbers)
        if len(told) == 2:  # the download is one piece; this is the first file
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:  # nothing is tidied, as after kill -9
        patched.setattr(module.shutil, "rmtree", lambda *_, **__: None)
        with pytest.raises(KeyboardInterrupt):
            fetch(row(server, "nuts.zip"), root, progress=killed)
    assert tree(half) == FILES[:1]
    assert not root.exists()
    (half / "stale.png").touch()
    assert tree(fetch(row(server, "nuts.zip"), root)) == FILES
    assert len(server.asked) == 1
    assert not beside(root)


def test_stopped_by_the_user_it_leaves_the_archive_only(
    server: ThreadingHTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(archive: Path, folder: Path, progress: object) -> None:
        (folder / "nut").mkdir(parents=True)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "unpack", stopped)
    with pytest.raises(KeyboardInterrupt):
        fetch(row(server, "nuts.zip"), tmp_path / "nuts")
    assert [path.name for path in (tmp_path / "nuts.download").iterdir()] == ["nuts.zip"]
    assert not (tmp_path / "nuts").exists()


# --- what is refused, and what the message says


@pytest.mark.parametrize("known", [True, False])
def test_a_page_to_log_in_is_told_with_where_to_get_the_archive_and_where_to_put_it(
    known: bool, server: ThreadingHTTPServer, nut: dict[str, bytes], tmp_path: Path
) -> None:
    some = row(server, "nuts.zip", known=known)
    archive, server.files["/nuts.zip"] = server.files["/nuts.zip"], b"<!DOCTYPE html><title>Log in</title>"
    with pytest.raises(ZsadError) as told:
        fetch(some, tmp_path / "nuts")
    place = tmp_path / "nuts.download" / "nuts.zip"
    for said in ("gave a web page", "https://example.org/nuts", str(place)):
        assert said in str(told.value)
    place.write_bytes(archive)
    assert tree(fetch(some, tmp_path / "nuts")) == FILES


def test_an_address_without_a_file_is_told(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    some = row(server, "nuts.zip")
    server.files.clear()
    with pytest.raises(ZsadError, match=r"(?s)tried http://.*/nuts\.zip: HTTP Error 404.*https://example.org/nuts"):
        fetch(some, tmp_path / "nuts")
    assert not (tmp_path / "nuts").exists()


def test_another_archive_than_published_is_removed_and_not_unpacked(
    server: ThreadingHTTPServer, nut: dict[str, bytes], tmp_path: Path
) -> None:
    some = row(server, "nuts.zip")
    server.files["/nuts.zip"] = packed("zip", nut | {"more.png": b""})
    with pytest.raises(ZsadError, match="they were removed"):
        fetch(some, tmp_path / "nuts")
    assert not tree(tmp_path / "nuts.download")
    assert not (tmp_path / "nuts").exists()


def test_a_hash_that_nobody_published_is_told_noted_and_compared_with_at_the_next_fetch(
    server: ThreadingHTTPServer, nut: dict[str, bytes], tmp_path: Path
) -> None:
    root, said = tmp_path / "nuts", []
    some = row(server, "nuts.zip", known=False)
    digest = hashlib.sha256(server.files["/nuts.zip"]).hexdigest()
    fetch(some, root, say=said.append)
    assert any(digest in line and "Nobody published" in line for line in said)
    assert (tmp_path / "nuts.sha256").read_text() == f"{digest}  nuts.zip\n"
    root.rename(tmp_path / "first")
    fetch(some, root, say=said.append)
    assert any("as at an earlier fetch" in line for line in said)
    root.rename(tmp_path / "second")
    server.files["/nuts.zip"] = packed("zip", nut | {"more.png": b""})
    with pytest.raises(ZsadError, match=rf"(?s)earlier fetch gave {digest}.*nuts\.sha256"):
        fetch(some, root)
    assert not root.exists()
    (tmp_path / "nuts.sha256").unlink()
    assert "more.png" in tree(fetch(some, root))


@pytest.mark.parametrize("there", ["file", "full", "link to full"])
def test_what_is_there_already_is_not_touched(there: str, server: ThreadingHTTPServer, tmp_path: Path) -> None:
    root = tmp_path / "nuts"
    own = root if there == "file" else tmp_path / "own" if "link" in there else root
    if there == "file":
        own.write_bytes(b"mine")
    else:
        own.mkdir()
        (own / "mine.png").touch()
    if "link" in there:
        root.symlink_to(own)
    with pytest.raises(ZsadError, match=f"{root} .*name a new folder"):
        fetch(row(server, "nuts.zip"), root)
    assert own.read_bytes() == b"mine" if there == "file" else tree(own) == ["mine.png"]
    assert not server.asked


def test_an_empty_folder_is_filled_but_not_the_one_where_you_are(
    server: ThreadingHTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nuts").mkdir()
    assert tree(fetch(row(server, "nuts.zip"), tmp_path / "nuts")) == FILES
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    assert fetch(row(server, "nuts.zip"), tmp_path / "link") == tmp_path / "link"
    assert tree(tmp_path / "disk") == FILES
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(ZsadError, match="where you are"):
        fetch(row(server, "nuts.zip"), Path("."))


def test_files_that_lie_otherwise_are_kept_and_what_was_expected_and_found_is_shown(
    server: ThreadingHTTPServer, tmp_path: Path
) -> None:
    server.files["/odd.zip"] = packed("zip", {"odd/a.txt": b"", "odd/b/c.png": b"", "odd/d/e.png": b""})
    root = tmp_path / "nuts"
    some = dataclasses.replace(row(server, "odd.zip"), layouts=(nut_in_here, lambda _: Found([], "nothing")))
    with pytest.raises(ZsadError) as told:
        fetch(some, root)
    for said in (
        "    nut/ground_truth/crack/000_mask.png",
        f"Found in {root}/odd: a.txt, b, d\n",
        f"check nuts {root}",
    ):
        assert said in str(told.value)
    assert tree(root) == ["odd/a.txt", "odd/b/c.png", "odd/d/e.png"]


def test_without_an_address_it_says_how_to_get_it_by_hand(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    by_hand = row(server)
    with pytest.raises(ZsadError) as told:
        fetch(by_hand, tmp_path / "nuts")
    assert str(told.value) == instructions(by_hand, tmp_path / "nuts")
    assert not list(tmp_path.glob("nuts*"))


def test_instructions_read_like_an_answer(server: ThreadingHTTPServer) -> None:
    lines = """zsad knows no address that gives The Nuts without a browser, so this needs you:

  1. Get it from https://example.org/nuts
     Licence: CC BY 4.0
  2. Unpack it into my data/nuts, so that it lies there like this, one line per kind of file:

       nut/test/good/000.png
       nut/ground_truth/crack/000_mask.png

  3. Check it: zsad data check nuts 'my data/nuts'"""
    assert instructions(row(server), Path("my data/nuts")) == lines
    other = instructions(row(server, "nuts.zip"), Path("my data/nuts"))
    assert other.startswith("`zsad data fetch nuts 'my data/nuts'` downloads and unpacks The Nuts. By hand:\n")
    assert other.partition("\n")[2] == lines.partition("\n")[2]


# --- archives that would do harm


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize("name", ["../out.png", "/tmp/out.png", "a/../../out.png", "..\\out.png", "C:out.png"])
def test_a_name_that_leads_out_of_the_folder_is_refused(kind: str, name: str, tmp_path: Path) -> None:
    archive = tmp_path / "bad"
    archive.write_bytes(packed(kind, {"good.png": b"", name: b"harm"}))
    with pytest.raises(ZsadError, match="leads out of the folder"):
        unpack(archive, tmp_path / "in" / "folder")
    assert tree(tmp_path) == ["bad"]


@pytest.mark.parametrize("type", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_in_a_tar_are_refused(type: bytes, tmp_path: Path) -> None:
    info = tarfile.TarInfo("link")
    info.type, info.linkname = type, "../secret"
    with tarfile.open(tmp_path / "bad.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("good.png"))
        tar.addfile(info)
    with pytest.raises(ZsadError, match="'link' in it is a link or a device"):
        unpack(tmp_path / "bad.tar", tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_links_in_a_zip_are_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("link")
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as zipped:
        zipped.writestr(info, "../secret")
    with pytest.raises(ZsadError, match="'link' in it is a link"):
        unpack(tmp_path / "bad.zip", tmp_path / "folder")


@pytest.mark.parametrize("kind", ["zip", "tar.xz"])
def test_more_data_than_the_disk_has_room_for_are_refused_before_the_first_file(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bomb").write_bytes(packed(kind, {"a": bytes(600), "b": bytes(600)}))
    monkeypatch.setattr(unpacking.shutil, "disk_usage", lambda _: SimpleNamespace(free=1199))
    with pytest.raises(ZsadError, match="make room"):
        unpack(tmp_path / "bomb", tmp_path / "folder")
    assert not tree(tmp_path / "folder")
    monkeypatch.setattr(unpacking.shutil, "disk_usage", lambda _: SimpleNamespace(free=1200))
    unpack(tmp_path / "bomb", tmp_path / "folder")


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tar.xz"])
@pytest.mark.parametrize("text", ["", "Sorry, this file has moved."])
def test_a_damaged_archive_is_kept_and_leaves_no_dataset(
    kind: str, text: str, server: ThreadingHTTPServer, nut: dict[str, bytes], tmp_path: Path
) -> None:
    data = packed(kind, nut)
    server.files["/nuts"] = text.encode() or data[: len(data) // 2]
    with pytest.raises(ZsadError, match=r"(?s)(cannot be unpacked|neither a zip nor a tar).*archive is kept"):
        fetch(row(server, "nuts"), tmp_path / "nuts")
    assert not (tmp_path / "nuts").exists()
    assert tree(tmp_path / "nuts.download") == ["nuts"]


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar.xz", "tar.bz2"])  # a tar has no checksum of its contents
def test_one_wrong_byte_anywhere_is_an_error_or_does_no_harm(kind: str, tmp_path: Path) -> None:
    files = {"a.png": bytes(range(256)) * 3, "b.png": b"text " * 200}
    data = packed(kind, files)
    for at in range(0, len(data), 7):
        (tmp_path / "bad").write_bytes(data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :])
        try:
            unpack(tmp_path / "bad", tmp_path / "folder")
        except ZsadError:
            shutil.rmtree(tmp_path / "folder", ignore_errors=True)
            continue
        assert {path.read_bytes() for path in (tmp_path / "folder").iterdir()} <= set(files.values())
        shutil.rmtree(tmp_path / "folder")
