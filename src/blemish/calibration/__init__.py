"""Thresholds for one's own images: from good ones with a promise, from others without (docs/calibration.md)."""

from __future__ import annotations

from blemish.calibration.file import Calibration, calibrate_scores, calibration_from, read_calibration
from blemish.calibration.rules import CalibratedThresholds, Rule, Scored, find_thresholds
from blemish.calibration.setup import Setup, vocabulary_hash

__all__ = [
    "CalibratedThresholds",
    "Calibration",
    "Rule",
    "Scored",
    "Setup",
    "calibrate_scores",
    "calibration_from",
    "find_thresholds",
    "read_calibration",
    "vocabulary_hash",
]
