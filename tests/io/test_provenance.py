"""With what something was made."""

from __future__ import annotations

import re
import sys
from datetime import datetime

import numpy as np
import pytest
import torch

import blemish
from blemish.io.provenance import command_line, commit, utc_now, versions


def test_versions_are_those_that_the_libraries_name_themselves() -> None:
    found = versions()
    assert found["blemish"] == blemish.__version__
    assert (found["torch"], found["numpy"]) == (str(torch.__version__), np.__version__)
    assert {"python", "pillow"} <= set(found)


def test_the_command_the_commit_and_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["script.py", "--fast"])
    assert command_line() == ["script.py", "--fast"]
    found = commit()
    assert found is None or re.fullmatch(r"[0-9a-f]{40}( with uncommitted changes)?", found)
    assert datetime.fromisoformat(utc_now()).utcoffset() is not None
