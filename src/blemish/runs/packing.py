"""A batch of loaded images as bytes, for another process: a line of JSON and the arrays, nothing that is run when it is read."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.errors import ImageError
from blemish.images import Picture
from blemish.images.isolation import receive, send
from blemish.inspection.loader import LoadedImage

__all__ = ["PackedBatch", "pack", "unpack"]


@dataclass(frozen=True, eq=False)
class PackedBatch:
    """Images with what goes along with each of them."""

    images: tuple[LoadedImage | ImageError, ...]
    names: tuple[str, ...]  # of their pictures, without suffix
    digests: tuple[str | None, ...]  # of their contents, 32 hex digits; None for those that cannot be read

    def alone(self) -> list[PackedBatch]:
        """A batch of each image."""
        rows = zip(self.images, self.names, self.digests, strict=True)
        return [PackedBatch((image,), (name,), (digest,)) for image, name, digest in rows]


def pack(batch: PackedBatch, *, with_pictures: bool) -> bytes:
    """A batch as bytes that `unpack` reads.

    Args:
        batch: The batch.
        with_pictures: Whether the pixels at original size go along; without, only their size does.
    """
    arrays: dict[str, NDArray[Any]] = {}
    told: list[dict[str, Any]] = []
    for number, image in enumerate(batch.images):
        if isinstance(image, ImageError):
            told.append({"source": image.source, "error": image.reason})
            continue
        picture = image.picture
        told.append(
            {
                "source": picture.source,
                "size": [picture.width_px, picture.height_px],
                "value_range": picture.value_range,
                "tags": dict(picture.tags),
            }
        )
        arrays[f"pixels {number}"] = image.pixels
        if with_pictures:
            arrays[f"picture {number}"] = picture.pixels
        if picture.inside is not None:
            arrays[f"inside {number}"] = picture.inside
    held = io.BytesIO()
    send(held, {"images": told, "names": batch.names, "digests": batch.digests}, arrays)
    return held.getvalue()


def unpack(payload: Any) -> PackedBatch:
    """The batch in the bytes that `pack` made."""
    said, arrays = receive(io.BytesIO(payload))
    images: list[LoadedImage | ImageError] = []
    for number, told in enumerate(said["images"]):
        if "error" in told:
            images.append(ImageError(told["source"], told["error"]))
            continue
        width, height = told["size"]
        # where nobody looks at the pixels, their size is all that counts: one zero stands for all of them
        pixels = arrays.get(f"picture {number}", np.broadcast_to(np.uint8(0), (height, width, 3)))
        value_range = None if told["value_range"] is None else (told["value_range"][0], told["value_range"][1])
        picture = Picture(pixels, told["source"], value_range, told["tags"], arrays.get(f"inside {number}"))
        images.append(LoadedImage(picture, arrays[f"pixels {number}"]))
    return PackedBatch(tuple(images), tuple(said["names"]), tuple(said["digests"]))
