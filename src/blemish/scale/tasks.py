"""Calls of a function spread over a cluster: each done again where its process ends, and their failures in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from blemish.errors import BlemishError, UsageError
from blemish.io.progress import Reporter
from blemish.scale.cluster import Cluster, ray_modules

__all__ = ["run_calls"]

CALL_TRIES = 3  # times that a call is done again whose process has ended: what it has written stays, and it goes on
AHEAD = 2  # calls for each processor that the cluster knows of at once


def run_calls(
    work: Callable[..., Any],
    calls: Sequence[tuple[Any, ...]],
    *,
    cluster: Cluster,
    on_gpu: bool = False,
    what: str = "working",
    reporter: Reporter | None = None,
) -> list[Any]:
    """What `work(*call)` gives for each call, in their order.

    Args:
        work: A function of a module that every machine has.
        calls: The arguments of each call.
        cluster: Where they run; each call on one processor.
        on_gpu: Each call also takes a GPU.
        what: The work, for the reporter.
        reporter: Is told how it goes on.

    Raises:
        UsageError: A call failed, with the reason of the first one that did.
    """
    ray, _ = ray_modules()
    remote = ray.remote(num_cpus=1, num_gpus=1 if on_gpu else 0, max_retries=CALL_TRIES)(_guarded)
    results: list[Any] = [None] * len(calls)
    waiting: dict[Any, int] = {}
    upcoming = iter(enumerate(calls))
    with (reporter or Reporter()).progress(what, len(calls)) as advance:
        while True:
            while len(waiting) < AHEAD * max(1, cluster.cpus) and (following := next(upcoming, None)) is not None:
                number, call = following
                waiting[remote.remote(work, *call)] = number
            if not waiting:
                return results
            done, _ = ray.wait(list(waiting), num_returns=1)
            number = waiting.pop(done[0])
            try:
                result, refused = ray.get(done[0])
            except ray.exceptions.RayError as error:
                said = str(error).strip().splitlines()[-1][:300]
                raise UsageError(f"{what}: part {number + 1} of {len(calls)} failed ({said})") from error
            if refused is not None:
                raise UsageError(refused)
            results[number] = result
            advance()


def _guarded(work: Callable[..., Any], *call: Any) -> tuple[Any, str | None]:
    """What a call gives, or what it refuses, in words."""
    try:
        return work(*call), None
    except BlemishError as error:
        return None, str(error)
