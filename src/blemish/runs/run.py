"""One run of `blemish inspect`: images through the inspector into records, and what was seen on the way."""

from __future__ import annotations

import hashlib
import platform
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

import typer

from blemish._version import __version__
from blemish.calibration import Setup, vocabulary_hash
from blemish.errors import ImageError
from blemish.images import Arrivals, FoundImage, FoundImages
from blemish.inspection.inspector import Inspected, Inspector
from blemish.io.progress import TerminalReporter
from blemish.runs.folder import ResultsFolder
from blemish.runs.names import arriving_name, output_names
from blemish.runs.records import error_record, json_line, record_of

__all__ = ["Run", "print_summary"]

MOST_NOTES = 5  # in the summary


@dataclass
class Run:
    """One run: what it does and what it has seen so far, in the run that it resumes, too."""

    inspector: Inspector
    json_lines: bool = False
    quiet: bool = False
    verdicts: Counter[str] = field(default_factory=Counter)
    top_types: Counter[str] = field(default_factory=Counter)
    value_ranges: Counter[tuple[float, float]] = field(default_factory=Counter)
    unreadable: list[ImageError] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)  # files in the folders that are no images, by suffix
    unlisted: list[ImageError] = field(default_factory=list)  # folders that could not be looked into
    notes: Counter[str] = field(default_factory=Counter)  # what is to be known of how images were read
    names: set[str] = field(default_factory=set)  # of the pictures there are
    sources: set[str] = field(default_factory=set)
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    clock: float = field(default_factory=time.perf_counter)

    def inspect(self, images: Sequence[FoundImage], results: ResultsFolder | None) -> None:
        """Inspects the images that `results` has no record of yet."""
        kept = 0 if results is None else results.kept
        # batches as the run would have had them: the last digits of a score depend on what is computed together
        start = kept // self.inspector.batch_size * self.inspector.batch_size
        names = output_names(images)
        outcomes = self.inspector.stream([image.path for image in images], start=start)
        with TerminalReporter(quiet=self.quiet).progress("inspecting", len(images), done=kept) as advance:
            for name, outcome in zip(names[kept:], islice(outcomes, kept - start, None), strict=True):
                self._add(outcome, name, results)
                advance()

    def watch(self, arrivals: Arrivals, roots: Sequence[Path], results: ResultsFolder | None) -> None:
        """Inspects images as they arrive, until no more will, or Ctrl-C.

        What cannot be read is recorded only when it is not looked at again: it may still be on its way.
        """
        given: deque[tuple[FoundImage, PurePosixPath]] = deque()
        waiting: dict[Path, tuple[ImageError, PurePosixPath]] = {}

        def paths() -> Iterator[Path]:
            for image in arrivals:
                given.append((image, arriving_name(image, roots, self.names)))
                yield image.path

        try:
            with TerminalReporter(quiet=self.quiet).progress("inspecting", None) as advance:
                for outcome in self.inspector.stream(paths()):
                    image, name = given.popleft()
                    waiting.pop(image.path, None)
                    if isinstance(outcome, ImageError):
                        self.names.discard(name.as_posix().casefold())
                        if arrivals.failed(image.path):
                            waiting[image.path] = outcome, name
                            continue
                    self._add_arrived(outcome, name, results)
                    advance()
        except KeyboardInterrupt:  # the way to end it
            pass
        for error, name in waiting.values():
            self._add_arrived(error, name, results)
        self.left_out, self.unlisted = arrivals.left_out, list(arrivals.unlisted)

    def _add_arrived(self, outcome: Inspected | ImageError, name: PurePosixPath, results: ResultsFolder | None) -> None:
        known = isinstance(outcome, ImageError) and any(str(error) == str(outcome) for error in self.unreadable)
        if not known:  # a resumed run has that record
            self._add(outcome, name, results)

    def take(self, record: Mapping[str, Any], new: bool) -> None:
        """Counts the record of one image, and prints it where it is new and --json asks for it."""
        if record["source"] in self.sources:  # it was written again: its last record counts
            self.unreadable = [error for error in self.unreadable if error.source != record["source"]]
        self.sources.add(record["source"])
        note = (record.get("tags") or {}).get("note")
        if note is not None:
            self.notes[note] += 1
        if record["mask"] is not None:
            self.names.add(record["mask"].partition("/")[2].removesuffix(".png").casefold())
        if record["verdict"] is None:
            self.unreadable.append(ImageError(record["source"], record["error"]))
        else:
            self.verdicts[record["verdict"]] += 1
            if record["verdict"] != "ok" and record["top_type"] is not None:
                self.top_types[record["top_type"]] += 1
        if record["value_range"] is not None:
            low, high = record["value_range"]
            self.value_ranges[low, high] += 1
        if new and self.json_lines:
            typer.echo(json_line(record, ascii_only=True))

    def identity(self, images: Sequence[FoundImage] | None, *, keep_maps: bool) -> dict[str, Any]:
        """What a run that resumes this one must have in common with it; None images are watched for."""
        inspector = self.inspector
        setup = inspector.setup.to_dict()
        listed = "\n".join(image.path.as_posix() for image in images or ()).encode("utf-8", "surrogateescape")
        digest = hashlib.sha256(listed).hexdigest()[:16]
        return {
            "model": setup.pop("model"),
            **setup,
            "types": list(inspector.types),
            "words": vocabulary_hash(inspector.vocabulary),
            "thresholds": inspector.thresholds.to_dict(),
            "value_range": inspector.value_range,
            "min_lead": inspector.min_lead,
            "min_area_px": inspector.min_area_px,
            "mm_per_px": inspector.mm_per_px,
            "batch_size": inspector.batch_size,
            "keep_maps": keep_maps,
            "images": "watched" if images is None else f"{len(images)} (list {digest})",
        }

    def record(self) -> dict[str, Any]:
        """The content of run.json but its schema and status (docs/results.md)."""
        import numpy as np
        import PIL
        import torch

        inspector = self.inspector
        return {
            "command": sys.argv,
            "started": self.started.isoformat(timespec="seconds"),
            "duration_s": round(time.perf_counter() - self.clock, 3),
            "versions": {
                "blemish": __version__,
                "python": platform.python_version(),
                "torch": str(torch.__version__),
                "numpy": np.__version__,
                "pillow": PIL.__version__,
            },
            "model": inspector.model.to_dict(),
            "types": list(inspector.types),
            "min_lead": inspector.min_lead,
            "thresholds": inspector.thresholds.to_dict(),
            "calibration": None if inspector.calibration is None else inspector.calibration.identity,
            "setup": self._setup().to_dict(),
            "value_range": None if inspector.value_range is None else list(inspector.value_range),
            "value_ranges_used": [list(used) for used in sorted(self.value_ranges)],
            "counts": {verdict: self.verdicts[verdict] for verdict in ("ok", "review", "ng")}
            | {"unreadable": len(self.unreadable)},
            "unreadable": [{"source": error.source, "reason": error.reason} for error in self.unreadable],
            "left_out": self.left_out,
            "unlisted": [{"source": error.source, "reason": error.reason} for error in self.unlisted],
        }

    def _add(self, outcome: Inspected | ImageError, name: PurePosixPath, results: ResultsFolder | None) -> None:
        thresholds, model = self.inspector.thresholds, self.inspector.model
        if isinstance(outcome, Inspected):
            if results is None:
                self.take(record_of(outcome.inspection), True)
            else:
                results.add(outcome.inspection, outcome.picture, name, part=outcome.part)
        elif results is None:
            self.take(error_record(outcome, thresholds=thresholds, model=model), True)
        else:
            results.add_error(outcome, thresholds=thresholds, model=model)

    def _setup(self) -> Setup:
        """The inspector's, with the value range that all images with more than 8 bits were read with."""
        setup = self.inspector.setup
        if setup.value_range is None and len(self.value_ranges) == 1:
            return replace(setup, value_range=next(iter(self.value_ranges)))
        return setup


def print_summary(run: Run, results: ResultsFolder | None) -> None:
    """Verdicts, types, thresholds and the place of the results; on stderr where stdout belongs to --json."""
    from rich.console import Console
    from rich.table import Table

    console = Console(stderr=run.json_lines, highlight=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("verdict")
    table.add_column("images", justify="right")
    styles = {"ok": "green", "review": "yellow", "ng": "red"}
    for verdict, style in styles.items():
        table.add_row(f"[{style}]{verdict.upper()}[/]", str(run.verdicts[verdict]))
    if run.unreadable:
        table.add_row("unreadable", str(len(run.unreadable)))
    if results is not None and results.unwritten:
        table.add_row("not drawn", str(len(results.unwritten)))
    console.print(table)
    if run.top_types:
        listed = ", ".join(f"{name} {count}" for name, count in run.top_types.most_common(5))
        console.print(f"top types of what is not OK: {listed}", markup=False)
    console.print(_threshold_line(run), markup=False)
    if run.inspector.engine.references:
        console.print(f"each compared with {run.inspector.engine.references}", markup=False)
    for low, high in sorted(run.value_ranges):
        console.print(f"images with more than 8 bits were read as {low:g}:{high:g}", markup=False)
    for note, count in run.notes.most_common(MOST_NOTES):
        console.print(f"note: {count} {'image' if count == 1 else 'images'}: {note}", markup=False)
    if run.left_out:
        console.print(FoundImages((), run.left_out).summary, markup=False)
    if results is not None and results.kept:
        console.print(f"of these, {results.kept} from before --resume", markup=False)
    if results is not None:
        console.print(f"results: {results.path}", markup=False)


def _threshold_line(run: Run) -> str:
    thresholds = run.inspector.thresholds
    parts = [f"image {thresholds.image:.3g} ({thresholds.calibration})"]
    if thresholds.review is not None:
        parts.append(f"review {thresholds.review:.3g}")
    parts.append(f"pixel {thresholds.pixel:.3g} ({thresholds.pixel_calibration})")
    return "thresholds: " + ", ".join(parts)
