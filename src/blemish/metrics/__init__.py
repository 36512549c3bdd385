"""Anomaly metrics: exact over small sets, streaming over any. An undefined one has a reason; none is ever NaN.

Exact, for image scores and as the oracle of the others: `auroc`, `average_precision`, `f1_max`, `aupro`, `aupimo`. Streaming, map
by map: `PixelRanking` for one product, `AnomalyAccumulator` for a test set. Which type it is: `PixelTypeAccumulator`,
`ImageTypeAccumulator`.
"""

from blemish.metrics.accumulator import AnomalyAccumulator
from blemish.metrics.exact import Aupimo, aupimo, aupro, auroc, average_precision, f1_max, image_metrics
from blemish.metrics.legacy import SteppedAupro
from blemish.metrics.pixels import PixelRanking
from blemish.metrics.report import METRICS, ProductReport, Report, Row
from blemish.metrics.typed import PixelTypeAccumulator
from blemish.metrics.typed_images import ImageTypeAccumulator
from blemish.metrics.values import Value, mean

__all__ = [
    "METRICS",
    "AnomalyAccumulator",
    "Aupimo",
    "ImageTypeAccumulator",
    "PixelRanking",
    "PixelTypeAccumulator",
    "ProductReport",
    "Report",
    "Row",
    "SteppedAupro",
    "Value",
    "aupimo",
    "aupro",
    "auroc",
    "average_precision",
    "f1_max",
    "image_metrics",
    "mean",
]
