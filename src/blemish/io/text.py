"""Text files as programs of all systems write them."""

from __future__ import annotations

import codecs
import os
from pathlib import Path

from blemish.errors import UsageError
from blemish.io.atomic import reason

__all__ = ["read_text"]

MARKS = (  # the longer ones first: the mark of UTF-16 begins that of UTF-32
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
SHARE_OF_ZEROS = 0.3  # of the bytes: Latin text in UTF-16 has half


def read_text(path: Path, *, of_names: bool = False) -> tuple[str, str]:
    """The text of a file, and the name of its coding where that is not UTF-8 (else "").

    UTF-16 and UTF-32 are told by their marks, UTF-16 also by its zeros; what is not UTF-8 is read as Windows-1252, which holds
    Latin-1. In a list of names (`of_names`) such bytes stay as they are, where names of files are bytes.

    Raises:
        UsageError: the file cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({reason(error)})") from error
    for mark, coding in MARKS:
        if data.startswith(mark):
            try:
                return data.decode(coding), "" if coding.startswith("utf-8") else coding.upper()
            except UnicodeDecodeError as error:
                raise UsageError(f"{path}: begins as {coding.upper()} and is not") from error
    even, odd = data[0::2].count(0), data[1::2].count(0)
    if len(data) % 2 == 0 and max(even, odd) > SHARE_OF_ZEROS * len(data):
        coding = "utf-16-le" if odd > even else "utf-16-be"
        try:
            return data.decode(coding), "UTF-16"
        except UnicodeDecodeError:
            pass
    try:
        return data.decode("utf-8"), ""
    except UnicodeDecodeError:
        if of_names and os.name != "nt":
            return data.decode("utf-8", errors="surrogateescape"), "bytes"
        return data.decode("cp1252", errors="replace"), "Latin-1 (Windows-1252)"
