"""`blemish inspect`: images in; verdicts, tables, overlays and masks out."""

from __future__ import annotations

import sys
from enum import StrEnum
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand

from blemish.cli.options import Quiet, command_words, configured, with_address
from blemish.config import Config
from blemish.errors import UsageError

if TYPE_CHECKING:
    from blemish.runs.run import FinishedRun

__all__ = ["RayCommand", "inspect", "print_summary"]

UNREADABLE, FAILED = 3, 4  # exit codes; 2 is bad usage
MOST_NOTES = 5  # in the summary
MOST_MEASURED_S = 60.0  # before a run, for what a budget costs


class PicturesName(StrEnum):
    """What a run on a cluster draws."""

    NONE = "none"
    MASKS = "masks"
    ALL = "all"


class RayCommand(TyperCommand):
    """A command whose `--ray` may stand without an address."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, with_address(args))


class FailOn(StrEnum):
    """From which verdict on the exit code says so."""

    NG = "ng"
    REVIEW = "review"


@configured("model", "vocabulary", "input", "references", "masks", "regions", "thresholds")
def inspect(
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PATH...",
            help="Images, folders (searched recursively) or patterns; - reads a list of them from stdin.",
            show_default=False,
        ),
    ] = None,
    *,
    listed: Annotated[
        Path | None, typer.Option("--list", metavar="FILE", help="A text file that names one PATH a line.")
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Inspect images as they arrive in the folders PATH, until Ctrl-C.")
    ] = False,
    watch_for: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="As --watch, until no image has come for so long.")
    ] = None,
    watch_rest: Annotated[
        float, typer.Option(metavar="SECONDS", help="--watch takes a file when it has not changed for so long.")
    ] = 1.0,
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Inspect in N processes of one thread each; 0: in this one, with all its threads. Default: what a "
            "measurement at the start of a long run finds to be faster.",
            show_default=False,
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="[ADDRESS]",
            help="Inspect on a cluster of Ray: auto, host:port or, without an address, one of this machine alone. PATH may "
            "then also be an address (s3, gs, az, http), or a Parquet table of paths. See docs/scale.md.",
            show_default=False,
        ),
    ] = None,
    column: Annotated[
        str | None, typer.Option(help="With --ray: the column of the tables that holds the paths.", show_default=False)
    ] = None,
    pictures: Annotated[
        PicturesName | None,
        typer.Option(help="With --ray: what is drawn; all are masks and overlays. Default: none.", show_default=False),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="As 2s or 300ms: takes the largest input, in float32 or in 16 bits, that the model looks at in that time on "
            "this machine. Says what it costs.",
            show_default=False,
        ),
    ] = None,
    config: Config,
    out: Annotated[
        Path | None,
        typer.Option(help="New or empty folder for the results. Default: blemish-results, then blemish-results-2 …"),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run in --out.")] = False,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with the run in --out that was cut off; begin it where there is none."),
    ] = False,
    parquet: Annotated[
        bool, typer.Option("--parquet", help="Write the table as results.parquet, too, at the end.")
    ] = False,
    keep_maps: Annotated[
        bool, typer.Option("--keep-maps", help="Keep the raw maps, so that blemish rethreshold finds regions again.")
    ] = False,
    json_lines: Annotated[
        bool,
        typer.Option("--json", help="Results as JSON lines on stdout, nothing else there; files only with --out."),
    ] = False,
    quiet: Quiet = False,
    fail_on: Annotated[FailOn | None, typer.Option(help="Exit with 4 if any image has this verdict or worse.")] = None,
) -> None:
    """Inspect images: verdict, score, defect type and regions of each.

    Exit codes: 0 all done, 2 bad usage, 3 some files could not be read or drawn (before 4), 4 --fail-on met.
    """
    if not paths and listed is None:
        raise UsageError("no images were named: give files, folders or patterns, or --list")
    watch = watch or watch_for is not None
    if watch and (listed is not None or "-" in (paths or ())):
        raise UsageError("--watch takes folders, not lists of images")
    _check_ray(
        ray,
        only_with=column is not None or pictures is not None,
        never_with=watch or keep_maps or json_lines or workers is not None,
    )
    from blemish.io.json_files import json_line
    from blemish.io.parsing import read_list
    from blemish.io.progress import TerminalReporter
    from blemish.runs.run import inspect_folder

    if budget is not None:
        config = _within(budget, config)
    named = [] if listed is None else read_list(listed)
    if "-" in (paths or ()) and isinstance(sys.stdin, TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # names of files may be no text
    for path in paths or []:
        named += [line for line in sys.stdin.read().splitlines() if line.strip()] if path == "-" else [path]
    reporter = TerminalReporter(quiet=quiet)
    if ray is not None:
        from blemish.scale.inspection import inspect_sources

        run = inspect_sources(
            named,
            out=out,
            ray=ray,
            column=column,
            pictures="none" if pictures is None else pictures.value,
            config=config,
            overwrite=overwrite,
            resume=resume,
            reporter=reporter,
            command=command_words(),
        )
        _report_run(run, fail_on, quiet=quiet)
    run = inspect_folder(
        named,
        out=out,
        config=config,
        overwrite=overwrite,
        resume=resume,
        keep_maps=keep_maps,
        parquet=parquet,
        write_files=out is not None or not json_lines,
        watch=watch,
        watch_for_s=watch_for,
        watch_rest_s=watch_rest,
        workers=workers,
        on_record=(lambda record: reporter.say(json_line(record, ascii_only=True))) if json_lines else None,
        reporter=reporter,
        command=command_words(),
    )
    _report_run(run, fail_on, quiet=quiet, to_stderr=json_lines)


def _within(budget: str, config: Config) -> Config:
    """The configuration with the input size and the precision that keep within the budget."""
    from blemish.engines.budget import choose_within, parse_time

    seconds = parse_time(budget)
    fixed = config.input.input_px, config.thresholds.calibration, config.references.profile
    if fixed != (None, None, None) or config.model.precision != "float32":
        raise UsageError("--budget chooses input size and precision: leave out those, a calibration and a profile")
    choice = choose_within(config.model, budget_s=seconds, measure_s=MOST_MEASURED_S)
    typer.echo(f"budget {budget}: {choice}", err=True)
    return config.with_settings(input_px=choice.input_px, precision=choice.precision)


def _check_ray(ray: str | None, *, only_with: bool, never_with: bool) -> None:
    """UsageError where options do not go with a run on a cluster, or not without one."""
    if ray is None and only_with:
        raise UsageError("--column and --pictures are for runs on a cluster: give --ray, too")
    if ray is not None and never_with:
        raise UsageError("--ray goes without --watch, --keep-maps, --json and --workers")


def _report_run(run: FinishedRun, fail_on: FailOn | None, *, quiet: bool, to_stderr: bool = False) -> NoReturn:
    """Says what became of a run, and exits."""
    for error in [*run.counts.unlisted, *run.counts.unreadable]:
        typer.echo(f"unreadable: {error}", err=True)
    for error in run.counts.unwritten:
        typer.echo(f"not drawn: {error}", err=True)
    if not quiet:
        print_summary(run, to_stderr=to_stderr)
    raise typer.Exit(_exit_code(run, fail_on))


def print_summary(run: FinishedRun, *, to_stderr: bool = False) -> None:
    """Prints verdicts, types, thresholds and where the results are."""
    from rich.console import Console
    from rich.table import Table

    counts = run.counts
    console = Console(stderr=to_stderr, highlight=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("verdict")
    table.add_column("images", justify="right")
    table.add_column("", style="dim")
    meanings = {"ng": "not good", "review": "between the thresholds: look at them", "ok": ""}
    for verdict, style in {"ng": "red", "review": "yellow", "ok": "green"}.items():
        if counts.verdicts[verdict] or verdict != "review":
            table.add_row(f"[{style}]{verdict.upper()}[/]", str(counts.verdicts[verdict]), meanings[verdict])
    if counts.unreadable:
        table.add_row("unreadable", str(len(counts.unreadable)))
    if counts.unwritten:
        table.add_row("not drawn", str(len(counts.unwritten)))
    console.print(table)
    for line in _summary_lines(run):
        console.print(line, markup=False)


def _summary_lines(run: FinishedRun) -> list[str]:
    from blemish.images import FoundImages
    from blemish.results import UNKNOWN

    counts, thresholds = run.counts, run.thresholds
    lines = []
    if counts.top_types:
        listed = ", ".join(f"{name} {count}" for name, count in counts.top_types.most_common(5))
        lines.append(f"top types of what is not OK: {listed}")
        if UNKNOWN in counts.top_types:
            lines.append(f"{UNKNOWN}: no type leads clearly there; the overlays say the best guess")
    review = "" if thresholds.review is None else f", review {thresholds.review:.3g}"
    lines.append(
        f"thresholds: image {thresholds.image:.3g} ({thresholds.calibration}){review}, "
        f"pixel {thresholds.pixel:.3g} ({thresholds.pixel_calibration})"
    )
    if run.peers:
        lines.append(run.peers)
    if run.profile:
        lines.append(f"profile: {run.profile}")
    if run.references:
        lines.append(f"each compared with {run.references}")
    lines += [] if run.drift is None else run.drift.lines
    lines += [f"note: {remark}" for remark in run.remarks]
    lines += [
        f"images with more than 8 bits were read as {low:g}:{high:g}" for low, high in sorted(counts.value_ranges)
    ]
    for note, count in counts.notes.most_common(MOST_NOTES):
        lines.append(f"note: {count} {'image' if count == 1 else 'images'}: {note}")
    if counts.left_out:
        lines.append(FoundImages((), counts.left_out).summary)
    if run.workers:
        lines.append(f"inspected by {run.workers} {'process' if run.workers == 1 else 'processes'} of one thread each")
    if run.resumed:
        lines.append(f"of these, {run.resumed} from before --resume")
    if run.path is not None:
        lines.append(f"results: {run.path}")
    return lines


def _exit_code(run: FinishedRun, fail_on: FailOn | None) -> int:
    if run.counts.unreadable or run.counts.unlisted or run.counts.unwritten:
        return UNREADABLE
    failing = {None: (), FailOn.NG: ("ng",), FailOn.REVIEW: ("ng", "review")}[fail_on]
    return FAILED if any(run.counts.verdicts[verdict] for verdict in failing) else 0
