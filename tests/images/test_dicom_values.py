"""DICOM: the values, windows and pixels that a frame means, or a line that says which tag stands in the way."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from blemish import images
from blemish.errors import ImageError
from images.dicom_files import RAMP, RESCALE, WINDOW, dicom, item


def frame_group(slope: float, centre: float) -> Dataset:
    return item(
        PixelValueTransformationSequence=[item(RescaleSlope=slope, RescaleIntercept=-1024, RescaleType="HU")],
        FrameVOILUTSequence=[item(WindowCenter=centre, WindowWidth=400)],
        PixelMeasuresSequence=[item(PixelSpacing=[0.5, 0.5], SliceThickness=slope)],
    )


@pytest.mark.parametrize(
    "enhanced",
    [
        {"PerFrameFunctionalGroupsSequence": [frame_group(1, 40), frame_group(2, -600)]},
        {
            "SharedFunctionalGroupsSequence": [frame_group(1, 40)],
            "PerFrameFunctionalGroupsSequence": [Dataset(), frame_group(2, -600)],
        },
        {  # what stands in the file itself holds for no frame that says otherwise
            "PerFrameFunctionalGroupsSequence": [frame_group(1, 40), frame_group(2, -600)],
            "RescaleSlope": 9,
            "RescaleIntercept": 9,
            "WindowCenter": 9,
            "WindowWidth": 9,
        },
    ],
)
def test_each_frame_of_an_enhanced_object_has_its_own_rescaling_and_window(
    enhanced: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "ct.dcm").write_bytes(dicom(np.stack([RAMP, RAMP]), **enhanced))
    for number, slope, centre in ((1, 1, 40), (2, 2, -600)):
        plain = dicom(RAMP, RescaleSlope=slope, RescaleIntercept=-1024, WindowCenter=centre, WindowWidth=400)
        frame, expected = images.read(f"{tmp_path / 'ct.dcm'}#{number}"), images.read(plain)
        assert frame.value_range == expected.value_range
        np.testing.assert_array_equal(frame.pixels, expected.pixels)
        assert (float(frame.tags["RescaleSlope"]), float(frame.tags["SliceThickness"])) == (slope, slope)


def test_padding_has_no_say_in_range_and_score() -> None:
    padded = RAMP.astype(np.int16)
    padded[:5] = -2000
    picture = images.read(dicom(padded, PixelPaddingValue=-2000))
    assert picture.value_range == pytest.approx(tuple(np.percentile(padded[5:], (0.5, 99.5))))
    assert picture.inside is not None
    np.testing.assert_array_equal(picture.inside, padded != -2000)
    assert (picture.pixels[:5] == 0).all()
    assert images.read(dicom(padded, PixelPaddingValue=-2000), value_range=("0%", "100%")).value_range == (
        padded[5:].min(),
        padded[5:].max(),
    )
    unsigned = RAMP.copy()
    unsigned[:5], unsigned[5] = 63536, 63530
    ranged = images.read(dicom(unsigned, PixelPaddingValue=63536, PixelPaddingRangeLimit=63530))
    np.testing.assert_array_equal(ranged.inside, unsigned < 60000)
    for none in (
        dicom(RAMP, PixelPaddingValue=65000),
        dicom(RAMP),
        dicom(np.full((4, 4), 7, np.uint16), PixelPaddingValue=7),
    ):
        assert images.read(none).inside is None


def test_a_padding_value_written_without_its_sign_is_the_signed_one() -> None:
    padded = RAMP.astype(np.int16)
    padded[:5] = -2000
    data = dicom(padded, PixelPaddingValue=-2000)
    written = data.replace(b"\x28\x00\x20\x01SS", b"\x28\x00\x20\x01US")
    assert written != data
    np.testing.assert_array_equal(images.read(written).inside, padded != -2000)


@pytest.mark.parametrize("start", ["preamble", "meta", "elements", "implicit"])
def test_files_without_preamble_are_read(start: str, tmp_path: Path) -> None:
    expected = images.read(dicom(RAMP, **WINDOW)).pixels
    data = dicom(RAMP, syntax=ImplicitVRLittleEndian if start == "implicit" else ExplicitVRLittleEndian, **WINDOW)
    whole = pydicom.dcmread(io.BytesIO(data))
    at = data.index(b"\x08\x00\x16\x00")  # SOPClassUID, the first element behind the meta information
    cut = {"preamble": data, "meta": data[132:]}.get(start, data[at:])
    assert whole.Rows == 20
    np.testing.assert_array_equal(images.read(cut).pixels, expected)
    for name in ("scan.dcm", "scan"):
        (tmp_path / name).write_bytes(cut)
        np.testing.assert_array_equal(images.read(tmp_path / name).pixels, expected)


def test_files_without_suffix_are_found_by_their_mark(tmp_path: Path) -> None:
    data = dicom(np.stack([RAMP, RAMP]))
    for name in ("IM0001", "1.2.840.10008.5", "DICOMDIR", "notes", "a.bin"):
        (tmp_path / name).write_bytes(b"text" if name == "notes" else data)
    found = images.find_images(tmp_path)
    assert [image.path.name for image in found] == ["1.2.840.10008.5#1", "1.2.840.10008.5#2", "IM0001#1", "IM0001#2"]
    assert dict(found.left_out) == {"no suffix": 2, ".bin": 1}
    np.testing.assert_array_equal(images.read(found[3].path).pixels, images.read(data).pixels)


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless]
)
def test_every_lossless_syntax_of_pydicom_gives_the_same_values(syntax: Any) -> None:
    data = dicom(RAMP, syntax=syntax, **WINDOW)
    np.testing.assert_array_equal(images.read(data).pixels, images.read(dicom(RAMP, **WINDOW)).pixels)


def coded(values: NDArray[Any], syntax: Any) -> bytes:
    codecs = pytest.importorskip("imagecodecs")
    if syntax == JPEG2000Lossless:
        return bytes(codecs.jpeg2k_encode(values, reversible=True, codecformat="j2k"))
    if syntax == JPEGLSLossless:
        return bytes(codecs.jpegls_encode(values))
    return bytes(codecs.ljpeg_encode(values))


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless, JPEGLosslessSV1])
@pytest.mark.parametrize("values", [RAMP, (RAMP >> 4).astype(np.uint8)])
def test_compressed_frames_are_read_with_the_extra_formats(syntax: Any, values: NDArray[Any]) -> None:
    data = dicom(values, syntax=syntax, coded=coded(values, syntax), **RESCALE)
    np.testing.assert_array_equal(images.decode(data).values, values.astype(np.float32) * 2 - 1024)


def test_jpeg_frames_are_read() -> None:
    grey = (RAMP >> 4).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(grey).save(stream, "JPEG", quality=100)
    values = images.decode(dicom(grey, syntax=JPEGBaseline8Bit, coded=stream.getvalue())).values
    np.testing.assert_allclose(values, grey, atol=3)


COLOUR = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def test_ybr_and_palette_become_rgb() -> None:
    ybr = np.asarray(Image.fromarray(COLOUR).convert("YCbCr"))
    data = dicom(ybr, PhotometricInterpretation="YBR_FULL")
    np.testing.assert_allclose(images.read(data).pixels, COLOUR, atol=3)
    table = np.arange(256)
    for bits, kind in ((8, "u1"), (16, "<u2")):
        luts = {
            f"{name}PaletteColorLookupTableData": (
                (255 - table if name == "Red" else table) * (1 if bits == 8 else 257)
            )
            .astype(kind)
            .tobytes()
            for name in ("Red", "Green", "Blue")
        }
        sizes = {f"{name}PaletteColorLookupTableDescriptor": [256, 0, bits] for name in ("Red", "Green", "Blue")}
        data = dicom(COLOUR[..., 0], PhotometricInterpretation="PALETTE COLOR", **sizes, **luts)
        expected = np.stack([255 - COLOUR[..., 0], COLOUR[..., 0], COLOUR[..., 0]], axis=-1)
        np.testing.assert_array_equal(images.read(data).pixels, expected)


def test_colour_of_12_bits_is_read_by_the_bits_it_stores() -> None:
    deep = COLOUR.astype(np.uint16) << 4
    data = dicom(deep, BitsStored=12, HighBit=11)
    np.testing.assert_array_equal(images.read(data).pixels, COLOUR)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"Columns": [30, 30]}, "its Columns is not one number"),
        ({"Rows": [20, 20, 20]}, "its Rows is not one number"),
        ({"Rows": 0}, "has no pixels"),
        ({"SamplesPerPixel": 7}, "7 samples a pixel"),
        ({"RescaleSlope": 0, "RescaleIntercept": 1}, "its RescaleSlope is 0"),
    ],
)
def test_an_element_that_decides_values_and_makes_no_sense_is_named(tags: dict[str, Any], message: str) -> None:
    with pytest.raises(ImageError, match=message):
        images.read(dicom(RAMP, **tags))


def patched(data: bytes, old: bytes, new: bytes) -> bytes:
    assert data.count(old) == 1
    assert len(old) == len(new)
    return data.replace(old, new)


def test_malformed_numbers_are_named_where_they_decide_and_noted_where_not() -> None:
    slope = patched(dicom(RAMP, RescaleSlope="1234", RescaleIntercept=0), b"1234", b"12,4")
    with pytest.raises(ImageError, match="its RescaleSlope cannot be read as a number"):
        images.read(slope)
    window = patched(dicom(RAMP, WindowCenter="1234", WindowWidth=400), b"1234", b"12,4")
    picture = images.read(window)
    assert picture.value_range == images.read(dicom(RAMP)).value_range
    assert "WindowCenter cannot be read" in picture.tags["note"]
    frames = patched(dicom(RAMP, NumberOfFrames="1234"), b"1234", b"x234")
    with pytest.raises(ImageError, match="its NumberOfFrames cannot be read"):
        images.read(frames)


def test_of_several_windows_the_first_counts_and_empty_elements_are_absent() -> None:
    several = images.read(dicom(RAMP, WindowCenter=[40, 80], WindowWidth=[400, 99]))
    assert several.value_range == images.read(dicom(RAMP, **WINDOW)).value_range
    empty = dicom(RAMP, WindowCenter="", WindowWidth="", RescaleSlope="", RescaleIntercept="", NumberOfFrames="")
    assert images.read(empty).value_range == images.read(dicom(RAMP)).value_range


def test_what_holds_no_image_says_so(tmp_path: Path) -> None:
    data = pydicom.dcmread(io.BytesIO(dicom(RAMP)))
    del data.PixelData
    data.save_as(tmp_path / "report.dcm", enforce_file_format=True)
    with pytest.raises(ImageError, match="holds no image"):
        images.read(tmp_path / "report.dcm")
    with pytest.raises(ImageError, match="more than its"):
        images.read(dicom(RAMP)[:-600])


def test_numbers_of_persons_stay_out_of_the_tags() -> None:
    assert not any("Somebody" in value for value in images.read(dicom(RAMP)).tags.values())


def test_more_frames_than_a_file_can_hold_are_one_error_and_not_one_each(tmp_path: Path) -> None:
    jpeg = io.BytesIO()
    Image.fromarray((RAMP >> 4).astype(np.uint8)).save(jpeg, "JPEG")
    for data in (
        dicom(RAMP, NumberOfFrames=900_000),
        dicom((RAMP >> 4).astype(np.uint8), syntax=JPEGBaseline8Bit, coded=jpeg.getvalue(), NumberOfFrames=900_000),
    ):
        (tmp_path / "a.dcm").write_bytes(data)
        assert images.list_images(tmp_path) == [tmp_path / "a.dcm"]
        with pytest.raises(ImageError, match="more than its"):
            images.read(tmp_path / "a.dcm")
