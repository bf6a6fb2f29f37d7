"""Files that are not what they seem: an image or a ZsadError that names the file, and the rest of a run goes on."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, features

from tests.test_dicom import write as write_dicom
from tests.test_images import photo, png16
from zsad.data.dataset import batches
from zsad.data.images import decode, read_image, read_mask
from zsad.data.reading import Reading
from zsad.errors import ZsadError
from zsad.types import Sample

SMALL = Reading(max_pixels=20_000)


def saved(suffix: str, image: Image.Image | None = None, **options: object) -> bytes:
    buffer = io.BytesIO()
    (image or photo()).copy().save(buffer, Image.registered_extensions()[suffix], **options)
    return buffer.getvalue()


def tiff(values: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, **options)
    return buffer.getvalue()


@cache
def whole(folder: Path) -> dict[str, bytes]:
    """Good files of every kind by name, all 40 x 60."""
    deep = np.random.default_rng(0).integers(0, 65536, (40, 60, 3), dtype=np.uint16)
    write_dicom(folder / "x.dcm", deep[..., 0], WindowCenter=9000, WindowWidth=5000)
    exif = Image.Exif()
    exif[0x0112] = 6
    smooth = Image.fromarray(np.add.outer(np.arange(40), np.arange(60)).astype(np.uint8)).convert("RGB")
    files = {
        "rgb.png": saved(".png"),
        "palette.png": saved(".png", photo().convert("P"), transparency=3),
        "deep.png": saved(".png", Image.fromarray(deep[..., 0])),
        "colour.png": png16(deep),
        "animated.png": saved(".png", save_all=True, append_images=[smooth.copy()]),
        "noise.jpg": saved(".jpg", exif=exif),
        "smooth.jpg": saved(".jpg", smooth),
        "progressive.jpg": saved(".jpg", progressive=True),
        "cmyk.jpg": saved(".jpg", photo().convert("CMYK")),
        "several.jpg": saved(".mpo", save_all=True, append_images=[smooth.copy()]),
        "rgb.bmp": saved(".bmp"),
        "rgb.tif": saved(".tif"),
        "pages.tif": saved(".tif", save_all=True, append_images=[smooth.copy()]),
        "lzw.tif": saved(".tif", compression="tiff_lzw"),
        "jpeg.tif": saved(".tif", compression="jpeg"),
        "fax.tif": saved(".tif", photo().convert("1"), compression="group4"),
        "float.tif": tiff(deep.astype(np.float32), photometric="rgb"),
        "half.tif": tiff(deep[..., 0].astype(np.float32).clip(max=60000).astype(np.float16), compression="zlib"),
        "planes.tif": tiff(np.moveaxis(deep, -1, 0), photometric="rgb", planarconfig="separate"),
        "tiles.tif": tiff(deep, photometric="rgb", tile=(16, 16), bigtiff=True),
        "animated.gif": saved(".gif", save_all=True, append_images=[smooth.copy()]),
        "rgb.ppm": saved(".ppm"),
        "rgb.jp2": saved(".jp2"),
        "x.dcm": (folder / "x.dcm").read_bytes(),
    }
    for kind in filter(features.check, ("webp", "avif")):
        files[f"rgb.{kind}"] = saved(f".{kind}")
        files[f"animated.{kind}"] = saved(f".{kind}", save_all=True, append_images=[smooth.copy()])
    return files


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damaged")


NAMES = [
    "rgb.png", "palette.png", "deep.png", "colour.png", "animated.png", "noise.jpg", "smooth.jpg", "progressive.jpg",
    "cmyk.jpg", "several.jpg", "rgb.bmp", "rgb.tif", "pages.tif", "lzw.tif", "jpeg.tif", "fax.tif", "float.tif",
    "half.tif", "planes.tif", "tiles.tif", "animated.gif", "rgb.ppm", "rgb.jp2", "x.dcm", "rgb.webp", "animated.webp",
    "rgb.avif", "animated.avif",
]  # fmt: skip


def content(folder: Path, name: str) -> bytes:
    if name not in whole(folder):
        pytest.skip(f"this Pillow does not write {name}")
    return whole(folder)[name]


def image_or_error(path: Path) -> Image.Image | None:
    """The image, which is not above the cap; or None after an error that names the file."""
    try:
        image, notes = decode(path, SMALL)
    except ZsadError as error:
        assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
        return None
    assert image.mode == "RGB" and 0 < image.width * image.height <= SMALL.max_pixels and isinstance(notes, tuple)
    return image


# --- properties


@pytest.mark.parametrize("name", NAMES)
def test_file_cut_short_is_an_error_or_all_there(folder: Path, name: str) -> None:
    path, data = folder / name, content(folder, name)
    path.write_bytes(data)
    expected = read_image(path).tobytes()
    for length in sorted({0, 1, 7, *range(0, len(data), max(1, len(data) // 40)), *range(len(data) - 4, len(data))}):
        path.write_bytes(data[:length])
        image = image_or_error(path)
        assert image is None or image.tobytes() == expected, f"{length} of {len(data)} bytes"
        assert image is None or not name.endswith(".jpg") or name == "several.jpg"


@pytest.mark.parametrize("name", ["noise.jpg", "smooth.jpg", "progressive.jpg", "cmyk.jpg", "rgb.png", "deep.png"])
def test_file_whose_rest_is_zeros_is_an_error(folder: Path, name: str) -> None:
    path, data = folder / name, content(folder, name)  # what a copy that was cut short leaves on many disks
    for length in range(len(data) // 4, len(data) - 12, len(data) // 20):
        path.write_bytes(data[:length] + bytes(len(data) - length))
        assert image_or_error(path) is None


@given(
    st.sampled_from(NAMES),
    st.lists(
        st.tuples(
            st.sampled_from(["flip", "cut", "zero", "insert", "append"]), st.floats(0, 1), st.binary(max_size=20)
        ),
        min_size=1,
        max_size=4,
    ),
    st.booleans(),
)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_damaged_file_is_an_image_or_a_named_error(
    folder: Path, name: str, damages: list[tuple[str, float, bytes]], at_start: bool
) -> None:
    data = whole(folder).get(name, b"")
    for kind, place, some in damages:
        at = int(place * min(len(data), 300 if at_start else len(data)))  # headers are where it hurts
        data = {
            "flip": data[:at] + some + data[at + len(some) :],
            "cut": data[:at],
            "zero": data[:at] + bytes(len(some)) + data[at + len(some) :],
            "insert": data[:at] + some + data[at:],
            "append": data + some,
        }[kind]
    path = folder / name
    path.write_bytes(data)
    image_or_error(path)
    try:
        assert read_mask(path, 8, SMALL).shape == (8, 8)
    except ZsadError as error:
        assert str(error).startswith(f"{path}: ")


@given(st.binary(max_size=400), st.sampled_from([".png", ".jpg", ".tif", ".dcm", ".gif", ".webp", ".avif", ""]))
@settings(max_examples=80, deadline=None, derandomize=True)
def test_any_bytes_are_an_image_or_a_named_error(folder: Path, data: bytes, suffix: str) -> None:
    path = folder / f"bytes{suffix}"
    path.write_bytes(data)
    image_or_error(path)


KINDS = st.sampled_from(["good", "empty", "text", "cut", "missing", "folder", "bomb", "bad mask"])


@given(st.lists(KINDS, min_size=1, max_size=9), st.integers(1, 4))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_every_good_file_of_a_tree_is_read_and_every_bad_one_named(
    tmp_path_factory: pytest.TempPathFactory, kinds: list[str], batch_size: int
) -> None:
    root = tmp_path_factory.mktemp("tree")
    png = saved(".png")
    Image.new("L", (60, 40), 255).save(root / "mask.png")
    samples = []
    for i, kind in enumerate(kinds):
        path = root / f"{i}.png"
        content = {"empty": b"", "text": b"no image", "cut": png[:-90], "bomb": b"P5 90000 90000 255\n"}.get(kind, png)
        if kind == "folder":
            path.mkdir()
        elif kind != "missing":
            path.write_bytes(content)
        samples.append(Sample(path, root / ("none.png" if kind == "bad mask" else "mask.png"), label=1))
    found = list(batches(samples, 14, (0, 0, 0), (1, 1, 1), batch_size))
    assert [s for batch in found for s in batch.samples] == [samples[i] for i, k in enumerate(kinds) if k == "good"]
    errors = [pair for batch in found for pair in batch.errors]
    assert [s for s, _ in errors] == [samples[i] for i, kind in enumerate(kinds) if kind != "good"]
    assert all(f"{'none' if s.mask and s.mask.stem == 'none' else s.image.stem}.png: " in error for s, error in errors)


# --- each by its name


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp"])
@pytest.mark.parametrize("reader", [read_image, read_mask])
def test_truncated_file_is_named(tmp_path: Path, suffix: str, reader: Callable[[Path], object]) -> None:
    photo().save(tmp_path / f"x.{suffix}")
    data = (tmp_path / f"x.{suffix}").read_bytes()
    (tmp_path / f"x.{suffix}").write_bytes(data[: len(data) // 2])
    with pytest.raises(ZsadError, match=rf"x\.{suffix}: .*copy it again"):
        reader(tmp_path / f"x.{suffix}")


def test_jpeg_with_bytes_after_its_end_is_whole(tmp_path: Path) -> None:
    photo().save(tmp_path / "x.jpg")
    expected, data = read_image(tmp_path / "x.jpg").tobytes(), (tmp_path / "x.jpg").read_bytes()
    trailer = np.random.default_rng(0).integers(0, 256, 5000, dtype=np.uint8).tobytes()  # phones add a film
    (tmp_path / "x.jpg").write_bytes(data + trailer)
    assert read_image(tmp_path / "x.jpg").tobytes() == expected


def test_end_of_the_preview_is_not_taken_for_that_of_the_photograph(tmp_path: Path) -> None:
    photo().save(tmp_path / "preview.jpg")
    exif = b"Exif\0\0" + (tmp_path / "preview.jpg").read_bytes()
    photo().save(tmp_path / "x.jpg", exif=exif)
    data = (tmp_path / "x.jpg").read_bytes()
    for zeros in range(100, 1500, 100):
        (tmp_path / "x.jpg").write_bytes(data[:-zeros] + bytes(zeros))
        with pytest.raises(ZsadError, match=r"x\.jpg: cannot be decoded"):
            read_image(tmp_path / "x.jpg")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0 bytes"),
        (b"%PDF-1.4 text", "a PDF document"),
        (b"<!DOCTYPE html><html>log in</html>", "a web page; the download gave it in place of the file"),
        (b"  <HTML><body>", "a web page"),
        (b'<?xml version="1.0"?><svg>', "SVG"),
        (b'{"error": "quota exceeded"}', "JSON text; the download"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer.*git lfs pull"),
        (b"/annex/objects/MD5E-s9--0.png\n", "git-annex"),
        (b"PK\x03\x04 rest", "a ZIP archive; unpack it"),
        (b"\x1f\x8b\x08 rest", "compressed.*unpack it"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC.*convert it"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", "a video"),
        (b"\x93NUMPY\x01\0", "NumPy.*tifffile"),
        (b"\xff\xd8\xff\xc1\0\x0b\x0c\0\x08\0\x08\x01\x01\x11\0" + bytes(99), "12-bit"),
        (b"\x89PNG\r\n\x1a\n rest", "PNG file damaged"),
        (bytes(600), "zeros"),
        (b"see the readme\n", "text"),
        (b"\x01\x02\x03\x04", "expected PNG, JPEG"),
    ],
)
def test_file_without_an_image_says_what_it_is(tmp_path: Path, content: bytes, message: str) -> None:
    for name in ("x.png", "x.jpg"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ZsadError, match=rf"{name}: .*{message}"):
            read_image(tmp_path / name)


def test_folder_missing_file_and_dead_link_are_named(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "link.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    for name, message in (
        ("folder.png", "expected an image file, found a folder"),
        ("no.png", "no such file"),
        ("link.png", r"a link to .*gone\.png, which does not exist"),
        ("loop.png", ""),
        ("n" * 300 + ".png", ""),
        ("nul\0.png", ""),
    ):
        with pytest.raises(ZsadError, match=f"{name}: {message}"):
            read_image(tmp_path / name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_pipe_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.png")
    with pytest.raises(ZsadError, match=r"x\.png: expected an image file, found a device or a pipe"):
        read_image(tmp_path / "x.png")


def test_file_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo().save(tmp_path / "x.png")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ZsadError, match=r"x\.png: you may not read it; change its permissions"):
        read_image(tmp_path / "x.png")


def test_volume_is_not_taken_for_a_picture(tmp_path: Path) -> None:
    volume = {"volumetric": True, "tile": (16, 16, 16), "photometric": "minisblack"}
    tifffile.imwrite(tmp_path / "x.tif", np.zeros((16, 32, 32), dtype=np.uint16), **volume)
    with pytest.raises(ZsadError, match=r"x\.tif: .*more than a plane"):
        read_image(tmp_path / "x.tif")


def test_warnings_of_decoders_are_not_shown(tmp_path: Path) -> None:
    (tmp_path / "x.tif").write_bytes(saved(".tif")[:60])
    with warnings.catch_warnings(record=True) as shown, pytest.raises(ZsadError):
        warnings.simplefilter("always")
        read_image(tmp_path / "x.tif")
    assert not shown


def test_postscript_is_not_run(tmp_path: Path) -> None:
    photo().save(tmp_path / "x.eps")
    with pytest.raises(ZsadError, match=r"x\.eps: .*PostScript"):
        read_image(tmp_path / "x.eps")


@pytest.mark.skipif(find_spec("imagecodecs") is not None, reason="imagecodecs is installed")
def test_codec_that_is_missing_is_named(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "x.tif", np.ones((4, 4), dtype=np.float16), compression="zlib")
    data = (tmp_path / "x.tif").read_bytes()
    (tmp_path / "x.tif").write_bytes(data.replace(b"\x03\x01\x03\0\1\0\0\0\x08", b"\x03\x01\x03\0\1\0\0\0\x05"))
    with pytest.raises(ZsadError, match=r"x\.tif: .*pip install imagecodecs"):
        read_image(tmp_path / "x.tif")


# --- more pixels than allowed


@pytest.mark.parametrize("dtype", [np.uint8, np.float16])
def test_more_pixels_than_allowed_are_refused(tmp_path: Path, dtype: type) -> None:
    tifffile.imwrite(tmp_path / "x.tif", np.zeros((10, 11), dtype=dtype))
    assert read_image(tmp_path / "x.tif", Reading(max_pixels=110)).size == (11, 10)
    with pytest.raises(ZsadError, match=r"x\.tif: 11 x 10 pixels .* max_pixels"):
        read_image(tmp_path / "x.tif", Reading(max_pixels=109))


def test_many_channels_count_as_pixels(tmp_path: Path) -> None:
    values = np.zeros((10, 10, 9), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "x.tif", values, photometric="minisblack", planarconfig="contig")
    assert read_image(tmp_path / "x.tif", Reading(max_pixels=225)).size == (10, 10)
    with pytest.raises(ZsadError, match=r"10 x 10 pixels of 9 values are more than the limit of 224"):
        read_image(tmp_path / "x.tif", Reading(max_pixels=224))


@pytest.mark.parametrize("width", [5_000, 90_000])  # Pillow warns above 89 million pixels, and refuses above 179
def test_decompression_bomb_is_refused_before_decoding(tmp_path: Path, width: int) -> None:
    (tmp_path / "x.pgm").write_bytes(b"P5 %d 20000 255\n" % width)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ZsadError, match=rf"x\.pgm: {width} x 20000 pixels are more than the limit of 90,000,000"):
            read_image(tmp_path / "x.pgm", Reading(max_pixels=90_000_000))


def test_limit_is_the_one_that_was_told_not_pillows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo().save(tmp_path / "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # Pillow refuses twice as many; the photograph has 2400
    assert read_image(tmp_path / "x.png").tobytes() == photo().tobytes()
    assert Image.MAX_IMAGE_PIXELS == 1000
