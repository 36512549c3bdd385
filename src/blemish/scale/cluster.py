"""A cluster of Ray: joined or started here, and each of its machines looked at before there is work."""

from __future__ import annotations

import importlib.util
import logging
import os
import platform
import socket
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from blemish.errors import MissingExtraError, UsageError
from blemish.io.provenance import versions

__all__ = ["Cluster", "check_answers", "check_same", "joined_cluster", "node_facts", "ray_modules"]

LOCAL = "local"  # a cluster of this machine alone, for as long as the run takes
COMPARED = ("blemish", "python", "torch", "numpy", "pillow")  # versions that must be the same everywhere
CONNECT_S, LOOK_S = 5.0, 120.0
DEFAULT_PORT = 6379
START_TRIES = 2  # of a local cluster: Ray waits for itself for 30 s, which a busy machine may exceed once
STORE_BYTES = 2**30  # of a local cluster's object store, at most


@dataclass(frozen=True)
class Cluster:
    """What a cluster has to work with."""

    cpus: int
    gpus: int
    nodes: int


@contextmanager
def joined_cluster(address: str | None = None, *, cpus: int | None = None) -> Iterator[Cluster]:
    """The cluster at an address, joined for as long as the block takes.

    Args:
        address: "auto" (the one that runs on this machine), "host:port", "ray://host:port", or "local" (also None): one of this
            machine alone, started here and ended with the block.
        cpus: Cores of a local one; None for all.

    Raises:
        UsageError: No cluster answers there, or its machines differ in a version that decides scores.
        MissingExtraError: Ray is not installed.
    """
    ray, _ = ray_modules()
    began = not ray.is_initialized()
    if began:
        _join(ray, address or LOCAL, cpus)
    try:
        resources = ray.cluster_resources()
        _check_nodes(ray)
        nodes = sum(1 for node in ray.nodes() if node["Alive"])
        yield Cluster(cpus=int(resources.get("CPU", 1)), gpus=int(resources.get("GPU", 0)), nodes=nodes)
    finally:
        if began:
            ray.shutdown()


def ray_modules() -> tuple[Any, Any]:
    """ray and ray.data.

    Raises:
        MissingExtraError: They are not installed.
    """
    if importlib.util.find_spec("ray") is None:
        raise MissingExtraError("ray", "ray", "work spread over several machines")
    for name, value in {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}.items():
        os.environ.setdefault(name, value)
    import ray
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    return ray, ray.data


def _join(ray: Any, address: str, cpus: int | None) -> None:
    quiet = {"log_to_driver": False, "logging_level": "error", "include_dashboard": False}
    if address == LOCAL:
        _start(ray, cpus, quiet)
        return
    if address != "auto":
        check_answers(address)
    try:
        ray.init(address=address, **{name: value for name, value in quiet.items() if name != "include_dashboard"})
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        raise UsageError(f"--ray {address}: no Ray cluster could be joined there ({_said(error)})") from error


def _start(ray: Any, cpus: int | None, quiet: dict[str, Any]) -> None:
    """A cluster of this machine alone."""
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)  # noqa: PTH109
    for tries_left in reversed(range(START_TRIES)):
        try:
            ray.init(
                address="local",
                num_cpus=cpus,
                object_store_memory=STORE_BYTES,
                runtime_env={"env_vars": {"PYTHONPATH": paths, "OMP_WAIT_POLICY": "PASSIVE"}},
                **quiet,
            )
            return
        except Exception as error:  # of no kind of its own, where it does not start in time
            ray.shutdown()
            if not tries_left:
                raise UsageError(
                    f"Ray does not start on this machine ({_said(error)}); --workers does without"
                ) from error


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def check_answers(address: str) -> None:
    """UsageError where nobody listens: Ray itself would try for a long time."""
    parts = urlsplit(address if "://" in address else f"ray://{address}")
    try:
        host, port = parts.hostname, parts.port or DEFAULT_PORT
    except ValueError as error:
        raise UsageError(f"--ray {address}: is no address; give host:port, auto or local") from error
    if not host:
        raise UsageError(f"--ray {address}: is no address; give host:port, auto or local")
    try:
        with socket.create_connection((host, port), timeout=CONNECT_S):
            pass
    except OSError as error:
        raise UsageError(f"--ray {address}: no Ray cluster answers there ({error.strerror or error})") from error


def node_facts() -> dict[str, str]:
    """The versions on this machine that decide scores."""
    known = {"python": platform.python_version(), **versions()}
    return {name: known[name] for name in COMPARED if name in known}


def _check_nodes(ray: Any) -> None:
    """Asks every machine for its versions."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
    ask = ray.remote(num_cpus=0, max_retries=1)(node_facts)
    asked = {
        ask.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False)).remote(): where
        for node_id, where in nodes.items()
    }
    found: dict[str, dict[str, str]] = {}
    for number, (reference, where) in enumerate(asked.items()):
        try:
            found[f"{where} ({number})" if where in found else where] = ray.get(reference, timeout=LOOK_S)
        except Exception as error:  # whatever keeps a machine from answering
            said = str(error).strip().splitlines()[-1][:200]
            raise UsageError(f"the machine {where} cannot take part ({said}); install blemish there") from error
    check_same(node_facts(), found)


def check_same(here: dict[str, str], found: dict[str, dict[str, str]]) -> None:
    """UsageError, with every difference, where machines have other versions than this one."""
    differences: dict[str, list[str]] = defaultdict(list)
    for where, facts in found.items():
        for name, version in here.items():
            if facts.get(name) != version:
                differences[f"{name} {facts.get(name, 'none')}, not {version}"].append(where)
    if differences:
        told = "; ".join(f"{what} on {', '.join(machines)}" for what, machines in differences.items())
        raise UsageError(f"machines of the cluster differ from this one, so that scores would: {told}")
