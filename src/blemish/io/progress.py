"""Who is told how work goes on: nobody, or a person at a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["Advance", "Reporter", "TerminalReporter"]

LINE_EVERY_S = 30.0  # where there is no terminal to draw a bar on


class Advance(Protocol):
    """Is called after each piece of work, done or failed."""

    def __call__(self, *, failed: bool = False) -> None: ...


class Reporter:
    """Is told how work goes on, and tells nobody. Everything that takes long takes a reporter; the command line's one prints."""

    def say(self, line: str) -> None:
        """One line worth reading."""

    def progress(self, what: str, total: int | None, *, done: int = 0) -> AbstractContextManager[Advance]:
        """A context with a function that is called after each piece of work.

        Args:
            what: The work, as "inspecting".
            total: All pieces of work; None where nobody knows.
            done: Pieces that were done before.
        """
        del what, total, done
        return _silent()


class TerminalReporter(Reporter):
    """Prints lines to stdout; shows progress on stderr: a bar on a terminal, else a line every 30 s, nothing where `quiet`."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self._bar: Progress | None = None

    def say(self, line: str) -> None:
        if self._bar is not None and sys.stdout.isatty():  # above the bar, not through it
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            print(line, flush=True)  # noqa: T201

    def progress(self, what: str, total: int | None, *, done: int = 0) -> AbstractContextManager[Advance]:
        if self.quiet:
            return _silent()
        return self._drawn(what, total, done) if sys.stderr.isatty() else _lines(what, total, done)

    @contextmanager
    def _drawn(self, what: str, total: int | None, done: int) -> Iterator[Advance]:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            *(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()),
            *(TextColumn("{task.fields[rate]}"), TimeRemainingColumn(), TextColumn("left")),
        )
        # stdout may be a file: results must not go to the bar's terminal instead
        console = Console(stderr=True)
        with Progress(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False) as bar:
            self._bar, task = bar, bar.add_task(what, total=total, completed=done, rate="")
            started, count, failures = time.monotonic(), 0, 0

            def advance(*, failed: bool = False) -> None:
                nonlocal count, failures
                count, failures = count + 1, failures + failed
                rate = f"{count / max(time.monotonic() - started, 1e-9):.1f} images/s"
                bar.update(task, advance=1, rate=f"{rate}{_failed(failures)}")

            try:
                yield advance
            finally:
                self._bar = None


@contextmanager
def _silent() -> Iterator[Advance]:
    def advance(*, failed: bool = False) -> None:
        del failed

    yield advance


@contextmanager
def _lines(what: str, total: int | None, done: int) -> Iterator[Advance]:
    started = last = time.monotonic()
    count = failures = 0

    def advance(*, failed: bool = False) -> None:
        nonlocal count, failures, last
        count, failures = count + 1, failures + failed
        now = time.monotonic()
        if now - last >= LINE_EVERY_S:
            last = now
            rate = count / (now - started)
            rest = "" if total is None else f" of {total}, {(total - done - count) / rate / 60:.0f} min left"
            print(f"{what}: {done + count}{rest}, {rate:.1f} images/s{_failed(failures)}", file=sys.stderr, flush=True)  # noqa: T201

    yield advance


def _failed(count: int) -> str:
    return f", {count} failed" if count else ""
