"""The command itself: version, help, and errors without tracebacks."""

from __future__ import annotations

import subprocess
import sys

import pytest

import blemish
from blemish import cli
from blemish.errors import BlemishError


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"blemish {blemish.__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_lists_the_commands(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == 0
    assert "inspect" in capsys.readouterr().out


def test_an_unknown_command_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["inspct"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "inspct" in captured.err


def test_tracebacks_are_shown_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLEMISH_DEBUG", "1")
    with pytest.raises(BlemishError):
        cli.main(["inspect", "missing.png"])


def test_the_module_is_the_command() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "blemish", "inspect", "missing.png"],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr == "blemish: missing.png: no such file or folder\n"
