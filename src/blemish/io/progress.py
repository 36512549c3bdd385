"""A progress bar with images a second and the time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

__all__ = ["progress", "progress_lines"]

LINE_EVERY_S = 30.0  # where there is no terminal to draw a bar on


@contextmanager
def progress(total: int | None, what: str, *, quiet: bool, done: int = 0) -> Iterator[Callable[[], None]]:
    """Yields what advances the progress by one image; `done` were there before, and `total` None is not known.

    A bar on stderr where that is a terminal, else a line every 30 s.
    """
    if quiet:
        yield lambda: None
    elif sys.stderr.isatty():
        with _bar(total, what, done) as advance:
            yield advance
    else:
        yield progress_lines(total, what, done)


@contextmanager
def _bar(total: int | None, what: str, done: int) -> Iterator[Callable[[], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        *(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()),
        *(TextColumn("{task.fields[rate]}"), TimeRemainingColumn(), TextColumn("left")),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total, completed=done, rate="")
        started, count = time.monotonic(), 0

        def advance() -> None:
            nonlocal count
            count += 1
            bar.update(task, advance=1, rate=f"{count / max(time.monotonic() - started, 1e-9):.1f} images/s")

        yield advance


def progress_lines(total: int | None, what: str, done: int) -> Callable[[], None]:
    """What advances the progress by one image and says so on stderr every 30 s."""
    started = last = time.monotonic()
    count = 0

    def advance() -> None:
        nonlocal count, last
        count += 1
        now = time.monotonic()
        if now - last >= LINE_EVERY_S:
            last = now
            rate = count / (now - started)
            rest = "" if total is None else f" of {total}, {(total - done - count) / rate / 60:.0f} min left"
            typer.echo(f"{what}: {done + count}{rest}, {rate:.1f} images/s", err=True)

    return advance
