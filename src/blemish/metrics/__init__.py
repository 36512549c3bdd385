"""Exact image-level and streaming pixel-level metrics. A missing class is an error with its name, never a NaN."""

from blemish.metrics.ranking import PixelRanking, auroc, bootstrap_auroc

__all__ = ["PixelRanking", "auroc", "bootstrap_auroc"]
