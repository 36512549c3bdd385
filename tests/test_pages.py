"""Pages of TIFF files and frames of DICOM files: each an image of its own, named by its number."""

from __future__ import annotations

import builtins
import contextlib
import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from blemish.errors import ImageError
from blemish.images import find_images, list_images, read, read_header
from blemish.inspection.inspector import Inspected
from blemish.runs.folder import ResultsFolder
from blemish.runs.header import header_of
from blemish.runs.names import output_names
from fakes import darkness_inspector

GREY = np.array([[[number * 40] * 3] * 2 for number in range(4)], np.uint8)  # [pages, H, W]


def stack(path: Path, pages: NDArray[Any], **options: Any) -> Path:
    with tifffile.TiffWriter(path) as writer:
        for page in pages:
            writer.write(page, contiguous=False, metadata=None, **options)
    return path


@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_every_page_is_an_image_of_its_own(tmp_path: Path, bigtiff: bool, byteorder: Any) -> None:
    path = tmp_path / "stack.tif"
    with tifffile.TiffWriter(path, bigtiff=bigtiff, byteorder=byteorder) as writer:
        for page in GREY:
            writer.write(page, contiguous=False, metadata=None)
    found = list_images(tmp_path)
    assert [image.name for image in found] == [f"stack.tif#{number}" for number in (1, 2, 3, 4)]
    for image, page in zip(found, GREY, strict=True):
        picture = read(image)
        assert picture.source == image.as_posix()
        np.testing.assert_array_equal(picture.as_bytes()[..., 0], page)
    assert list_images(tmp_path / "stack.tif#3") == [tmp_path / "stack.tif#3"]
    np.testing.assert_array_equal(read(path).pixels, read(f"{path}#1").pixels)


def test_deep_and_coloured_pages_are_read_by_their_number(tmp_path: Path) -> None:
    deep = np.arange(4 * 2 * 3, dtype=np.uint16).reshape(4, 2, 3) * 100
    picture = read(f"{stack(tmp_path / 'deep.tif', deep)}#2", value_range=(0, 4095))
    np.testing.assert_allclose(picture.pixels[..., 0] * 4095, deep[1], atol=0.01)
    colours = np.arange(2 * 4 * 5 * 3, dtype=np.uint16).reshape(2, 4, 5, 3) * 500
    path = stack(tmp_path / "colour.tif", colours, photometric="rgb")
    np.testing.assert_allclose(read(f"{path}#2", value_range=(0, 65535)).pixels * 65535, colours[1], atol=0.02)
    assert read_header(f"{path}#2").is_deep


def test_smaller_versions_are_no_pages(tmp_path: Path) -> None:
    path = tmp_path / "pyramid.tif"
    with tifffile.TiffWriter(path) as writer:
        for index, subfile_type in enumerate((0, 1, 1, 0)):
            writer.write(GREY[index], subfiletype=subfile_type, contiguous=False, metadata=None)
    assert [image.name for image in list_images(path)] == ["pyramid.tif#1", "pyramid.tif#2"]
    np.testing.assert_array_equal(read(f"{path}#2").pixels[..., 0], GREY[3])


def test_a_single_page_keeps_its_name_and_a_name_like_a_page_is_a_file(tmp_path: Path) -> None:
    stack(tmp_path / "one.tif", GREY[:1])
    Image.fromarray(GREY[2]).save(tmp_path / "two.tif#2", "TIFF")
    stack(tmp_path / "two.tif", GREY[:2])
    assert list_images(tmp_path / "one.tif") == [tmp_path / "one.tif"]
    np.testing.assert_array_equal(read(tmp_path / "two.tif#2").pixels[..., 0], GREY[2])


def test_a_page_that_is_not_there_is_an_error_of_the_image(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="has 4 pages"):
        read(f"{stack(tmp_path / 'stack.tif', GREY)}#5")


def test_damage_to_the_directories_is_an_error_of_the_image(tmp_path: Path) -> None:
    data = stack(tmp_path / "stack.tif", GREY).read_bytes()
    for cut in range(0, len(data), 7):
        (tmp_path / "stack.tif").write_bytes(data[:cut])
        for image in list_images(tmp_path):
            with contextlib.suppress(ImageError):
                read(image)


def test_pages_have_pictures_of_their_own(tmp_path: Path) -> None:
    stack(tmp_path / "stack.tif", GREY)
    assert [str(name) for name in output_names(find_images(tmp_path))] == [
        f"stack.tif#{number}" for number in (1, 2, 3, 4)
    ]


# DICOM


def dicom(path: Path, pixels: NDArray[Any], *, kind: str = "MONOCHROME2", **tags: Any) -> Path:
    """A tiny file: [H, W], [frames, H, W] or, for RGB, [H, W, 3]."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = SecondaryCaptureImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = generate_uid()
    data.PatientName = "Somebody^Real"
    data.Modality = "CT"
    colour = kind == "RGB"
    if pixels.ndim == 3 and not colour:
        data.NumberOfFrames = len(pixels)
    data.Rows, data.Columns = pixels.shape[:2] if colour else pixels.shape[-2:]
    data.SamplesPerPixel = 3 if colour else 1
    if colour:
        data.PlanarConfiguration = 0
    data.PhotometricInterpretation = kind
    data.BitsAllocated = data.BitsStored = 8 * pixels.dtype.itemsize
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(pixels.dtype.kind == "i")
    data.PixelData = pixels.tobytes()
    for name, value in tags.items():
        setattr(data, name, value)
    data.save_as(path, enforce_file_format=True)
    return path


RAMP = np.linspace(0, 4000, 12, dtype=np.int16).reshape(3, 4)


def test_the_window_is_that_of_the_tags_after_the_rescaling(tmp_path: Path) -> None:
    tags = {"RescaleSlope": 1, "RescaleIntercept": -1024, "WindowCenter": 40, "WindowWidth": 401}
    picture = read(dicom(tmp_path / "ct.dcm", RAMP, **tags))
    assert picture.value_range == (-160.5, 239.5)
    np.testing.assert_allclose(picture.pixels[..., 0], np.clip((RAMP - 1024 + 160.5) / 400, 0, 1), atol=1e-5)
    assert float(picture.tags["WindowCenter"]) == 40
    assert not any("Somebody" in value for value in picture.tags.values())


def test_without_a_window_it_is_percentiles_and_range_overrides_both(tmp_path: Path) -> None:
    path = dicom(tmp_path / "plain.dcm", RAMP)
    assert read(path).value_range == pytest.approx(tuple(np.percentile(RAMP, [0.5, 99.5])))
    assert read(path, value_range=(0, 4000)).value_range == (0, 4000)
    assert read(path, value_range=("10%", "90%")).value_range == pytest.approx(tuple(np.percentile(RAMP, [10, 90])))
    assert np.isfinite(read(dicom(tmp_path / "flat.dcm", np.full((3, 4), 7, np.uint16))).pixels).all()


def test_white_is_zero_is_inverted_and_colour_stays_colour(tmp_path: Path) -> None:
    tags = {"WindowCenter": 2000, "WindowWidth": 4000}
    inverted = read(dicom(tmp_path / "one.dcm", RAMP, kind="MONOCHROME1", **tags)).pixels
    np.testing.assert_allclose(inverted, 1 - read(dicom(tmp_path / "two.dcm", RAMP, **tags)).pixels, atol=1e-6)
    colour = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    np.testing.assert_array_equal(read(dicom(tmp_path / "rgb.dcm", colour, kind="RGB")).pixels, colour)


def test_every_frame_is_an_image_of_its_own(tmp_path: Path) -> None:
    frames = np.stack([RAMP, RAMP[::-1]])
    dicom(tmp_path / "cine.dcm", frames, WindowCenter=2000, WindowWidth=4001)
    found = list_images(tmp_path)
    assert [image.name for image in found] == ["cine.dcm#1", "cine.dcm#2"]
    np.testing.assert_array_equal(read(found[0]).pixels[::-1], read(found[1]).pixels)
    with pytest.raises(ImageError, match="has 2 frames"):
        read(f"{tmp_path / 'cine.dcm'}#3")


def test_the_results_hold_the_tags(tmp_path: Path) -> None:
    pixels = np.zeros((64, 64), np.uint16)
    path = dicom(tmp_path / "a.dcm", pixels, WindowCenter=2000, WindowWidth=4000, PixelSpacing=[0.5, 0.5])
    inspector = darkness_inspector()
    (outcome,) = inspector.stream([path])
    assert isinstance(outcome, Inspected)
    with ResultsFolder(tmp_path / "out", header_of(inspector)) as results:
        results.add(outcome, output_names(find_images(path))[0])
    record = json.loads((tmp_path / "out" / "results.jsonl").read_text(encoding="utf-8"))
    assert record["tags"]["PixelSpacing"] == "[0.5, 0.5]"
    with (tmp_path / "out" / "results.csv").open(encoding="utf-8", newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert json.loads(row["tags"]) == record["tags"]


def test_without_the_extra_the_line_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = dicom(tmp_path / "a.dcm", RAMP)
    imported = builtins.__import__

    def refuse(name: str, *arguments: Any, **options: Any) -> Any:
        if name.partition(".")[0] == "pydicom":
            raise ImportError(name)
        return imported(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImageError, match=r'pip install "blemish\[medical\]"'):
        read(path)
    assert list_images(path) == [path]


def test_damaged_files_are_errors_of_the_image(tmp_path: Path) -> None:
    whole = dicom(tmp_path / "a.dcm", RAMP).read_bytes()
    for data in (whole[:140], whole[: len(whole) - 6], whole[:132] + b"\xff" * 200):
        with pytest.raises(ImageError):
            read(data)
    assert pydicom.dcmread(io.BytesIO(whole)).Rows == 3
