"""What a file claims is checked before it is decoded."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from blemish import images
from blemish.errors import ImageError
from blemish.images import limits, opened
from tiff_files import one_strip_tiff

SIDE = 9900  # 98 megapixels


def png(width: int, height: int, bits: int, colour_type: int, body: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def bmp(width: int, height: int) -> bytes:
    return (
        b"BM" + struct.pack("<IHHIIiiHHIIiiII", 1000, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0) + bytes(900)
    )


CLAIMS = {
    "png of 16 bits": png(SIDE, SIDE, 16, 2, zlib.compress(bytes(60_000_000), 9)),
    "png of 8 bits": png(SIDE, SIDE, 8, 2, zlib.compress(bytes(60_000_000), 9)),
    "jpeg": b"\xff\xd8\xff\xc0\0\x11\x08"
    + struct.pack(">HH", SIDE, SIDE)
    + b"\x03\x01\x22\0\x02\x11\x01\x03\x11\x01\xff\xda\0\x0c\x03\x01\0\x02\x11\x03\x11\0\x3f\0"
    + bytes(60_000),
    "tiff, uncompressed": one_strip_tiff(SIDE, SIDE, bits=8, samples=1, compression=1, data=bytes(66_000)),
    "tiff, deflate": one_strip_tiff(SIDE, SIDE, bits=16, samples=1, compression=8, data=bytes(66_000)),
    "tiff, lzw": one_strip_tiff(SIDE, SIDE, bits=16, samples=1, compression=5, data=bytes(66_000)),
    "tiff, zstd": one_strip_tiff(SIDE, SIDE, bits=8, samples=1, compression=50000, data=bytes(66_000)),
    "bmp": bmp(SIDE, SIDE),
    "webp": b"RIFF\x2a\0\0\0WEBPVP8L\x1e\0\0\0\x2f" + struct.pack("<I", (SIDE - 1) | (SIDE - 1) << 14) + bytes(60),
    "gif": b"GIF89a" + struct.pack("<HH", SIDE, SIDE) + b"\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0"
    + struct.pack("<HH", SIDE, SIDE) + b"\0\x02\x03\x84\x51\x05\0;",
    "tga": struct.pack("<BBBHHBHHHHBB", 0, 0, 2, 0, 0, 0, 0, 0, SIDE, SIDE, 24, 0) + bytes(9000) + b"TRUEVISION-XFILE.\0",
    "ppm": f"P6 {SIDE} {SIDE} 255\n".encode() + bytes(66_000),
    "plain pgm": f"P2 {SIDE} {SIDE} 255\n".encode() + b"0 " * 30_000,
    "jpeg 2000": b"\xff\x4f\xff\x51\0\x2f\0\0" + struct.pack(">8I", SIDE, SIDE, 0, 0, SIDE, SIDE, 0, 0) + b"\0\x01\x0f\x01\x01"
    + bytes(66_000),
}  # fmt: skip


@pytest.mark.parametrize("name", CLAIMS)
def test_more_pixels_than_a_file_can_hold_are_refused_before_anything_is_decoded(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decoded(*_: object, **__: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(Image.Image, "load", decoded)
    monkeypatch.setattr("blemish.images.png16.read_png16", decoded)
    monkeypatch.setattr("blemish.images.isolation.decode_isolated", decoded)
    assert len(CLAIMS[name]) < 70_000
    with pytest.raises(ImageError, match=r"claims 9900 x 9900 pixels, more than its [\d,]+ bytes can hold"):
        images.decode(CLAIMS[name])


def test_flat_images_and_empty_masks_are_read_whatever_their_files_shrink_to() -> None:
    side = 1600
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True, "method": 0}), ("JPEG", {}), ("GIF", {})):
        stream = io.BytesIO()
        Image.new("L", (side, side)).save(stream, kind, **options)
        assert images.decode(stream.getvalue()).values.shape == (side, side, 3)
    side = 5000  # 25 megapixels in 3 kB
    rows = zlib.compress(bytes((1 + side // 8) * side), 9)
    assert not images.read_mask(png(side, side, 1, 0, rows)).above(None).any()


def test_what_does_not_fit_into_memory_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    data = one_strip_tiff(5000, 5000, bits=8, samples=1, compression=1, data=bytes(25_000_000))
    assert images.decode(data).values.shape == (5000, 5000, 3)
    monkeypatch.setattr(opened, "check_memory", limits.check_memory)
    monkeypatch.setattr(limits, "free_memory", lambda: 300 * 2**20)
    with pytest.raises(
        ImageError, match=r"does not fit into memory: 5000 x 5000 pixels take about 0\.4 GB .* 0\.3 GB are free"
    ):
        images.decode(data)
    monkeypatch.setattr(limits, "free_memory", lambda: None)
    assert images.decode(data).values.shape == (5000, 5000, 3)


def test_free_memory_is_a_number_of_bytes_or_unknown() -> None:
    free = limits.free_memory()
    assert free is None or 2**20 < free < 2**50


@pytest.mark.parametrize("progressive", [True, False])
def test_a_jpeg_of_very_many_scans_is_refused(progressive: bool) -> None:
    stream = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, "JPEG", progressive=progressive)
    data = stream.getvalue()
    assert images.decode(data).values.shape == (64, 64, 3)
    last = data.rindex(b"\xff\xda")
    if not progressive:  # a first scan of one component makes the others wait
        data = data.replace(
            data[last : last + 14], b"\xff\xda\0\x08\x01\x01\0\0\x3f\0" + data[last + 14 : last + 18], 1
        )
    scan = data[last:-2]
    with pytest.raises(ImageError, match=r"holds \d+ scans, far more than encoders write"):
        images.decode(data[:-2] + scan * 200 + data[-2:])


def test_tags_that_claim_the_file_over_and_over_are_refused() -> None:
    count = 3000
    entries = [
        (256, 4, 1, 4),
        (257, 4, 1, 4),
        (258, 4, 1, 8),
        (273, 4, 1, 8),
        *((50_000 + n, 1, 90_000, 8) for n in range(count)),
    ]
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    data = b"II*\0" + struct.pack("<I", 100_000) + bytes(99_992) + directory
    with pytest.raises(ImageError, match="its tags claim far more than the file holds"):
        images.decode(data)


def test_an_exif_part_longer_than_any_is_passed_over() -> None:
    image = Image.fromarray(np.zeros((4, 6), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    for extra, shape in ((b"", (6, 4)), (bytes(2**21), (4, 6))):
        stream = io.BytesIO()
        image.save(stream, "PNG", exif=exif.tobytes() + extra)
        assert images.decode(stream.getvalue()).values.shape[:2] == shape
        assert images.read_size(stream.getvalue()) == shape[::-1]


def test_samples_without_end_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="not supported"):
        images.decode(one_strip_tiff(16, 16, bits=16, samples=60_000, compression=1, data=bytes(40_000_000)))
    path = tmp_path / "planes.tif"
    tifffile.imwrite(path, np.zeros((9, 8, 8), np.uint16), photometric="minisblack", planarconfig="separate")
    with pytest.raises(ImageError, match="not supported"):
        images.decode(path)


def test_a_deflated_dicom_file_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    pydicom = pytest.importorskip("pydicom")
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, DeflatedExplicitVRLittleEndian

    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = CTImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = pydicom.uid.UID("1.2.3")
    data.Rows = data.Columns = 2000
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 0
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit = 15
    data.PixelData = bytes(8_000_000)
    stream = io.BytesIO()
    data.save_as(stream, enforce_file_format=True)
    assert len(stream.getvalue()) < 20_000
    assert images.decode(stream.getvalue()).values.shape == (2000, 2000)
    monkeypatch.setattr("blemish.images.dicom.MOST_INFLATED", 2**20)
    with pytest.raises(ImageError, match="does not fit into memory"):
        images.decode(stream.getvalue())
