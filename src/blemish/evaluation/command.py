"""Methods on data sets, or the whole protocol of a paper, into one folder: what `blemish evaluate` does."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from blemish.config import Config
from blemish.data import DataSet
from blemish.errors import UsageError
from blemish.evaluation.candidates import Choice, choose
from blemish.evaluation.finding import find_data
from blemish.evaluation.markdown import write_markdown
from blemish.evaluation.session import Session, open_session
from blemish.evaluation.settings import DATA_TYPES, EvaluationSettings, Kept, Size
from blemish.evaluation.suites import load_suite, run_suite
from blemish.evaluation.tables import Table, overview, typed_overview
from blemish.inspection.load import merge
from blemish.inspection.tiling import check_tiles
from blemish.io.progress import Reporter
from blemish.io.provenance import command_line
from blemish.profiles import read_profile

__all__ = ["Asked", "EvaluationReport", "evaluate"]

Names = str | Path | Iterable[str | Path]


@dataclass(frozen=True, kw_only=True)
class EvaluationReport:
    """What was measured, and where it was written."""

    session: Session  # every evaluation, and where it came from
    tables: tuple[Table, ...]  # the paper's protocol, where one was asked for, and the overview
    page: Path  # report.html; results.json, results.csv and the records of the images lie beside it

    @property
    def unreadable(self) -> list[Mapping[str, Any]]:
        """The records of images that are in no number."""
        return [record for evaluation in self.session.evaluations for record in evaluation.unreadable]


def evaluate(
    data: Names = (),
    *,
    methods: Names = (),
    backbones: Names = (),
    prompts: Names = (),
    suite: str | None = None,
    prompts_for: Mapping[str, Sequence[str | Path]] | None = None,
    data_root: str | Path | None = None,
    split: Literal["train", "test", "all"] | None = None,
    out: str | Path = "evaluation",
    size: Size = "original",
    typed: bool = False,
    legacy: bool = False,
    rounds: int = 200,
    limit: float = 0.3,
    cache: Kept = "none",
    save_every_s: float = 60.0,
    markdown: str | Path | None = None,
    config: Config | None = None,
    reporter: Reporter | None = None,
    command: Sequence[str] | None = None,
    **given: Any,
) -> EvaluationReport:
    """Measures methods on data sets, as `blemish evaluate` does. The same call again goes on where it was stopped.

    Args:
        data: Known data sets, folders or lists.
        methods: Methods; without any, that of the prompts or of the backbone. With `suite`: without any, the paper's; "all" for
            all that the suite lists.
        backbones: Backbones; without any, that of the configuration.
        prompts: Trained prompts; several of one method give a mean and a spread.
        suite: Instead of data and prompts, the protocol of a paper: "faprompt", "dapo", or a TOML file.
        prompts_for: With `suite`: prompts by the data set that they were trained on, for the method that their card names; others
            are trained.
        data_root: Where data sets lie; None for $BLEMISH_DATA, else the current folder.
        split: Part of the data; None for test, or all where there is none.
        out: Folder for results.
        size: Pixels are compared at the model's input size ("model"), or at each image's own ("original").
        typed: Measure which type it is, too, product by product.
        legacy: The papers' AUPRO of 200 steps, too, in a second pass.
        rounds: Bootstrap resamples for intervals; 0 for none.
        limit: False positive rate (0..1) up to which AUPRO goes.
        cache: Keep image features on the disk, as "float16".
        save_every_s: Seconds between two states on the disk.
        markdown: Write the tables as Markdown to this file, too.
        config: A configuration; its thresholds do not matter here.
        reporter: Is told how the work goes on.
        command: What the results name as the command; by default that of this process.
        **given: EvaluationSettings by their names, as `blemish.load` takes them. `defects="data"` takes the data set's own types,
            `peers="data"` the images of each image's own product, `peers="auto"` the same where they are a series; {product} in
            `references` stands for that product.

    Returns:
        The evaluations, their tables, and the page.

    Raises:
        UsageError: A name, a data set or an option is not what was asked for.

    Example:
        >>> report = evaluate("synthetic:40@7", out="evaluation", rounds=0)  # doctest: +SKIP
        >>> report.tables[-1].rows  # doctest: +SKIP
    """
    config = merge(config, given)
    if suite is not None and config.references.profile is not None:
        raise UsageError("a suite measures products that no profile knows: leave --profile away")
    if config.references.profile is not None:
        config = read_profile(config.references.profile).merged(config)
    asked = Asked(data, methods=methods, backbones=backbones, prompts=prompts, config=config)
    _check_request(asked.data, asked.prompts, suite, prompts_for)
    if suite is not None and asked.config.input.input_px is not None:
        raise UsageError("a suite trains and measures at its backbone's own input size: leave --input-px away")
    measuring: dict[str, Any] = {"size": size, "typed": typed, "legacy": legacy, "rounds": rounds, "limit": limit}
    session = asked.session(
        Path(out), **measuring, cache=cache, save_every_s=save_every_s, reporter=reporter, command=command
    )
    root = None if data_root is None else Path(data_root)
    first: tuple[Table, ...] = ()
    if suite is not None:
        if len(asked.backbones) > 1:
            raise UsageError("a suite runs on one backbone at a time")
        first = (
            run_suite(
                load_suite(suite),
                session,
                root=root,
                methods=asked.methods,
                backbone=asked.backbones[0] if asked.backbones else None,
                prompts={name: [Path(path) for path in paths] for name, paths in (prompts_for or {}).items()},
                device=asked.config.model.device,
            ),
        )
    else:
        session.run(asked.choices(), asked.data_sets(root=root, split=split))
    title = first[0].title if first else "Evaluation"
    page = session.write_page(title=title, first=first)
    groups = session.groups()
    if markdown is not None:
        shown = title if first else "Benchmarks"
        write_markdown(Path(markdown), groups, session.provenance, first=first, title=shown)
    types = typed_overview(groups)
    tables = (*first, overview(groups), *(() if types is None else (types,)))
    return EvaluationReport(session=session, tables=tables, page=page)


class Asked:
    """What is to be measured, as it was asked for.

    Args:
        data: Known data sets, folders or lists.
        methods: Methods; without any, that of the prompts or of the backbone.
        backbones: Backbones; without any, that of the configuration.
        prompts: Trained prompts.
        config: The configuration.
    """

    def __init__(self, data: Names, *, methods: Names, backbones: Names, prompts: Names, config: Config) -> None:
        self.data, self.methods = _names(data), _names(methods)
        self.backbones, self.prompts = _names(backbones), _names(prompts)
        self.config = config

    def choices(self) -> list[Choice]:
        """Every model that is measured."""
        model = self.config.model
        own = [model.method] if model.method else []
        trained = [model.prompts] if model.prompts else []
        backbones = self.backbones or [model.backbone]
        return list(choose(self.methods or own, backbones=backbones, prompts=self.prompts or trained))

    def data_sets(self, *, root: Path | None, split: Literal["train", "test", "all"] | None) -> list[DataSet]:
        """Every data set that they are measured on."""
        return [find_data(where, root=root, part=split) for where in self.data]

    def session(
        self, out: Path, *, reporter: Reporter | None = None, command: Sequence[str] | None = None, **measuring: Any
    ) -> Session:
        """The session in a folder; `measuring` are the fields of `EvaluationSettings` that are no part of a configuration."""
        model = self.config.model
        return open_session(
            out,
            settings=_settings(self.config, **measuring),
            command=shlex.join(command_line() if command is None else command),
            reporter=reporter,
            options=model.options,
            force=model.force,
            input_px=self.config.input.input_px,
        )


def _settings(config: Config, **others: Any) -> EvaluationSettings:
    defects = config.vocabulary.defects
    if isinstance(defects, str) and defects != DATA_TYPES:
        defects = tuple(defects.split(","))
    return EvaluationSettings(
        defects=defects,
        vocabulary=config.vocabulary.vocabulary,
        product=config.vocabulary.product,
        tiles=check_tiles(config.input.tiles or "off"),
        roi=config.masks.roi,
        ignore=config.masks.ignore,
        references=None if config.references.peers == "off" else config.references.peers,
        good_references=config.references.references,
        profile=config.references.profile,
        compare_px=config.references.compare_px,
        batch_size=config.model.batch_size,
        device=config.model.device,
        **others,
    )


def _check_request(
    data: Sequence[str],
    prompts: Sequence[str],
    suite: str | None,
    prompts_for: Mapping[str, Any] | None,
) -> None:
    """Raises UsageError where what was asked for does not go together."""
    if suite is None and not data:
        raise UsageError(
            "name what to measure on: --data NAME_OR_PATH (blemish data list), or a whole protocol: --suite"
        )
    if suite is None and prompts_for:
        raise UsageError("--prompts-for goes with --suite; without one it is --prompts")
    if suite is not None and (data or prompts):
        raise UsageError("a suite says its data, and trains: leave --data and --prompts away (--prompts-for)")


def _names(names: Names) -> list[str]:
    return [str(names)] if isinstance(names, str | Path) else [str(name) for name in names]
