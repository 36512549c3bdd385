"""The protocols of papers as data: trained on this, tested on that, and their table with ours beside it.

A protocol is its paper's method's; other methods are trained and tested on the same sets, by the recipes of their own authors.
"""

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
from blemish.methods import METHODS, method_class
from blemish.models.prompts import find_prompts, read_prompts

__all__ = ["ALL_METHODS", "Suite", "SuiteTest", "load_suite", "methods_of", "run_suite", "suite_names"]

ALL_METHODS = "all"  # stands for a suite's list of methods
NOT_TRAINED = "none"  # what such methods are trained on

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
    """A paper's protocol. method: the paper's, which epochs, batch_size, seed and options belong to; methods: what "all" stands
    for; train: names and the data sets behind them; metrics: the columns. Where no prompts are given, they are trained, and those
    after the last epoch are used."""

    title: str
    method: str
    backbone: str
    metrics: tuple[str, ...]
    train: Mapping[str, str]
    tests: tuple[SuiteTest, ...]
    methods: tuple[str, ...] = ()
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
    """A row whose data set is there."""

    test: SuiteTest
    data: DataSet


Done = dict[tuple[SuiteTest, str], list[Evaluation]]  # by the row and the method


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


def methods_of(suite: Suite, asked: Sequence[str] = ()) -> tuple[str, ...]:
    """The methods of these names: without any the paper's own, for "all" the suite's list. UnknownNameError for another name."""
    names = [name for one in asked for name in ((suite.methods or (suite.method,)) if one == ALL_METHODS else (one,))]
    for name in names:
        if name not in METHODS:
            raise UnknownNameError("method", name, (*METHODS, ALL_METHODS))
    return tuple(dict.fromkeys(names)) or (suite.method,)


def run_suite(
    suite: Suite,
    session: Session,
    *,
    root: Path | None,
    methods: Sequence[str] = (),
    backbone: str | None = None,
    prompts: Mapping[str, Sequence[Path]] | None = None,
    device: str = "cpu",
) -> Table:
    """Runs the rows whose data set is under the root, training first where no prompts are given; the paper's table with ours.

    `methods` as in `methods_of`. Prompts, by what they were trained on, go to the method that their card names. What is not there
    is said, in the session and under the table. UsageError where no row can be run.
    """
    names = methods_of(suite, methods)
    given = _by_method(suite, prompts or {}, names)
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
    done: Done = {}
    for method in names:
        if not method_class(method).is_trained():
            for one in ready:
                if one.test in _once(suite):
                    done[one.test, method] = [_run(suite, one, session, Choice(backbone, method, None))]
            continue
        for name in suite.train:
            rows = [one for one in ready if one.test.trained_on == name]
            if not rows:
                continue
            own = given.get((method, name)) or _trained(
                suite, method, name, session, root=root, backbone=backbone, device=device
            )
            if not own:
                whose = f" of {method}" if len(names) > 1 else ""
                missing.append(
                    f"prompts{whose} trained on {name}: none were given, and {suite.train[name]} is not there to train on"
                )
            for place in own:
                for one in rows:
                    found = _run(suite, one, session, Choice(backbone, method, place))
                    done.setdefault((one.test, method), []).append(found)
    session.missing(missing)
    if not done:
        raise UsageError(f"nothing of {suite.title} can be run: {missing[-1]}; see --prompts-for")
    return _table(suite, names, {row: Group(tuple(members)) for row, members in done.items()}, missing)


def _by_method(
    suite: Suite, prompts: Mapping[str, Sequence[Path]], methods: Sequence[str]
) -> dict[tuple[str, str], list[Path]]:
    """The prompts by their method and what they were trained on; UsageError names those that belong to none."""
    found: dict[tuple[str, str], list[Path]] = {}
    for name, places in prompts.items():
        if name not in suite.train:
            raise UnknownNameError("training set", name, suite.train)
        for place in places:
            method = read_prompts(find_prompts(place)).method
            if method not in methods:
                raise UsageError(f"{place}: prompts of the method {method!r}, not of {' or '.join(methods)}")
            found.setdefault((method, name), []).append(place)
    return found


def _once(suite: Suite) -> set[SuiteTest]:
    """The tests of methods that are not trained: of those that differ only in the training set, the first."""
    return set({(test.data, test.defects): test for test in reversed(suite.tests)}.values())


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


def _trained(
    suite: Suite, method: str, name: str, session: Session, *, root: Path | None, backbone: str, device: str
) -> list[Path]:
    """Prompts trained on this set in the session's folder, going on where that was stopped; none where the set is not there."""
    from blemish.training import recipe_of, train

    try:
        data = find_data(suite.train[name], root=root)
    except UsageError:
        return []
    own = method == suite.method
    papers = {"epochs": suite.epochs, "batch_size": suite.batch_size, "seed": suite.seed}
    recipe = recipe_of(method, **(papers if own else {}))
    done = train(
        method,
        data,
        out=session.out / "training" / (name if own else f"{method}-{name}"),
        backbone=backbone,
        options={**(suite.options if own else {}), **session.options},
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


def _table(
    suite: Suite, methods: Sequence[str], done: Mapping[tuple[SuiteTest, str], Group], missing: Sequence[str]
) -> Table:
    """A row for each test and method: of each metric ours, and the most trusted published value with the number of its source."""
    sources: dict[str, int] = {}
    rows, notes = [], [*suite.notes]
    several = len(methods) > 1
    for test in suite.tests:
        for method in methods:
            trained_on = test.trained_on if method_class(method).is_trained() else NOT_TRAINED
            if trained_on == NOT_TRAINED and test not in _once(suite):
                continue
            group = done.get((test, method))
            cells = []
            for metric in suite.metrics:
                cells.append(GAP if group is None else _ours(group, metric))
                if metric not in TYPED:
                    cells.append(_theirs(method, test.data, trained_on, metric, sources))
            rows.append((test.group, test.data, *([method] if several else []), trained_on, *cells))
        if test.note:
            notes.append(f"{test.data}, trained on {test.trained_on}: {test.note}")
    header = ["", "data set", *(["method"] if several else []), "trained on"]
    words = len(header)
    for metric in suite.metrics:
        header += [f"typed {TYPED[metric].upper()}"] if metric in TYPED else [title_of(metric), "published"]
    notes += [f"[{number}] {source}" for source, number in sources.items()]
    notes += [f"not found: {line}" for line in missing]
    return Table(suite.title, tuple(header), tuple(rows), tuple(notes), words=words)


def _ours(group: Group, metric: str) -> str:
    if metric in TYPED:
        report = group.first.pixel_types
        return GAP if report is None else cell(report.mean.values[TYPED[metric]])
    if metric not in group.first.metrics:
        return GAP
    found = group.spread(metric) if len(group.members) > 1 else group.first.report.mean.values[metric]
    return cell(found) if cell(found) == NOT_DEFINED else cell(found).split(" (")[0]


def _theirs(method: str, data: str, trained_on: str, metric: str, sources: dict[str, int]) -> str:
    """The first published value of such prompts, or of some that the source does not name; the papers' AUPRO has 200 steps."""
    name = "aupro" if metric == LEGACY_METRIC else metric
    if metric == "aupro":  # exact: nobody published it
        return GAP
    for row in published(method, data):
        if name in row.values and row.trained_on in (trained_on, ""):
            return f"{row.values[name]:.1f} [{_number(row, sources)}]"
    return GAP


def _number(row: Published, sources: dict[str, int]) -> int:
    words = f"{row.source} ({row.quality}{', derived' if row.derived else ''}{', ' + row.note if row.note else ''})"
    return sources.setdefault(words, len(sources) + 1)
