"""What the embedded model reaches on real images, as the tables in docs/embedded-model.md: `make measure DATA=folder`.

`python -m benchmarks.measure --data-root ../shared/data` prints a Markdown table for the backbone's default method; `--method`
takes another one, or several with commas between them; `--peers` measures each of them among its product's images, too;
`--alternatives` measures two simple alternatives beside all methods (`benchmarks/alternatives.py`), by the same code; `--seeds`
measures backbones of several training seeds. `--json FILE` keeps the numbers; with `--rows FOLDER` each row is kept as soon as it
is measured, and the same command goes on where it was stopped.

Image AUROC has a bootstrap interval over images, pixel AUROC is over all pixels of all images at original size. A mean over the
sets counts each set once, and the simulated images in none.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import blemish
from benchmarks.alternatives import Looker, alternatives
from benchmarks.real_sets import (
    IMAGE_SETS,
    PIXEL_SETS,
    PUBLIC_IMAGE_SETS,
    PUBLIC_PIXEL_SETS,
    SIMULATED,
    Comparison,
    Finding,
    available,
)
from blemish.inspection.references import MOST_REFERENCES
from blemish.io.atomic import write_text
from blemish.maps import at_original
from blemish.methods.reference_memory import MEMORY_SCHEMA
from blemish.methods.referenced import ReferencedConfig
from blemish.metrics import PixelRanking, Value, auroc, mean
from blemish.results import Inspection, Verdict

EMBEDDED_METHODS = ("ensemble", "faprompt", "dapo")
NO_NORMAL, NO_MASKS = "no normal images", "no masks"


@dataclass(frozen=True)
class Row:
    """One line of the table for one method; intervals are 95 %."""

    method: str
    name: str
    set_name: str
    normal: int
    anomalous: int
    image_auroc: Value
    pixel_auroc: Value
    named: dict[str, int]  # how often each type comes first among the anomalous images
    verdicts_normal: dict[str, int]
    verdicts_anomalous: dict[str, int]


class Embedded:
    """A method of the package, with its prompts. The last row's findings are kept: the normal tiles are in five rows."""

    remark = ""
    score_range = (0.0, 1.0)

    def __init__(self, backbone: str, method: str | None, name: str = "") -> None:
        self.backbone, self.method = backbone, method
        self.inspector = blemish.load(backbone, method=method)
        self.name = name or self.inspector.model.method
        self.known: dict[Path, Finding] = {}

    def identity(self) -> str:
        return f"{self.inspector.model.fingerprint} {self.inspector.thresholds}"

    def absent(self, comparison: Comparison) -> str:  # noqa: ARG002
        return ""

    def look(self, comparison: Comparison) -> Sequence[Finding]:
        paths = [item.path for item in comparison.items]
        self.known = {path: self.known[path] for path in paths if path in self.known}
        new = [path for path in paths if path not in self.known]
        for path, inspection in zip(new, self.inspections(new), strict=True):
            self.known[path] = _finding(inspection)
        return [self.known[path] for path in paths]

    def inspections(self, paths: Sequence[Path]) -> Iterator[Inspection]:
        return self.inspector.inspect(iter(paths))


class AmongPeers(Embedded):
    """The same with --peers: each image compared with a lot drawn from all images of its product, good and bad, unlabelled."""

    remark = (
        f"zero-shot; each image also compared with {MOST_REFERENCES} of its product, good and bad, that nobody labelled"
    )

    def __init__(self, backbone: str, method: str | None, name: str = "") -> None:
        super().__init__(backbone, method, name)
        self.name += " with peers"
        self.peers: tuple[Path, ...] = ()
        self.among = self.inspector  # until the first product's peers are known

    def identity(self) -> str:
        return f"{super().identity()} {MOST_REFERENCES} {ReferencedConfig()} {MEMORY_SCHEMA}"

    def look(self, comparison: Comparison) -> Sequence[Finding]:
        if comparison.peers != self.peers:
            self.peers, self.known = comparison.peers, {}
            self.among = blemish.load(self.backbone, method=self.method, peers=list(self.peers))
        return super().look(comparison)

    def inspections(self, paths: Sequence[Path]) -> Iterator[Inspection]:
        return self.among.inspect(iter(paths))


def _finding(inspection: Inspection) -> Finding:
    return Finding(
        image_score=inspection.image_score,
        anomaly_map=np.clip(inspection.anomaly_map, 0, 1),
        size_px=(inspection.width_px, inspection.height_px),
        top_type=str(inspection.top_type),
        verdict=inspection.verdict.value,
    )


def measure(comparison: Comparison, looker: Looker) -> Row:
    """The row of one method; where something cannot be measured, its value says why."""
    labels = np.array([item.anomalous for item in comparison.items], bool)
    absent = looker.absent(comparison)
    found = [] if absent else looker.look(comparison)
    image = Value(value=None, reason=absent or NO_NORMAL)
    if not absent and not labels.all():
        image = auroc([finding.image_score for finding in found], labels, rounds=1000)
    pairs = list(zip(found, labels, strict=False))
    return Row(
        method=looker.name,
        name=comparison.name,
        set_name=comparison.set_name,
        normal=int((~labels).sum()),
        anomalous=int(labels.sum()),
        image_auroc=image,
        pixel_auroc=Value(value=None, reason=absent) if absent else _pixels(comparison, found, looker),
        named=_counts([finding.top_type for finding, anomalous in pairs if anomalous]),
        verdicts_normal=_counts([finding.verdict for finding, anomalous in pairs if not anomalous]),
        verdicts_anomalous=_counts([finding.verdict for finding, anomalous in pairs if anomalous]),
    )


def _pixels(comparison: Comparison, found: Sequence[Finding], looker: Looker) -> Value:
    if not comparison.has_masks:
        return Value(value=None, reason=NO_MASKS)
    ranking = PixelRanking(score_range=looker.score_range)
    for item, finding in zip(comparison.items, found, strict=True):
        anomaly_map = at_original(finding.anomaly_map, finding.size_px)
        ranking.add(anomaly_map, item.mask_pixels(anomaly_map.shape), name=item.name)
    return ranking.auroc()


def _counts(names: list[str]) -> dict[str, int]:
    return dict(sorted(((name, names.count(name)) for name in set(names) if name), key=lambda pair: -pair[1]))


def means(rows: Sequence[Row]) -> dict[str, tuple[Value, Value]]:
    """Image and pixel AUROC of one method as means: over the rows of each set that has several, and over the sets."""
    sets = {row.set_name: [one for one in rows if one.set_name == row.set_name] for row in rows}
    each = {
        name: (mean({row.name: row.image_auroc for row in own}), mean({row.name: row.pixel_auroc for row in own}))
        for name, own in sets.items()
    }
    found = {f"{name}, mean of the {len(own)}": each[name] for name, own in sets.items() if len(own) > 1}
    missing = Value(value=None, reason="not here")

    def over(image_sets: Sequence[str], pixel_sets: Sequence[str]) -> tuple[Value, Value]:
        image = mean({name: each[name][0] if name in each else missing for name in image_sets})
        return image, mean({name: each[name][1] if name in each else missing for name in pixel_sets})

    found["mean over the sets"] = over(IMAGE_SETS, PIXEL_SETS)
    if any(name in each for name in (*PUBLIC_IMAGE_SETS, *PUBLIC_PIXEL_SETS)):
        found["mean over the public sets"] = over(PUBLIC_IMAGE_SETS, PUBLIC_PIXEL_SETS)
    return found


def _cell(value: Value) -> str:
    """An undefined value is its reason alone; that of a mean is the rows', which stand above it."""
    if value.defined:
        return str(value)
    return "" if value.reason.startswith("there is nothing to average") else value.reason


def _title(name: str) -> str:
    return f"{name} (simulated)" if name.startswith(SIMULATED) and "mean" not in name else name


def table(rows: Sequence[Row]) -> str:
    """The rows of one method as Markdown, the means after them."""
    lines = ["| images | normal / anomalous | image AUROC (95 %) | pixel AUROC (95 %) |", "|---|---|---|---|"]
    for row in rows:
        values = f"{_cell(row.image_auroc)} | {_cell(row.pixel_auroc)}"
        lines.append(f"| {_title(row.name)} | {row.normal} / {row.anomalous} | {values} |")
    lines += [f"| {name} | | {_cell(image)} | {_cell(pixel)} |" for name, (image, pixel) in means(rows).items()]
    return "\n".join(lines)


def verdicts(rows: Sequence[Row]) -> str:
    """What a method's own thresholds make of the images, as Markdown, in per cent; empty for a method without thresholds.

    Rows with the same normal images show them once.
    """
    lines = [
        "| images | normal: OK | review | NG | anomalous: OK | review | NG |",
        "|---|---|---|---|---|---|---|",
    ]
    before: dict[str, int] = {}
    for row in rows:
        again = row.verdicts_normal == before
        cells = [*_shares({} if again else row.verdicts_normal), *_shares(row.verdicts_anomalous)]
        lines.append(f"| {_title(row.name)} | {' | '.join(cells)} |")
        before = row.verdicts_normal
    return "\n".join(lines) if any(row.verdicts_anomalous for row in rows) else ""


def _shares(counts: Mapping[str, int]) -> list[str]:
    total = sum(counts.values())
    return [f"{100 * counts.get(verdict.value, 0) / total:.0f} %" if total else "" for verdict in Verdict]


def side_by_side(by_method: dict[str, list[Row]], remarks: dict[str, str]) -> str:
    """A column for each method, image AUROC above and pixel AUROC below, or why there is none; remarks stand under the table."""
    noted = [name for name in by_method if remarks.get(name)]
    heads = [f"{name} ({noted.index(name) + 1})" if name in noted else name for name in by_method]
    lines = [f"| AUROC (95 %) | normal / anomalous | {' | '.join(heads)} |", f"|---|---|{'---|' * len(heads)}"]
    averaged = {name: means(rows) for name, rows in by_method.items()}
    for level, part in (("image", 0), ("pixel", 1)):
        lines.append(f"| **{level}** | | {' | ' * (len(heads) - 1)} |")
        for number, row in enumerate(next(iter(by_method.values()))):
            own = [(rows[number].image_auroc, rows[number].pixel_auroc)[part] for rows in by_method.values()]
            cells = " | ".join(map(_cell, own))
            lines.append(f"| {_title(row.name)} | {row.normal} / {row.anomalous} | {cells} |")
        for name in next(iter(averaged.values())):
            values = [one[name][part] for one in averaged.values()]
            if any(value.defined for value in values):
                lines.append(f"| {name} | | {' | '.join(map(_cell, values))} |")
    notes = [f"({number}) {name}: {remarks[name]}." for number, name in enumerate(noted, start=1)]
    return "\n".join([*lines, "", *notes]).rstrip()


def over_seeds(by_method: dict[str, list[Row]]) -> str:
    """What several training seeds reach, as Markdown: a line for each set and level; sd is the standard deviation."""
    lines = [f"| AUROC | {' | '.join(by_method)} | mean ± sd |", f"|---|{'---|' * len(by_method)}---|"]
    found = [_by_set(rows) | means(rows) for rows in by_method.values()]
    for level, part in (("image", 0), ("pixel", 1)):
        for name in found[0]:
            values = [one[name][part].value for one in found]
            known = [value for value in values if value is not None]
            if len(known) == len(values):
                shown = " | ".join(f"{value:.3f}" for value in known)
                lines.append(
                    f"| {name}, {level} | {shown} | {statistics.fmean(known):.3f} ± {statistics.stdev(known):.3f} |"
                )
    return "\n".join(lines)


def _by_set(rows: Sequence[Row]) -> dict[str, tuple[Value, Value]]:
    """The rows that are the only one of their set."""
    sets = [row.set_name for row in rows]
    return {row.name: (row.image_auroc, row.pixel_auroc) for row in rows if sets.count(row.set_name) == 1}


class Kept:
    """Rows in a folder, each with what its numbers depend on; without a folder nothing is kept."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def __call__(self, comparison: Comparison, looker: Looker) -> Row:
        if self.folder is None:
            return measure(comparison, looker)
        place = self.folder / f"{looker.name} {comparison.name}.json".replace(" ", "-")
        stamp = f"{looker.identity()} {_stamp(comparison)}"
        if place.is_file():
            known = json.loads(place.read_text(encoding="utf-8"))
            if known["stamp"] == stamp:
                return _restored(known["row"])
        row = measure(comparison, looker)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(place, json.dumps({"stamp": stamp, "row": record(row, replicates=True)}) + "\n")
        return row


def _stamp(comparison: Comparison) -> str:
    said = "\n".join(f"{item.name} {item.anomalous} {item.path.stat().st_size}" for item in comparison.items)
    return hashlib.sha256(said.encode()).hexdigest()


def record(row: Row, *, replicates: bool = False) -> dict[str, Any]:
    """The row for JSON; with the resampled values, which the intervals of means are made of, it can be restored."""
    values = {}
    for name, value in (("image_auroc", row.image_auroc), ("pixel_auroc", row.pixel_auroc)):
        values[name] = value.to_dict()
        if replicates and value.replicates is not None:
            values[name]["replicates"] = [float(one) if np.isfinite(one) else None for one in value.replicates]
    return {**asdict(row), **values}


def _restored(fields: dict[str, Any]) -> Row:
    values = {}
    for name in ("image_auroc", "pixel_auroc"):
        own = dict(fields[name])
        replicates = own.pop("replicates", None)
        own["interval"] = own["interval"] and tuple(own["interval"])
        own["without"] = tuple(own["without"])
        own["reason"] = own.pop("why")
        values[name] = Value(**own, replicates=None if replicates is None else np.array(replicates, float))
    return Row(**{**fields, **values})


def lookers(settings: argparse.Namespace) -> list[Looker]:
    """The methods that were asked for: by default the backbone's own one, beside the alternatives all that ship."""
    if settings.seeds:
        kind = AmongPeers if settings.peers else Embedded
        return [kind(place, "ensemble", name=f"ensemble of {Path(place).name}") for place in settings.seeds]
    every = ",".join(EMBEDDED_METHODS) if settings.alternatives else None
    names = (settings.method or every or "").split(",")
    found: list[Looker] = [Embedded(settings.backbone, name.strip() or None) for name in names]
    if settings.peers:
        found += [AmongPeers(settings.backbone, name.strip() or None) for name in names]
    return found + (alternatives() if settings.alternatives else [])


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.measure",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data-root", type=Path, default=Path("../shared/data"))
    parser.add_argument(
        "--public", type=Path, help="folder that benchmarks.public_sets filled: its sets are measured, too"
    )
    parser.add_argument("--backbone", default="embedded")
    parser.add_argument("--method", default=None, help="one, or several with commas between them")
    parser.add_argument(
        "--alternatives", action="store_true", help="measure two simple alternatives beside the methods"
    )
    parser.add_argument(
        "--peers", action="store_true", help="measure each method with --peers, too (docs/references.md)"
    )
    parser.add_argument(
        "--seeds",
        nargs="+",
        metavar="FOLDER",
        help="backbones of training seeds (training-cache/seed-0 and so on): the ensemble of each on real images (with --peers, "
        "among them), their spread",
    )
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--rows", type=Path, help="folder to keep each row in, and to go on from")
    parser.add_argument("--json", type=Path)
    settings = parser.parse_args()
    if settings.seeds and (settings.method or settings.alternatives):
        parser.error("--seeds measures the prompt ensemble alone: leave --method and --alternatives away")
    if settings.seeds and len({Path(place).name for place in settings.seeds}) < len(settings.seeds):
        parser.error("--seeds: folders are told apart by their last name; these share one")
    comparisons, missing = available(settings.data_root, public=settings.public, without_normal=True)
    for line in missing:
        print("missing:", line)
    asked = lookers(settings)
    by_method: dict[str, list[Row]] = {looker.name: [] for looker in asked}
    row_of, started = Kept(settings.rows), time.monotonic()
    for comparison in comparisons:
        if settings.only not in comparison.name or (settings.seeds and comparison.name.startswith(SIMULATED)):
            continue
        for looker in asked:
            row = row_of(comparison, looker)
            by_method[looker.name].append(row)
            print(f"{looker.name}, {row.name}: {_cell(row.image_auroc)}; {_cell(row.pixel_auroc)}", flush=True)
    remarks = {looker.name: looker.remark for looker in asked}
    one = len(asked) == 1
    print(f"\n{table(by_method[asked[0].name]) if one else side_by_side(by_method, remarks)}\n")
    if not settings.seeds and (shown := verdicts(by_method[asked[0].name])):  # a seed's folder has no thresholds
        print(f"Verdicts of {asked[0].name}:\n\n{shown}\n")
    if settings.seeds and not one:
        print(f"{over_seeds(by_method)}\n")
    print(f"{time.monotonic() - started:.0f} s")
    if settings.json:
        records = [record(row) for rows in by_method.values() for row in rows]
        write_text(settings.json, json.dumps(records, indent=2) + "\n")


if __name__ == "__main__":
    main()
