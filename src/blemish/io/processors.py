"""How many processors are free for this process, and how threads that have nothing to do wait on them."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path

__all__ = ["THREADS_VARIABLE", "free_processors", "wait_passively"]

THREADS_VARIABLE = "OMP_NUM_THREADS"
# Whoever sets one of these has chosen how threads wait.
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
QUOTAS = ("/sys/fs/cgroup/cpu.max", "/sys/fs/cgroup/cpu/cpu.cfs_quota_us")  # of a container; version 2, version 1
PERIOD_V1 = "/sys/fs/cgroup/cpu/cpu.cfs_period_us"


def wait_passively() -> None:
    """Lets OpenMP's threads sleep while they wait, unless the user has said how they wait.

    By default they spin: where another program wants the same processors, two threads are then slower than one. It is read from
    the environment when torch is loaded, and programs that this process starts inherit it.
    """
    if "torch" not in sys.modules and not any(name in os.environ for name in WAITING):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"


def free_processors() -> int:
    """The number of processors that this process may use: those of its affinity, and no more than its container's quota."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        count = os.cpu_count() or 1
    quota = _quota()
    return max(1, count if quota is None else min(count, math.ceil(quota)))


def _quota() -> float | None:
    """Processors that the container may use, None for all."""
    for place in map(Path, QUOTAS):
        try:
            words = place.read_text(encoding="ascii").split()
            if len(words) == 1:
                words += Path(PERIOD_V1).read_text(encoding="ascii").split()
            quota, period = float(words[0]), float(words[1])  # "max 100000" for no quota, or -1
        except (OSError, ValueError, IndexError):
            continue
        if quota > 0 < period:
            return quota / period
    return None
