"""The optimisers and schedules of the methods' authors, and trainings with them that go on where they were stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import probe
from blemish.errors import UnknownNameError, UsageError
from blemish.io.progress import Reporter
from blemish.methods import METHODS
from blemish.models.prompts import read_prompts
from blemish.training import Recipe, Trained, loop, recipe_of, train
from blemish.training.log import PLOT_FILE
from blemish.training.optimisers import optimiser_of, rate_of_epoch

COSINE = "warm-up and cosine"
SGD = Recipe(epochs=3, batch_size=4, optimiser="sgd", rate=0.05, momentum=0.9, weight_decay=1e-3, schedule=COSINE)
ADAMW = Recipe(epochs=2, batch_size=4, optimiser="adamw", rate=0.05, weight_decay=0.1)


@pytest.fixture(autouse=True)
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLEMISH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(loop, "plot_losses", lambda folder: (folder / PLOT_FILE).touch())
    probe.register()


class StoppedError(Exception):
    """Stands for a kill."""


class Stop(Reporter):
    """Breaks off after some steps of training."""

    def __init__(self, after: int) -> None:
        self.left = after

    @contextmanager
    def progress(self, what: str, total: int | None, *, done: int = 0) -> Iterator[Callable[[], None]]:
        del total, done

        def advance() -> None:
            self.left -= what == "training"
            if self.left <= 0:
                raise StoppedError

        yield advance


def run(out: Path, recipe: Recipe, **options: Any) -> Trained:
    return train(
        "probe", probe.data_set(11), out=out, recipe=recipe, backbone=probe.tiny_clip(), save_every_s=0.0, **options
    )


def test_the_recipes_are_the_authors() -> None:
    coop = recipe_of("coop")
    assert (coop.optimiser, coop.rate, coop.momentum, coop.weight_decay) == ("sgd", 0.002, 0.9, 5e-4)
    assert (coop.schedule, coop.epochs, coop.batch_size) == (COSINE, 15, 8)
    assert recipe_of("cocoop") == coop
    adaclip = recipe_of("adaclip")
    assert (adaclip.optimiser, adaclip.rate, adaclip.weight_decay) == ("adamw", 0.01, 0.01)
    assert (adaclip.betas, adaclip.batch_size, adaclip.epochs, adaclip.seed) == ((0.5, 0.999), 1, 5, 111)
    for name in METHODS:
        recipe_of(name)  # every one is a recipe that can be


def test_the_rate_of_an_epoch() -> None:
    recipe = recipe_of("coop", epochs=50)
    rates = [rate_of_epoch(recipe, epoch) for epoch in range(1, 51)]
    assert rates[:2] == [1e-5, 0.002]
    assert rates[1:] == sorted(rates[1:], reverse=True)
    assert rates[-1] == pytest.approx(7.9e-6, rel=0.01)
    assert rate_of_epoch(recipe_of("coop", epochs=10), 10) == pytest.approx(1.9e-4, rel=0.01)
    assert {rate_of_epoch(Recipe(), epoch) for epoch in range(1, 8)} == {1e-3}


def test_an_optimiser_gets_the_recipe_s_figures() -> None:
    parameter = torch.nn.Parameter(torch.zeros(2))
    sgd, adamw, adam = (optimiser_of(recipe, [parameter]) for recipe in (SGD, ADAMW, Recipe()))
    assert isinstance(sgd, torch.optim.SGD)
    assert {sgd.defaults[name] for name in ("dampening", "nesterov")} == {0}
    assert (sgd.defaults["momentum"], sgd.defaults["weight_decay"]) == (0.9, 1e-3)
    assert isinstance(adamw, torch.optim.AdamW)
    assert (adamw.defaults["betas"], adamw.defaults["weight_decay"]) == ((0.5, 0.999), 0.1)
    assert type(adam) is torch.optim.Adam


@pytest.mark.parametrize("recipe", [SGD, ADAMW], ids=["sgd", "adamw"])
def test_a_training_that_was_stopped_ends_with_the_same_bytes(tmp_path: Path, recipe: Recipe) -> None:
    whole = run(tmp_path / "whole", recipe)
    for steps in (1, 4, 5):
        out = tmp_path / f"stopped-{steps}"
        with pytest.raises(StoppedError):
            run(out, recipe, reporter=Stop(steps))
        again = run(out, recipe)
        assert [file.joinpath("prompts.safetensors").read_bytes() for file in again.prompts] == [
            file.joinpath("prompts.safetensors").read_bytes() for file in whole.prompts
        ]


def test_the_schedule_moves_the_trained_parts(tmp_path: Path) -> None:
    """Without momentum and decay the first epoch's rate, 1e-5, bounds what it moves; the next epoch's is the recipe's."""
    recipe = replace(SGD, momentum=0.0, weight_decay=0.0)
    constant = replace(recipe, schedule="constant")
    warm, plain = (run(tmp_path / name, of) for name, of in (("warm", recipe), ("plain", constant)))
    start, name = probe_start(), "direction"
    moved = [(read_prompts(done.prompts[0]).state[name] - start[name]).abs().max() for done in (warm, plain)]
    assert 0 < moved[0] < moved[1] * 1e-5 / recipe.rate * 2
    second = (read_prompts(warm.prompts[1]).state[name] - read_prompts(warm.prompts[0]).state[name]).abs().max()
    assert second > 100 * moved[0]
    assert read_prompts(warm.prompts[0]).card["recipe"]["schedule"] == COSINE


def probe_start() -> dict[str, torch.Tensor]:
    """The probe's parts before the first step, as a training with this seed draws them."""
    from blemish.training.run import _built

    return {
        name: part.detach() for name, part in _built("probe", probe.tiny_clip(), {}, seed=111).trained_parts().items()
    }


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"optimiser": "adm"}, "unknown optimiser 'adm'; did you mean 'adam'"),
        ({"schedule": "cosine"}, "unknown schedule 'cosine'"),
        ({"optimiser": "sgd", "momentum": 1.0}, "momentum lies in 0..1"),
        ({"momentum": 0.9}, "momentum belongs to the optimiser sgd, not to adam"),
        ({"weight_decay": -1.0}, "weight decay is not negative"),
    ],
)
def test_senseless_optimisers_are_refused(changed: dict[str, Any], words: str) -> None:
    with pytest.raises((UsageError, UnknownNameError), match=words):
        Recipe(**changed)
