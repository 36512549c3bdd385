"""Which pixels of an image count: a region of interest, and what is to be ignored."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from blemish.errors import ImageError, UsageError
from blemish.images import SUFFIXES, read_mask

__all__ = ["Masks"]

PER_IMAGE = "per image"


@dataclass(frozen=True)
class MaskFiles:
    """One mask for all images, or one an image, found by the image's name without its suffix."""

    path: Path
    shared: NDArray[np.bool_] | None
    by_stem: dict[str, Path]

    @classmethod
    def open(cls, path: str | Path, *, option: str) -> MaskFiles:
        """The mask in a file, or those in a folder; UsageError where there is none, or two have one name."""
        path = Path(path).expanduser()
        if path.is_dir():
            files = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
            by_stem = {file.stem: file for file in files}
            if not files:
                raise UsageError(f"--{option} {path}: the folder holds no masks")
            if len(by_stem) < len(files):
                twice = next(file for file in files if by_stem[file.stem] != file)
                raise UsageError(f"--{option} {path}: {twice.name} and {by_stem[twice.stem].name} have the same name")
            return cls(path, None, by_stem)
        try:
            return cls(path, read_mask(path).above(None), {})
        except ImageError as error:
            raise UsageError(f"--{option} {error}") from error

    @property
    def identity(self) -> str:
        """16 hex digits of the one mask's size and pixels, or "per image"."""
        if self.shared is None:
            return PER_IMAGE
        return hashlib.sha256(f"{self.shared.shape}".encode() + np.packbits(self.shared).tobytes()).hexdigest()[:16]

    def of(self, source: str, size: tuple[int, int]) -> NDArray[np.bool_] | None:
        """The mask [height, width] of this image, None where a folder has none; ImageError where its size is another."""
        path, mask = self.path, self.shared
        if mask is None:
            found = self.by_stem.get(PurePosixPath(source).stem)
            if found is None:
                return None
            path, mask = found, read_mask(found).above(None)
        if mask.shape != (size[1], size[0]):
            there, here = f"{mask.shape[1]} x {mask.shape[0]}", f"{size[0]} x {size[1]}"
            raise ImageError(source, f"its mask {path} is {there} pixels, but the image is {here}")
        return mask


@dataclass(frozen=True)
class Masks:
    """The pixels that count: inside of `roi`, where that is given, and outside of `ignore`."""

    roi: MaskFiles | None = None
    ignore: MaskFiles | None = None

    @classmethod
    def open(cls, roi: str | Path | None, ignore: str | Path | None) -> Masks | None:
        """MaskFiles from files (one for all images) or folders (one an image, by its name); None where neither is given."""
        if roi is None and ignore is None:
            return None
        return cls(
            None if roi is None else MaskFiles.open(roi, option="roi"),
            None if ignore is None else MaskFiles.open(ignore, option="ignore"),
        )

    @classmethod
    def of_pixels(cls, roi: NDArray[np.bool_] | None, ignore: NDArray[np.bool_] | None, *, path: Path) -> Masks | None:
        """Masks [height, width] for all images, which errors say come from `path`; None where neither is given."""
        if roi is None and ignore is None:
            return None
        return cls(
            None if roi is None else MaskFiles(path, roi, {}), None if ignore is None else MaskFiles(path, ignore, {})
        )

    def inside(self, source: str, size: tuple[int, int]) -> NDArray[np.bool_]:
        """Which pixels [height, width] of this image count. ImageError where a mask is of another size, a folder of regions of
        interest has none for it, or nothing is left; without a mask to ignore, nothing is ignored."""
        inside = np.ones((size[1], size[0]), bool)
        if self.roi is not None:
            roi = self.roi.of(source, size)
            if roi is None:
                raise ImageError(source, f"{self.roi.path} holds no region of interest of this name")
            inside &= roi
        ignored = None if self.ignore is None else self.ignore.of(source, size)
        if ignored is not None:
            inside &= ~ignored
        if not inside.any():
            raise ImageError(source, "no pixel of it counts (region of interest and ignore masks leave nothing)")
        return inside
