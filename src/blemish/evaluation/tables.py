"""How results are written for people: in percent, the interval or the spread beside it, and words where there is no number."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from blemish.evaluation.finding import products_of
from blemish.evaluation.outcome import Evaluation, Group, Spread
from blemish.evaluation.published import Published
from blemish.evaluation.settings import LEGACY_METRIC
from blemish.metrics import Report, Row, Value

__all__ = [
    "TITLES",
    "Provenance",
    "Table",
    "cell",
    "overview",
    "parts_of",
    "published_table",
    "title_of",
    "typed_overview",
    "types_table",
]

TITLES = {
    "image_auroc": "image AUROC",
    "image_ap": "image AP",
    "image_f1_max": "image F1-max",
    "pixel_auroc": "pixel AUROC",
    "pixel_ap": "pixel AP",
    "pixel_f1_max": "pixel F1-max",
    "aupro": "AUPRO",
    "aupimo": "AUPIMO",
    LEGACY_METRIC: "AUPRO, 200 steps",
}
TYPE_TITLES = {"auroc": "AUROC", "ap": "AP", "f1": "F1", "chance": "by chance", "commonest": "always the commonest"}
AVERAGED = re.compile(r"there is nothing to average \((.*)\)$", re.DOTALL)
NOT_DEFINED = "not defined"


@dataclass(frozen=True)
class Provenance:
    """How results came about: the command, the programs' versions, the commit, the time of writing, who could not be found."""

    command: str
    versions: Mapping[str, str]
    commit: str | None
    written: str
    missing: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "versions": dict(self.versions), "missing": list(self.missing)}


@dataclass(frozen=True)
class Table:
    """A table of text: a title, its header, its rows, and lines to stand under it. The first `words` columns are no numbers."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    words: int = field(default=1)


def title_of(metric: str) -> str:
    return TITLES.get(metric) or TYPE_TITLES.get(metric) or metric.replace("_", " ")


def cell(value: Value | Spread) -> str:
    """A value in percent: "82.8 (79.9–85.5)", "82.8 ± 0.4" over checkpoints, or "not defined"."""
    if isinstance(value, Spread):
        spread = "" if value.deviation is None else f" ± {100 * value.deviation:.1f}"
        return f"{100 * value.mean:.1f}{spread}"
    if value.value is None:
        return NOT_DEFINED
    interval = f" ({100 * value.interval[0]:.1f}–{100 * value.interval[1]:.1f})" if value.interval else ""
    return f"{100 * value.value:.1f}{interval}"


def overview(groups: Sequence[Group]) -> Table:
    """A row for each group, with its means over products; the reasons of what is not defined stand under the table."""
    metrics = [name for name in TITLES if any(name in group.first.metrics for group in groups)]
    rows: list[tuple[str, ...]] = []
    reasons: dict[str, None] = {}
    several = len({group.first.model["backbone"] for group in groups}) > 1
    for group in groups:
        found = group.first
        products = len(found.report.products)
        name = str(found.data["name"]) + (f" ({products} products)" if products > 1 else "")
        method = str(found.model["method"]) + (f" ({len(group.members)} checkpoints)" if len(group.members) > 1 else "")
        cells = []
        for metric in metrics:
            if metric not in found.metrics:
                cells.append("–")
                continue
            spread = group.spread(metric) if len(group.members) > 1 else found.report.mean.values[metric]
            cells.append(cell(spread))
            if isinstance(spread, Value) and not spread.defined:
                reasons[f"{found.data['name']}, {title_of(metric)}: {_short(spread.reason)}"] = None
        counts = f"{found.data['normal']} / {found.data['anomalous']}"
        backbone = (str(found.model["backbone"]),) if several else ()
        rows.append((name, *backbone, method, counts, *cells))
    header = ("data set", *(("backbone",) if several else ()), "method", "normal / anomalous", *map(title_of, metrics))
    words = (
        "means over products"
        if several or not groups
        else f"means over products, on {groups[0].first.model['backbone']}"
    )
    return Table(words, header, tuple(rows), tuple(reasons), words=2 + several)


def parts_of(evaluation: Evaluation) -> Iterator[Table]:
    """The products, the defect types and the sizes of defects of one evaluation, where there are several or any."""
    report = evaluation.report
    if len(report.products) > 1:
        yield _rows("products", [one.row for one in report.products] + [report.mean], evaluation.metrics)
    named = [row for row in report.types if row.name]
    if named:
        shown = [*named, *(row for row in report.types if not row.name)]
        yield _rows("defect types, each against the normal images", shown, evaluation.metrics)
    if report.sizes:
        pixel = tuple(name for name in evaluation.metrics if name in report.sizes[0].values)
        yield _rows("sizes of defects, in percent of the image, against all normal pixels", report.sizes, pixel)


def _rows(title: str, rows: Sequence[Row], metrics: Sequence[str]) -> Table:
    """The rows under each other; a metric that none of them has becomes a line under the table."""
    reasons: dict[str, None] = {}
    kept = []
    for metric in metrics:
        values = [row.values[metric] for row in rows if metric in row.values]
        if any(value.defined for value in values):
            kept.append(metric)
        elif values:
            reasons[f"{title_of(metric)} is {NOT_DEFINED} here: {_short(values[0].reason)}"] = None
    counts = {"normal": "normal_images", "anomalous": "anomalous_images", "regions": "regions"}
    counts = {words: name for words, name in counts.items() if any(getattr(row, name) for row in rows)}
    lines: list[tuple[str, ...]] = []
    for row in rows:
        name = row.name or "(unnamed)"
        found = {metric: row.values[metric] for metric in kept if metric in row.values}
        cells = [cell(found[metric]) if metric in found else "–" for metric in kept]
        lines.append((name, *(str(getattr(row, count)) for count in counts.values()), *cells))
        for metric, value in found.items():
            if not value.defined:
                reasons[f"{name}, {title_of(metric)}: {_short(value.reason)}"] = None
            elif value.without:
                reasons[f"{name}, {title_of(metric)}: without {', '.join(value.without)}"] = None
    return Table(title, ("", *counts, *map(title_of, kept)), tuple(lines), tuple(reasons))


def types_table(report: Report, title: str) -> Table:
    """The products of a report on types, and their mean."""
    rows = [one.row for one in report.products]
    rows = [*rows, report.mean] if len(rows) > 1 else rows
    return _rows(title, rows, list(report.mean.values))


def typed_overview(groups: Sequence[Group]) -> Table | None:
    """What the types came to, a row for each evaluation that asked for them; None where none did."""
    reports = [
        (one, level, report)
        for group in groups
        for one in group.members
        for level, report in (("pixels", one.pixel_types), ("anomalous images", one.image_types))
        if report is not None
    ]
    metrics = list(dict.fromkeys(name for *_, report in reports for name in report.mean.values))
    rows = [
        (
            str(one.data["name"]),
            str(one.model["method"]),
            level,
            *(cell(report.mean.values[name]) if name in report.mean.values else "–" for name in metrics),
        )
        for one, level, report in reports
    ]
    header = ("data set", "method", "types of", *map(title_of, metrics))
    return Table("which type it is, means over products", header, tuple(rows), words=3) if rows else None


def published_table(rows: Sequence[Published], *, measured: int | None = None) -> Table:
    """Published rows, each with its source and quality; percent as printed.

    Args:
        rows: Rows of one data set.
        measured: Products that were measured here; a published mean over more of them is marked as one.
    """
    official = products_of(rows[0].dataset)
    title = "published"
    if measured is not None and official > measured:
        were = "was" if measured == 1 else "were"
        title = f"published, means over {official} products, of which {measured} {were} measured here"
    metrics = [name for name in TITLES if any(name in row.values for row in rows)]
    lines = tuple(
        (
            row.source + (f" ({row.note})" if row.note else ""),
            row.quality + (", derived" if row.derived else ""),
            row.trained_on or "not stated",
            *(f"{row.values[name]:.1f}" if name in row.values else "–" for name in metrics),
        )
        for row in rows
    )
    return Table(title, ("source", "quality", "trained on", *map(title_of, metrics)), lines, words=3)


def _short(why: str) -> str:
    """A reason without the words that means put around those of their parts."""
    while inner := AVERAGED.search(why):
        why = why[: inner.start()] + inner[1]
    return why if len(why) <= 240 else f"{why[:240]}…"
