"""Frames of DICOM that pydicom alone cannot decode, through imagecodecs: lossless JPEG, JPEG of 12 bits, JPEG-LS.

pydicom takes this module as a plug-in, hence its names (pydicom's guide to decoder plug-ins).
"""

from __future__ import annotations

import threading
from importlib.util import find_spec
from typing import Any

import numpy as np

__all__ = ["DECODER_DEPENDENCIES", "decode_frame", "is_available", "offer"]

LABEL = "blemish"
EXTENDED, LOSSLESS, LOSSLESS_FIRST = "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"
LS_LOSSLESS, LS_NEAR = "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"
DECODER_DEPENDENCIES = dict.fromkeys((EXTENDED, LOSSLESS, LOSSLESS_FIRST, LS_LOSSLESS, LS_NEAR), ("imagecodecs",))
_lock = threading.Lock()


def is_available(uid: str) -> bool:
    """Whether frames of this transfer syntax can be decoded."""
    return uid in DECODER_DEPENDENCIES and find_spec("imagecodecs") is not None


def offer(uid: str) -> bool:
    """Makes pydicom use this module for a transfer syntax, where it can help; whether it can."""
    if not is_available(uid):
        return False
    from pydicom.pixels.decoders.base import get_decoder

    with _lock:
        decoder = get_decoder(uid)
        if LABEL not in decoder.available_plugins:
            decoder.add_plugin(LABEL, (__name__, "decode_frame"))
    return True


def decode_frame(source: bytes, runner: Any) -> bytes:
    """The samples of one frame as pydicom wants them: colour by pixel, low byte first."""
    import imagecodecs

    syntax = str(runner.transfer_syntax)
    if syntax in (LS_LOSSLESS, LS_NEAR):
        values = imagecodecs.jpegls_decode(source)
    elif syntax == EXTENDED:
        values = imagecodecs.jpeg_decode(source, bitspersample=runner.bits_stored)
    else:
        values = imagecodecs.jpegsof3_decode(source)
    if values.ndim == 3:
        runner.set_option("planar_configuration", 0)
    return np.ascontiguousarray(values, f"<u{runner.bits_allocated // 8}").tobytes()
