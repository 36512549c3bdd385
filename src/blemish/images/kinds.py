"""Which format a file has, by its content, and which names image files carry."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import BinaryIO

from blemish.errors import ImageError

__all__ = ["DICOM_SUFFIXES", "SUFFIXES", "TIFF_SUFFIXES", "is_dicom", "kind_of"]

TIFF_SUFFIXES = (".tif", ".tiff")
DICOM_SUFFIXES = (".dcm", ".dicom")
TGA_SUFFIXES = (".tga", ".icb", ".vda", ".vst")
SUFFIXES = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".gif"),
        *(".heic", ".heif", ".hif", ".avif", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".jxl"),
        *(".pgm", ".ppm", ".pbm", ".pnm", ".pam", ".pfm"),
        *(*TGA_SUFFIXES, *TIFF_SUFFIXES, *DICOM_SUFFIXES),
    }
)
NAMES = "JPEG, PNG, TIFF, BMP, WebP, GIF, PGM/PPM, TGA, HEIC, AVIF, JPEG 2000, JPEG XL or DICOM"
SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"BM", "BMP"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    *((tag, "TIFF") for tag in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
)
NETPBM = re.compile(rb"P[1-7Ff][\s#]")
HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1", b"mif2")
AVIF_BRANDS = (b"avif", b"avis")
DICOM_MARK_AT, DICOM_MARK = 128, b"DICM"
TGA_FOOTER = b"TRUEVISION-XFILE.\0"
HIGHEST_FIRST = 0x0100  # element numbers with which a file begins
# The value representations of DICOM that a file's first elements can have.
FIRST_ELEMENTS = frozenset((b"UL", b"UI", b"OB", b"CS", b"DA", b"TM", b"DT", b"SH", b"LO", b"SQ"))


def kind_of(stream: BinaryIO, source: str) -> str:
    """The format of a file by its first bytes, with the stream at its start again; ImageError where it is none we read.

    TGA has no signature at its start: its footer counts, or a name that ends in .tga before a header that makes sense.
    """
    stream.seek(0)
    prefix = stream.read(132)
    stream.seek(0)
    if not prefix:
        raise ImageError(source, "the file is empty")
    kind = _by_signature(prefix) or ("TGA" if _is_tga(stream, prefix, source) else None)
    if kind is None:
        raise ImageError(source, f"is not a {NAMES} image")
    return kind


def _by_signature(prefix: bytes) -> str | None:
    if is_dicom(prefix):
        return "DICOM"
    found = next((kind for signature, kind in SIGNATURES if prefix.startswith(signature)), None)
    if found is not None:
        return found
    if prefix.startswith(b"RIFF") and prefix[8:12] == b"WEBP":
        return "WebP"
    if prefix[4:8] == b"ftyp":
        brands = {prefix[8:12], *(prefix[at : at + 4] for at in range(16, min(int.from_bytes(prefix[:4]), 132), 4))}
        return "AVIF" if brands & set(AVIF_BRANDS) else "HEIC" if brands & set(HEIC_BRANDS) else None
    return "PGM/PPM" if NETPBM.match(prefix) else None


def is_dicom(prefix: bytes) -> bool:
    """Whether a file begins as DICOM: with the mark after a preamble, or without both as older machines write it.

    Without them the first element must be one of group 2 or 8, of a representation that those have or, where none is stated,
    with a short value and another element of the group behind it.
    """
    if prefix[DICOM_MARK_AT : DICOM_MARK_AT + 4] == DICOM_MARK:
        return True
    group, number = prefix[:2], int.from_bytes(prefix[2:4], "little")
    if group not in (b"\x02\0", b"\x08\0") or number > HIGHEST_FIRST:
        return False
    if prefix[4:6] in FIRST_ELEMENTS:
        return True
    length = int.from_bytes(prefix[4:8], "little")
    return length % 2 == 0 and prefix[8 + length : 10 + length] == group


def _is_tga(stream: BinaryIO, prefix: bytes, source: str) -> bool:
    if (
        len(prefix) < 18
        or prefix[1] > 1
        or prefix[2] not in (1, 2, 3, 9, 10, 11)
        or prefix[16] not in (8, 15, 16, 24, 32)
    ):
        return False
    if PurePath(source).suffix.lower() in TGA_SUFFIXES:
        return True
    stream.seek(0, 2)
    size = stream.tell()
    stream.seek(max(0, size - len(TGA_FOOTER)))
    footer = stream.read()
    stream.seek(0)
    return footer == TGA_FOOTER
