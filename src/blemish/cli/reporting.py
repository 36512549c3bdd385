"""Who tells the user how long work goes on: lines on stdout, and a bar on stderr where that is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from blemish.io.progress import progress_lines

if TYPE_CHECKING:
    from rich.progress import Progress

    from blemish.training import Reporter

__all__ = ["printing_reporter"]


def printing_reporter() -> Reporter:
    """A reporter that prints to stdout, and draws a bar on stderr where that is a terminal."""
    from blemish.training import Reporter

    class Printer(Reporter):
        bar: Progress | None = None

        def say(self, line: str) -> None:
            if self.bar is not None and sys.stdout.isatty():  # above the bar, not through it
                self.bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
            else:
                typer.echo(line)

        @contextmanager
        def progress(self, what: str, total: int, *, done: int = 0) -> Iterator[Callable[[], None]]:
            if not sys.stderr.isatty():
                yield progress_lines(total, what, done)
                return
            with _bar() as bar:
                self.bar, task = bar, bar.add_task(what, total=total, completed=done)
                yield lambda: bar.advance(task)
            self.bar = None

    return Printer()


def _bar() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    return Progress(
        *columns, console=Console(stderr=True), transient=True, redirect_stdout=False, redirect_stderr=False
    )
