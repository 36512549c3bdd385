"""Options that several commands share, and how their text is read. Imports nothing heavy."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any

import typer

from blemish.errors import UsageError
from blemish.io.text import read_text

__all__ = [
    "Backbone",
    "BatchSize",
    "Defects",
    "Device",
    "Force",
    "Ignore",
    "InputPx",
    "Megapixels",
    "Method",
    "MinArea",
    "MmPerPx",
    "Peers",
    "Product",
    "Prompts",
    "Quiet",
    "Range",
    "Roi",
    "Settings",
    "Tiles",
    "VocabularyFile",
    "parse_range",
    "parse_settings",
    "parse_share",
    "read_list",
]

Defects = Annotated[
    str | None, typer.Option(help='Defect types to tell apart: "scratch, hole". Default: the built-in list.')
]
VocabularyFile = Annotated[
    Path | None,
    typer.Option("--vocabulary", help="TOML file of defect types, their words and products, instead of --defects."),
]
Product = Annotated[str | None, typer.Option(help="The product of --vocabulary whose types these are.")]
Method = Annotated[str | None, typer.Option(help="Method. Default: the backbone's own.")]
Backbone = Annotated[str, typer.Option(help="Backbone: a name or a path.")]
Prompts = Annotated[
    str | None, typer.Option(help="Trained prompts: a name or a path. Default: those that ship for the backbone.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="OPTION=VALUE", help="An option of the method, as in --set smoothing=0.5."),
]
Force = Annotated[
    bool, typer.Option("--force", help="Use prompts with another backbone or option than they were trained with.")
]
Range = Annotated[
    str | None,
    typer.Option(
        "--range", metavar="LOW:HIGH", help="Black and white of images with more than 8 bits: values, or 1%:99%."
    ),
]
Megapixels = Annotated[float, typer.Option(help="Largest image that is decoded.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps.")]
BatchSize = Annotated[int, typer.Option(help="Images that the model sees at once.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no summary.")]
Tiles = Annotated[
    str | None,
    typer.Option(help="Large images in overlapping tiles, too: auto, off, or a side in pixels. Default: off."),
]
InputPx = Annotated[
    int | None,
    typer.Option(
        "--input-px", metavar="PIXELS", help="Side that images are resized to, as 448. Default: the backbone's own."
    ),
]
Peers = Annotated[
    str | None,
    typer.Option(
        metavar="PATH",
        help="Compare with these images of the same product, unlabelled, most of them good: a folder or a pattern.",
    ),
]
Roi = Annotated[
    Path | None,
    typer.Option(
        help="Mask of the pixels that count: a file for all images, or a folder with one of each image's name."
    ),
]
Ignore = Annotated[Path | None, typer.Option(help="Mask of pixels that do not count, as --roi.")]
MinArea = Annotated[
    float | None,
    typer.Option(metavar="PIXELS", help="Smallest region that is listed. Default: a quarter of the model's patch."),
]
MmPerPx = Annotated[float | None, typer.Option(metavar="MM", help="Side of a pixel, for regions in millimetres.")]


def parse_range(text: str | None) -> tuple[float | str, float | str] | None:
    """LOW:HIGH as two values, of which "1%" stays text, as the reader of images takes it; None stays."""
    if text is None:
        return None
    try:
        low, high = (end.strip() for end in text.split(":"))
        return _range_end(low), _range_end(high)
    except ValueError as error:
        raise UsageError(
            f"--range takes two numbers or percentiles, LOW:HIGH as in 0:4095 or 1%:99%, not {text!r}"
        ) from error


def _range_end(text: str) -> float | str:
    value = float(text.removesuffix("%"))
    return text if text.endswith("%") else value


def parse_share(text: str, *, option: str) -> float:
    """A share above 0 and below 1, from "1%" or "0.01"."""
    number, percent, rest = text.strip().partition("%")
    try:
        share = Decimal(number.strip()) / (100 if percent else 1)
    except InvalidOperation:
        share = Decimal(-1)
    if rest.strip() or not 0 < share < 1:
        raise UsageError(f"{option} takes a share such as 1% or 0.01, not {text!r}")
    return float(share)


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Options from KEY=VALUE lines; a value is TOML (3, 0.5, true, [2, 9], "words"), and a bare word is text."""
    options: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        key = key.strip()
        if not equals or not key:
            raise UsageError(f"--set takes KEY=VALUE, as in patches=30, not {setting!r}")
        if key in options:
            raise UsageError(f"--set gives {key} twice")
        try:
            parsed = tomllib.loads(f"value = {value}")
        except tomllib.TOMLDecodeError:
            parsed = {"value": value.strip()}
        options[key] = parsed["value"] if len(parsed) == 1 else value
    return options


def read_list(path: Path) -> list[str]:
    """The lines of a text file that are neither empty nor begin with #; UsageError where there are none."""
    lines = read_text(path.expanduser(), of_names=True)[0].splitlines()
    named = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not named:
        raise UsageError(f"{path}: the list names no image")
    return named
