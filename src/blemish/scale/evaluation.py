"""An evaluation over many machines: each product of each data set is counted by itself with each model, then all are joined."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blemish.evaluation.command import Asked, EvaluationReport, evaluate
from blemish.evaluation.finding import by_product
from blemish.evaluation.session import Session
from blemish.inspection.load import merge
from blemish.scale.cluster import joined_cluster
from blemish.scale.tasks import run_calls

__all__ = ["evaluate_on_cluster"]

OF_ASKED = ("methods", "backbones", "prompts")
OF_SETTINGS = ("size", "typed", "legacy", "rounds", "limit", "cache", "save_every_s")
_sessions: dict[
    str, tuple[Session, list[Any], list[Any]]
] = {}  # of a process: its model stays loaded from call to call


def evaluate_on_cluster(
    data: Any, *, ray: str | None = None, cpus: int | None = None, **options: Any
) -> EvaluationReport:
    """Measures methods on data sets on a cluster of Ray, as `blemish evaluate --ray` does.

    The numbers are those of `blemish.evaluate` in one process of one thread, to the last bit. The same call goes on where it was
    stopped.

    Args:
        data: Known data sets, folders or lists, which every machine sees.
        ray: The address of a cluster, "auto", or "local" (also None) for one on this machine.
        cpus: Cores of a local cluster; None for all.
        **options: What `blemish.evaluate` takes, but `suite` and `prompts_for`. `out` is a folder that every machine sees.

    Returns:
        The evaluations, their tables, and the page.

    Raises:
        UsageError: A name, a data set or an option is not what was asked for, or a machine cannot take part.

    Example:
        >>> report = evaluate_on_cluster("synthetic:40@7", out="evaluation", rounds=0)  # doctest: +SKIP
    """
    named = [str(data)] if isinstance(data, str | Path) else [str(name) for name in data]
    data = [_absolute(name) for name in named]
    options = {**options, "out": _absolute(options.get("out", "evaluation"), made=True)}
    session, choices, datas = _asked(data, options)
    told = {name: value for name, value in options.items() if name != "reporter"}
    calls = [
        (data, told, choice, place, product)
        for choice in range(len(choices))
        for place, found in enumerate(datas)
        for product in range(len(by_product(found.samples)))
    ]
    on_gpu = session.settings.device != "cpu"
    with joined_cluster(ray, cpus=cpus) as joined:
        run_calls(
            _count, calls, cluster=joined, on_gpu=on_gpu, what="measuring products", reporter=options.get("reporter")
        )
    return evaluate(data, **options)


def _absolute(name: str | Path, *, made: bool = False) -> str:
    """A path as every machine finds it; what is no path stays a name."""
    return str(Path(name).expanduser().resolve()) if made or Path(name).expanduser().exists() else str(name)


def _count(data: Any, options: Mapping[str, Any], choice: int, place: int, product: int) -> int:
    """Counts one product, in a process of the cluster."""
    key = repr((data, sorted((name, str(value)) for name, value in options.items())))
    if key not in _sessions:
        _sessions.clear()
        _sessions[key] = _asked(data, options)
    session, choices, datas = _sessions[key]
    return session.count_apart(choices[choice], datas[place], product)


def _asked(data: Any, options: Mapping[str, Any]) -> tuple[Session, list[Any], list[Any]]:
    """The session, the models and the data sets of a call of `evaluate`."""
    known = {*OF_ASKED, *OF_SETTINGS, "data_root", "split", "out", "markdown", "config", "reporter", "command"}
    given = {name: value for name, value in options.items() if name not in known}
    config = merge(options.get("config"), given)
    asked = Asked(data, **{name: options.get(name, ()) for name in OF_ASKED}, config=config)
    session = asked.session(
        Path(options.get("out", "evaluation")),
        cache="none",
        save_every_s=60.0,
        size="original",
        **{name: options[name] for name in OF_SETTINGS if name in options},
    )
    root = None if options.get("data_root") is None else Path(options["data_root"])
    return session, asked.choices(), asked.data_sets(root=root, split=options.get("split"))
