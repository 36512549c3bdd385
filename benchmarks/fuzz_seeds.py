"""Whole files of every format and sample format that Blemish reads, small, for `benchmarks.fuzz` to damage."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

HEIGHT, WIDTH = 24, 32


@dataclass(frozen=True)
class Seed:
    """One whole file."""

    kind: str
    name: str
    suffix: str
    data: bytes


@cache
def make_seeds() -> list[Seed]:
    """All seeds, formats in turn, so that any number of files has its share of each."""
    makers = (_pillow, _png16, _tiff, _dicom, _heic, _modern, _netpbm)
    rows = itertools.zip_longest(*(list(maker()) for maker in makers))
    return [seed for row in rows for seed in row if seed is not None]


def _pixels(dtype: Any = np.uint8, channels: int = 3) -> NDArray[Any]:
    """A smooth ramp with a little noise [H, W] or [H, W, C] over the values of a sample format."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    ramp = (x / WIDTH + y / HEIGHT) / 2 + rng.normal(0, 0.02, (HEIGHT, WIDTH))
    values = np.clip(np.stack([ramp, 1 - ramp, ramp**2, np.ones_like(ramp)], axis=-1)[..., :channels], 0, 1)
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        scaled = values.astype(dtype)
    elif dtype.kind == "b":
        scaled = values > 0.5
    else:
        limits = np.iinfo(dtype)
        low, high = float(limits.min), float(limits.max)
        scaled = (low / 2 + values * (high - low) / 2).astype(dtype)
    return scaled[..., 0] if channels == 1 else scaled


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def _pillow() -> Iterator[Seed]:
    rgb = Image.fromarray(_pixels())
    options: dict[str, Any]
    exif = Image.Exif()
    exif[0x0112] = 6
    several: dict[str, Any] = {"save_all": True, "append_images": [rgb.rotate(90), rgb.rotate(180)]}
    for name, image, options in (
        ("rgb", rgb, {}),
        ("progressive", rgb, {"progressive": True}),
        ("grey", rgb.convert("L"), {}),
        ("cmyk", rgb.convert("CMYK"), {}),
        ("turned", rgb, {"exif": exif}),
    ):
        yield Seed("JPEG", name, ".jpg", _saved(image, "JPEG", **options))
    for name, image, options in (
        ("rgb", rgb, {}),
        ("rgba", rgb.convert("RGBA"), {}),
        ("grey", rgb.convert("L"), {}),
        ("grey alpha", rgb.convert("LA"), {}),
        ("one bit", rgb.convert("1"), {}),
        ("palette", rgb.quantize(16), {"transparency": 2}),
        ("turned", rgb, {"exif": exif}),
        ("animated", rgb, several),
    ):
        yield Seed("PNG", name, ".png", _saved(image, "PNG", **options))
    for name, image in (
        ("rgb", rgb),
        ("grey", rgb.convert("L")),
        ("one bit", rgb.convert("1")),
        ("palette", rgb.quantize(16)),
    ):
        yield Seed("BMP", name, ".bmp", _saved(image, "BMP"))
    for name, image, options in (
        ("lossy", rgb, {}),
        ("lossless", rgb, {"lossless": True}),
        ("alpha", rgb.convert("RGBA"), {"exif": exif}),
        ("animated", rgb, several),
    ):
        yield Seed("WebP", name, ".webp", _saved(image, "WEBP", **options))
    yield Seed("GIF", "palette", ".gif", _saved(rgb.quantize(16), "GIF"))
    yield Seed("GIF", "animated", ".gif", _saved(rgb, "GIF", **several))
    for name, image, options in (
        ("rgb", rgb, {}),
        ("rle", rgb, {"compression": "tga_rle"}),
        ("grey", rgb.convert("L"), {}),
        ("rgba", rgb.convert("RGBA"), {}),
    ):
        yield Seed("TGA", name, ".tga", _saved(image, "TGA", **options))


def _png16() -> Iterator[Seed]:
    import imagecodecs

    for channels in (1, 2, 3, 4):
        pixels = _pixels(np.uint16, 4)[..., :channels] if channels > 1 else _pixels(np.uint16, 1)
        yield Seed("PNG", f"16 bits, {channels}", ".png", bytes(imagecodecs.png_encode(np.ascontiguousarray(pixels))))


def _tiff() -> Iterator[Seed]:
    import tifffile

    def written(pixels: NDArray[Any], **options: Any) -> bytes:
        stream = io.BytesIO()
        tifffile.imwrite(stream, pixels, metadata=None, **options)
        return stream.getvalue()

    kinds = ("bool", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8")
    for kind, order in itertools.product(kinds, "<>"):
        yield Seed("TIFF", f"{kind} {order}", ".tif", written(_pixels(kind, 1), byteorder=order))
    for kind in ("u1", "u2", "f4"):
        yield Seed("TIFF", f"rgb {kind}", ".tif", written(_pixels(kind), photometric="rgb"))
        planes = np.ascontiguousarray(np.moveaxis(_pixels(kind), -1, 0))
        yield Seed("TIFF", f"planes {kind}", ".tif", written(planes, photometric="rgb", planarconfig="separate"))
    for coding in (
        "lzw",
        "zlib",
        "packbits",
        "zstd",
        "lzma",
        "webp",
        "jpeg",
        "jpeg2000",
        "jpegxl",
        "png",
        "lerc",
        "jpegxr",
    ):
        yield Seed("TIFF", coding, ".tif", written(_pixels(), photometric="rgb", compression=coding))
    for coding in ("lzw", "zlib", "zstd", "lzma", "jpeg2000", "jpegxl", "lerc"):
        yield Seed("TIFF", f"16 bits {coding}", ".tif", written(_pixels("u2"), photometric="rgb", compression=coding))
    for kind in ("u2", "f4"):
        yield Seed("TIFF", f"predictor {kind}", ".tif", written(_pixels(kind, 1), compression="zlib", predictor=True))
    yield Seed("TIFF", "tiles", ".tif", written(_pixels("u2"), photometric="rgb", tile=(16, 16), compression="lzw"))
    yield Seed("TIFF", "big", ".tif", written(_pixels("u2"), photometric="rgb", bigtiff=True))
    pages = np.stack([_pixels("u2", 1)] * 3)
    yield Seed("TIFF", "pages", ".tif", written(pages, photometric="minisblack"))
    yield Seed("TIFF", "fax", ".tif", _saved(Image.fromarray(_pixels("bool", 1)), "TIFF", compression="group4"))
    yield Seed("TIFF", "palette", ".tif", _saved(Image.fromarray(_pixels()).quantize(16), "TIFF"))


def _dicom() -> Iterator[Seed]:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import (
        UID,
        CTImageStorage,
        DeflatedExplicitVRLittleEndian,
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        JPEG2000Lossless,
        JPEGBaseline8Bit,
        RLELossless,
    )

    def written(
        pixels: NDArray[Any], *, syntax: Any = ExplicitVRLittleEndian, coded: bytes | None = None, **tags: Any
    ) -> bytes:
        data = Dataset()
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian if syntax is RLELossless else syntax
        data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = CTImageStorage
        data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = UID("1.2.3.4")
        data.Modality = "CT"
        colour = pixels.ndim == 3 and pixels.shape[-1] == 3
        if pixels.ndim == 3 and not colour:
            data.NumberOfFrames = len(pixels)
        data.Rows, data.Columns = pixels.shape[:2] if colour else pixels.shape[-2:]
        data.SamplesPerPixel = 3 if colour else 1
        if colour:
            data.PlanarConfiguration = 0
        data.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
        data.BitsAllocated = data.BitsStored = 8 * pixels.dtype.itemsize
        data.HighBit = data.BitsStored - 1
        data.PixelRepresentation = int(pixels.dtype.kind == "i")
        if coded is None:
            data.PixelData = pixels.tobytes()
        else:
            from pydicom.encaps import encapsulate

            data.PixelData = encapsulate([coded])
        for name, value in tags.items():
            setattr(data, name, value)
        if syntax is RLELossless:
            data.compress(RLELossless, generate_instance_uid=False)
        stream = io.BytesIO()
        data.save_as(stream, enforce_file_format=True)
        return stream.getvalue()

    def item(**tags: Any) -> Dataset:
        data = Dataset()
        for name, value in tags.items():
            setattr(data, name, value)
        return data

    grey, signed, colour = _pixels("u2", 1), _pixels("i2", 1), _pixels()
    group = item(
        PixelValueTransformationSequence=[item(RescaleSlope=2, RescaleIntercept=-1024, RescaleType="HU")],
        FrameVOILUTSequence=[item(WindowCenter=40, WindowWidth=400)],
    )
    window: dict[str, Any] = {
        "WindowCenter": [40, 80],
        "WindowWidth": [400, 200],
        "RescaleSlope": 1,
        "RescaleIntercept": -1024,
    }
    table = item()
    table.add_new("LUTDescriptor", "US", [256, 0, 16])
    table.add_new("LUTData", "OW", (np.arange(256, dtype="<u2") * 257).tobytes())
    palette: dict[str, Any] = {}
    for name in ("Red", "Green", "Blue"):
        palette[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        palette[f"{name}PaletteColorLookupTableData"] = (np.arange(256, dtype="<u2") * 257).tobytes()
    for name, data in (
        ("grey", written(grey, **window)),
        ("signed", written(signed, PixelPaddingValue=-32768, PixelPaddingRangeLimit=-30000)),
        ("implicit", written(grey, syntax=ImplicitVRLittleEndian)),
        ("deflated", written(grey, syntax=DeflatedExplicitVRLittleEndian)),
        ("rle", written(grey, syntax=RLELossless)),
        ("colour", written(colour)),
        ("ybr", written(colour, PhotometricInterpretation="YBR_FULL")),
        ("enhanced", written(np.stack([grey] * 2), PerFrameFunctionalGroupsSequence=[group, group])),
        ("tables", written(grey, ModalityLUTSequence=[table], VOILUTSequence=[table], **window)),
        ("no preamble", written(grey)[132:]),
        ("palette", written(_pixels(np.uint8, 1), PhotometricInterpretation="PALETTE COLOR", **palette)),
        (
            "jpeg",
            written(
                _pixels(np.uint8, 1),
                syntax=JPEGBaseline8Bit,
                coded=_saved(Image.fromarray(_pixels(channels=1)), "JPEG"),
            ),
        ),
        (
            "jpeg 2000",
            written(
                _pixels(np.uint8, 1),
                syntax=JPEG2000Lossless,
                coded=_saved(Image.fromarray(_pixels(channels=1)), "JPEG2000", no_jp2=True),
            ),
        ),
    ):
        yield Seed("DICOM", name, ".dcm", data)


def _heic() -> Iterator[Seed]:
    import pillow_heif

    for mode in ("RGB", "RGBA", "L"):
        stream = io.BytesIO()
        pillow_heif.from_pillow(Image.fromarray(_pixels()).resize((64, 64)).convert(mode)).save(stream, quality=60)
        yield Seed("HEIC", mode, ".heic", stream.getvalue())
    deep = np.kron(_pixels("u2"), np.ones((3, 2, 1), np.uint16))
    stream = io.BytesIO()
    pillow_heif.from_bytes(mode="RGB;16", size=deep.shape[1::-1], data=deep.tobytes()).save(stream, quality=60)
    yield Seed("HEIC", "10 bits", ".heic", stream.getvalue())


def _modern() -> Iterator[Seed]:
    import imagecodecs

    rgb, deep = _pixels(), _pixels("u2")
    yield Seed("AVIF", "8 bits", ".avif", _saved(Image.fromarray(rgb), "AVIF"))
    yield Seed("AVIF", "alpha", ".avif", _saved(Image.fromarray(rgb).convert("RGBA"), "AVIF"))
    yield Seed("AVIF", "10 bits", ".avif", bytes(imagecodecs.avif_encode(deep >> 6, bitspersample=10)))
    yield Seed("JPEG 2000", "8 bits", ".jp2", _saved(Image.fromarray(rgb), "JPEG2000"))
    yield Seed("JPEG 2000", "codestream", ".j2k", _saved(Image.fromarray(rgb), "JPEG2000", no_jp2=True))
    yield Seed("JPEG 2000", "16 bits", ".jp2", bytes(imagecodecs.jpeg2k_encode(deep, reversible=True)))
    yield Seed("JPEG XL", "8 bits", ".jxl", bytes(imagecodecs.jpegxl_encode(rgb)))
    yield Seed("JPEG XL", "16 bits", ".jxl", bytes(imagecodecs.jpegxl_encode(deep, lossless=True)))
    yield Seed("JPEG XL", "floating-point", ".jxl", bytes(imagecodecs.jpegxl_encode(_pixels("f4"), lossless=True)))


def _netpbm() -> Iterator[Seed]:
    grey, rgb, deep = _pixels(channels=1), _pixels(), _pixels("u2")
    size = f"{WIDTH} {HEIGHT}".encode()

    def plain(values: NDArray[Any]) -> bytes:
        return b"\n".join(b" ".join(str(value).encode() for value in row.ravel()) for row in values)

    bits = grey > 127
    yield Seed("PGM/PPM", "P1", ".pbm", b"P1\n# bits\n" + size + b"\n" + plain(bits.astype(np.uint8)))
    yield Seed("PGM/PPM", "P2", ".pgm", b"P2\n" + size + b"\n255\n" + plain(grey))
    yield Seed("PGM/PPM", "P3", ".ppm", b"P3\n" + size + b"\n65535\n" + plain(deep))
    yield Seed("PGM/PPM", "P4", ".pbm", b"P4\n" + size + b"\n" + np.packbits(bits, axis=1).tobytes())
    yield Seed("PGM/PPM", "P5", ".pgm", b"P5\n" + size + b"\n65535\n" + deep[..., 0].astype(">u2").tobytes())
    yield Seed("PGM/PPM", "P6", ".ppm", b"P6\n" + size + b"\n255\n" + rgb.tobytes())
    head = f"P7\nWIDTH {WIDTH}\nHEIGHT {HEIGHT}\nDEPTH 4\nMAXVAL 255\nTUPLTYPE RGB_ALPHA\nENDHDR\n".encode()
    yield Seed("PGM/PPM", "P7", ".pam", head + _pixels(channels=4).tobytes())
    yield Seed("PGM/PPM", "PF", ".pfm", b"PF\n" + size + b"\n-1.0\n" + _pixels("f4").astype("<f4").tobytes())
