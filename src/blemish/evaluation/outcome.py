"""What an evaluation found, and the mean and spread over several checkpoints."""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.data import DataSet
from blemish.errors import UsageError
from blemish.evaluation.candidates import Candidate
from blemish.evaluation.finding import describe
from blemish.evaluation.published import Published, published
from blemish.evaluation.ranks import Curve, curves_of, image_steps
from blemish.evaluation.running import EvaluationRun
from blemish.evaluation.settings import LEGACY_METRIC, EvaluationSettings
from blemish.io.progress import Reporter
from blemish.metrics import METRICS, AnomalyAccumulator, Report, Row, Value, mean
from blemish.metrics.values import undefined

__all__ = ["Evaluation", "Group", "Spread", "evaluate_candidate", "grouped"]

PIXEL_METRICS = tuple(name for name in METRICS if not name.startswith("image_"))


@dataclass(frozen=True)
class Evaluation:
    """One model on one data set. model, data and settings as plain data; report of anomalies, pixel_types and image_types of the
    types where they were asked for; records one for each image, unreadable ones with "error"; confusion of the image types
    (names, images by true type and highest score). curves by "image NAME" or "pixel NAME" of the product, then by kind."""

    model: Mapping[str, Any]
    data: Mapping[str, Any]
    settings: Mapping[str, Any]
    report: Report
    records: tuple[Mapping[str, Any], ...]
    curves: Mapping[str, Mapping[str, Curve]]
    published: tuple[Published, ...]
    pixel_types: Report | None = None
    image_types: Report | None = None
    confusion: tuple[tuple[str, ...], NDArray[np.int64]] | None = None
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def unreadable(self) -> tuple[Mapping[str, Any], ...]:
        return tuple(record for record in self.records if "error" in record)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that this data set allows, whether or not they are defined."""
        known = (*METRICS, LEGACY_METRIC)
        return tuple(name for name in known if name in self.report.mean.values and self._allowed(name))

    def _allowed(self, metric: str) -> bool:
        level = self.data["level"]
        return level == "image+pixel" or metric.startswith("image_") == (level == "image")

    def to_dict(self) -> dict[str, Any]:
        return {
            "model": dict(self.model),
            "data": dict(self.data),
            "settings": dict(self.settings),
            "metrics": list(self.metrics),
            "report": self.report.to_dict(),
            "pixel_types": None if self.pixel_types is None else self.pixel_types.to_dict(),
            "image_types": None if self.image_types is None else self.image_types.to_dict(),
            "published": [row.to_dict() for row in self.published],
            "unreadable": [dict(record) for record in self.unreadable],
            "notes": list(self.notes),
            "seconds": self.seconds,
        }


@dataclass(frozen=True)
class Spread:
    """A metric over several checkpoints: its values in their order, their mean and sample standard deviation (None for one)."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def deviation(self) -> float | None:
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    def to_dict(self) -> dict[str, Any]:
        return {"mean": self.mean, "deviation": self.deviation, "values": list(self.values)}


@dataclass(frozen=True)
class Group:
    """The evaluations of one method on one backbone and data set, which differ in their prompts."""

    members: tuple[Evaluation, ...]

    @property
    def first(self) -> Evaluation:
        return self.members[0]

    def spread(self, metric: str, *, row: str | None = None) -> Spread | Value:
        """A metric of the mean row, or of a product's, over the checkpoints; the undefined value where one of them has none."""
        values = [self._row(one, row).values[metric] for one in self.members]
        lacking = [value for value in values if not value.defined]
        return lacking[0] if lacking else Spread(tuple(float(value) for value in values))

    @staticmethod
    def _row(one: Evaluation, row: str | None) -> Row:
        return one.report.mean if row is None else next(p.row for p in one.report.products if p.row.name == row)

    def to_dict(self) -> dict[str, Any]:
        spreads = {name: self.spread(name) for name in self.first.metrics}
        return {
            "data": self.first.data["name"],
            "variant": self.first.data["variant"],
            "backbone": self.first.model["backbone"],
            "method": self.first.model["method"],
            "prompts": [one.model["prompts"] for one in self.members],
            "checkpoints": len(self.members),
            "mean": {name: found.to_dict() for name, found in spreads.items()},
        }


def grouped(evaluations: Sequence[Evaluation]) -> list[Group]:
    """Evaluations that differ in nothing but their prompts, together, in their order."""
    found: dict[str, list[Evaluation]] = {}
    for one in evaluations:
        key = repr([one.data["name"], one.data["list_digest"], one.model["backbone_fingerprint"], one.model["method"]])
        key += repr([one.model["options"], one.settings["size"], one.settings["defects"], one.model["trained_on"]])
        found.setdefault(key, []).append(one)
    return [Group(tuple(members)) for members in found.values()]


def evaluate_candidate(
    candidate: Candidate,
    data: DataSet,
    *,
    out: str | Path,
    settings: EvaluationSettings | None = None,
    reporter: Reporter | None = None,
) -> tuple[Evaluation, EvaluationRun]:
    """Measures a candidate on a data set, going on where the same evaluation was stopped below `out`.

    UsageError: no images, none that can be read. The run can look at images again, for pictures.
    """
    settings, reporter = settings or EvaluationSettings(), reporter or Reporter()
    run = EvaluationRun(candidate, data, out=Path(out), settings=settings, reporter=reporter)
    counts = run.count()
    records = tuple(run.folder.records())
    if len(counts.anomaly) == 0:
        _raise_unreadable(data, records)
    report = counts.anomaly.report(limit=settings.limit)
    if run.no_pixels:
        report = _restated(report, dict.fromkeys(PIXEL_METRICS, undefined(run.no_pixels)))
    if settings.legacy and not run.no_pixels:
        report = _with_legacy(report, run.legacy(counts.anomaly))
    image_types = counts.image_types if counts.image_types is not None and len(counts.image_types) else None
    pixel_types = counts.pixel_types if counts.pixel_types is not None and len(counts.pixel_types) else None
    found = Evaluation(
        model=candidate.to_dict(),
        data=describe(data) | {"content_digest": _content(records)},
        settings=settings.to_dict(),
        report=report,
        records=records,
        curves=_curves(counts.anomaly, records, limit=settings.limit),
        published=published(candidate.name, data.name),
        pixel_types=None if pixel_types is None else pixel_types.report(),
        image_types=None if image_types is None else image_types.report(),
        confusion=None if image_types is None else image_types.confusion(),
        notes=(*candidate.notes, *data.notes, *_notes(run, records), *_vanished(report)),
        seconds=run.folder.progress().seconds,
    )
    return found, run


def _raise_unreadable(data: DataSet, records: Sequence[Mapping[str, Any]]) -> None:
    first = records[0]["error"] if records else "no images"
    raise UsageError(f"{data.name}: none of {len(data.samples)} images can be used; the first: {first}")


def _notes(run: EvaluationRun, records: Sequence[Mapping[str, Any]]) -> list[str]:
    found = []
    if unreadable := sum("error" in record for record in records):
        found.append(f"{unreadable} of {len(records)} images cannot be read or paired and are in no number")
    found += run.engines.notes()
    if run.no_pixels:
        found.append(run.no_pixels)
    if run.typing is not None:
        left_out = sum("typing" in record for record in records)
        if not run.typing.types:
            found.append("no image names its defect type: there are no types to tell apart")
        elif left_out:
            found.append(
                f"{left_out} anomalous images show several types or an unnamed one; the types' metrics leave them out"
            )
    return found


def _vanished(report: Report) -> list[str]:
    found = [name for product in report.products for name in product.vanished]
    if not found:
        return []
    return [
        f"{len(found)} anomalous images have a mask without a pixel: their pixels count as normal (the first: {found[0]})"
    ]


def _content(records: Sequence[Mapping[str, Any]]) -> str:
    """16 hex digits that change with the bytes of any image."""
    digest = hashlib.sha256("".join(str(record.get("digest", "")) for record in records).encode())
    return digest.hexdigest()[:16]


def _curves(
    accumulator: AnomalyAccumulator, records: Sequence[Mapping[str, Any]], *, limit: float
) -> dict[str, Mapping[str, Curve]]:
    found: dict[str, Mapping[str, Curve]] = {}
    for product in accumulator.products:
        own = [record for record in records if record["product"] == product and "error" not in record]
        steps = image_steps([one["image_score"] for one in own], [one["anomalous"] for one in own])
        pixels = accumulator.steps(product)
        found[f"image {product}"] = curves_of(steps, limit=limit)
        found[f"pixel {product}"] = {} if pixels is None else curves_of(pixels, limit=limit)
    return {name: curves for name, curves in found.items() if curves}


def _restated(report: Report, values: Mapping[str, Value]) -> Report:
    """The report with these values in every row."""

    def restate(row: Row) -> Row:
        return replace(row, values={**row.values, **{name: values[name] for name in values if name in row.values}})

    products = tuple(
        replace(one, row=restate(one.row), types=tuple(map(restate, one.types)), sizes=tuple(map(restate, one.sizes)))
        for one in report.products
    )
    return replace(
        report,
        products=products,
        mean=restate(report.mean),
        types=tuple(map(restate, report.types)),
        sizes=tuple(map(restate, report.sizes)),
    )


def _with_legacy(report: Report, values: Mapping[str, Value]) -> Report:
    """The report with the papers' AUPRO in the rows of the products and of their mean."""
    lacking = undefined("there are no masks")
    own = {one.row.name: values.get(one.row.name, lacking) for one in report.products}
    products = tuple(
        replace(one, row=replace(one.row, values={**one.row.values, LEGACY_METRIC: own[one.row.name]}))
        for one in report.products
    )
    total = replace(report.mean, values={**report.mean.values, LEGACY_METRIC: mean(own)})
    return replace(report, products=products, mean=total)
