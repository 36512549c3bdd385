"""Who tells the user how long work goes on: lines on stdout, and a bar on stderr where that is a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from blemish.training import Reporter

__all__ = ["printing_reporter"]

LINE_EVERY_S = 30.0  # of progress, where there is no terminal to draw a bar on


def printing_reporter() -> Reporter:
    """A reporter that prints to stdout, and draws a bar on stderr where that is a terminal."""
    from blemish.training import Reporter

    class Printer(Reporter):
        def say(self, line: str) -> None:
            typer.echo(line)

        @contextmanager
        def progress(self, what: str, total: int, *, done: int = 0) -> Iterator[Callable[[], None]]:
            drawing = _bar(what, total, done) if sys.stderr.isatty() else _lines(what, total, done)
            with drawing as advance:
                yield advance

    return Printer()


@contextmanager
def _bar(what: str, total: int, done: int) -> Iterator[Callable[[], None]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total, completed=done)
        yield lambda: bar.advance(task)


@contextmanager
def _lines(what: str, total: int, done: int) -> Iterator[Callable[[], None]]:
    """A line on stderr now and then, with the time left."""
    started = last = time.monotonic()
    count = done

    def advance() -> None:
        nonlocal count, last
        count += 1
        now = time.monotonic()
        if now - last >= LINE_EVERY_S:
            last = now
            left = (now - started) / (count - done) * (total - count)
            typer.echo(f"{what}: {count} of {total}, {left / 60:.0f} min left", err=True)

    yield advance
