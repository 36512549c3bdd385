"""A cluster of this machine alone starts again where Ray was too slow, and else says what to do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blemish.errors import UsageError
from blemish.images import save
from blemish.scale import cluster
from blemish.scale.cluster import Cluster, joined_cluster


class SlowRay:
    """As much of ray as a start needs; the first `failures` starts take too long."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.starts = self.ends = 0

    def is_initialized(self) -> bool:
        return False

    def init(self, **_: Any) -> None:
        self.starts += 1
        if self.starts <= self.failures:
            raise RuntimeError("The current node timed out during startup.")

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 2.0}

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True}]

    def shutdown(self) -> None:
        self.ends += 1


@pytest.fixture
def slow(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> SlowRay:
    ray = SlowRay(request.param)
    monkeypatch.setattr(cluster, "ray_modules", lambda: (ray, None))
    monkeypatch.setattr(cluster, "_check_nodes", lambda _: None)
    return ray


@pytest.mark.parametrize("slow", [1], indirect=True)
def test_a_start_that_takes_too_long_once_is_made_again(slow: SlowRay) -> None:
    with joined_cluster("local") as joined:
        assert joined == Cluster(cpus=2, gpus=0, nodes=1)
    assert (slow.starts, slow.ends) == (2, 2)


@pytest.mark.parametrize("slow", [2], indirect=True)
def test_a_start_that_always_takes_too_long_says_what_does_without(slow: SlowRay) -> None:
    refused = pytest.raises(UsageError, match=r"Ray does not start on this machine \(The current node.*--workers")
    with refused, joined_cluster("local"):
        pass
    assert (slow.starts, slow.ends) == (2, 2)


@pytest.mark.slow
def test_an_address_where_no_cluster_is_leaves_nothing_behind(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra ray is not installed")
    save(np.zeros((32, 32, 3), np.uint8), tmp_path / "images" / "0.png")
    words = ["inspect", tmp_path / "images", "--peers", "off", "--ray", "127.0.0.1:1", "--out", tmp_path / "out"]
    done = subprocess.run(
        [sys.executable, "-m", "blemish", *map(str, words)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 2 and "no Ray cluster answers" in done.stderr
    assert not (tmp_path / "out").exists()
