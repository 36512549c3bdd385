"""`blemish evaluate`: methods on data sets, as a table, files and a page; or the whole protocol of a paper."""

from __future__ import annotations

import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from blemish.cli.options import InputPx, parse_settings
from blemish.errors import UsageError
from blemish.io.progress import TerminalReporter

if TYPE_CHECKING:
    from blemish.evaluation import Session, Settings, Table
    from blemish.io.progress import Reporter

__all__ = ["ListingCommand", "evaluate"]

UNREADABLE = 3  # exit code
FILE_WIDTH = 250  # of tables, where there is no terminal
LISTS = ("--data", "--backbone", "--prompts", "--prompts-for")


class SizeName(StrEnum):
    """Where pixels are compared."""

    MODEL = "model"
    ORIGINAL = "original"


class CacheName(StrEnum):
    """Numbers of cached features."""

    NONE = "none"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    FLOAT32 = "float32"


class PartName(StrEnum):
    """Parts of a data set."""

    TEST = "test"
    TRAIN = "train"
    ALL = "all"


class ListingCommand(TyperCommand):
    """A command whose options in `LISTS` take every word up to the next option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, repeated(args))


def repeated(arguments: list[str]) -> list[str]:
    """`--data a b` as `--data a --data b`, for the options in `LISTS`."""
    found: list[str] = []
    option = ""
    for word in arguments:
        if word.startswith("-"):
            option = word if word in LISTS else ""
            found.append(word)
        elif option and found[-1] != option:
            found += [option, word]
        else:
            found.append(word)
    return found


def evaluate(
    methods: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[METHOD]...", help="Methods, before all options. Default: the backbone's, or the prompts'."
        ),
    ] = None,
    *,
    data: Annotated[
        list[str] | None, typer.Option(metavar="NAME_OR_PATH...", help="Known data sets, folders or lists.")
    ] = None,
    data_root: Annotated[
        Path | None, typer.Option(help="Where data sets lie. Default: $BLEMISH_DATA, else here.", show_default=False)
    ] = None,
    split: Annotated[
        PartName | None, typer.Option(help="Part of the data. Default: test, or all where there is none.")
    ] = None,
    backbone: Annotated[list[str] | None, typer.Option(metavar="NAME...", help="Backbones. Default: embedded.")] = None,
    prompts: Annotated[
        list[str] | None,
        typer.Option(metavar="PLACE...", help="Trained prompts; several of one method give mean ± spread."),
    ] = None,
    suite: Annotated[
        str | None, typer.Option(help="A paper's protocol: faprompt, dapo, or a TOML file.", show_default=False)
    ] = None,
    prompts_for: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SET=PLACE...", help="With --suite: prompts by what they were trained on; else they are trained."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for results. What was stopped there goes on.")] = Path("evaluation"),
    size: Annotated[
        SizeName, typer.Option(help="Compare pixels at the tower's input size, or at each image's own.")
    ] = SizeName.ORIGINAL,
    defects: Annotated[
        str | None, typer.Option(help='Vocabulary: "scratch, hole", or data for the data set\'s own types.')
    ] = None,
    typed: Annotated[bool, typer.Option("--typed", help="Measure which type it is, too, product by product.")] = False,
    legacy: Annotated[
        bool, typer.Option("--legacy", help="The papers' AUPRO of 200 steps, too: a second pass.")
    ] = False,
    rounds: Annotated[int, typer.Option(help="Bootstrap resamples for intervals; 0 for none.")] = 200,
    limit: Annotated[float, typer.Option(help="False positive rate up to which AUPRO goes.")] = 0.3,
    cache: Annotated[
        CacheName, typer.Option(help="Keep image features on the disk, for several prompts or passes.")
    ] = CacheName.NONE,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="An option of the method; may be repeated."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Take prompts of another backbone or other options.")] = False,
    input_px: InputPx = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps.")] = "cpu",
    batch_size: Annotated[int, typer.Option(help="Images of a batch.")] = 8,
    save_every: Annotated[float, typer.Option(metavar="SECONDS", help="Time between two states on the disk.")] = 60.0,
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the tables as Markdown, too.", show_default=False)
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no tables.")] = False,
) -> None:
    """Measure methods on data sets. The same command again goes on where it was stopped.

    Writes results.json, results.csv and report.html (one file, no network) to --out, and a record for each image below runs/.
    Exit codes: 0 all done, 2 bad usage, 3 some images could not be read and are in no number.
    """
    _check_request(methods, data, prompts, suite, prompts_for)
    if suite is not None and input_px is not None:
        raise UsageError("a suite trains and measures at its backbone's own input size: leave --input-px away")
    from blemish import evaluation

    chosen = evaluation.Settings(
        size=size.value,
        defects=_vocabulary(defects),
        typed=typed,
        legacy=legacy,
        rounds=rounds,
        limit=limit,
        batch_size=batch_size,
        cache=cache.value,
        device=device,
        save_every_s=save_every,
    )
    reporter = None if quiet else TerminalReporter()
    if suite is not None:
        session, table = _suite(
            suite,
            _session(out, chosen, settings, force, reporter),
            root=data_root,
            backbones=backbone,
            prompts_for=prompts_for or [],
            device=device,
        )
        tables, title = [table], table.title
    else:
        part = None if split is None else split.value
        found = [evaluation.find_data(where, root=data_root, part=part) for where in data or []]
        choices = list(evaluation.choose(methods or [], backbones=backbone or ["embedded"], prompts=prompts or []))
        session = _session(out, chosen, settings, force, reporter, input_px=input_px)
        session.run(choices, found)
        tables, title = [], "Evaluation"
    _finish(session, tables, title=title, markdown=markdown, quiet=quiet)


def _check_request(
    methods: list[str] | None,
    data: list[str] | None,
    prompts: list[str] | None,
    suite: str | None,
    prompts_for: list[str] | None,
) -> None:
    """Raises UsageError where the options do not go together."""
    if suite is None and not data:
        raise UsageError(
            "name what to measure on: --data NAME_OR_PATH (blemish data list), or a whole protocol: --suite"
        )
    if suite is None and prompts_for:
        raise UsageError("--prompts-for goes with --suite; without one it is --prompts")
    if suite is not None and (methods or data or prompts):
        raise UsageError(
            "a suite says its method, data and prompts: leave METHOD, --data and --prompts away (--prompts-for)"
        )


def _vocabulary(defects: str | None) -> str | tuple[str, ...] | None:
    return tuple(defects.split(",")) if defects is not None and defects != "data" else defects


def _session(
    out: Path,
    chosen: Settings,
    settings: list[str] | None,
    force: bool,
    reporter: Reporter | None,
    *,
    input_px: int | None = None,
) -> Session:
    from blemish.evaluation import open_session

    command = shlex.join(["blemish", *sys.argv[1:]])
    options = parse_settings(settings or [])
    return open_session(
        out, settings=chosen, command=command, reporter=reporter, options=options, force=force, input_px=input_px
    )


def _suite(
    name: str,
    session: Session,
    *,
    root: Path | None,
    backbones: list[str] | None,
    prompts_for: list[str],
    device: str,
) -> tuple[Session, Table]:
    from blemish.evaluation import load_suite, run_suite

    given: dict[str, list[Path]] = {}
    for one in prompts_for:
        trained_on, equals, place = one.partition("=")
        if not equals or not place:
            raise UsageError(f"--prompts-for takes SET=PLACE, as in mvtec=prompts/epoch-7, not {one!r}")
        given.setdefault(trained_on, []).append(Path(place))
    if backbones is not None and len(backbones) > 1:
        raise UsageError("a suite runs on one backbone at a time")
    backbone = backbones[0] if backbones else None
    table = run_suite(load_suite(name), session, root=root, backbone=backbone, prompts=given, device=device)
    return session, table


def _finish(session: Session, tables: list[Table], *, title: str, markdown: Path | None, quiet: bool) -> None:
    from blemish.evaluation import overview
    from blemish.evaluation.markdown import write_markdown

    page = session.write_page(title=title, first=tables)
    groups = session.groups()
    if markdown is not None:
        shown = title if tables else "Benchmarks"
        write_markdown(markdown, groups, session.provenance, first=tables, title=shown)
    if not quiet:
        for table in [*tables, overview(groups)]:
            _print(table)
        for line in _provenance(session):
            typer.echo(line)
        typer.echo(f"written to {session.out}: {page.name}, results.json, results.csv; a record for each image: runs/")
    unreadable = [record for one in session.evaluations for record in one.unreadable]
    for record in unreadable:
        typer.echo(f"unreadable: {record['error']}", err=True)
    if unreadable:
        raise typer.Exit(UNREADABLE)


def _print(table: Table) -> None:
    from rich.console import Console
    from rich.table import Table as RichTable

    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else FILE_WIDTH)
    drawn = RichTable(box=None, pad_edge=False, header_style="bold", padding=(0, 1))
    for place, name in enumerate(table.header):
        drawn.add_column(name, justify="left" if place < table.words else "right", overflow="fold")
    for row in table.rows:
        cells = (text if place < table.words else text.replace(" (", "\n(") for place, text in enumerate(row))
        drawn.add_row(*(text.replace("[", r"\[") for text in cells))
    console.print(table.title, style="bold", markup=False)
    console.print(drawn)
    for note in table.notes:
        console.print(f"  {note}", markup=False)


def _provenance(session: Session) -> list[str]:
    versions = ", ".join(f"{name} {version}" for name, version in session.provenance.versions.items())
    lines = [
        "percent; mean over products; brackets: 95 % bootstrap over images",
        f"command: {session.provenance.command}",
        versions,
    ]
    for one in session.evaluations:
        where = "the tower's input" if one.settings["size"] == "model" else "the images' own size"
        lines.append(
            f"{one.data['name']}: {one.data['variant'] or 'as it lies there'}; split {one.data['split']}; list "
            f"{one.data['list_digest']}; pixels at {where}; backbone {one.model['backbone_fingerprint']} at "
            f"{one.model['input_px']} px, method {one.model['fingerprint']}"
            f"{', prompts ' + str(one.model['prompts']) if one.model['prompts'] else ''}"
        )
        lines += [f"note: {one.data['name']}: {note}" for note in one.notes]
    return lines
