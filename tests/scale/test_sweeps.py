"""Trainings at the same time: each leaves the files that it leaves alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import probe
from blemish import models as store
from blemish.errors import UnknownNameError, UsageError
from blemish.scale import sweeps
from blemish.scale.sweeps import parse_values, train_variants
from blemish.training import loop, recipe_of, train


@pytest.fixture(autouse=True)
def here_instead_of_a_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Calls run one after the other in this process; the backbone is tiny."""

    @contextmanager
    def nothing(*_: object, **__: object) -> Iterator[None]:
        yield

    def run(work: Callable[..., Any], calls: Sequence[tuple[Any, ...]], **_: object) -> list[Any]:
        return [work(*call) for call in calls]

    monkeypatch.setattr(sweeps, "joined_cluster", nothing)
    monkeypatch.setattr(sweeps, "run_calls", run)
    monkeypatch.setattr(store, "load_backbone", lambda _: probe.tiny_clip())
    monkeypatch.setattr(loop, "plot_losses", lambda _: None)
    monkeypatch.setenv("BLEMISH_HOME", str(tmp_path / "home"))
    probe.register()


def test_each_training_writes_what_it_writes_alone(tmp_path: Path) -> None:
    data = probe.data_set(8)
    recipe = recipe_of("probe", epochs=1, batch_size=4, cache_dtype="none")
    words = ["blemish", "train", "probe", "--vary", "seed=1,2", "--out", "x"]
    found = train_variants("probe", data, out=tmp_path / "many", vary={"seed": [1, 2]}, recipe=recipe, command=words)
    assert [one.out.name for one in found] == ["seed-1", "seed-2"]
    for seed, one in zip((1, 2), found, strict=True):
        command = f"blemish train probe --out {one.out} --seed {seed}"
        alone = train("probe", data, out=tmp_path / f"alone{seed}", recipe=replace(recipe, seed=seed), command=command)
        for theirs, ours in zip(one.prompts, alone.prompts, strict=True):
            assert (theirs / "prompts.safetensors").read_bytes() == (ours / "prompts.safetensors").read_bytes()
            cards = [json.loads((folder / "card.json").read_text(encoding="utf-8")) for folder in (theirs, ours)]
            assert cards[0].keys() == cards[1].keys()
            assert cards[0]["command"] == cards[1]["command"] == command
    first, second = ((one.prompts[-1] / "prompts.safetensors").read_bytes() for one in found)
    assert first != second


def test_values_are_checked_before_the_first_training(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="nonsense"):
        train_variants("probe", probe.data_set(8), out=tmp_path / "many", vary={"seed": [1], "nonsense": [2]})
    with pytest.raises(UsageError):
        train_variants("probe", probe.data_set(8), out=tmp_path / "many", vary={"epochs": [1, 0]})
    assert not (tmp_path / "many").exists()


@pytest.mark.parametrize("text", ["seed", "seed=", "=1"])
def test_values_without_a_name_and_names_without_a_value_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--vary takes NAME=VALUE"):
        parse_values([text])


def test_a_name_is_given_once() -> None:
    with pytest.raises(UsageError, match="gives seed twice"):
        parse_values(["seed=1", "seed=2"])
