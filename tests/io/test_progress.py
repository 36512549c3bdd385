"""Progress goes to stderr, and to nobody where nobody asked; results on stdout stay there."""

from __future__ import annotations

import io
import sys

import pytest

from blemish.io import progress
from blemish.io.progress import Reporter, TerminalReporter


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_reporter_tells_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    with Reporter().progress("inspecting", 3) as advance:
        advance()
    Reporter().say("hello")
    assert capsys.readouterr() == ("", "")


def test_quiet_shows_no_progress_but_says_what_is_to_be_said(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = TerminalReporter(quiet=True)
    with reporter.progress("inspecting", 3) as advance:
        reporter.say("a record")
        advance()
    assert capsys.readouterr() == ("a record\n", "")


def test_without_a_terminal_progress_is_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.0)
    with TerminalReporter().progress("inspecting", 3, done=1) as advance:
        advance()
    assert capsys.readouterr().err.startswith("inspecting: 2 of 3, 0 min left, ")


def test_a_bar_on_the_terminal_leaves_a_redirected_stdout_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = io.StringIO(), Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    reporter = TerminalReporter()
    with reporter.progress("inspecting", 2) as advance:
        reporter.say('{"verdict": "ok"}')
        sys.stdout.write("printed\n")
        advance()
    assert out.getvalue() == '{"verdict": "ok"}\nprinted\n'
    assert "inspecting" in err.getvalue()
    assert "verdict" not in err.getvalue()
