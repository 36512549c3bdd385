"""Several trainings that differ in seeds or other values, at the same time: each writes the files that it writes alone."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from blemish.data import DataSet
from blemish.errors import UsageError
from blemish.io.parsing import parse_options
from blemish.scale.cluster import joined_cluster
from blemish.scale.tasks import run_calls
from blemish.training.recipe import recipe_of
from blemish.training.run import Trained, check_trainable, train

__all__ = ["parse_values", "train_variants"]

OF_RECIPE = ("epochs", "batch_size", "rate", "seed", "mosaics")  # values that have an option of their own
OWN_OPTIONS = ("--vary", "--ray", "--out", *(f"--{name.replace('_', '-')}" for name in OF_RECIPE))
UNFIT = re.compile(r"[^\w.+-]+")  # for the name of a folder


def parse_values(texts: Collection[str]) -> dict[str, list[Any]]:
    """The values of each name, from texts NAME=VALUE,VALUE.

    Example:
        >>> parse_values(["seed=1,2", "smoothing=0.5"])
        {'seed': [1, 2], 'smoothing': [0.5]}
    """
    found: dict[str, list[Any]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name or not values.strip():
            raise UsageError(f"--vary takes NAME=VALUE,VALUE, as in seed=1,2,3, not {text!r}")
        if name in found:
            raise UsageError(f"--vary gives {name} twice: put its values into one list")
        found[name] = [parse_options([f"{name}={value}"])[name] for value in values.split(",")]
    return found


def train_variants(
    method: str,
    data: DataSet | str | Path,
    *,
    out: str | Path,
    vary: Mapping[str, Sequence[Any]],
    ray: str | None = None,
    cpus: int | None = None,
    command: Sequence[str] | None = None,
    **options: Any,
) -> list[Trained]:
    """Trains once with every combination of values, as `blemish train --vary` does.

    Each training writes below `out`, in a folder that its values name, what `blemish.train` writes with them in one thread.
    The same call goes on where it was stopped.

    Args:
        method: The method's name.
        data: As `blemish.train` takes it; every machine sees it.
        out: A folder that every machine sees.
        vary: Values by name: epochs, batch_size, rate, seed, mosaics, or an option of the method.
        ray: The address of a cluster, "auto", or "local" (also None) for one on this machine.
        cpus: Cores of a local cluster; None for all.
        command: The words of the command, for the cards; each names the one that trains it alone.
        **options: What `blemish.train` takes.

    Returns:
        The trainings, in the order of the combinations: the last name's values change first.

    Raises:
        UsageError: A value is not what the method or the recipe takes; or a training failed, with its reason.

    Example:
        >>> train_variants("faprompt", "synthetic:200@1", out="prompts", vary={"seed": [1, 2]})  # doctest: +SKIP
    """
    if not vary or not all(vary.values()):
        raise UsageError("name what varies, with values: seed=1,2,3")
    reporter = options.pop("reporter", None)
    recipe = options.pop("recipe", None) or recipe_of(method)
    of_method = dict(options.pop("options", None) or {})
    calls = []
    for values in itertools.product(*vary.values()):
        named = dict(zip(vary, values, strict=True))
        own = {name: value for name, value in named.items() if name in OF_RECIPE}
        others = {**of_method, **{name: value for name, value in named.items() if name not in own}}
        check_trainable(method, others)  # before the first training begins
        folder = Path(out).expanduser().resolve() / UNFIT.sub(
            "-", "_".join(f"{name}-{each}" for name, each in named.items())
        )
        try:
            changed = replace(recipe, **own)
        except TypeError as error:
            raise UsageError(f"{named}: is no value for a recipe ({error})") from error
        alone = _alone(["blemish", "train", method] if command is None else command, folder, own, named)
        calls.append((method, data, {**options, "out": folder, "recipe": changed, "options": others, "command": alone}))
    on_gpu = options.get("device", "cpu") != "cpu"
    with joined_cluster(ray, cpus=cpus) as joined:
        return run_calls(_train, calls, cluster=joined, on_gpu=on_gpu, what="training", reporter=reporter)


def _train(method: str, data: Any, options: Mapping[str, Any]) -> Trained:
    return train(method, data, **options)


def _alone(words: Sequence[str], folder: Path, own: Mapping[str, Any], named: Mapping[str, Any]) -> str:
    """The command that makes this training alone."""
    kept: list[str] = []
    skipping = False
    for word in words:
        name, equals, _ = word.partition("=")
        if name in OWN_OPTIONS:
            skipping = not equals
        elif skipping and not word.startswith("-"):
            skipping = False
        else:
            skipping = False
            kept.append(word)
    kept += ["--out", str(folder)]
    for name, value in named.items():
        kept += [f"--{name.replace('_', '-')}", str(value)] if name in own else ["--set", f"{name}={value}"]
    return shlex.join(kept)
