"""The protocols of papers as data: trained on this, tested on that, and their table with ours beside it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

from blemish.data import DataSet
from blemish.errors import UnknownNameError, UsageError
from blemish.evaluation.candidates import Choice
from blemish.evaluation.finding import find_data
from blemish.evaluation.outcome import Evaluation, Group
from blemish.evaluation.published import Published, published
from blemish.evaluation.session import Session
from blemish.evaluation.settings import LEGACY_METRIC, Size
from blemish.evaluation.tables import NOT_DEFINED, Table, cell, title_of
from blemish.io.codec import from_dict

__all__ = ["Suite", "SuiteTest", "load_suite", "run_suite", "suite_names"]

TYPED = {"typed_auroc": "auroc", "typed_ap": "ap", "typed_f1": "f1"}
GAP = "–"


@dataclass(frozen=True, kw_only=True)
class SuiteTest:
    """One row of a table: a data set, the name of the one that the prompts were trained on, the names of its defects (() for the
    built-in ones), and what is worth saying."""

    data: str
    trained_on: str
    group: str = ""
    defects: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A paper's protocol. train: names and the data sets behind them; epochs and the rest: of the training where no prompts are
    given, of which those after the last epoch are used; metrics: the columns."""

    title: str
    method: str
    backbone: str
    metrics: tuple[str, ...]
    train: Mapping[str, str]
    tests: tuple[SuiteTest, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    size: Size = "model"
    legacy: bool = True
    typed: bool = False
    epochs: int = 1
    batch_size: int = 8
    seed: int = 111
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ready:
    """A row whose data set and prompts are there."""

    test: SuiteTest
    data: DataSet


def suite_names() -> tuple[str, ...]:
    """The suites that ship."""
    folder = resources.files(__package__) / "suites"
    return tuple(sorted(file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml")))


def load_suite(name: str) -> Suite:
    """The suite of that name, or in a file of one's own; UsageError says what is wrong with it."""
    if name in suite_names():
        text = (resources.files(__package__) / "suites" / f"{name}.toml").read_text(encoding="utf-8")
    elif Path(name).is_file():
        text = Path(name).read_text(encoding="utf-8")
    else:
        raise UnknownNameError("suite", name, suite_names())
    try:
        suite = from_dict(Suite, tomllib.loads(text))
    except (tomllib.TOMLDecodeError, UsageError) as error:
        raise UsageError(f"{name}: is not a suite ({error})") from error
    for test in suite.tests:
        if test.trained_on not in suite.train:
            raise UnknownNameError(f"training set of {test.data}", test.trained_on, suite.train)
    return suite


def run_suite(
    suite: Suite,
    session: Session,
    *,
    root: Path | None,
    backbone: str | None = None,
    prompts: Mapping[str, Sequence[Path]] | None = None,
    device: str = "cpu",
) -> Table:
    """Runs the rows whose data set is under the root, training first where no prompts are given; the paper's table with ours.

    What is not there is said, in the session and under the table. UsageError where no row can be run.
    """
    prompts = prompts or {}
    for name in prompts:
        if name not in suite.train:
            raise UnknownNameError("training set", name, suite.train)
    backbone = backbone or suite.backbone
    ready, missing = _found(suite, root)
    there = ", ".join(dict.fromkeys(one.test.data for one in ready)) or "none"
    session.reporter.say(f"{suite.title}: data sets found: {there}; {len(missing)} not found")
    for line in missing:
        session.reporter.say(f"not found: {line}")
    if not ready:
        raise UsageError(
            f"none of the data sets of {suite.title} is under {root or 'the current folder'}: {missing[0]}"
        )
    done: dict[SuiteTest, list[Evaluation]] = {}
    for name in suite.train:
        rows = [one for one in ready if one.test.trained_on == name]
        if not rows:
            continue
        own = prompts.get(name) or _trained(suite, name, session, root=root, backbone=backbone, device=device)
        if not own:
            missing.append(
                f"prompts trained on {name}: none were given, and {suite.train[name]} is not there to train on"
            )
            continue
        for place in own:
            for one in rows:
                done.setdefault(one.test, []).append(_run(suite, one, session, Choice(backbone, suite.method, place)))
    session.missing(missing)
    if not done:
        raise UsageError(f"nothing of {suite.title} can be run: {missing[-1]}; see --prompts-for")
    return _table(suite, {test: Group(tuple(members)) for test, members in done.items()}, missing)


def _found(suite: Suite, root: Path | None) -> tuple[list[Ready], list[str]]:
    """The rows whose data set is there, and a line for each data set that is not."""
    opened: dict[str, DataSet | str] = {}
    for test in suite.tests:
        if test.data not in opened:
            try:
                opened[test.data] = find_data(test.data, root=root)
            except UsageError as error:
                said = str(error).partition("; found ")[0]  # the other sets that lie there are of no interest here
                opened[test.data] = said if said.startswith(test.data) else f"{test.data}: {said}"
    rows = [(test, opened[test.data]) for test in suite.tests]
    ready = [Ready(test, data) for test, data in rows if isinstance(data, DataSet)]
    return ready, [line for line in opened.values() if isinstance(line, str)]


def _trained(suite: Suite, name: str, session: Session, *, root: Path | None, backbone: str, device: str) -> list[Path]:
    """Prompts trained on this set in the session's folder, going on where that was stopped; none where the set is not there."""
    from blemish.training import recipe_of, train

    try:
        data = find_data(suite.train[name], root=root)
    except UsageError:
        return []
    recipe = recipe_of(suite.method, epochs=suite.epochs, batch_size=suite.batch_size, seed=suite.seed)
    done = train(
        suite.method,
        data,
        out=session.out / "training" / name,
        backbone=backbone,
        options={**suite.options, **session.options},
        recipe=recipe,
        device=device,
        command=session.provenance.command,
        reporter=session.reporter,
    )
    return [done.prompts[-1]]


def _run(suite: Suite, one: Ready, session: Session, choice: Choice) -> Evaluation:
    settings = replace(
        session.settings,
        size=suite.size,
        legacy=suite.legacy,
        typed=suite.typed and bool(one.data.types),
        defects=one.test.defects or None,
    )
    session.run([choice], [one.data], settings=settings)
    return session.evaluations[-1]


def _table(suite: Suite, done: Mapping[SuiteTest, Group], missing: Sequence[str]) -> Table:
    """A row for each test: of each metric ours, and the most trusted published value with the number of its source."""
    sources: dict[str, int] = {}
    rows, notes = [], [*suite.notes]
    for test in suite.tests:
        group = done.get(test)
        cells = []
        for metric in suite.metrics:
            cells.append(GAP if group is None else _ours(group, metric))
            if metric not in TYPED:
                cells.append(_theirs(suite, test, metric, sources))
        rows.append((test.group, test.data, test.trained_on, *cells))
        if test.note:
            notes.append(f"{test.data}, trained on {test.trained_on}: {test.note}")
    header = ["", "data set", "trained on"]
    for metric in suite.metrics:
        header += [f"typed {TYPED[metric].upper()}"] if metric in TYPED else [title_of(metric), "published"]
    notes += [f"[{number}] {source}" for source, number in sources.items()]
    notes += [f"not found: {line}" for line in missing]
    return Table(suite.title, tuple(header), tuple(rows), tuple(notes), words=3)


def _ours(group: Group, metric: str) -> str:
    if metric in TYPED:
        report = group.first.pixel_types
        return GAP if report is None else cell(report.mean.values[TYPED[metric]])
    if metric not in group.first.metrics:
        return GAP
    found = group.spread(metric) if len(group.members) > 1 else group.first.report.mean.values[metric]
    return cell(found) if cell(found) == NOT_DEFINED else cell(found).split(" (")[0]


def _theirs(suite: Suite, test: SuiteTest, metric: str, sources: dict[str, int]) -> str:
    """The first published value of such prompts, or of some that the source does not name; the papers' AUPRO has 200 steps."""
    name = "aupro" if metric == LEGACY_METRIC else metric
    if metric == "aupro":  # exact: nobody published it
        return GAP
    for row in published(suite.method, test.data):
        if name in row.values and row.trained_on in (test.trained_on, ""):
            return f"{row.values[name]:.1f} [{_number(row, sources)}]"
    return GAP


def _number(row: Published, sources: dict[str, int]) -> int:
    words = f"{row.source} ({row.quality}{', derived' if row.derived else ''}{', ' + row.note if row.note else ''})"
    return sources.setdefault(words, len(sources) + 1)
