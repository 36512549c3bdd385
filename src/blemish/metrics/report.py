"""What an accumulator reports: rows of named values, per product, per defect type, per size, and their means."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from blemish.metrics.values import Value, mean, undefined

__all__ = ["METRICS", "ProductReport", "Report", "Row", "mean_row", "report_of"]

METRICS = (
    "image_auroc",
    "image_ap",
    "image_f1_max",
    "pixel_auroc",
    "pixel_ap",
    "pixel_f1_max",
    "aupro",
    "aupimo",
)  # the columns of every row of anomaly metrics


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    name: str  # of a product, a defect type or a size class
    normal_images: int  # this and the next two are sums where the row is a mean
    anomalous_images: int
    regions: int
    values: Mapping[str, Value]  # by metric

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "normal_images": self.normal_images,
            "anomalous_images": self.anomalous_images,
            "regions": self.regions,
            "values": {name: value.to_dict() for name, value in self.values.items()},
        }


@dataclass(frozen=True)
class ProductReport:
    """One product."""

    row: Row  # all of it
    types: tuple[Row, ...] = ()  # each defect type against the normal images
    sizes: tuple[Row, ...] = ()  # each size of regions against all normal pixels
    vanished: tuple[str, ...] = ()  # anomalous images with an empty mask: small defects vanish when masks are shrunk

    def to_dict(self) -> dict[str, Any]:
        return {
            **self.row.to_dict(),
            "types": [row.to_dict() for row in self.types],
            "sizes": [row.to_dict() for row in self.sizes],
            "vanished": list(self.vanished),
        }


@dataclass(frozen=True)
class Report:
    """Every product and the means. `mean` is over products; a row of `types` or `sizes` over the products that have it."""

    products: tuple[ProductReport, ...]
    mean: Row
    types: tuple[Row, ...] = ()
    sizes: tuple[Row, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {
            "settings": dict(self.settings),
            "mean": self.mean.to_dict(),
            "types": [row.to_dict() for row in self.types],
            "sizes": [row.to_dict() for row in self.sizes],
            "products": [product.to_dict() for product in self.products],
        }


def report_of(
    products: Iterable[ProductReport],
    *,
    settings: Mapping[str, Any],
    type_names: Iterable[str],
    size_names: Iterable[str] = (),
    confidence: float = 0.95,
) -> Report:
    """The report of some products, with the means over them; those of types and sizes in the order of the given names."""
    products = tuple(products)

    def means(names: Iterable[str], rows_of: Callable[[ProductReport], Iterable[Row]]) -> tuple[Row, ...]:
        by_name: dict[str, dict[str, Row]] = {}
        for product in products:
            for row in rows_of(product):
                by_name.setdefault(row.name, {})[product.row.name] = row
        return tuple(mean_row(name, by_name[name]) for name in names if name in by_name)

    return Report(
        products=products,
        mean=mean_row("mean", {product.row.name: product.row for product in products}, confidence=confidence),
        types=means(type_names, lambda product: product.types),
        sizes=means(size_names, lambda product: product.sizes),
        settings=settings,
    )


def mean_row(name: str, rows: Mapping[str, Row], *, confidence: float = 0.95) -> Row:
    """The mean of rows, by the name of each; every value says which of them it leaves out."""
    metrics = list(dict.fromkeys(metric for row in rows.values() for metric in row.values))
    return Row(
        name=name,
        normal_images=sum(row.normal_images for row in rows.values()),
        anomalous_images=sum(row.anomalous_images for row in rows.values()),
        regions=sum(row.regions for row in rows.values()),
        values={
            metric: mean(
                {key: row.values.get(metric, undefined("it was not measured")) for key, row in rows.items()},
                confidence=confidence,
            )
            for metric in metrics
        },
    )
