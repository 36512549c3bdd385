"""Thresholds for one's own images: from good ones with a promise, from others without (docs/calibration.md)."""

from __future__ import annotations

from blemish.calibration.file import Calibration, calibrate, read_calibration
from blemish.calibration.rules import Lines, Rule, Scored, draw_lines
from blemish.calibration.setup import Setup, vocabulary_hash

__all__ = [
    "Calibration",
    "Lines",
    "Rule",
    "Scored",
    "Setup",
    "calibrate",
    "draw_lines",
    "read_calibration",
    "vocabulary_hash",
]
