"""Text of the command line, and of lists in files, as values."""

from __future__ import annotations

import tomllib
from collections.abc import Collection
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from blemish.errors import UsageError
from blemish.io.text import read_text

__all__ = ["parse_options", "parse_range", "parse_share", "read_list"]


def parse_range(text: str) -> tuple[float | str, float | str]:
    """LOW:HIGH as two values, of which percentiles stay text, as the reader of images takes them.

    Example:
        >>> parse_range("0:4095"), parse_range("1%:99%")
        ((0.0, 4095.0), ('1%', '99%'))
    """

    def end(part: str) -> float | str:
        value = float(part.removesuffix("%"))
        return part if part.endswith("%") else value

    try:
        low, high = (end(part.strip()) for part in text.split(":"))
    except ValueError as error:
        raise UsageError(
            f"--range takes two numbers or percentiles, LOW:HIGH as in 0:4095 or 1%:99%, not {text!r}"
        ) from error
    return low, high


def parse_options(texts: Collection[str]) -> dict[str, Any]:
    """Options of a method from KEY=VALUE texts; a value is TOML (3, 0.5, true, [2, 9], "words"), and a bare word is text.

    Example:
        >>> parse_options(["smoothing=0.5", "selection=released"])
        {'smoothing': 0.5, 'selection': 'released'}
    """
    options: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        key = key.strip()
        if not equals or not key:
            raise UsageError(f"--set takes KEY=VALUE, as in patches=30, not {text!r}")
        if key in options:
            raise UsageError(f"--set gives {key} twice")
        try:
            parsed = tomllib.loads(f"value = {value}")
        except tomllib.TOMLDecodeError:
            parsed = {"value": value.strip()}
        options[key] = parsed["value"] if len(parsed) == 1 else value
    return options


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


def read_list(path: Path) -> list[str]:
    """The lines of a text file that are neither empty nor begin with #; UsageError where there are none."""
    lines = read_text(path.expanduser(), of_names=True)[0].splitlines()
    named = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not named:
        raise UsageError(f"{path}: the list names no image")
    return named
