"""How many processors there are for this process, and how idle threads wait."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from blemish.io import processors
from blemish.io.processors import free_processors, wait_passively

PRINT = "import os, blemish\nprint(os.environ.get('OMP_WAIT_POLICY'))"


def printed(code: str, **given: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in processors.WAITING} | given
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout.strip()


def test_idle_threads_sleep_unless_the_user_has_said_how_they_wait() -> None:
    assert printed(PRINT) == "PASSIVE"
    assert printed(PRINT, OMP_WAIT_POLICY="active") == "active"
    assert printed(PRINT, GOMP_SPINCOUNT="100") == "None"
    assert printed(PRINT, KMP_BLOCKTIME="200") == "None"


def test_it_is_left_alone_where_torch_has_been_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in processors.WAITING:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(sys.modules, "torch", object())  # type: ignore[arg-type]
    wait_passively()
    assert "OMP_WAIT_POLICY" not in os.environ


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({}, 6),
        ({"max": "max 100000"}, 6),
        ({"max": "150000 100000"}, 2),  # one and a half
        ({"max": "50000 100000"}, 1),
        ({"max": "900000 100000"}, 6),
        ({"quota": "-1", "period": "100000"}, 6),
        ({"quota": "300000", "period": "100000"}, 3),
        ({"quota": "300000"}, 6),
        ({"max": "nonsense"}, 6),
    ],
)
def test_a_container_s_quota_counts(
    files: dict[str, str], free: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text + "\n")
    monkeypatch.setattr(processors, "QUOTAS", (str(tmp_path / "max"), str(tmp_path / "quota")))
    monkeypatch.setattr(processors, "PERIOD_V1", str(tmp_path / "period"))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    assert free_processors() == free
