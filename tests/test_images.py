from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageOps, features

from zsad.data.dataset import ImageDataset, batches, masks_known
from zsad.data.images import preprocess, read_image, read_mask, to_rgb
from zsad.errors import ZsadError
from zsad.types import Sample

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
RAMP = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
COOKIES = Path(__file__).parents[2] / "shared" / "data" / "cookie"


def grey(path: Path) -> np.ndarray:
    """The one channel of an image that must be grey."""
    pixels = np.asarray(read_image(path))
    assert (pixels == pixels[..., :1]).all()
    return pixels[..., 0]


def photo(height: int = 40, width: int = 60) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


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
    assert read_image(tmp_path / f"x.{suffix}").tobytes() == expected.tobytes()
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


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int16, np.int32])
def test_float_and_signed_tiff_span_smallest_to_largest(tmp_path: Path, dtype: type) -> None:
    tifffile.imwrite(tmp_path / "x.tif", np.array([[-10, 0, 10]], dtype=dtype))
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


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "x.tif")
    assert read_image(tmp_path / "x.tif").getpixel((4, 4)) == (255, 0, 0)


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


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_a_transparent_colour_lies_over_white(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (2, 2)).save(tmp_path / "x.png", transparency=(0, 0, 0) if mode == "RGB" else 0)
    assert (grey(tmp_path / "x.png") == 255).all()


def test_1_bit_is_black_and_white(tmp_path: Path) -> None:
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "x.png")
    assert grey(tmp_path / "x.png").tolist() == [[255, 0]]


@pytest.mark.parametrize("suffix", ["gif", "png", "tif"])
def test_first_of_several_frames_is_read(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (5, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / f"x.{suffix}", save_all=True, append_images=frames[1:])
    assert read_image(tmp_path / f"x.{suffix}").getpixel((2, 2)) == (255, 0, 0)


# --- files that cannot be read


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp"])
@pytest.mark.parametrize("reader", [read_image, read_mask])
def test_truncated_file_is_named(tmp_path: Path, suffix: str, reader: object) -> None:
    photo().save(tmp_path / f"x.{suffix}")
    whole = (tmp_path / f"x.{suffix}").read_bytes()
    (tmp_path / f"x.{suffix}").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ZsadError, match=rf"x\.{suffix}: .*copy it again|x\.{suffix}: .*damaged"):
        reader(tmp_path / f"x.{suffix}")  # type: ignore[operator]


def test_truncated_float_tiff_is_named(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "x.tif", np.ones((40, 40), dtype=np.float16))
    (tmp_path / "x.tif").write_bytes((tmp_path / "x.tif").read_bytes()[:1500])
    with pytest.raises(ZsadError, match=r"x\.tif: cannot be decoded"):
        read_image(tmp_path / "x.tif")


@pytest.mark.parametrize(("content", "message"), [(b"", "0 bytes"), (b"%PDF-1.4 text", "not an image")])
def test_file_without_an_image_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(ZsadError, match=rf"x\.png: .*{message}"):
        read_image(tmp_path / "x.png")


def test_folder_and_missing_file_are_named(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ZsadError, match=r"folder\.png: expected an image file, found a folder"):
        read_image(tmp_path / "folder.png")
    with pytest.raises(ZsadError, match=r"no\.png: no such file"):
        read_image(tmp_path / "no.png")


def test_postscript_is_not_run(tmp_path: Path) -> None:
    photo().save(tmp_path / "x.eps")
    with pytest.raises(ZsadError, match="not an image"):
        read_image(tmp_path / "x.eps")


@pytest.mark.parametrize("dtype", [np.uint8, np.float16])
def test_more_pixels_than_allowed_are_refused(tmp_path: Path, dtype: type) -> None:
    tifffile.imwrite(tmp_path / "x.tif", np.zeros((10, 11), dtype=dtype))
    assert read_image(tmp_path / "x.tif", max_pixels=110).size == (11, 10)
    with pytest.raises(ZsadError, match=r"x\.tif: 11 x 10 pixels .* max_pixels"):
        read_image(tmp_path / "x.tif", max_pixels=109)


@pytest.mark.parametrize(
    ("width", "message"),
    [(5_000, "5000 x 20000 pixels are more than the limit"), (90_000, "more pixels than Pillow decodes")],
)
def test_decompression_bomb_is_refused_before_decoding(tmp_path: Path, width: int, message: str) -> None:
    (tmp_path / "x.pgm").write_bytes(b"P5 %d 20000 255\n" % width)  # Pillow warns above 89 MP, refuses above 179 MP
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ZsadError, match=rf"x\.pgm: {message}"):
            read_image(tmp_path / "x.pgm", max_pixels=90_000_000)


# --- masks


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float32])
def test_mask_is_any_value_but_zero(tmp_path: Path, dtype: type) -> None:
    tifffile.imwrite(tmp_path / "x.tif", np.array([[0, 1, 200]], dtype=dtype))
    mask = read_mask(tmp_path / "x.tif")
    assert mask.dtype == bool and mask.tolist() == [[False, True, True]]


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


# --- the network's input


def test_preprocess_is_bicubic_then_the_formula() -> None:
    result = preprocess(photo(), (14, 28), MEAN, STD)
    resized = np.asarray(photo().resize((28, 14), Image.Resampling.BICUBIC), dtype=np.float64)
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


# --- batches


def sample_files(folder: Path) -> list[Sample]:
    """A normal image, a damaged one, an anomalous one with its mask, and an unlabelled one."""
    for name in ("good", "crack", "loose"):
        photo().save(folder / f"{name}.png")
    (folder / "broken.png").write_bytes(b"")
    Image.new("L", (60, 40), 255).save(folder / "mask.png")
    return [
        Sample(folder / "good.png", label=0),
        Sample(folder / "broken.png", label=0),
        Sample(folder / "crack.png", folder / "mask.png", label=1),
        Sample(folder / "loose.png"),
    ]


def test_item_has_image_mask_label_and_index(tmp_path: Path) -> None:
    dataset = ImageDataset(sample_files(tmp_path)[:3], (14, 28), MEAN, STD)
    good, broken, crack = (dataset[i] for i in range(len(dataset)))
    assert good["image"].shape == (3, 14, 28) and good["image"].dtype == torch.float32
    assert (good["label"], crack["label"], crack["index"]) == (0, 1, 2)
    assert not good["mask"].any() and crack["mask"].all() and crack["mask"].shape == (14, 28)
    assert set(broken) == {"index", "error"} and "broken.png" in broken["error"]


def test_unreadable_mask_is_an_error_too(tmp_path: Path) -> None:
    samples = [Sample(sample_files(tmp_path)[0].image, tmp_path / "none.png", label=1)]
    assert "none.png" in ImageDataset(samples, 14, MEAN, STD)[0]["error"]


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_keep_the_order_and_report_unreadable_files(tmp_path: Path, workers: int) -> None:
    samples = sample_files(tmp_path)
    first, second = batches(samples, 14, MEAN, STD, batch_size=2, workers=workers, with_masks=False)
    assert first.samples == samples[:1] and [s for s, _ in first.errors] == samples[1:2]
    assert second.samples == samples[2:] and second.labels.tolist() == [1, -1] and second.labels.dtype == torch.int64
    expected = torch.from_numpy(preprocess(read_image(samples[2].image), 14, MEAN, STD))
    assert torch.equal(second.images[0], expected) and second.masks is None


def test_batch_of_unreadable_files_only_is_empty(tmp_path: Path) -> None:
    (batch,) = batches(sample_files(tmp_path)[1:2], 14, MEAN, STD, batch_size=4)
    assert batch.images.shape == (0, 3, 14, 14) and batch.masks is not None and batch.masks.shape == (0, 14, 14)
    assert len(batch.errors) == 1 and batch.samples == []


def test_masks_come_only_where_every_pixel_is_known(tmp_path: Path) -> None:
    samples = sample_files(tmp_path)
    assert masks_known(samples[:3]) and not masks_known(samples)
    assert all(batch.masks is not None for batch in batches(samples[:3], 14, MEAN, STD, 1))
    assert all(batch.masks is None for batch in batches(samples, 14, MEAN, STD, 1))


def test_batches_leave_global_random_numbers_alone(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    list(batches(sample_files(tmp_path), 14, MEAN, STD, 2))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.skipif(not COOKIES.is_dir(), reason="the photographs are not here")
def test_real_masks_have_the_size_of_their_photographs() -> None:
    for mask in sorted((COOKIES / "masks").iterdir())[:5]:
        image = read_image(COOKIES / "anomaly" / f"{mask.stem}.jpg")
        marked = read_mask(mask)
        assert marked.shape == (image.height, image.width) and 0 < marked.mean() < 0.5
