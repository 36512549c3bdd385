"""The only room that reads or writes an image: files, bytes, arrays and Pillow images in, upright RGB out."""

from __future__ import annotations

from blemish.images.depth import Picture, Samples, ValueRanges
from blemish.images.files import FoundImage, find_images, list_images
from blemish.images.reader import DEFAULT_MEGAPIXELS, Header, ImageInput, decode, read, read_header
from blemish.images.writer import save

__all__ = [
    "DEFAULT_MEGAPIXELS",
    "FoundImage",
    "Header",
    "ImageInput",
    "Picture",
    "Samples",
    "ValueRanges",
    "decode",
    "find_images",
    "list_images",
    "read",
    "read_header",
    "save",
]
