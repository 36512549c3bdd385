"""The one boundary at which whatever a decoding library raises becomes an ImageError."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from blemish.errors import ImageError, UsageError
from blemish.io.atomic import reason

__all__ = ["NO_MEMORY", "decoding", "one_line"]

NO_MEMORY = "does not fit into memory"
DECODERS = r"(PIL|pydicom|tifffile|pillow_heif)\."  # modules
LOGGERS = ("tifffile", "pydicom")
LONGEST = 300  # characters of a library's message that are worth repeating


@contextmanager
def decoding(source: str) -> Iterator[None]:
    """Within this block every exception becomes an ImageError of `source`.

    Libraries raise what they like on damaged data, and some of their exceptions are no `Exception` (a panic of Rust code).
    Only what ends the program on purpose passes, and the errors that Blemish raised itself. Their warnings of damage are not
    shown: a file is read or is an error, and each is one line.
    """
    _silence_decoders()
    try:
        yield
    except (ImageError, UsageError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except MemoryError as error:
        raise ImageError(source, NO_MEMORY) from error
    except OSError as error:
        if error.errno is None:  # Pillow's way to say that data is damaged
            raise ImageError(source, f"cannot be decoded ({one_line(error)})") from error
        raise ImageError(source, f"cannot be read ({reason(error)})") from error  # a drive may fail in the middle
    except BaseException as error:
        raise ImageError(source, f"cannot be decoded ({one_line(error)})") from error


def _silence_decoders() -> None:
    """Keeps the warnings and log lines of decoding libraries from the terminal, in this process, unless logging is set up."""
    if not any(getattr(item[3], "pattern", None) == DECODERS for item in warnings.filters):
        warnings.filterwarnings("ignore", module=DECODERS)
    for name in LOGGERS:
        logger = logging.getLogger(name)
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())


def one_line(error: BaseException) -> str:
    """The message of an exception on one line, or its type where it says nothing."""
    try:
        text = " ".join(str(error).split())
    except Exception:  # an exception of a library may fail to describe itself
        text = ""
    return (text[:LONGEST] + "…" if len(text) > LONGEST else text) or type(error).__name__
