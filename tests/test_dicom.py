from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from zsad.data.decoding.rules import Rule
from zsad.data.images import decode, read_mask
from zsad.data.reading import Reading
from zsad.errors import ZsadError

V = np.array([[0, 100, 200, 300, 4095]], dtype=np.uint16)
WINDOW = {"WindowCenter": 200, "WindowWidth": 201}  # 100 to 300: linear, by PS3.3 C.11.2.1.2.1


def write(path: Path, pixels: NDArray[Any], **tags: Any) -> Dataset:
    """A DICOM file of [H, W], [N, H, W] with NumberOfFrames, or [H, W, 3] with SamplesPerPixel=3; uncompressed."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID, data.SOPInstanceUID = SecondaryCaptureImageStorage, "1.2.3"
    data.Rows, data.Columns = pixels.shape[:2] if "SamplesPerPixel" in tags else pixels.shape[-2:]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = pixels.itemsize * 8
    data.HighBit, data.PixelRepresentation = data.BitsStored - 1, int(pixels.dtype.kind == "i")
    for name, value in tags.items():
        setattr(data, name, value)
    data.PixelData = pixels.tobytes()
    data.save_as(path, enforce_file_format=True)
    return data


def grey(path: Path, reading: Reading = Reading()) -> list[int]:
    pixels = np.asarray(decode(path, reading).image)
    assert (pixels == pixels[..., :1]).all()
    return list(pixels[0, :, 0])


def test_grey_without_a_window_spans_smallest_to_largest(tmp_path: Path) -> None:
    write(tmp_path / "x.dcm", V)
    assert grey(tmp_path / "x.dcm") == [0, 6, 12, 19, 255]
    assert decode(tmp_path / "x.dcm").notes == (Rule.SPAN.note,)


def test_window_of_the_file_is_applied(tmp_path: Path) -> None:
    write(tmp_path / "x.dcm", V, **WINDOW)
    assert grey(tmp_path / "x.dcm") == [0, 1, 128, 255, 255]
    assert decode(tmp_path / "x.dcm").notes == (Rule.WINDOW.note,)


def test_first_of_several_windows_is_applied(tmp_path: Path) -> None:
    write(tmp_path / "x.dcm", V, WindowCenter=[200, 4000], WindowWidth=[201, 10])
    assert grey(tmp_path / "x.dcm") == [0, 1, 128, 255, 255]


@pytest.mark.parametrize("dtype", [np.uint16, np.int16])
@pytest.mark.parametrize("slope", [2, -2])
def test_window_is_in_rescaled_units(tmp_path: Path, slope: int, dtype: type) -> None:
    rescaled = {"RescaleSlope": slope, "RescaleIntercept": -1000}
    write(tmp_path / "x.dcm", V.astype(dtype), WindowCenter=slope * 200 - 1000, WindowWidth=401, **rescaled)
    assert grey(tmp_path / "x.dcm") == ([0, 0, 128, 255, 255] if slope > 0 else [255, 255, 128, 0, 0])


def test_told_window_counts_before_the_files_own_and_its_table(tmp_path: Path) -> None:
    data = write(tmp_path / "x.dcm", V, WindowCenter=4000, WindowWidth=10)
    data.VOILUTSequence = [table(65535, 0)]
    data.save_as(tmp_path / "x.dcm", enforce_file_format=True)
    assert grey(tmp_path / "x.dcm", Reading(window=(200, 201))) == [0, 1, 128, 255, 255]
    assert decode(tmp_path / "x.dcm", Reading(window=(200, 201))).notes == (Rule.TOLD_WINDOW.note,)


def table(*values: int) -> Dataset:
    item = Dataset()
    item.LUTDescriptor, item.LUTData = [len(values), 0, 16], list(values)
    item["LUTDescriptor"].VR = item["LUTData"].VR = "US"
    return item


def test_table_of_the_file_is_applied(tmp_path: Path) -> None:
    data = write(tmp_path / "x.dcm", np.array([[0, 1, 2, 9]], dtype=np.uint8))
    data.VOILUTSequence = [table(0, 65535, 32768)]
    data.save_as(tmp_path / "x.dcm", enforce_file_format=True)
    assert grey(tmp_path / "x.dcm") == [0, 255, 128, 128]


def test_window_without_width_is_none(tmp_path: Path) -> None:
    write(tmp_path / "x.dcm", V, WindowCenter=0, WindowWidth=0)
    assert grey(tmp_path / "x.dcm") == [0, 6, 12, 19, 255]


def test_monochrome1_is_inverted(tmp_path: Path) -> None:
    write(tmp_path / "x.dcm", V, PhotometricInterpretation="MONOCHROME1", **WINDOW)
    assert grey(tmp_path / "x.dcm") == [255, 254, 127, 0, 0]
    assert decode(tmp_path / "x.dcm").notes == (Rule.WINDOW.note, Rule.INVERTED.note)


def test_first_frame_is_read_and_said(tmp_path: Path) -> None:
    write(tmp_path / "x.dcm", np.stack([V, V[:, ::-1]]), NumberOfFrames=2)
    assert grey(tmp_path / "x.dcm") == [0, 6, 12, 19, 255]
    assert Rule.FRAME.note in decode(tmp_path / "x.dcm").notes


def test_colour_is_read_as_rgb(tmp_path: Path) -> None:
    colour = np.array([[[76, 85, 255], [255, 128, 128]]], dtype=np.uint8)  # luminance and chroma of red, and white
    kinds = {"SamplesPerPixel": 3, "PlanarConfiguration": 0}
    write(tmp_path / "x.dcm", colour, PhotometricInterpretation="YBR_FULL", **kinds)
    assert np.abs(np.asarray(decode(tmp_path / "x.dcm").image, dtype=int) - [[[255, 0, 0], [255, 255, 255]]]).max() <= 1
    write(tmp_path / "x.dcm", colour, PhotometricInterpretation="RGB", **kinds)
    assert np.array_equal(decode(tmp_path / "x.dcm").image, colour) and decode(tmp_path / "x.dcm").notes == ()
    write(tmp_path / "x.dcm", np.moveaxis(colour, -1, 0).reshape(1, 2, 3), PhotometricInterpretation="RGB",
          SamplesPerPixel=3, PlanarConfiguration=1)  # fmt: skip
    assert np.array_equal(decode(tmp_path / "x.dcm").image, colour)


def test_palette_becomes_its_colours(tmp_path: Path) -> None:
    data = write(tmp_path / "x.dcm", np.array([[0, 1]], dtype=np.uint8), PhotometricInterpretation="PALETTE COLOR")
    for name, top in (("Red", 65535), ("Green", 32768), ("Blue", 0)):
        setattr(data, f"{name}PaletteColorLookupTableDescriptor", [2, 0, 16])
        data[f"{name}PaletteColorLookupTableDescriptor"].VR = "US"
        setattr(data, f"{name}PaletteColorLookupTableData", np.array([0, top], dtype="<u2").tobytes())
    data.save_as(tmp_path / "x.dcm", enforce_file_format=True)
    assert np.asarray(decode(tmp_path / "x.dcm").image).tolist() == [[[0, 0, 0], [255, 128, 0]]]


def test_run_length_encoding_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path / "x.dcm", np.tile(V, (4, 1)), **WINDOW)
    data = write(tmp_path / "y.dcm", np.tile(V, (4, 1)), **WINDOW)
    data.compress(RLELossless)
    data.save_as(tmp_path / "y.dcm", enforce_file_format=True)
    assert decode(tmp_path / "y.dcm") == decode(tmp_path / "x.dcm")


@pytest.mark.parametrize("name", ["x.png", "x", "x.DICOM"])
def test_content_says_dicom_whatever_the_suffix(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, V, **WINDOW)
    assert grey(tmp_path / name) == [0, 1, 128, 255, 255]
    assert (Rule.SUFFIX.note in decode(tmp_path / name).notes) == (name == "x.png")


def test_suffix_says_dicom_where_the_content_does_not(tmp_path: Path) -> None:
    data = write(tmp_path / "x.dcm", V, **WINDOW)
    (tmp_path / "y.dcm").write_bytes((tmp_path / "x.dcm").read_bytes()[132:])  # without its preamble
    del data.file_meta
    data.save_as(tmp_path / "z.dcm", implicit_vr=True, little_endian=True)  # as before Part 10 of the standard
    assert grey(tmp_path / "y.dcm") == grey(tmp_path / "z.dcm") == [0, 1, 128, 255, 255]
    Image.new("L", (2, 2)).save(tmp_path / "p.dcm", format="PNG")
    assert decode(tmp_path / "p.dcm").notes == (Rule.SUFFIX.note,)


def test_mask_is_any_stored_value_but_zero_whatever_the_window(tmp_path: Path) -> None:
    write(tmp_path / "x.dcm", V, PhotometricInterpretation="MONOCHROME1", RescaleSlope=1, RescaleIntercept=-9, **WINDOW)
    assert read_mask(tmp_path / "x.dcm").tolist() == [[False, True, True, True, True]]
    assert read_mask(tmp_path / "x.dcm", reading=Reading(mask_above=200)).tolist() == [[False] * 3 + [True] * 2]


# --- files that cannot be read


def test_more_pixels_than_allowed_are_refused_before_decoding(tmp_path: Path) -> None:
    data = write(tmp_path / "x.dcm", V)
    data.Rows = data.Columns = 60000
    data.save_as(tmp_path / "x.dcm", enforce_file_format=True)
    with pytest.raises(ZsadError, match=r"x\.dcm: 60000 x 60000 pixels are more than the limit"):
        decode(tmp_path / "x.dcm")


@pytest.mark.parametrize(
    ("syntax", "message"),
    [(JPEGLosslessSV1, "needs another decoder; pip install"), (JPEG2000Lossless, "copy it again")],
)
def test_pixels_that_cannot_be_decompressed_are_named(tmp_path: Path, syntax: str, message: str) -> None:
    data = write(tmp_path / "x.dcm", V)
    data.file_meta.TransferSyntaxUID = syntax
    data.PixelData = encapsulate([b"\xff\xd8 nothing \xff\xd9"])
    data["PixelData"].is_undefined_length = True
    data.save_as(tmp_path / "x.dcm", enforce_file_format=True)
    if "another" in message and decoder_of(syntax):
        pytest.skip("a decoder for it is installed")
    with pytest.raises(ZsadError, match=rf"x\.dcm: .*JPEG.*{message}"):
        decode(tmp_path / "x.dcm")


def decoder_of(syntax: str) -> bool:
    from pydicom.pixels.decoders.base import get_decoder

    return get_decoder(syntax).is_available


def test_report_without_an_image_and_truncated_file_are_named(tmp_path: Path) -> None:
    data = write(tmp_path / "x.dcm", V, Modality="SR")
    whole = (tmp_path / "x.dcm").read_bytes()
    (tmp_path / "cut.dcm").write_bytes(whole[:-4])
    del data.Rows, data.PixelData
    data.save_as(tmp_path / "x.dcm", enforce_file_format=True)
    with pytest.raises(ZsadError, match=r"x\.dcm: a DICOM file without an image \(modality SR\)"):
        decode(tmp_path / "x.dcm")
    with pytest.raises(ZsadError, match=r"cut\.dcm: cannot be decoded"):
        decode(tmp_path / "cut.dcm")


def test_text_with_the_suffix_is_not_taken_for_dicom(tmp_path: Path) -> None:
    (tmp_path / "x.dcm").write_text("an export that failed\n" * 20)
    with pytest.raises(ZsadError, match=r"x\.dcm: not an image that can be read: text"):
        decode(tmp_path / "x.dcm")


def test_pydicom_is_asked_for_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "x.dcm", V)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(ZsadError, match=r"x\.dcm: .*pip install 'zsad\[dicom\]'"):
        decode(tmp_path / "x.dcm")
