"""Masks of what counts: pixels outside never make regions, verdicts or types, and a wrong size is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from blemish.errors import ImageError, UsageError
from blemish.images import save
from blemish.inspection.masks import Masks
from blemish.results import Verdict
from fakes import darkness_inspector

SIDE = 128


def picture() -> NDArray[np.uint8]:
    """Dark at the left (a scratch to the fake method), greyish at the right."""
    image = np.full((SIDE, SIDE, 3), 255, np.uint8)
    image[32:64, 16:48] = 0
    image[64:96, 80:112] = 110
    return image


def mask(box: tuple[int, int, int, int], path: Path, *, side: int = SIDE) -> Path:
    x0, y0, x1, y1 = box
    pixels = np.zeros((side, side), np.uint8)
    pixels[y0:y1, x0:x1] = 255
    return save(pixels, path)


def test_what_lies_outside_a_region_of_interest_does_not_count(tmp_path: Path) -> None:
    masks = Masks.open(mask((64, 0, 128, 128), tmp_path / "right.png"), None)
    result = darkness_inspector(masks=masks).inspect(picture())
    assert result.image_score_from == "roi"
    assert result.image_score == result.map_peak == float(result.map_at_original()[:, 64:].max())
    assert not result.map_at_original()[:, :64].any()
    assert result.verdict is Verdict.REVIEW
    (region,) = result.regions
    assert region.box_px[0] >= 64
    assert not result.mask()[:, :64].any()
    assert result.top_type == "stain"  # the type of the right side
    assert darkness_inspector().inspect(picture()).verdict is Verdict.NG


def test_ignored_pixels_do_not_count(tmp_path: Path) -> None:
    masks = Masks.open(None, mask((0, 0, 64, 128), tmp_path / "left.png"))
    roi = Masks.open(mask((64, 0, 128, 128), tmp_path / "right.png"), None)
    ignoring, wanting = (darkness_inspector(masks=one).inspect(picture()) for one in (masks, roi))
    assert ignoring.regions == wanting.regions
    assert ignoring.image_score == wanting.image_score


def test_a_region_is_cut_where_the_mask_ends(tmp_path: Path) -> None:
    masks = Masks.open(mask((0, 0, 32, 128), tmp_path / "m.png"), None)
    (region,) = darkness_inspector(masks=masks, min_area_px=4.0).inspect(picture()).regions
    assert region.box_px[2] == 32
    assert all(x <= 32 for x, _ in region.polygon_px)


def test_masks_of_a_folder_go_by_the_name_of_the_image(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save(picture(), tmp_path / "images" / f"{name}.png")
    mask((0, 0, 64, 128), tmp_path / "ignore" / "a.bmp".replace("bmp", "png"))
    inspector = darkness_inspector(masks=Masks.open(None, tmp_path / "ignore"))
    first, second = inspector.inspect([tmp_path / "images" / "a.png", tmp_path / "images" / "b.png"])
    assert (first.verdict, second.verdict) == (Verdict.REVIEW, Verdict.NG)  # nothing to ignore in b
    mask((64, 0, 128, 128), tmp_path / "roi" / "a.png")
    inspector = darkness_inspector(masks=Masks.open(tmp_path / "roi", None))
    found = inspector.inspect([tmp_path / "images" / "a.png", tmp_path / "images" / "b.png"], on_error="record")
    assert isinstance(found[1], ImageError)
    assert "holds no region of interest of this name" in str(found[1])
    assert inspector.setup.roi == "per image"


def test_a_mask_of_another_size_is_an_error_of_the_image(tmp_path: Path) -> None:
    masks = Masks.open(mask((0, 0, 9, 9), tmp_path / "m.png", side=100), None)
    with pytest.raises(ImageError, match=r"its mask .*m\.png is 100 x 100 pixels, but the image is 128 x 128"):
        darkness_inspector(masks=masks).inspect(picture())


def test_a_mask_that_leaves_nothing_is_an_error(tmp_path: Path) -> None:
    everything = mask((0, 0, SIDE, SIDE), tmp_path / "m.png")
    with pytest.raises(ImageError, match="no pixel of it counts"):
        darkness_inspector(masks=Masks.open(everything, everything)).inspect(picture())


def test_masks_that_are_not_there_or_not_clear_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--roi .*none\.png"):
        Masks.open(tmp_path / "none.png", None)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no masks"):
        Masks.open(None, tmp_path / "empty")
    mask((0, 0, 9, 9), tmp_path / "two" / "a.png")
    (tmp_path / "two" / "a.tif").write_bytes((tmp_path / "two" / "a.png").read_bytes())
    with pytest.raises(UsageError, match="the same name"):
        Masks.open(tmp_path / "two", None)


def test_the_identity_of_a_mask_is_what_it_holds(tmp_path: Path) -> None:
    one, same, other = (
        Masks.open(mask(box, tmp_path / name), None)
        for box, name in (((0, 0, 9, 9), "1.png"), ((0, 0, 9, 9), "2.png"), ((0, 0, 9, 8), "3.png"))
    )
    assert one is not None and same is not None and other is not None
    assert one.roi is not None and same.roi is not None and other.roi is not None
    assert one.roi.identity == same.roi.identity != other.roi.identity


def test_tiles_and_masks_go_together(tmp_path: Path) -> None:
    masks = Masks.open(mask((64, 0, 128, 128), tmp_path / "right.png"), None)
    result = darkness_inspector(masks=masks, tiles=64).inspect(picture())
    assert result.image_score_from == "roi"
    assert all(region.box_px[0] >= 64 for region in result.regions)


def test_senseless_sizes_are_refused() -> None:
    for options in ({"min_area_px": 0.0}, {"mm_per_px": -1.0}, {"tiles": "some"}):
        with pytest.raises(UsageError):
            darkness_inspector(**options)


def padded(path: Path, *, value: int) -> Path:
    """A DICOM file: bright but for a dark patch at the right, and its left half padding of that value."""
    import pydicom
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    pixels = np.full((SIDE, SIDE), 1000, np.int16)
    pixels[64:96, 80:112] = 600
    pixels[:, :48] = value
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = CTImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = pydicom.uid.UID("1.2.3")
    data.Rows = data.Columns = SIDE
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 1
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit = 15
    data.PixelPaddingValue = -2000
    data.PixelData = pixels.tobytes()
    data.save_as(path, enforce_file_format=True)
    return path


def test_the_padding_of_a_dicom_file_does_not_count(tmp_path: Path) -> None:
    inspector = darkness_inspector(value_range=(0, 1000))
    result = inspector.inspect(padded(tmp_path / "padded.dcm", value=-2000))
    assert result.image_score_from == "roi"
    assert 0.39 < result.image_score < 0.5  # of the dark patch, or of the edge beside the padding
    assert not result.map_at_original()[:, :48].any()
    dark = inspector.inspect(padded(tmp_path / "dark.dcm", value=0))  # as dark, and no padding
    assert (dark.image_score_from, dark.image_score) == ("method", 1)
    masks = Masks.open(mask((0, 0, 48, SIDE), tmp_path / "left.png"), None)
    with pytest.raises(ImageError, match="nothing but its padding"):
        darkness_inspector(masks=masks, value_range=(0, 1000)).inspect(tmp_path / "padded.dcm")
