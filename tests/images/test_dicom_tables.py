"""Lookup tables of DICOM: the modality's and the one for display, in every way that files write them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_modality_lut, apply_voi
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from blemish import images
from blemish.errors import ImageError
from images.dicom_files import RAMP, WINDOW, dicom, item

CURVE = np.sort(np.random.default_rng(1).integers(0, 4096, 4001)).astype(np.uint16)
CURVE[-1] = 4095


def table(
    entries: NDArray[Any] | bytes | list[int], *, first: int = 0, bits: int = 12, count: int | None = None
) -> Dataset:
    """An item of a sequence of tables; entries given as bytes are written as they are."""
    data = Dataset()
    sign = "SS" if first < 0 else "US"
    number = len(entries) if count is None else count
    data.add_new("LUTDescriptor", sign, [number - (65536 if sign == "SS" and number > 32767 else 0), first, bits])
    if isinstance(entries, bytes):
        data.add_new("LUTData", "OW", entries)
    else:
        data.add_new("LUTData", "US", [int(entry) for entry in entries])
    return data


def display(entries: Any, **how: Any) -> dict[str, Any]:
    return {"VOILUTSequence": [table(entries, **how)]}


def modality(entries: Any, **how: Any) -> dict[str, Any]:
    return {"ModalityLUTSequence": [table(entries, **how)]}


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("words", [False, True])
def test_tables_give_what_pydicom_gives_where_it_can(syntax: Any, words: bool) -> None:
    high, low = ">u2" if syntax == ExplicitVRBigEndian else "<u2", CURVE
    entries: Any = low.astype(high).tobytes() if words else low
    data = dicom(RAMP, syntax=syntax, **display(entries, count=len(CURVE)))
    whole = pydicom.dcmread(io.BytesIO(data))
    picture = images.read(data)
    np.testing.assert_allclose(picture.pixels[..., 0], apply_voi(whole.pixel_array, whole) / 4095, atol=1e-6)
    assert picture.value_range == (0, 4095)
    assert picture.tags["VOILUT"] == "4001 entries of 12 bits from 0"
    sixteen = modality(entries, bits=16, count=len(CURVE))
    data = dicom(RAMP, syntax=syntax, **sixteen, RescaleSlope=9, RescaleIntercept=9)
    whole = pydicom.dcmread(io.BytesIO(data))
    np.testing.assert_array_equal(images.decode(data).values, apply_modality_lut(whole.pixel_array, whole))


def test_the_table_for_display_follows_the_rescaling_and_goes_before_the_window() -> None:
    tags = {"RescaleSlope": 2, "RescaleIntercept": -1024, **WINDOW}
    picture = images.read(dicom(RAMP, **tags, **display(CURVE[:2000], first=-500)))
    units = RAMP.astype(int) * 2 - 1024
    expected = CURVE[np.clip(units + 500, 0, 1999)] / 4095
    np.testing.assert_allclose(picture.pixels[..., 0], expected, atol=1e-6)
    assert "note" not in picture.tags


def test_fractions_take_the_nearest_entry() -> None:
    values = images.decode(dicom(RAMP, RescaleSlope=0.25, RescaleIntercept=0.1, **display(CURVE[:900]))).values
    np.testing.assert_array_equal(values, CURVE[np.clip(np.rint(RAMP * 0.25 + 0.1).astype(int), 0, 899)])


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("count", [300, 255])
def test_tables_of_8_bits_do_not_wrap_values_around(packed: bool, count: int) -> None:
    curve = np.linspace(0, 255, count).astype(np.uint8)
    padding = b"\0" * (count % 2)
    entries: Any = curve.tobytes() + padding if packed else curve
    for tags in (display(entries, bits=8, count=count), modality(entries, bits=8, count=count)):
        np.testing.assert_array_equal(images.decode(dicom(RAMP, **tags)).values, curve[np.minimum(RAMP, count - 1)])


def test_packed_entries_are_found_in_files_that_write_the_high_byte_first() -> None:
    curve = np.arange(255, -1, -1).astype(np.uint8)
    swapped = curve.view("<u2").astype(">u2").tobytes()
    data = dicom(RAMP, syntax=ExplicitVRBigEndian, **display(swapped, bits=8, count=256))
    np.testing.assert_array_equal(images.decode(data).values, curve[np.minimum(RAMP, 255)])


def test_a_first_value_written_without_its_sign_is_the_signed_one() -> None:
    signed = RAMP.astype(np.int16) - 2000
    expected = CURVE[np.clip(signed + 2000, 0, 4000)]
    for first in (-2000, 2**16 - 2000):
        np.testing.assert_array_equal(images.decode(dicom(signed, **display(CURVE, first=first))).values, expected)
    high = RAMP + np.uint16(60000)
    written = display(CURVE, first=60000 - 2**16)
    np.testing.assert_array_equal(images.decode(dicom(high, **written)).values, CURVE[RAMP])


def test_a_table_of_65536_entries_states_0() -> None:
    whole = np.arange(2**16, dtype=np.uint16)[::-1]
    data = dicom(RAMP, **display(whole.tobytes(), bits=16, count=0))
    np.testing.assert_array_equal(images.decode(data).values, 65535 - RAMP)


def test_each_frame_of_an_enhanced_object_has_its_own_table(tmp_path: Path) -> None:
    frames = [item(FrameVOILUTSequence=[item(**display(curve))]) for curve in (CURVE, CURVE[::-1])]
    path = tmp_path / "ct.dcm"
    path.write_bytes(dicom(np.stack([RAMP, RAMP]), PerFrameFunctionalGroupsSequence=frames, **WINDOW))
    np.testing.assert_array_equal(images.decode(f"{path}#1").values, CURVE[RAMP])
    np.testing.assert_array_equal(images.decode(f"{path}#2").values, CURVE[::-1][RAMP])


def test_padding_is_what_it_is_before_the_tables() -> None:
    padded = RAMP.copy()
    padded[:5] = 4000
    picture = images.read(dicom(padded, PixelPaddingValue=4000, **display(CURVE[::-1])))
    np.testing.assert_array_equal(picture.inside, padded != 4000)


def test_a_range_that_is_given_holds_for_what_the_table_gives() -> None:
    data = dicom(RAMP, **display(CURVE))
    picture = images.read(data, value_range=(0, 2000))
    np.testing.assert_allclose(picture.pixels[..., 0], np.clip(CURVE[RAMP] / 2000, 0, 1), atol=1e-6)
    again = images.read(data, value_range=images.read(data).value_range)
    np.testing.assert_array_equal(again.pixels, images.read(data).pixels)


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (table([1, 2, 3], count=4), "it has 3 entries and not 4"),
        (table([1, 2, 3], bits=99), "its entries have 99 bits"),
        (table([1, 2, 4096], bits=12), "an entry of 4096 has more than 12 bits"),
        (item(), "it has no LUTDescriptor"),
    ],
)
def test_a_table_that_cannot_be_read_is_named_where_it_decides_and_noted_where_not(broken: Dataset, why: str) -> None:
    with pytest.raises(ImageError, match="its ModalityLUTSequence cannot be read") as caught:
        images.read(dicom(RAMP, ModalityLUTSequence=[broken]))
    assert why in str(caught.value)
    picture = images.read(dicom(RAMP, VOILUTSequence=[broken], **WINDOW))
    assert picture.value_range == images.read(dicom(RAMP, **WINDOW)).value_range
    assert picture.tags["note"].startswith("its VOILUTSequence cannot be read")
    assert why in picture.tags["note"]


def test_empty_sequences_are_absent() -> None:
    empty = dicom(RAMP, VOILUTSequence=[], ModalityLUTSequence=[], **WINDOW)
    np.testing.assert_array_equal(images.read(empty).pixels, images.read(dicom(RAMP, **WINDOW)).pixels)


def test_a_sigmoid_window_is_read_as_linear_and_noted() -> None:
    picture = images.read(dicom(RAMP, **WINDOW, VOILUTFunction="SIGMOID"))
    assert picture.value_range == images.read(dicom(RAMP, **WINDOW)).value_range
    assert picture.tags["note"] == "its VOILUTFunction SIGMOID is read as LINEAR"
