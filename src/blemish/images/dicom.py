"""DICOM through pydicom (an extra): one frame as samples, with its own rescaling, window and tables, and without its padding."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from blemish.errors import ImageError
from blemish.images import dicom_codecs
from blemish.images.boundary import NO_MEMORY, decoding, one_line
from blemish.images.depth import Samples
from blemish.images.dicom_tables import LookupTable, read_table
from blemish.images.kinds import DICOM_MARK, DICOM_MARK_AT, is_dicom
from blemish.images.limits import PER_BYTE, check_held, free_memory
from blemish.images.modern import missing
from blemish.images.opened import OpenedImage

__all__ = ["TAGS", "count_frames", "open_dicom"]

PERCENTILES = (0.5, 99.5)
# What goes into the results: how the values came about, never who was looked at.
TAGS = (
    *("Modality", "PhotometricInterpretation", "BitsStored", "PixelRepresentation", "NumberOfFrames"),
    *("RescaleSlope", "RescaleIntercept", "RescaleType", "WindowCenter", "WindowWidth", "VOILUTFunction"),
    *("PixelSpacing", "ImagerPixelSpacing", "SliceThickness", "BodyPartExamined", "ViewPosition", "Manufacturer"),
)
# The functional group of an enhanced object that holds a tag for each frame (PS3.3, C.7.6.16).
GROUPS = {
    **dict.fromkeys(("RescaleSlope", "RescaleIntercept", "RescaleType"), "PixelValueTransformationSequence"),
    **dict.fromkeys(("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence"), "FrameVOILUTSequence"),
    **dict.fromkeys(("PixelSpacing", "SliceThickness"), "PixelMeasuresSequence"),
}
PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
NO_PIXELS = "holds no image (it has no pixel data)"
PIXEL_TAGS = (b"\xe0\x7f\x10\0", b"\xe0\x7f\x08\0", b"\xe0\x7f\x09\0", b"\x7f\xe0\0\x10")  # as they stand in files
RLE = "1.2.840.10008.1.2.5"
MOST_FRAMES = 1_000_000
DEFLATED, MOST_META = b"1.2.840.10008.1.2.1.99", 4096
META_AT = 144  # where the meta information goes on behind its length, which stands in the four bytes before
MOST_INFLATED, CHUNK = 2**33, 2**24  # bytes


def count_frames(path: Path) -> int:
    """How many frames a file holds; 1 where it cannot be read, or pydicom is not installed."""
    if not path.is_file():
        return 1
    try:
        with decoding(str(path)), path.open("rb") as stream:
            if not is_dicom(stream.read(132)):
                return 1
            found = open_dicom(stream, str(path), page=None)
            check_held(
                found.size, str(path), least_bytes=found.least_bytes, bytes_per_px=0, file_bytes=found.file_bytes
            )
            return _frames(_read(stream, str(path), pixels=False), str(path))
    except ImageError:  # reported when its turn comes
        return 1


def open_dicom(stream: BinaryIO, source: str, *, page: int | None) -> OpenedImage:
    """Frame `page` (from 1; None: the first) of a DICOM file.

    Grey values [H, W] are float32 after the modality's rescaling (Hounsfield units of a CT) or table, and after the table for
    display where there is one; colour is uint8 [H, W, 3]. The window is all that such a table may give, else that of the
    frame's tags, or the percentiles 0.5 and 99.5 of the frame without its padding.
    ImageError where the extra is missing, the frame is not there, or a tag that decides values cannot be read.
    """
    header = _read(stream, source, pixels=False)
    file_bytes = stream.seek(0, 2)
    frames, number = _frames(header, source), page or 1
    if number > frames:
        raise ImageError(source, f"has {frames} frames")
    width, height = (_whole(header, name, source) for name in ("Columns", "Rows"))
    colours, bits = _whole(header, "SamplesPerPixel", source, 1), _whole(header, "BitsAllocated", source, 8)
    if colours not in (1, 3, 4):
        raise ImageError(source, f"has {colours} samples a pixel, which no image of DICOM has")
    syntax = _syntax(header)
    least = _least_bytes(syntax, width * height * colours * bits / 8, frames)
    if file_bytes < least and not _holds_pixels(stream):
        raise ImageError(source, NO_PIXELS)
    return OpenedImage(
        source=source,
        width_px=width,
        height_px=height,
        is_deep=colours == 1,
        file_bytes=file_bytes,
        least_bytes=least,
        decoded_bytes_per_px=colours * bits / 8,
        risky=syntax.is_encapsulated and str(syntax) != RLE,
        samples=lambda: _frame(stream, source, number),
    )


def _least_bytes(syntax: Any, frame_bytes: float, frames: int) -> float:
    """How many bytes a file needs at least to hold so many frames."""
    if not syntax.is_encapsulated:
        return frame_bytes * frames / (PER_BYTE["deflate"] if syntax.is_deflated else 1)
    item_bytes = 8.0  # the head of one fragment
    return frames * max(item_bytes, frame_bytes / PER_BYTE["packbits"] if str(syntax) == RLE else 0.0)


def _frame(stream: BinaryIO, source: str, number: int) -> Samples:
    """The samples of one frame."""
    from pydicom.pixels.processing import apply_color_lut
    from pydicom.pixels.utils import pixel_array

    data = _read(stream, source, pixels=True)
    if not any(name in data for name in PIXELS):
        raise ImageError(source, NO_PIXELS)
    tags = FrameTags(data, number, source)
    syntax = data.file_meta.TransferSyntaxUID
    if str(syntax) in dicom_codecs.DECODER_DEPENDENCIES and not dicom_codecs.offer(str(syntax)):
        _check_decoder(syntax, source)
    values = pixel_array(data, index=number - 1)
    kind = tags.text("PhotometricInterpretation")
    if kind == "PALETTE COLOR":
        values = apply_color_lut(values, data)
        return Samples(_eight_bits(values, 8 * values.dtype.itemsize), source, tags=tags.all_texts())
    if values.ndim == 3:
        bits = _whole(data, "BitsStored", source, 8 * values.dtype.itemsize)
        return Samples(_eight_bits(values[..., :3], bits), source, tags=tags.all_texts())
    if values.ndim != 2:
        raise ImageError(source, f"its pixels are {list(values.shape)}, which is no image")
    inside = _inside(data, values, source)
    grey = _rescaled(values, tags)
    texts = tags.all_texts()
    table, note = tags.voi_table()
    if table is None:
        window, other = tags.window()
        note = "; ".join(filter(None, (note, other)))
    else:
        grey, window = table.of(grey), (0.0, table.highest)
        texts["VOILUT"] = str(table)
    if note:
        texts["note"] = note
    return Samples(
        grey,
        source,
        inverted=kind == "MONOCHROME1",
        window=window or _spread(grey if inside is None else grey[inside]),
        tags=texts,
        inside=inside,
    )


def _check_decoder(syntax: Any, source: str) -> None:
    """ImageError with the extra that brings a decoder, where pydicom has none for this transfer syntax."""
    from pydicom.pixels.decoders.base import get_decoder

    if not get_decoder(syntax).is_available:
        raise missing("imagecodecs", source, f"DICOM in {syntax.name}")


@dataclass(frozen=True)
class FrameTags:
    """The tags that hold for one frame: its own functional group's, else the shared one's, else the file's."""

    data: Any
    number: int  # from 1
    source: str

    def value(self, name: str) -> Any:
        """The value of a tag; None where it is absent or empty. Malformed values raise whatever pydicom raises."""
        for place in (*self._groups(name), self.data):
            if name in place and place[name].value not in (None, ""):
                return place[name].value
        return None

    def number_of(self, name: str) -> float | None:
        """The tag as a number, of several values the first; ImageError where it is none."""
        try:
            value = self.value(name)
            if value is None:
                return None
            number = float(value if isinstance(value, str | int | float) else next(iter(value)))
        except Exception as error:
            raise ImageError(self.source, f"its {name} cannot be read as a number ({one_line(error)})") from error
        if not math.isfinite(number):
            raise ImageError(self.source, f"its {name} is {number}")
        return number

    def text(self, name: str) -> str:
        """The tag as text; empty where it is absent or malformed."""
        try:
            value = self.value(name)
            return "" if value is None else str(value)
        except Exception:
            return ""

    def all_texts(self) -> dict[str, str]:
        """TAGS with what the file says."""
        texts = {name: self.text(name) for name in TAGS}
        return {name: text for name, text in texts.items() if text}

    def table(self, name: str) -> LookupTable | None:
        """The first table of a sequence, None where there is none; ImageError where it cannot be read."""
        try:
            items = self.value(name)
            if not items:
                return None
            return read_table(items[0], little_endian=self.data.file_meta.TransferSyntaxUID.is_little_endian)
        except Exception as error:
            raise ImageError(self.source, f"its {name} cannot be read ({one_line(error)})") from error

    def voi_table(self) -> tuple[LookupTable | None, str]:
        """The table for display, None where there is none; and a note where it cannot be read."""
        try:
            return self.table("VOILUTSequence"), ""
        except ImageError as error:
            return None, f"{error.reason}; it is left out"

    def window(self) -> tuple[tuple[float, float] | None, str]:
        """The first window (DICOM PS3.3, C.11.2.1.2), None where there is none; and a note where it is read otherwise, or not."""
        try:
            centre, width = self.number_of("WindowCenter"), self.number_of("WindowWidth")
        except ImageError as error:
            return None, f"{error.reason}; percentiles are used instead"
        if centre is None or width is None or width <= 1:
            return None, ""
        function = self.text("VOILUTFunction")
        if function == "LINEAR_EXACT":
            return (centre - width / 2, centre + width / 2), ""
        note = f"its VOILUTFunction {function} is read as LINEAR" if function not in ("", "LINEAR") else ""
        return (centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2), note

    def _groups(self, name: str) -> list[Any]:
        """The items of the functional group that may hold a tag: the frame's own before the one shared by all frames."""
        if name not in GROUPS:
            return []
        found = []
        frames = self.data.get("PerFrameFunctionalGroupsSequence")
        shared = self.data.get("SharedFunctionalGroupsSequence")
        for group in (*(frames or ())[self.number - 1 : self.number], *(shared or ())[:1]):
            found += list((group.get(GROUPS[name]) or ())[:1])
        return found


def _rescaled(values: NDArray[Any], tags: FrameTags) -> NDArray[np.float32]:
    """Stored values in the modality's units."""
    table = tags.table("ModalityLUTSequence")
    if table is not None:
        return table.of(values)
    slope, intercept = tags.number_of("RescaleSlope"), tags.number_of("RescaleIntercept")
    if slope == 0:
        raise ImageError(tags.source, "its RescaleSlope is 0")
    if (slope, intercept) in ((None, None), (1, 0)):
        return np.asarray(values, np.float32)
    scaled = values.astype(np.float64) * (1.0 if slope is None else slope) + (intercept or 0.0)
    return scaled.astype(np.float32)


def _inside(data: Any, values: NDArray[Any], source: str) -> NDArray[np.bool_] | None:
    """Where stored values [H, W] are no padding (PS3.3, C.7.5.1.1.2); None where nothing is, or everything."""
    first = _padding(data, "PixelPaddingValue", values, source)
    if first is None:
        return None
    last = _padding(data, "PixelPaddingRangeLimit", values, source)
    low, high = min(first, first if last is None else last), max(first, first if last is None else last)
    inside = (values < low) | (values > high)
    return None if inside.all() or not inside.any() else np.asarray(inside)


def _padding(data: Any, name: str, values: NDArray[Any], source: str) -> float | None:
    number = FrameTags(data, 1, source).number_of(name)
    if number is not None and np.issubdtype(values.dtype, np.integer):
        limits = np.iinfo(values.dtype)
        if number > limits.max:  # written without its sign
            number -= float(2**limits.bits)
        elif number < limits.min:
            number += float(2**limits.bits)
    return number


def _spread(grey: NDArray[np.float32]) -> tuple[float, float]:
    finite = grey[np.isfinite(grey)]
    low, high = (float(value) for value in np.percentile(finite if finite.size else [0.0], PERCENTILES))
    return low, max(high, low + 1e-6 * max(1.0, abs(low)))


def _eight_bits(values: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """Colour values of so many bits with 8."""
    if values.dtype == np.uint8:
        return values
    return (values >> max(0, bits - 8)).astype(np.uint8)


def _holds_pixels(stream: BinaryIO) -> bool:
    stream.seek(0)
    data = stream.read()
    return any(tag in data for tag in PIXEL_TAGS)


def _frames(header: Any, source: str) -> int:
    frames = _whole(header, "NumberOfFrames", source, 1)
    if not 1 <= frames <= MOST_FRAMES:
        raise ImageError(source, f"claims {frames} frames")
    return frames


def _whole(data: Any, name: str, source: str, default: int = 0) -> int:
    """A tag that must be one whole number; `default` where it is absent or empty."""
    try:
        value = data.get(name)
        if value is None or value == "":
            return default
        if not isinstance(value, str | int | float):
            raise ImageError(source, f"its {name} is not one number")
        number = int(value)
    except ImageError:
        raise
    except Exception as error:
        raise ImageError(source, f"its {name} cannot be read as a whole number ({one_line(error)})") from error
    return number


def _syntax(header: Any) -> Any:
    """The transfer syntax; where the file does not say it, that of its elements."""
    from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    stated = getattr(header, "file_meta", {}).get("TransferSyntaxUID")
    if stated and UID(str(stated)).is_transfer_syntax:
        return UID(str(stated))
    implicit, little_endian = header.original_encoding
    return ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little_endian else ExplicitVRBigEndian


def _check_deflated(stream: BinaryIO, source: str) -> None:
    """ImageError for a deflated file that would fill the memory: pydicom inflates it all to read its header."""
    stream.seek(0)
    head = stream.read(MOST_META)
    if DEFLATED not in head:
        return
    stream.seek(META_AT + int.from_bytes(head[META_AT - 4 : META_AT], "little"))  # behind the meta information
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    free, inflated, rest = free_memory(), 0, stream.read()
    while rest and not inflater.eof:
        inflated += len(inflater.decompress(rest, CHUNK))
        rest = inflater.unconsumed_tail
        if inflated > MOST_INFLATED or (free is not None and inflated > free):
            raise ImageError(source, NO_MEMORY)


def _read(stream: BinaryIO, source: str, *, pixels: bool) -> Any:
    """The data set of a file, with or without its pixels; with a transfer syntax in any case."""
    try:
        import pydicom
    except ImportError as error:
        raise missing("pydicom", source, "DICOM", extra="medical") from error
    stream.seek(DICOM_MARK_AT)
    bare = stream.read(4) != DICOM_MARK  # no preamble
    _check_deflated(stream, source)
    stream.seek(0)
    data = pydicom.dcmread(stream, stop_before_pixels=not pixels, force=bare)
    if not len(data):
        raise ImageError(source, "is not a DICOM file that can be read: it holds no elements")
    data.file_meta.TransferSyntaxUID = _syntax(data)
    return data
