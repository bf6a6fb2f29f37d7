from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageOps, features

from tests.parity.golden import FOLDER
from tests.test_dicom import write as write_dicom
from zsad.data.decoding.rules import Rule
from zsad.data.images import (
    decode,
    preprocess,
    read_image,
    read_mask,
    read_sample,
    read_sample_mask,
    resize,
    to_rgb,
)
from zsad.data.reading import Reading
from zsad.errors import ZsadError
from zsad.types import Sample

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
RAMP = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
REAL = Path(__file__).parents[2] / "shared" / "data"
GOLDEN = json.loads((FOLDER / "golden" / "preprocess.json").read_text())


def grey(path: Path) -> np.ndarray:
    """The one channel of an image file that must be grey."""
    return grey_of(read_image(path))


def grey_of(image: Image.Image) -> np.ndarray:
    pixels = np.asarray(image)
    assert (pixels == pixels[..., :1]).all()
    return pixels[..., 0]


def photo(height: int = 40, width: int = 60) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def png16(values: NDArray[np.uint16]) -> bytes:
    """A PNG of 16-bit colour [H, W, 3], which Pillow does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


# --- what each kind of file becomes


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "ppm"])
def test_lossless_rgb_is_read_as_stored(tmp_path: Path, suffix: str) -> None:
    photo().save(tmp_path / f"x.{suffix}")
    assert read_image(tmp_path / f"x.{suffix}").tobytes() == photo().tobytes()


@pytest.mark.parametrize("suffix", ["jpg", "webp", "gif", "jp2", "avif"])
def test_lossy_formats_keep_size_and_colour(tmp_path: Path, suffix: str) -> None:
    if suffix in ("webp", "avif") and not features.check(suffix):
        pytest.skip(f"this Pillow has no {suffix}")
    Image.new("RGB", (30, 20), (200, 100, 50)).save(tmp_path / f"x.{suffix}")
    image = read_image(tmp_path / f"x.{suffix}")
    assert image.mode == "RGB" and image.size == (30, 20)
    assert np.abs(np.asarray(image, dtype=int) - (200, 100, 50)).max() <= 8


def test_content_counts_not_the_suffix(tmp_path: Path) -> None:
    photo().save(tmp_path / "x.jpg", format="PNG")
    assert read_image(tmp_path / "x.jpg").tobytes() == photo().tobytes()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_orientation_is_applied(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo().save(tmp_path / f"x.{suffix}", exif=exif)
    expected = ImageOps.exif_transpose(Image.open(tmp_path / f"x.{suffix}"))
    image, notes = decode(tmp_path / f"x.{suffix}")
    assert image.tobytes() == expected.tobytes() and notes == ((Rule.TURNED.note,) if orientation > 1 else ())
    assert (expected.width > expected.height) == (orientation < 5)


def test_orientation_6_brings_the_stored_left_to_the_top(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RAMP).save(tmp_path / "x.png", exif=exif)
    assert np.array_equal(grey(tmp_path / "x.png"), np.rot90(RAMP, -1))
    assert np.array_equal(read_mask(tmp_path / "x.png"), np.rot90(RAMP, -1) > 0)


def test_orientation_of_a_float_tiff_is_applied(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "x.tif", RAMP.astype(np.float16), extratags=[(0x0112, "H", 1, 6, True)])
    assert grey(tmp_path / "x.tif").shape == (4, 3)
    assert grey(tmp_path / "x.tif")[0].tolist() == [185, 93, 0]


def test_orientation_that_does_not_exist_is_none(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 9
    photo().save(tmp_path / "x.png", exif=exif)
    assert decode(tmp_path / "x.png").notes == ()


def test_damaged_exif_does_not_hide_the_pixels(tmp_path: Path) -> None:
    photo().save(tmp_path / "x.jpg", exif=b"Exif\0\0nonsense")
    assert read_image(tmp_path / "x.jpg").size == (60, 40)


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize(("top", "expected"), [(65535, [0, 16, 255]), (4095, [0, 255, 255]), (4096, [0, 16, 16])])
def test_16_bit_grey_is_full_range_or_12_bit(tmp_path: Path, suffix: str, top: int, expected: list[int]) -> None:
    Image.fromarray(np.array([[0, 4095, top]], dtype=np.uint16)).save(tmp_path / f"x.{suffix}")
    assert grey(tmp_path / f"x.{suffix}").tolist() == [expected]


def test_16_bit_big_endian_is_read_alike(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "x.tif", np.array([[0, 32768, 65535]], dtype=np.uint16), byteorder=">")
    assert grey(tmp_path / "x.tif").tolist() == [[0, 128, 255]]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8, np.int16, np.int32])
def test_float_and_signed_tiff_span_smallest_to_largest(tmp_path: Path, dtype: type) -> None:
    tifffile.imwrite(tmp_path / "x.tif", np.array([[-10, 0, 10]], dtype=dtype))
    assert grey(tmp_path / "x.tif").tolist() == [[0, 128, 255]]


def test_signed_bytes_without_a_negative_value_are_signed_all_the_same(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "x.tif", np.array([[0, 50, 100]], dtype=np.int8))
    assert grey(tmp_path / "x.tif").tolist() == [[0, 128, 255]]


def test_float_colour_tiff_is_scaled_over_all_channels(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "x.tif", np.array([[[0.0, 0.5, 1.0]]], dtype=np.float32), photometric="rgb")
    assert read_image(tmp_path / "x.tif").getpixel((0, 0)) == (0, 128, 255)


def test_float_tiff_ignores_values_that_are_not_finite(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "x.tif", np.array([[np.nan, 1, 2, np.inf, -np.inf]], dtype=np.float32))
    assert grey(tmp_path / "x.tif").tolist() == [[0, 0, 255, 255, 0]]


def test_constant_float_tiff_is_black(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "x.tif", np.full((2, 2), 7, dtype=np.float32))
    assert grey(tmp_path / "x.tif").tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize("kind", ["png", "tif"])
@pytest.mark.parametrize(
    ("top", "bits", "expected"),
    [
        (65535, 0, [0, 0, 1, 15, 255]),  # upper eight bits
        (4095, 0, [0, 12, 16, 255, 255]),  # twelve bits by the values
        (65535, 10, [0, 50, 64, 255, 255]),  # as told
    ],
)
def test_16_bit_colour_keeps_the_upper_eight_bits_or_those_of_a_camera(
    tmp_path: Path, kind: str, top: int, bits: int, expected: list[int]
) -> None:
    values = np.repeat(np.array([[0, 200, 256, 4095, top]], dtype=np.uint16)[..., None], 3, axis=-1)
    if kind == "png":
        (tmp_path / "x.png").write_bytes(png16(values))
    else:
        tifffile.imwrite(tmp_path / "x.tif", values, photometric="rgb")
    assert grey_of(read_image(tmp_path / f"x.{kind}", Reading(bits=bits))).tolist() == [expected]


def test_16_bit_colour_in_planes_is_that_in_pixels(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (6, 7, 3), dtype=np.uint16)
    for byteorder in "<>":
        where = {"photometric": "rgb", "byteorder": byteorder}
        tifffile.imwrite(tmp_path / "x.tif", np.moveaxis(values, -1, 0), planarconfig="separate", **where)
        assert np.array_equal(np.asarray(read_image(tmp_path / "x.tif")), values >> 8)


@pytest.mark.parametrize("dtype", [np.uint32, np.uint64])
def test_integers_without_a_sign_keep_none(tmp_path: Path, dtype: type) -> None:
    tifffile.imwrite(tmp_path / "x.tif", np.array([[0, 2**31, 2**32 - 1]], dtype=dtype))
    assert grey(tmp_path / "x.tif").tolist() == [[0, 128, 255]]


@pytest.mark.parametrize("bits", [9, 12, 16])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_depth_that_is_told_counts_for_every_file(tmp_path: Path, suffix: str, bits: int) -> None:
    Image.fromarray(np.array([[0, 100, 511, 4095, 65535]], dtype=np.uint16)).save(tmp_path / f"x.{suffix}")
    top = 2**bits - 1
    expected = [round(255 * min(value, top) / top) for value in (0, 100, 511, 4095, 65535)]
    assert grey_of(read_image(tmp_path / f"x.{suffix}", Reading(bits=bits))).tolist() == [expected]


@pytest.mark.parametrize("top", [100, 4095, 65535])
def test_dark_pgm_and_jpeg_2000_are_not_taken_for_12_bits(tmp_path: Path, top: int) -> None:
    values = np.full((16, 16), top // 20, dtype=np.uint16)
    (tmp_path / "x.pgm").write_bytes(b"P5 16 16 %d\n" % top + values.astype(">u2" if top > 255 else "u1").tobytes())
    assert abs(int(grey(tmp_path / "x.pgm")[0, 0]) - 255 / 20) <= 1
    assert decode(tmp_path / "x.pgm", Reading(bits=9)) == decode(tmp_path / "x.pgm")  # the file knows better
    Image.fromarray(values).save(tmp_path / "x.jp2")
    assert grey(tmp_path / "x.jp2")[0, 0] == round(255 * (top // 20) / 65535)


@pytest.mark.parametrize(("dtype", "first"), [(np.uint16, 255), (np.float32, 255), (np.uint8, 255)])
def test_white_is_zero_is_inverted(tmp_path: Path, dtype: type, first: int) -> None:
    top = np.iinfo(dtype).max if dtype != np.float32 else 7
    tifffile.imwrite(tmp_path / "x.tif", np.array([[0, top]], dtype=dtype), photometric="miniswhite")
    assert grey(tmp_path / "x.tif").tolist() == [[first, 0]]


@pytest.mark.parametrize("layout", [{"tile": (16, 16)}, {"bigtiff": True}, {"compression": "zlib"}, {"byteorder": ">"}])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_layout_of_a_tiff_changes_nothing(tmp_path: Path, layout: dict[str, object], dtype: type) -> None:
    values = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (20, 30, 3)).astype(dtype)
    for pixels, kind in ((values, "rgb"), (values[..., 0], "minisblack")):
        tifffile.imwrite(tmp_path / "x.tif", pixels, photometric=kind)
        plain = read_image(tmp_path / "x.tif").tobytes()
        tifffile.imwrite(tmp_path / "x.tif", pixels, photometric=kind, **layout)
        assert read_image(tmp_path / "x.tif").tobytes() == plain


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", None])
@pytest.mark.parametrize("mode", ["L", "RGB", "1", "P", "CMYK", "LA", "RGBA"])
def test_compression_of_a_tiff_changes_nothing(tmp_path: Path, mode: str, compression: str | None) -> None:
    photo().convert(mode).save(tmp_path / "x.tif")
    plain = read_image(tmp_path / "x.tif").tobytes()
    photo().convert(mode).save(tmp_path / "x.tif", compression=compression)
    assert read_image(tmp_path / "x.tif").tobytes() == plain


def test_compressed_deep_tiff_is_read_where_tifffile_lacks_the_codec(tmp_path: Path) -> None:
    values = np.array([[0, 32768, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "x.tif", compression="tiff_lzw")
    assert grey(tmp_path / "x.tif").tolist() == [[0, 128, 255]]
    Image.fromarray(values.astype(np.float32)).save(tmp_path / "f.tif", compression="tiff_lzw")
    assert grey(tmp_path / "f.tif").tolist() == [[0, 128, 255]]


def test_tiff_of_many_channels_shows_its_first_three(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (5, 6, 7), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "x.tif", values, photometric="minisblack", planarconfig="contig")
    assert np.array_equal(np.asarray(read_image(tmp_path / "x.tif")), values[..., :3])


def test_alpha_beside_floats_is_left_out(tmp_path: Path) -> None:
    values = np.array([[[0, 0, 0, 9], [1, 1, 1, 9]]], dtype=np.float32)
    tifffile.imwrite(tmp_path / "x.tif", values, photometric="rgb", extrasamples=["unassalpha"])
    assert grey(tmp_path / "x.tif").tolist() == [[0, 255]]


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    for suffix in ("tif", "jpg"):  # Pillow writes and reads JPEG's CMYK inverted, as Adobe does
        Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / f"x.{suffix}", quality=100)
        assert np.abs(np.subtract(read_image(tmp_path / f"x.{suffix}").getpixel((4, 4)), (255, 0, 0))).max() <= 2


def test_palette_becomes_its_colours(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1]], dtype=np.uint8), mode="P")
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.save(tmp_path / "x.png")
    assert np.asarray(read_image(tmp_path / "x.png")).tolist() == [[[10, 20, 30], [200, 100, 50]]]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_lies_over_white(tmp_path: Path, mode: str) -> None:
    colours = [(0, 0, 0, alpha) if mode == "RGBA" else (0, alpha) for alpha in (0, 51, 255)]
    image = Image.new(mode, (3, 1))
    for x, colour in enumerate(colours):
        image.putpixel((x, 0), colour)
    image.save(tmp_path / "x.png")
    assert grey(tmp_path / "x.png").tolist() == [[255, 204, 0]]
    assert grey_of(read_image(tmp_path / "x.png", Reading(background="black"))).tolist() == [[0, 0, 0]]


def test_background_must_be_a_colour() -> None:
    with pytest.raises(ZsadError, match="background is a colour such as black"):
        Reading(background="see-through")


@pytest.mark.parametrize(("kind", "colour"), [("unassalpha", [0, 65535]), ("assocalpha", [0, 52428])])
def test_deep_alpha_lies_over_the_background(tmp_path: Path, kind: str, colour: list[int]) -> None:
    alpha = np.array([[0, 52428]], dtype=np.uint16)  # none, and 4/5
    values = np.stack([np.array([colour], dtype=np.uint16)] * 3 + [alpha], axis=-1)
    tifffile.imwrite(tmp_path / "x.tif", values, photometric="rgb", extrasamples=[kind])
    pixels = grey_of(read_image(tmp_path / "x.tif", Reading(background="#646464")))
    assert np.abs(pixels - [[100, 255 * 0.8 + 100 * 0.2]]).max() <= 1


def test_opaque_alpha_does_not_hide_that_colours_have_12_bits(tmp_path: Path) -> None:
    values = np.array([[[0, 0, 0, 65535], [4095, 4095, 4095, 65535]]], dtype=np.uint16)
    tifffile.imwrite(tmp_path / "x.tif", values, photometric="rgb", extrasamples=["unassalpha"])
    assert grey(tmp_path / "x.tif").tolist() == [[0, 255]]


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_a_transparent_colour_lies_over_white(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (2, 2)).save(tmp_path / "x.png", transparency=(0, 0, 0) if mode == "RGB" else 0)
    assert (grey(tmp_path / "x.png") == 255).all()


def test_1_bit_is_black_and_white(tmp_path: Path) -> None:
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "x.png")
    assert grey(tmp_path / "x.png").tolist() == [[255, 0]]


@pytest.mark.parametrize("suffix", ["gif", "png", "tif", "webp", "avif", "mpo"])
def test_first_of_several_frames_is_read_and_said(tmp_path: Path, suffix: str) -> None:
    if suffix in ("webp", "avif") and not features.check(suffix):
        pytest.skip(f"this Pillow has no {suffix}")
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / f"x.{suffix}", save_all=True, append_images=frames[1:])
    image, notes = decode(tmp_path / f"x.{suffix}")
    assert np.abs(np.subtract(image.getpixel((2, 2)), (255, 0, 0))).max() <= 8
    assert Rule.FRAME.note in notes
    frames[0].save(tmp_path / f"y.{suffix}")
    assert Rule.FRAME.note not in decode(tmp_path / f"y.{suffix}").notes


# --- what is said about it


def turned(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo().save(path, format="JPEG", exif=exif)


def deep(*values: int) -> NDArray[np.uint16]:
    return np.array([values], dtype=np.uint16)


#: Rule -> a file that it applies to, and the switches of reading.
CASES: dict[Rule, tuple[str, Callable[[Path], object], Reading]] = {
    Rule.TURNED: ("x.jpg", turned, Reading()),
    Rule.FRAME: ("x.tif", lambda path: photo().save(path, save_all=True, append_images=[photo()]), Reading()),
    Rule.SUFFIX: ("x.jpg", lambda path: photo().save(path, format="PNG"), Reading()),
    Rule.ALPHA: ("x.png", lambda path: Image.new("RGBA", (3, 3)).save(path), Reading()),
    Rule.PALETTE: ("x.gif", lambda path: photo().save(path), Reading()),
    Rule.BINARY: ("x.png", lambda path: photo().convert("1").save(path), Reading()),
    Rule.CMYK: ("x.jpg", lambda path: photo().convert("CMYK").save(path), Reading()),
    Rule.DEEP: ("x.png", lambda path: Image.fromarray(deep(0, 65535)).save(path), Reading()),
    Rule.DEEP_COLOUR: ("x.png", lambda path: path.write_bytes(png16(deep(0, 0, 9999)[None])), Reading()),
    Rule.TWELVE: ("x.png", lambda path: path.write_bytes(png16(deep(0, 0, 999)[None])), Reading()),
    Rule.TOLD_BITS: ("x.png", lambda path: Image.fromarray(deep(0, 99)).save(path), Reading(bits=10)),
    Rule.SPAN: ("x.tif", lambda path: Image.fromarray(np.eye(3, dtype=np.float32)).save(path), Reading()),
    Rule.CHANNELS: ("x.tif", lambda path: tifffile.imwrite(path, np.ones((3, 4, 5), np.uint8), **FIVE), Reading()),
    Rule.INVERTED: (
        "x.dcm",
        lambda path: write_dicom(path, deep(0, 9), PhotometricInterpretation="MONOCHROME1"),
        Reading(),
    ),
    Rule.WINDOW: ("x.dcm", lambda path: write_dicom(path, deep(0, 9), WindowCenter=5, WindowWidth=9), Reading()),
    Rule.TOLD_WINDOW: ("x.dcm", lambda path: write_dicom(path, deep(0, 9)), Reading(window=(5, 9))),
}
FIVE = {"photometric": "minisblack", "planarconfig": "contig"}


@pytest.mark.parametrize("rule", Rule)
def test_every_rule_is_told_where_it_applies(tmp_path: Path, rule: Rule) -> None:
    name, write, reading = CASES[rule]
    write(tmp_path / name)
    assert rule.note in decode(tmp_path / name, reading).notes


def test_notes_are_different_sentences_without_numbers_of_a_file() -> None:
    assert len({rule.note for rule in Rule}) == len(Rule)
    assert all(rule.note and rule.files and rule.done for rule in Rule)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize(
    "name", ["x.png", "x.jpg", "x.JPEG", "x.jfif", "x.bmp", "x.tif", "x.webp", "x.jp2", "x.ppm", "x"]
)
def test_plain_files_need_no_word(tmp_path: Path, name: str, mode: str) -> None:
    kind = {"jpg": "jpeg", "jfif": "jpeg", "jp2": "jpeg2000", "tif": "tiff", "x": "png"}.get(name[2:] or name, name[2:])
    photo().convert(mode).save(tmp_path / name, format=kind)
    assert decode(tmp_path / name).notes == ()


def test_opaque_alpha_and_orientation_1_need_no_word(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 1
    photo().convert("RGBA").save(tmp_path / "x.png", exif=exif)
    image, notes = decode(tmp_path / "x.png")
    assert image.tobytes() == photo().tobytes() and notes == ()


# --- masks


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float32])
def test_mask_is_any_value_but_zero(tmp_path: Path, dtype: type) -> None:
    tifffile.imwrite(tmp_path / "x.tif", np.array([[0, 1, 200]], dtype=dtype))
    mask = read_mask(tmp_path / "x.tif")
    assert mask.dtype == bool and mask.tolist() == [[False, True, True]]


def test_negative_mask_values_mark(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "x.tif", np.array([[0, -1]], dtype=np.int16))
    assert read_mask(tmp_path / "x.tif").tolist() == [[False, True]]


@pytest.mark.parametrize("value", [1, 300])
def test_constant_deep_mask_is_all_marked(tmp_path: Path, value: int) -> None:
    Image.fromarray(np.full((2, 3), value, dtype=np.uint16)).save(tmp_path / "x.png")
    assert read_mask(tmp_path / "x.png").all()


def test_faint_colour_marks_and_full_transparency_does_not(tmp_path: Path) -> None:
    pixels = np.array([[[0, 0, 0, 255], [0, 0, 1, 255], [255, 255, 255, 0]]], dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    assert read_mask(tmp_path / "x.png").tolist() == [[False, True, False]]


def test_mask_is_resized_to_height_and_width_by_nearest_neighbour(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 9], [0, 0]], dtype=np.uint8)).save(tmp_path / "x.png")
    expected = np.zeros((4, 6), dtype=bool)
    expected[:2, 3:] = True
    assert np.array_equal(read_mask(tmp_path / "x.png", (4, 6)), expected)
    assert read_mask(tmp_path / "x.png", 4).shape == (4, 4)


@pytest.mark.parametrize("mode", ["L", "1", "RGB", "P"])
def test_mask_above_a_value_leaves_out_what_is_fainter(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(np.array([[0, 127, 128, 255]], dtype=np.uint8))
    if mode == "P":
        image = image.convert("P")
        image.putpalette([value for level in range(256) for value in (level, 0, 0)])
    (image.convert("1", dither=Image.Dither.NONE) if mode == "1" else image.convert(mode)).save(tmp_path / "x.png")
    assert read_mask(tmp_path / "x.png", reading=Reading(mask_above=127)).tolist() == [[False, False, True, True]]


def test_threshold_of_a_mask_is_a_value_as_stored(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "f.tif", np.array([[0, 0.4, 0.6, np.nan]], dtype=np.float32))
    assert read_mask(tmp_path / "f.tif", reading=Reading(mask_above=0.5)).tolist() == [[False, False, True, False]]
    assert read_mask(tmp_path / "f.tif").tolist() == [[False, True, True, False]]
    Image.fromarray(deep(0, 1, 1000, 1001)).save(tmp_path / "d.png")
    assert read_mask(tmp_path / "d.png", reading=Reading(mask_above=1000)).tolist() == [[False, False, False, True]]


def test_ringing_of_a_jpeg_mask_is_marked_as_released_unless_a_threshold_is_told(tmp_path: Path) -> None:
    disc = np.zeros((64, 64), dtype=np.uint8)
    disc[20:40, 20:40] = 255
    Image.fromarray(disc).save(tmp_path / "x.jpg", quality=60)
    released = np.array(Image.open(tmp_path / "x.jpg").convert("L")) > 0
    assert np.array_equal(read_mask(tmp_path / "x.jpg"), released) and released.sum() > 400
    assert np.array_equal(read_mask(tmp_path / "x.jpg", reading=Reading(mask_above=127)), disc > 0)


def test_faint_16_bit_colour_marks(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(png16(np.array([[[0, 0, 0], [0, 1, 0], [65535, 0, 0]]], dtype=np.uint16)))
    assert read_mask(tmp_path / "x.png").tolist() == [[False, True, True]]


def test_colours_of_a_palette_mark_not_its_indices(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1, 2]], dtype=np.uint8), mode="P")
    image.putpalette([255, 0, 0, 0, 0, 0, 0, 0, 9])
    image.save(tmp_path / "x.png")
    assert read_mask(tmp_path / "x.png").tolist() == [[True, False, True]]


def test_folder_of_masks_is_their_union(tmp_path: Path) -> None:
    folder = tmp_path / "000"
    folder.mkdir()
    for i in range(2):
        Image.fromarray(np.eye(3, k=i, dtype=np.uint8)).save(folder / f"00{i}.png")
    (folder / "notes.txt").write_text("no mask")
    assert np.array_equal(read_mask(folder), np.eye(3) + np.eye(3, k=1) > 0)
    assert read_mask(folder, 6).shape == (6, 6)


def test_masks_of_a_folder_must_have_one_size_and_be_there(tmp_path: Path) -> None:
    with pytest.raises(ZsadError, match="folder without images"):
        read_mask(tmp_path)
    for i in (3, 4):
        Image.fromarray(np.eye(i, dtype=np.uint8)).save(tmp_path / f"{i}.png")
    with pytest.raises(ZsadError, match=r"3\.png is 3 x 3, 4\.png is 4 x 4"):
        read_mask(tmp_path)


# --- parts


def test_parts_of_a_sample_are_cut_from_image_and_mask(tmp_path: Path) -> None:
    rows = np.arange(5, dtype=np.uint8)[:, None].repeat(2, axis=1) * 50
    Image.fromarray(rows).save(tmp_path / "x.png")
    upper, lower = (Sample(tmp_path / "x.png", tmp_path / "x.png", part=(i, 2)) for i in (1, 2))
    assert grey_of(read_sample(upper).image)[:, 0].tolist() == [0, 50]
    assert grey_of(read_sample(lower).image)[:, 0].tolist() == [100, 150, 200]
    assert read_sample_mask(upper)[:, 0].tolist() == [False, True]
    assert read_sample_mask(lower, (6, 3)).shape == (6, 3) and read_sample_mask(lower, 4).all()


def test_notes_of_a_sample_are_those_of_its_file(tmp_path: Path) -> None:
    photo().convert("1").save(tmp_path / "x.png")
    assert read_sample(Sample(tmp_path / "x.png", part=(2, 3))).notes == (Rule.BINARY.note,)


def test_part_without_a_row_and_sample_without_a_mask_are_named(tmp_path: Path) -> None:
    Image.new("L", (4, 1)).save(tmp_path / "x.png")
    for read in (read_sample, read_sample_mask):
        with pytest.raises(ZsadError, match=r"x\.png: 1 rows cannot be cut into 2 parts"):
            read(Sample(tmp_path / "x.png", tmp_path / "x.png", part=(1, 2)))
    with pytest.raises(ZsadError, match=r"x\.png: has no mask"):
        read_sample_mask(Sample(tmp_path / "x.png"), 4)


# --- the network's input


def test_preprocess_is_bicubic_then_the_formula() -> None:
    result = preprocess(photo(), (14, 28), MEAN, STD)
    across = photo().resize((28, 40), Image.Resampling.BICUBIC)
    resized = np.asarray(across.resize((28, 14), Image.Resampling.BICUBIC), dtype=np.float64)
    for channel in range(3):
        expected = (resized[..., channel] / 255 - MEAN[channel]) / STD[channel]
        assert np.abs(result[channel] - expected).max() < 1e-6  # float32 against float64, values up to 2.7
    assert result.dtype == np.float32 and result.flags.c_contiguous and result.flags.writeable


def test_preprocess_does_not_keep_the_aspect_ratio() -> None:
    assert preprocess(photo(10, 40), 14, MEAN, STD).shape == (3, 14, 14)


def test_preprocess_at_the_same_size_changes_no_pixel() -> None:
    result = preprocess(photo(), (40, 60), (0, 0, 0), (1, 1, 1))
    assert np.array_equal(np.rint(result.transpose(1, 2, 0) * 255), np.asarray(photo()))


def test_preprocess_takes_any_mode_as_reading_does() -> None:
    deep = Image.fromarray(np.array([[0, 65535]], dtype=np.uint16))
    assert preprocess(deep, (1, 2), (0, 0, 0), (1, 1, 1))[:, 0].tolist() == [[0, 1]] * 3
    assert to_rgb(deep).mode == "RGB"


@pytest.mark.parametrize(("height", "width"), [(9, 200), (200, 9), (97, 31), (31, 97), (50, 50)])
def test_resize_goes_across_first_whatever_the_shape(height: int, width: int) -> None:
    across = photo(height, width).resize((20, height), Image.Resampling.BICUBIC)  # rounded to eight bits
    assert (
        resize(photo(height, width), (30, 20)).tobytes() == across.resize((20, 30), Image.Resampling.BICUBIC).tobytes()
    )


def test_resize_of_a_very_long_image_takes_no_more_memory_than_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Image.Image.resize

    def small_steps(image: Image.Image, size: tuple[int, int], *args: object) -> Image.Image:
        assert size[0] * size[1] <= image.width * image.height or size == (518, 518)
        return plain(image, size, *args)

    monkeypatch.setattr(Image.Image, "resize", small_steps)
    assert resize(Image.new("L", (1, 500_000)), 518).size == (518, 518)  # across first: a quarter of a gigabyte


# --- the released preprocessing: torchvision's transforms on the same images, see the golden file


def drawn(height: int, width: int, mode: str) -> Image.Image:
    """Curves and fine patterns, from whole numbers only: the same on every machine."""
    y, x = np.mgrid[:height, :width]
    planes = [(x * x // 7 + 3 * y) % 256, (5 * x ^ 11 * y) % 256, x * y // 13 % 256, np.full_like(x, 255)]
    pixels = np.stack(planes, axis=-1).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(pixels[..., 0] if mode == "L" else pixels[..., : len(mode)]))


def assert_released(image: Image.Image, golden: dict[str, object]) -> None:
    result = preprocess(image, 518, MEAN, STD)
    values = result.reshape(-1)[np.arange(16) * 50311 % result.size]
    assert np.abs(values - golden["values"]).max() < 1e-6  # kept with six decimals
    assert (round(float(result.mean(dtype=np.float64)), 6), result.shape) == (golden["mean"], (3, 518, 518))
    assert hashlib.sha256(result.astype("<f4").tobytes()).hexdigest() == golden["sha256"]


@pytest.mark.parametrize("name", GOLDEN["drawn"])
def test_drawn_pictures_become_what_the_released_transforms_give(name: str, tmp_path: Path) -> None:
    golden = GOLDEN["drawn"][name]
    drawn(golden["height"], golden["width"], golden["mode"]).save(tmp_path / "x.png")
    assert_released(read_image(tmp_path / "x.png"), golden)


@pytest.mark.parametrize("name", GOLDEN["photographs"])
def test_photographs_become_what_the_released_transforms_give(name: str) -> None:
    if not REAL.is_dir():
        pytest.skip("the photographs are not here")
    assert_released(read_image(REAL / name), GOLDEN["photographs"][name])


def test_masks_become_what_the_released_nearest_neighbour_gives(tmp_path: Path) -> None:
    y, x = np.mgrid[:300, :420]
    Image.fromarray(((x - 200) ** 2 + (y - 120) ** 2 < 5000).astype(np.uint8) * 255).save(tmp_path / "x.png")
    mask = read_mask(tmp_path / "x.png", 518)
    assert mask.sum() == GOLDEN["mask"]["marked"]
    assert hashlib.sha256(np.packbits(mask).tobytes()).hexdigest() == GOLDEN["mask"]["sha256"]


@pytest.mark.skipif(not REAL.is_dir(), reason="the photographs are not here")
def test_real_masks_have_the_size_of_their_photographs() -> None:
    for mask in sorted(((REAL / "cookie") / "masks").iterdir())[:5]:
        image = read_image((REAL / "cookie") / "anomaly" / f"{mask.stem}.jpg")
        marked = read_mask(mask)
        assert marked.shape == (image.height, image.width) and 0 < marked.mean() < 0.5


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16])
def test_a_mask_is_what_is_stored_also_where_0_is_white(tmp_path: Path, dtype: type) -> None:
    values = np.zeros((8, 9), dtype)
    values[2:4, 3:5] = 1
    tifffile.imwrite(tmp_path / "mask.tif", values, photometric="miniswhite")
    assert read_mask(tmp_path / "mask.tif").sum() == 4
