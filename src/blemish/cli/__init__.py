"""The command `blemish`. A command is a function in a module of its own, registered here in one line.

These modules are imported for `blemish --help`: torch, NumPy and the rest come in only when a command runs.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated, cast

import typer

from blemish._version import __version__
from blemish.cli.cache import cache
from blemish.cli.calibrate import calibrate
from blemish.cli.data import data
from blemish.cli.demo import demo
from blemish.cli.engines import engines
from blemish.cli.evaluate import ListingCommand, evaluate
from blemish.cli.export import export
from blemish.cli.export_model import export_model
from blemish.cli.inspect import RayCommand, inspect
from blemish.cli.learn import learn
from blemish.cli.methods import methods
from blemish.cli.models import models
from blemish.cli.report import report
from blemish.cli.rethreshold import rethreshold
from blemish.cli.serve import serve
from blemish.cli.synthesize import synthesize
from blemish.cli.train import train
from blemish.cli.vocabulary import vocabulary
from blemish.errors import BlemishError

__all__ = ["app", "main", "run"]

DEBUG_VARIABLE = "BLEMISH_DEBUG"  # set: errors come with their traceback
USAGE, INTERRUPTED = 2, 130
# click's UsageError, which newer versions of typer carry inside themselves
BadUsage = cast("type[typer.BadParameter]", typer.BadParameter.__bases__[0])

app = typer.Typer(
    name="blemish",
    help="Finds, locates and names defects in images, without training.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("inspect", cls=RayCommand)(inspect)
app.command("learn")(learn)
app.command("calibrate")(calibrate)
app.command("rethreshold")(rethreshold)
app.command("report")(report)
app.command("export")(export)
app.command("demo")(demo)
app.command("train", cls=RayCommand)(train)
app.command("synthesize")(synthesize)
app.command("evaluate", cls=ListingCommand)(evaluate)
app.command("methods")(methods)
app.command("engines")(engines)
app.command("export-model")(export_model)
app.add_typer(models, name="models")
app.add_typer(cache, name="cache")
app.add_typer(data, name="data")
app.add_typer(serve, name="serve")
app.add_typer(vocabulary, name="vocabulary")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"blemish {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None and not version:
        typer.echo(context.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code of the command with these arguments (those of the process by default).

    What Blemish raises on purpose becomes one line on stderr and exit code 2.
    """
    warnings.filterwarnings("ignore", module=r"PIL\.")  # remarks on metadata; damage is reported as an error
    logging.getLogger("tifffile").addHandler(logging.NullHandler())
    for stream in (sys.stdout, sys.stderr):  # names in scripts that a console (cp1252 on Windows) cannot write
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        result = app(args=None if arguments is None else list(arguments), prog_name="blemish", standalone_mode=False)
    except BadUsage as error:
        return _fail(f"{error.format_message()} (see blemish --help)")
    except BlemishError as error:
        if os.environ.get(DEBUG_VARIABLE):
            raise
        return _fail(str(error))
    except (KeyboardInterrupt, typer.Abort):
        result = INTERRUPTED
    if result == INTERRUPTED:  # typer, too, turns a KeyboardInterrupt into this exit code
        typer.echo("blemish: interrupted", err=True)
    return result if isinstance(result, int) else 0


def run() -> None:
    """The console script."""
    sys.exit(main())


def _fail(message: str) -> int:
    typer.echo(f"blemish: {' '.join(message.split())}", err=True)
    return USAGE
