"""The page of an evaluation: one HTML file with everything in it, which needs neither a network nor a script."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from importlib import resources
from itertools import groupby
from pathlib import Path
from typing import Any

from blemish.evaluation.charts import COLOURS, confusion, histogram, lines
from blemish.evaluation.outcome import Evaluation, Group
from blemish.evaluation.pictures import Shown
from blemish.evaluation.tables import Provenance, Table, overview, parts_of, published_table, types_table
from blemish.evaluation.writing import CONFUSION_TITLE
from blemish.io.atomic import write_text

__all__ = ["PAGE_FILE", "write_page"]

PAGE_FILE = "report.html"
CURVES = {
    "roc": ("ROC", "false positive rate", "true positive rate"),
    "pr": ("precision and recall", "recall", "precision"),
}
MOST_CURVES = 15  # products in a chart


def write_page(
    folder: Path,
    groups: Sequence[Group],
    provenance: Provenance,
    *,
    pictures: Mapping[int, Sequence[Shown]] | None = None,
    title: str = "Evaluation",
    first: Sequence[Table] = (),
) -> Path:
    """Writes the page of these groups into the folder; its path. `pictures` by the number of the evaluation, counted over the
    groups; `first` are tables that stand before everything else."""
    style = (resources.files(__package__) / "page.css").read_text(encoding="utf-8")
    body = [f"<h1>{escape(title)}</h1>", _provenance(provenance), *map(_table, first), _table(overview(groups))]
    number = 0
    for group in groups:
        for one in group.members:
            body.append(_section(one, (pictures or {}).get(number, ())))
            number += 1
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)} · Blemish</title><style>{style}</style></head><body><main>{''.join(body)}</main></body></html>\n"
    )
    path = folder / PAGE_FILE
    write_text(path, text)
    return path


def _provenance(provenance: Provenance) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in provenance.versions.items())
    commit = "" if provenance.commit is None else f", commit {provenance.commit}"
    missing = "".join(f"<li>{escape(line)}</li>" for line in provenance.missing)
    gaps = f'<div class="note"><b>Not found</b><ul>{missing}</ul></div>' if missing else ""
    return (
        f"<pre>{escape(provenance.command)}</pre><p class=facts>{escape(versions + commit)}, {escape(provenance.written)}. "
        f"Percent; in brackets 95 % bootstrap intervals over images; ± is the standard deviation over checkpoints.</p>{gaps}"
    )


def _section(one: Evaluation, pictures: Sequence[Shown]) -> str:
    title = f"{one.data['name']}: {one.model['method']} on {one.model['backbone']}"
    prompts = f", prompts {Path(str(one.model['prompts'])).name}" if one.model["prompts"] else ""
    parts = [f"<section><h2>{escape(title + prompts)}</h2>", _facts(one)]
    if one.notes:
        parts.append(f'<div class="note"><ul>{"".join(f"<li>{escape(note)}</li>" for note in one.notes)}</ul></div>')
    parts += map(_table, parts_of(one))
    if one.published:
        parts.append(_table(published_table(one.published, measured=len(one.report.products))))
    parts.append(_charts(one))
    if one.pixel_types is not None:
        parts.append(_table(types_table(one.pixel_types, "types of pixels, macro over normal and every type")))
    if one.image_types is not None:
        parts.append(_table(types_table(one.image_types, "types of anomalous images; this measure is ours")))
    if one.confusion is not None and len(one.confusion[0]) > 1:
        parts.append(f"<div class=confusion>{confusion(CONFUSION_TITLE, *one.confusion)}</div>")
    parts.append(_pictures(pictures))
    if one.unreadable:
        rows = "".join(f"<li>{escape(str(record['error']))}</li>" for record in one.unreadable)
        parts.append(f"<details><summary>{len(one.unreadable)} images in no number</summary><ul>{rows}</ul></details>")
    return "".join(parts) + "</section>"


def _facts(one: Evaluation) -> str:
    data, model, settings = one.data, one.model, one.settings
    size = f"{model['input_px']} px, the tower's input" if settings["size"] == "model" else "the images' own size"
    told: dict[str, Any] = {
        "data": f"{data['variant'] or 'as it lies there'}; split {data['split']}; {data['normal']} normal, "
        f"{data['anomalous']} anomalous; level {data['level']}",
        "file list, content": f"{data['list_digest']}, {data['content_digest']}",
        "pixels compared at": size,
        "images resized to": f"{model['input_px']} px, the tower's input",
        "backbone, method": f"{model['backbone_fingerprint']}, {model['fingerprint']}",
        "prompts": model["prompts"] or "none",
        "options": ", ".join(f"{key} {value}" for key, value in model["options"].items()) or "none",
        "vocabulary": settings["defects"] or "built-in",
        "features": "computed" if settings["cache"] == "none" else f"kept as {settings['cache']}",
        "seconds": f"{one.seconds:.0f}",
    }
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in told.items())
    return f"<dl>{rows}</dl>"


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in table.header)
    rows = []
    for row in table.rows:
        cells = (
            f"<td>{escape(text)}</td>" if place < table.words else f"<td class=n>{_number(text)}</td>"
            for place, text in enumerate(row)
        )
        rows.append(f"<tr>{''.join(cells)}</tr>")
    notes = "".join(f"<li>{escape(note)}</li>" for note in table.notes)
    under = f"<ul class=facts>{notes}</ul>" if notes else ""
    return (
        f"<h3>{escape(table.title)}</h3><div class=wide><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>{under}"
    )


def _number(text: str) -> str:
    """A cell's number, its interval on a line of its own."""
    value, bracket, interval = text.partition(" (")
    return escape(value) + (f"<br><small>({escape(interval)}</small>" if bracket else "")


def _charts(one: Evaluation) -> str:
    """The curves of every product, and the histogram of image scores, in a row that wraps."""
    drawn, products = list(_curves(one)), [product.row.name for product in one.report.products]
    readable = [record for record in one.records if "error" not in record]
    groups = {
        name: [record["image_score"] for record in readable if record["anomalous"] == anomalous]
        for name, anomalous in (("normal", False), ("anomalous", True))
    }
    groups = {name: scores for name, scores in groups.items() if scores}
    shown = {"normal": COLOURS[0], "anomalous": COLOURS[1]}
    drawn.append(histogram("image scores", groups, x_label="image score", colours=[shown[name] for name in groups]))
    legend = [f"histogram: {' '.join(f'{_key(shown[name])} {name}' for name in groups)}"]
    if drawn[:-1] and len(products) > 1:
        keys = (
            f"{_key(COLOURS[place % len(COLOURS)])} {escape(name)}" for place, name in enumerate(products[:MOST_CURVES])
        )
        legend = ["curves: " + " ".join(keys), *legend]
    return f"<div class=charts>{''.join(drawn)}</div><p class=facts>{' · '.join(legend)}</p>"


def _curves(one: Evaluation) -> Iterator[str]:
    limit = float(one.settings["limit"])
    for level in ("image", "pixel"):
        if not any(name.startswith(level) for name in one.metrics):
            continue
        own = {
            product.row.name: one.curves.get(f"{level} {product.row.name}", {})
            for product in one.report.products[:MOST_CURVES]
        }
        for kind, (words, x_label, y_label) in CURVES.items():
            series = {name: curves[kind] for name, curves in own.items() if kind in curves}
            if series:
                yield lines(f"{level}: {words}", series, x_label=x_label, y_label=y_label)
        series = {name: curves["pro"] for name, curves in own.items() if "pro" in curves and level == "pixel"}
        if series:
            yield lines("pixel: PRO", series, x_label="false positive rate", y_label="region overlap", x_end=limit)


def _key(colour: str) -> str:
    return f'<span class=key style="background:{colour}"></span>'


def _pictures(pictures: Sequence[Shown]) -> str:
    if not pictures:
        return ""
    parts = [
        "<p class=facts>Left the image with its true defect outlined, right its anomaly map; this page holds your own images.</p>"
    ]
    for heading, shown in groupby(pictures, key=lambda one: one.heading):
        figures = "".join(
            f'<figure><img src="{one.uri}" alt="{escape(one.caption)}"><figcaption>{escape(one.caption)}</figcaption></figure>'
            for one in shown
        )
        parts.append(f"<h3>{escape(heading)}</h3><div class=shots>{figures}</div>")
    return f"<details open><summary>images</summary>{''.join(parts)}</details>"
