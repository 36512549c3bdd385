"""What turns images into scores. Inspection, calibration, runs and evaluation know `base` alone; each engine is one module."""

from __future__ import annotations

from blemish.engines.base import Engine, RawScores

__all__ = ["Engine", "RawScores"]
