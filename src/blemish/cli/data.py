"""`blemish data`: which data sets are known, and what is in a folder and wrong with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blemish.io.progress import TerminalReporter

if TYPE_CHECKING:
    from blemish.data.checking import Check

__all__ = ["data"]

PROBLEMS = 3  # exit code
MOST_SHOWN = 20
SHEET, LIST, REPORT = "contact-sheet.png", "samples.csv", "check.json"

data = typer.Typer(
    help="List known data sets; check what is in a folder.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
JSON = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@data.command("list")
def list_(*, as_json: JSON = False) -> None:
    """List the data sets that are known: level, contents, licence, and where you get them. Nothing is downloaded."""
    from blemish.data import known_sets

    found = known_sets()
    if as_json:
        keys = ("name", "title", "level", "protocol", "variant", "licence", "home", "get", "folders")
        typer.echo(json.dumps([{key: getattr(known, key) for key in keys} for known in found], indent=2))
        return
    for known in found:
        typer.echo(f"{known.name}: {known.title}; {known.level}; {known.protocol}")
        if not known.reading_of:
            typer.echo(f"    licence: {known.licence}; from {known.home}: {known.get}")
    typer.echo("synthetic:COUNT@SEED: rendered defects, made on the spot; image+pixel")
    typer.echo("Your own: good and bad folders, the layout of MVTec AD, a CSV or Parquet list, COCO, images and masks.")


@data.command("check")
def check(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A folder, a list (.csv, .parquet) or a COCO .json.")],
    *,
    name: Annotated[
        str | None, typer.Option("--as", help="The data set that it is, where several fit.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help=f"Write {SHEET}, {LIST} and {REPORT} to this folder.", show_default=False),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Open no image: names and counts only.")] = False,
    as_json: JSON = False,
) -> None:
    """Say which data set lies at PATH, count it by product and type, and name every problem with its file.

    Ends with 0 where all is well, with 3 where there are problems.
    """
    from blemish.data import entry
    from blemish.data.checking import check as look

    where: str | Path = path if name is None else entry(name).name
    with ExitStack() as stack:
        found = look(where, root=None if name is None else path, quick=quick, progress=_progress(stack))
    report = _as_json(found)
    typer.echo(json.dumps(report, indent=2) if as_json else "\n".join(_lines(found)))
    if out is not None:
        _write(found, out, report)
        if not as_json:
            typer.echo(f"{SHEET}, {LIST} and {REPORT} are in {out}")
    if not found.is_clean:
        raise typer.Exit(PROBLEMS)


def _write(found: Check, out: Path, report: dict[str, object]) -> None:
    from blemish.data.sheet import write_sheet
    from blemish.data.tables import sample_list
    from blemish.io.atomic import make_folder, write_text

    make_folder(out)
    write_sheet(found.reading.samples, out / SHEET)
    write_text(out / LIST, sample_list(found.reading.samples))
    write_text(out / REPORT, json.dumps(report, indent=2) + "\n")


def _progress(stack: ExitStack) -> Callable[[int, int], None]:
    """What shows how many images were looked at; the bar stays until `stack` closes."""
    advance: list[Callable[[], None]] = []

    def show(_done: int, total: int) -> None:
        if not advance:
            advance.append(stack.enter_context(TerminalReporter().progress("looking at images", total)))
        advance[0]()

    return show


def _as_json(found: Check) -> dict[str, object]:
    from dataclasses import asdict

    reading = found.reading
    return {
        "name": reading.dataset.name,
        "read_as": reading.entry.title,
        "path": str(reading.root),
        "level": reading.dataset.level,
        "variant": reading.dataset.variant,
        "licence": reading.dataset.licence,
        "counts": [asdict(row) for row in found.rows],
        "notes": [*reading.entry.notes, *reading.remarks],
        "left_out": list(found.left_out),
        "differences": list(reading.differences),
        "problems": [{"file": problem.path.as_posix(), "what": problem.what} for problem in found.problems],
    }


def _lines(found: Check) -> list[str]:
    reading = found.reading
    dataset = reading.dataset
    said = "; ".join(text for text in (dataset.variant, dataset.licence) if text)
    lines = [
        f"{dataset.name}: {reading.entry.title}, level {dataset.level}, at {reading.root}",
        *([said] if said else []),
        "",
    ]
    table = [("product", "split", "type", "folder", "images", "masks")]
    table += [
        (row.product, row.split, row.defect_type, row.folder, f"{row.images:,}", f"{row.masks:,}") for row in found.rows
    ]
    widths = [max(len(row[column]) for row in table) for column in range(6)]
    for row in table:
        words = [f"{word:{width}}" for word, width in zip(row[:4], widths[:4], strict=True)]
        numbers = [f"{word:>{width}}" for word, width in zip(row[4:], widths[4:], strict=True)]
        lines.append("  ".join([*words, *numbers]))
    total = sum(row.images for row in found.rows)
    lines += [f"{total:,} images in all", ""]
    lines += [f"note: {note}" for note in (*reading.entry.notes, *reading.remarks)]
    lines += [f"left out: {line}" for line in found.left_out]
    lines += [f"not as in the official set: {line}" for line in reading.differences[:MOST_SHOWN]]
    lines += [f"problem: {problem}" for problem in found.problems[:MOST_SHOWN]]
    hidden = len(found.problems) - MOST_SHOWN
    lines += [f"and {hidden} more problems: all are in {REPORT} (--out FOLDER) and --json"] if hidden > 0 else []
    lines.append("no problems" if found.is_clean else f"{len(found.problems) + len(reading.differences)} problems")
    return lines
