"""results.json and results.csv: everything that was measured, one line for each row of every report; and charts as files."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from blemish.evaluation.charts import confusion, standalone
from blemish.evaluation.outcome import Evaluation, Group, grouped
from blemish.evaluation.settings import LEGACY_METRIC
from blemish.evaluation.tables import Provenance
from blemish.io.atomic import write_text
from blemish.metrics import METRICS, Row

__all__ = ["CONFUSION_TITLE", "CSV_FILE", "JSON_FILE", "SCHEMA", "write_results"]

SCHEMA = "blemish.evaluation/1"
CONFUSION_TITLE = "which type images were given"
JSON_FILE, CSV_FILE = "results.json", "results.csv"
COLUMNS = ("data", "variant", "size", "backbone", "method", "prompts", "fingerprint", "scope", "product", "name")
COUNTS = ("normal_images", "anomalous_images", "regions")


def write_results(folder: Path, evaluations: Sequence[Evaluation], provenance: Provenance) -> list[Group]:
    """Puts both files into the folder; the groups that the evaluations make."""
    groups = grouped(evaluations)
    whole: dict[str, Any] = {
        "schema": SCHEMA,
        "unit": "fraction",
        **provenance.to_dict(),
        "groups": [group.to_dict() for group in groups],
        "evaluations": [one.to_dict() for one in evaluations],
    }
    write_text(folder / JSON_FILE, json.dumps(whole, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    text = io.StringIO()
    writer = csv.DictWriter(text, _header(), lineterminator="\n", restval="")
    writer.writeheader()
    for one in evaluations:
        writer.writerows(_lines(one))
    write_text(folder / CSV_FILE, text.getvalue())
    for one in evaluations:
        if one.confusion is not None and len(one.confusion[0]) > 1:
            of = f"{one.data['name']}, {one.model['method']} on {one.model['backbone']}"
            chart = confusion(CONFUSION_TITLE, *one.confusion, of=of)
            write_text(folder / _chart_name(one), standalone(chart))
    return groups


def _chart_name(one: Evaluation) -> str:
    """confusion-DATA-METHOD-FINGERPRINT.svg"""
    parts = (one.data["name"], one.model["method"], str(one.model["fingerprint"])[-8:])
    return f"confusion-{'-'.join(re.sub(r'[^A-Za-z0-9_.]+', '-', part) for part in parts)}.svg"


def _header() -> list[str]:
    metrics = (*METRICS, LEGACY_METRIC)
    return [*COLUMNS, *COUNTS, *(f"{name}{end}" for name in metrics for end in ("", "_low", "_high")), "not_defined"]


def _lines(one: Evaluation) -> Iterator[dict[str, Any]]:
    """A line for each row: scope is product, mean, type or size; means over products have no product."""
    base = {
        "data": one.data["name"],
        "variant": one.data["variant"],
        "size": one.settings["size"],
        **{name: one.model[name] for name in ("backbone", "method", "prompts", "fingerprint")},
    }
    report = one.report
    yield {**base, "scope": "mean", "name": "mean", **_cells(report.mean, one.metrics)}
    for scope, rows in (("type", report.types), ("size", report.sizes)):
        for row in rows:
            yield {**base, "scope": scope, "name": row.name, **_cells(row, one.metrics)}
    for product in report.products:
        own = {**base, "product": product.row.name}
        yield {**own, "scope": "product", "name": product.row.name, **_cells(product.row, one.metrics)}
        for scope, rows in (("type", product.types), ("size", product.sizes)):
            for row in rows:
                yield {**own, "scope": scope, "name": row.name, **_cells(row, one.metrics)}


def _cells(row: Row, metrics: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {name: getattr(row, name) for name in COUNTS}
    reasons = []
    for name in metrics:
        value = row.values.get(name)
        if value is None:
            continue
        if value.value is None:
            reasons.append(f"{name}: {value.reason}")
            continue
        found[name] = f"{value.value:.6f}"
        if value.interval is not None:
            found[f"{name}_low"], found[f"{name}_high"] = (f"{end:.6f}" for end in value.interval)
    return found | {"not_defined": "; ".join(reasons)}
