"""Several models on several data sets into one folder: results that grow while it runs, and the page at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from blemish.data import DataSet
from blemish.errors import UsageError
from blemish.evaluation.candidates import Candidate, Choice, load_candidate
from blemish.evaluation.outcome import Evaluation, Group, evaluate_candidate, grouped
from blemish.evaluation.page import write_page
from blemish.evaluation.pictures import Shown, show
from blemish.evaluation.running import EvaluationRun
from blemish.evaluation.settings import EvaluationSettings
from blemish.evaluation.tables import Provenance, Table
from blemish.evaluation.writing import JSON_FILE, write_results
from blemish.io.atomic import make_folder
from blemish.io.progress import Reporter
from blemish.io.provenance import commit, utc_now, versions

__all__ = ["RUNS", "Session", "open_session"]

RUNS = "runs"


@dataclass
class Session:
    """A folder that evaluations go into, one after the other; `results.json` and `results.csv` follow each of them."""

    out: Path
    settings: EvaluationSettings
    provenance: Provenance
    reporter: Reporter
    options: Mapping[str, Any] = field(default_factory=dict)
    force: bool = False
    input_px: int | None = None  # of every model; None for the backbone's own
    load: Callable[..., Candidate] = load_candidate
    evaluations: list[Evaluation] = field(default_factory=list)
    shown: dict[int, list[Shown]] = field(default_factory=dict)  # by the place in `evaluations`
    last: tuple[Choice, Candidate] | None = None

    def run(
        self, choices: Iterable[Choice], datas: Sequence[DataSet], *, settings: EvaluationSettings | None = None
    ) -> None:
        """Every candidate on every data set; one stays loaded until another one is asked for."""
        for choice in choices:
            candidate = self._candidate(choice)
            for data in datas:
                self._one(candidate, data, settings or self.settings)

    def count_apart(self, choice: Choice, data: DataSet, product: int) -> int:
        """Counts product number `product` of a data set for a session in another process, whose `run` adopts it; its images."""
        run = EvaluationRun(
            self._candidate(choice), data, out=self.out / RUNS, settings=self.settings, reporter=self.reporter
        )
        return run.count_apart(product)

    def _candidate(self, choice: Choice) -> Candidate:
        if self.last is None or self.last[0] != choice:
            self.last = None  # one at a time in memory
            candidate = self.load(
                choice,
                options=self.options,
                force=self.force,
                input_px=self.input_px,
                device=self.settings.device,
            )
            self.last = (choice, candidate)
            for note in candidate.notes:
                self.reporter.say(f"note: {note}")
        return self.last[1]

    def _one(self, candidate: Candidate, data: DataSet, settings: EvaluationSettings) -> None:
        found, run = evaluate_candidate(candidate, data, out=self.out / RUNS, settings=settings, reporter=self.reporter)
        self.shown[len(self.evaluations)] = show(found, run)
        self.evaluations.append(found)
        write_results(self.out, self.evaluations, self.provenance)

    def groups(self) -> list[Group]:
        """The evaluations that differ in nothing but their prompts, together."""
        return grouped(self.evaluations)

    def write_page(self, *, title: str = "Evaluation", first: Sequence[Table] = ()) -> Path:
        """The page of everything that was evaluated; its path."""
        place = {id(one): number for number, one in enumerate(self.evaluations)}
        groups = self.groups()
        members = [one for group in groups for one in group.members]
        pictures = {number: self.shown[place[id(one)]] for number, one in enumerate(members)}
        return write_page(self.out, groups, self.provenance, pictures=pictures, title=title, first=first)

    def missing(self, lines: Sequence[str]) -> None:
        """Remembers what was asked for and is not there."""
        self.provenance = replace(self.provenance, missing=tuple(lines))


def open_session(
    out: Path,
    *,
    settings: EvaluationSettings,
    command: str,
    reporter: Reporter | None = None,
    options: Mapping[str, Any] | None = None,
    force: bool = False,
    input_px: int | None = None,
) -> Session:
    """A session in this folder, which is made. UsageError where it holds something that no evaluation wrote."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: is a file; --out takes a folder")
    known = (out / JSON_FILE, out / RUNS, out / "training")
    if out.is_dir() and any(out.iterdir()) and not any(place.exists() for place in known):
        raise UsageError(f"{out}: is not empty and holds no evaluation; choose another --out")
    make_folder(out)
    provenance = Provenance(command, versions(), commit(), utc_now())
    return Session(
        out, settings, provenance, reporter or Reporter(), options=options or {}, force=force, input_px=input_px
    )
