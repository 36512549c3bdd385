"""Whatever a library raises while a file is read becomes an ImageError, at one place."""

from __future__ import annotations

import builtins
import contextlib
import importlib
import inspect
import io
import lzma
import pkgutil
import struct
import warnings
import zlib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from blemish import images
from blemish.errors import BlemishError, ImageError
from blemish.images import reader
from blemish.images.boundary import decoding
from blemish.images.opened import OpenedImage

LIBRARIES = ("PIL", "tifffile", "pydicom", "imagecodecs", "pillow_heif", "numpy")
SKIPPED = (
    "tests",
    "testing",
    "_pyinstaller",
    "f2py",
    "distutils",
    "ImageTk",
    "ImageQt",
    "ImageShow",
    "fixes",
    "__main__",
)
ENDS_THE_PROGRAM = (KeyboardInterrupt, SystemExit, GeneratorExit)


def modules_of(name: str) -> list[ModuleType]:
    """A library and the modules in it that can be imported."""
    library = importlib.import_module(name)
    found = [library]
    for info in pkgutil.walk_packages(getattr(library, "__path__", []), f"{name}.", onerror=lambda _: None):
        if not any(part in SKIPPED for part in info.name.split(".")):
            try:
                found.append(importlib.import_module(info.name))
            except BaseException:  # needs another library
                continue
    return found


def exceptions() -> list[type[BaseException]]:
    """Every exception class that the decoding libraries define, and Python's own."""
    modules = [module for name in LIBRARIES for module in modules_of(name)]
    modules += [builtins, struct, zlib, lzma]
    found = {
        value
        for module in modules
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, BaseException)
    }
    kept = (kind for kind in found if not issubclass(kind, (*ENDS_THE_PROGRAM, BlemishError)))
    return sorted(kept, key=lambda kind: (kind.__module__, kind.__qualname__))


def made(kind: type[BaseException]) -> BaseException:
    """One of that class, however many arguments it wants."""
    for arguments in (
        ("damaged\nbeyond repair",),
        (),
        ("utf-8", b"x", 0, 1, "damaged"),
        ("damaged", [ValueError("x")]),
    ):
        try:
            return kind(*arguments)
        except Exception:
            continue
    return kind.__new__(kind)


@pytest.fixture(scope="module")
def kinds() -> list[type[BaseException]]:
    with warnings.catch_warnings(action="ignore"):
        return exceptions()


def test_every_exception_of_every_library_becomes_an_image_error(kinds: list[type[BaseException]]) -> None:
    assert len(kinds) > 100
    for kind in kinds:
        with pytest.raises(ImageError) as caught, decoding("a.png"):
            raise made(kind)
        assert "\n" not in str(caught.value)
        assert caught.value.source == "a.png"


def test_so_it_does_at_every_step_of_every_reader(
    kinds: list[type[BaseException]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = images.save(Image.new("L", (4, 3)), tmp_path / "a.png")
    chosen = [kind for kind in kinds if not issubclass(kind, Warning)][::7]
    for kind in chosen:

        def fail(*_: object, error: type[BaseException] = kind, **__: object) -> Any:
            raise made(error)

        monkeypatch.setattr(reader, "_open_kind", fail)
        assert images.read_header(path) == images.Header(0, 0, False)
        for read in (images.read, images.decode, images.read_mask, images.read_size):
            with pytest.raises(ImageError):
                read(path)
        opened = OpenedImage(
            source="a", width_px=4, height_px=3, is_deep=False, file_bytes=99, samples=fail, mask=fail, is_turned=fail
        )
        monkeypatch.setattr(reader, "_open_kind", lambda *_, found=opened: found)
        for read in (images.read, images.decode, images.read_mask, images.read_size):
            with pytest.raises(ImageError):
                read(path)


@pytest.mark.parametrize("suffix", [".tif", ".dcm", ""])
def test_counting_pages_ends_in_one_page(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pydicom

    def fail(*_: object, **__: object) -> None:
        raise RecursionError

    monkeypatch.setattr(pydicom, "dcmread", fail)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(bytes(128) + b"DICM" + bytes(50) if suffix != ".tif" else b"II*\0\x08\0\0\0\xff\xff")
    assert images.list_images(path) == [path]


@pytest.mark.parametrize("kind", ENDS_THE_PROGRAM)
def test_what_ends_the_program_passes(kind: type[BaseException]) -> None:
    with pytest.raises(kind), decoding("a.png"):
        raise kind


def test_an_exception_that_cannot_be_printed_is_named_by_its_type() -> None:
    class BrokenError(Exception):
        def __str__(self) -> str:
            raise ValueError

    with pytest.raises(ImageError, match=r"cannot be decoded \(BrokenError\)"), decoding("a.png"):
        raise BrokenError
    with pytest.raises(ImageError, match=r"x{300}…"), decoding("a.png"):
        raise ValueError("x" * 5000)


def test_decoders_warn_of_nothing(capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder) -> None:
    stream = io.BytesIO()
    tifffile.imwrite(stream, np.zeros((9, 9, 3), np.uint16), photometric="rgb")
    data = bytearray(stream.getvalue())
    data[40:80] = bytes(range(40))
    for cut in (60, 90, 120, len(data)):
        with contextlib.suppress(ImageError):
            images.read(bytes(data[:cut]))
    odd = bytes(128) + b"DICM" + b"\x08\0\x16\0UI\x08\0not a ui" + b"\x28\0\x11\0US\x04\0\1\0\2\0"
    with pytest.raises(ImageError):
        images.read(odd)
    assert (capfd.readouterr().err, list(recwarn)) == ("", [])
