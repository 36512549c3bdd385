"""The loop: what it writes, that it goes on as if never stopped, and that it stops at what is no number."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import blemish
import probe
from blemish.errors import ModelError, UsageError
from blemish.io.progress import Reporter
from blemish.language import Vocabulary
from blemish.methods.base import Features, Losses, Targets
from blemish.methods.text_cache import TextCache
from blemish.models.prompts import read_prompts
from blemish.training import Recipe, Trained, log, loop, recipe_of, state, train
from blemish.training.loop import order_of_epoch
from blemish.training.run import IDENTITY_FILE

RECIPE = Recipe(epochs=2, batch_size=4, rate=0.05)
STEPS = 6  # 11 images in batches of 4, twice


@pytest.fixture(autouse=True)
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLEMISH_HOME", str(tmp_path / "home"))
    probe.register()


@pytest.fixture(autouse=True)
def quick_plot(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Drawing takes longer than training here: a file of its name stands for the plot."""
    if request.node.originalname not in (
        "test_a_plot_shows_every_loss_term",
        "test_without_matplotlib_a_sentence_stands_for_the_plot",
    ):
        monkeypatch.setattr(loop, "plot_losses", lambda folder: (folder / log.PLOT_FILE).touch())


class Notes(Reporter):
    """Keeps what is said, and breaks off after some steps of training where it is told to."""

    def __init__(self, *, break_after: float = math.inf) -> None:
        self.lines: list[str] = []
        self.left = break_after

    def say(self, line: str) -> None:
        self.lines.append(line)

    @contextmanager
    def progress(self, what: str, total: int, *, done: int = 0) -> Iterator[Callable[[], None]]:
        del total, done

        def advance() -> None:
            self.left -= what == "training"
            if self.left <= 0:
                raise KilledError

        yield advance


class KilledError(Exception):
    """Stands for a kill: nothing of ours catches it."""


def test_each_method_starts_from_its_authors_recipe() -> None:
    assert recipe_of("faprompt") == Recipe()
    assert recipe_of("dapo") == Recipe(epochs=5, seed=42)
    assert recipe_of("dapo", epochs=1, rate=0.1) == Recipe(epochs=1, seed=42, rate=0.1)
    with pytest.raises(UsageError, match="dappo"):
        recipe_of("dappo")


def run(out: Path, *, method: str = "probe", images: int = 11, **options: Any) -> Trained:
    settings: dict[str, Any] = {"recipe": RECIPE, "backbone": probe.tiny_clip(), "save_every_s": 0.0, **options}
    return train(method, settings.pop("data", None) or probe.data_set(images), out=out, **settings)


def records(out: Path) -> list[dict[str, Any]]:
    """The log without what a clock decides."""
    return [
        {key: value for key, value in record.items() if not key.endswith("seconds")}
        for record in log.read_log(out / log.LOG_FILE)
    ]


def prompts_of(out: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(out.glob("epoch-*/prompts.safetensors"))]


def test_a_training_writes_prompts_with_a_card_after_every_epoch_and_every_step_into_the_log(tmp_path: Path) -> None:
    done = run(tmp_path / "out", held_out=probe.data_set(8, seed=5), command="blemish train probe")
    assert [path.name for path in done.prompts] == ["epoch-01", "epoch-02"]
    card = read_prompts(done.prompts[1]).card
    assert (card["method"], card["options"]) == ("probe", {"noise": 0.01, "weight": 1.0})
    assert card["backbone"] == {"name": "tiny", "fingerprint": probe.tiny_clip().fingerprint()}
    assert card["data"]["name"] == "squares"
    assert card["types"] == ["spot"]  # the data's own, which the numbers in its targets stand for
    assert (card["data"]["images"], card["data"]["normal"], card["data"]["split"]) == (11, 6, "train")
    assert (card["recipe"]["seed"], card["recipe"]["batch_size"], card["epoch"]) == (111, 4, 2)
    assert (card["command"], card["versions"]["torch"]) == ("blemish train probe", torch.__version__)
    assert set(card["metrics"]) == {"image_auroc", "pixel_auroc"}
    assert 0 < card["thresholds"]["review"] <= card["thresholds"]["image"] <= 1
    assert 0 < card["thresholds"]["pixel"] <= 1

    written = records(done.out)
    assert [record["step"] for record in written if record["kind"] == "step"] == [1, 2, 3, 4, 5, 6]
    assert [record["kind"] for record in written].index("epoch") == 3
    first = [record["losses"] for record in written[:3]]
    means = {name: float(np.mean([losses[name] for losses in first])) for name in ("places", "image", "total")}
    assert written[3]["means"] == pytest.approx(means)


def test_a_plot_shows_every_loss_term(tmp_path: Path) -> None:
    done = run(tmp_path / "out")
    with Image.open(done.out / log.PLOT_FILE) as picture:
        assert picture.width > picture.height  # three panels side by side


def test_losses_fall_and_only_trained_parts_move(tmp_path: Path) -> None:
    clip = probe.tiny_clip()
    before = clip.fingerprint()
    done = run(tmp_path / "out", backbone=clip, recipe=replace(RECIPE, epochs=8))
    assert clip.fingerprint() == before
    totals = [record["means"]["total"] for record in done.history]
    assert totals[-1] < 0.8 * totals[0]
    assert torch.equal(read_prompts(done.prompts[-1]).state["unused"], torch.ones(3))


def test_the_seed_decides_everything_and_the_callers_random_numbers_nothing(tmp_path: Path) -> None:
    torch.manual_seed(1)
    one = prompts_of(run(tmp_path / "one").out)
    torch.manual_seed(2)
    expected = torch.random.get_rng_state()
    assert prompts_of(run(tmp_path / "two").out) == one
    assert torch.equal(torch.random.get_rng_state(), expected)
    assert prompts_of(run(tmp_path / "other", recipe=replace(RECIPE, seed=7)).out) != one


def test_every_epoch_sees_every_image_once_in_another_order() -> None:
    first, second = (order_of_epoch(50, seed=3, epoch=epoch) for epoch in (0, 1))
    assert sorted(first) == sorted(second) == list(range(50))
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, order_of_epoch(50, seed=3, epoch=0))


def test_a_last_batch_of_one_image_is_trained_on(tmp_path: Path) -> None:
    done = run(tmp_path / "out", images=9)
    assert done.history[-1]["step"] == 6


@pytest.mark.parametrize("method", ["probe", "inside"])
@pytest.mark.parametrize("save_every_s", [0.0, 1e9])
def test_a_training_that_was_broken_off_after_any_step_ends_with_the_same_bytes(
    tmp_path: Path, save_every_s: float, method: str
) -> None:
    whole = run(tmp_path / "whole", method=method, held_out=probe.data_set(6, seed=5))
    for steps in range(1, STEPS + 1):
        out = tmp_path / f"broken-{steps}"
        again = {"method": method, "held_out": probe.data_set(6, seed=5), "save_every_s": save_every_s}
        with pytest.raises(KilledError):
            run(out, reporter=Notes(break_after=steps), **again)
        run(out, **again)
        assert prompts_of(out) == prompts_of(whole.out), f"broken off after step {steps}"
        assert records(out) == records(whole.out), f"broken off after step {steps}"


@pytest.mark.parametrize("broken", ["save_state", "write_prompts", "measure", "plot_losses"])
@pytest.mark.parametrize("after", [False, True])
def test_a_break_while_something_is_written_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str, after: bool
) -> None:
    held_out = probe.data_set(6, seed=5)
    whole = run(tmp_path / "whole", held_out=held_out)
    real = getattr(loop, broken)

    def broken_off(*arguments: Any, **options: Any) -> Any:
        if after:
            real(*arguments, **options)
        raise KilledError

    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(loop, broken, broken_off)
        run(tmp_path / "out", held_out=held_out, save_every_s=1e9)
    run(tmp_path / "out", held_out=held_out)
    assert prompts_of(tmp_path / "out") == prompts_of(whole.out)
    assert records(tmp_path / "out") == records(whole.out)


def test_a_torn_last_line_of_the_log_is_cut(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole")
    out = tmp_path / "out"
    with pytest.raises(KilledError):
        run(out, reporter=Notes(break_after=4))
    with (out / log.LOG_FILE).open("ab") as file:
        file.write(b'{"kind": "step", "epo')
    run(out)
    assert records(out) == records(whole.out)


def test_features_are_computed_once_and_a_damaged_entry_once_more(tmp_path: Path) -> None:
    probe.Probe.encoded = 0
    run(tmp_path / "one")
    assert probe.Probe.encoded == 11 + 1  # and one blank image, to reckon the room on the disk
    run(tmp_path / "two", recipe=replace(RECIPE, seed=2))
    assert probe.Probe.encoded == 12
    damaged = next((tmp_path / "home" / "features").glob("*/??/*.safetensors"))
    damaged.write_bytes(bytes(damaged.stat().st_size))
    again = run(tmp_path / "three")
    assert probe.Probe.encoded == 14
    assert prompts_of(again.out) == prompts_of(tmp_path / "one")


def test_without_a_cache_the_tower_sees_every_batch_and_little_changes(tmp_path: Path) -> None:
    probe.Probe.encoded = 0
    kept = run(tmp_path / "kept", recipe=replace(RECIPE, cache_dtype="float32"))
    encoded = probe.Probe.encoded
    live = run(tmp_path / "live", recipe=replace(RECIPE, cache_dtype="none"))
    assert probe.Probe.encoded - encoded == 22
    for one, other in zip(kept.history, live.history, strict=True):
        assert one["means"] == pytest.approx(other["means"], rel=1e-4)


def test_what_trains_inside_the_tower_learns_there_and_keeps_no_features(tmp_path: Path) -> None:
    done = run(tmp_path / "out", method="inside")
    assert read_prompts(done.prompts[-1]).state["shade"].abs().min() > 0
    assert not (tmp_path / "home").exists()


def test_mixed_precision_trains_to_nearly_the_same_losses(tmp_path: Path) -> None:
    full, mixed = run(tmp_path / "fp32"), run(tmp_path / "bf16", recipe=replace(RECIPE, precision="bf16"))
    assert mixed.history[-1]["means"] == pytest.approx(full.history[-1]["means"], rel=0.05)
    assert mixed.history[-1]["means"] != full.history[-1]["means"]
    with pytest.raises(UsageError, match=r"fp16 trains on a GPU only.*--precision bf16"):
        run(tmp_path / "fp16", recipe=replace(RECIPE, precision="fp16"))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"recipe": replace(RECIPE, rate=0.01)}, r"recipe\.rate was 0\.05, not 0\.01"),
        ({"recipe": replace(RECIPE, epochs=1)}, r"recipe\.epochs was 2, not 1"),
        ({"options": {"weight": 2.0}}, r"options\.weight was 1\.0, not 2\.0"),
        ({"images": 9}, r"data\.images was 11, not 9; data\.digest"),
        ({"data": probe.data_set(11, seed=3)}, r"data\.variant was seed 0, not seed 3"),
        ({"held_out": probe.data_set(6, seed=4)}, r"held_out\.name was not set, not squares"),
    ],
)
def test_another_training_in_the_folder_is_refused_with_the_difference(
    tmp_path: Path, changed: dict[str, Any], words: str
) -> None:
    out = tmp_path / "out"
    run(out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match=rf"holds another training: .*{words}.*--overwrite"):
        run(out, **changed)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_subnormal_numbers_count_as_zero_while_training_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def product() -> float:
        return float(torch.tensor([1e-30]) * torch.tensor([1e-9]))

    def loss(self: probe.Probe, *given: Any, **named: Any) -> Losses:
        seen.append(product())
        return original(self, *given, **named)

    original = probe.Probe.loss
    monkeypatch.setattr(probe.Probe, "loss", loss)
    run(tmp_path / "out")
    assert set(seen) == {0.0}
    assert product() > 0


def test_a_training_from_before_a_recipe_had_a_field_goes_on_where_the_field_is_at_its_default(tmp_path: Path) -> None:
    run(tmp_path / "out", recipe=replace(RECIPE, epochs=1))
    place = tmp_path / "out" / IDENTITY_FILE
    before = json.loads(place.read_text(encoding="utf-8"))
    del before["recipe"]["mosaic_label"]
    place.write_text(json.dumps(before), encoding="utf-8")
    run(tmp_path / "out")
    assert prompts_of(tmp_path / "out") == prompts_of(run(tmp_path / "whole").out)


def test_more_epochs_go_on_as_if_they_had_been_asked_for_at_once(tmp_path: Path) -> None:
    run(tmp_path / "out", recipe=replace(RECIPE, epochs=1))
    run(tmp_path / "out")
    assert prompts_of(tmp_path / "out") == prompts_of(run(tmp_path / "whole").out)


def test_a_finished_training_is_left_as_it_is(tmp_path: Path) -> None:
    done = run(tmp_path / "out")
    before = prompts_of(done.out)
    notes = Notes()
    assert run(tmp_path / "out", reporter=notes) == done
    assert prompts_of(done.out) == before
    assert any("finished before, at step 6 of 6" in line for line in notes.lines)


def test_overwriting_replaces_a_training_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(out, recipe=replace(RECIPE, epochs=3))
    (out / "epoch-03" / "notes.txt").write_text("mine", encoding="utf-8")
    run(out, overwrite=True)
    assert len(prompts_of(out)) == 2
    assert [path.name for path in (out / "epoch-03").iterdir()] == ["notes.txt"]
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "photo.png").write_bytes(b"")
    for overwrite in (False, True):
        with pytest.raises(UsageError, match="is not empty and holds no training"):
            run(foreign, overwrite=overwrite)


class Poisoned(probe.Probe):
    """Its loss, or only the gradient of it, is no number at some step."""

    name: ClassVar[str] = "poisoned"
    steps_left: ClassVar[float] = math.inf
    only_gradient: ClassVar[bool] = False

    def loss(
        self, features: Features, targets: Targets, vocabulary: Vocabulary, *, cache: TextCache | None = None
    ) -> Losses:
        losses = super().loss(features, targets, vocabulary, cache=cache)
        Poisoned.steps_left -= 1
        if Poisoned.steps_left >= 0:
            return losses
        poison: Tensor = (self.bias * 0).sqrt() if self.only_gradient else self.bias * math.nan
        return Losses(losses.total + poison, {**losses.terms, "poison": poison})


@pytest.mark.parametrize("only_gradient", [False, True])
def test_a_loss_that_is_no_number_stops_with_its_batch_and_keeps_the_state_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, only_gradient: bool
) -> None:
    monkeypatch.setattr(probe, "Poisoned", Poisoned, raising=False)
    monkeypatch.setitem(blemish.methods.METHODS.own, "poisoned", "probe:Poisoned")
    monkeypatch.setattr(Poisoned, "only_gradient", only_gradient)
    whole = run(tmp_path / "whole", method="poisoned")
    monkeypatch.setattr(Poisoned, "steps_left", 4)
    out = tmp_path / "out"
    what = "the gradient of bias is not a number" if only_gradient else r"the loss \(poison, total\) is nan"
    with pytest.raises(ModelError, match=rf"step 5 \(epoch 2, batch 2\): {what}") as error:
        run(out, method="poisoned")
    names = [probe.data_set(11).samples[row].name for row in order_of_epoch(11, seed=111, epoch=1)[4:8]]
    assert ", ".join(names) in str(error.value)
    assert prompts_of(out) == prompts_of(whole.out)[:1]
    monkeypatch.setattr(Poisoned, "steps_left", math.inf)
    assert prompts_of(run(out, method="poisoned").out) == prompts_of(whole.out)


def test_a_damaged_state_is_named(tmp_path: Path) -> None:
    out = run(tmp_path / "out").out
    (out / state.STATE_FILE).write_bytes(b"\0" * 100)
    with pytest.raises(ModelError, match=r"state\.safetensors: the state of this training is damaged.*--overwrite"):
        run(out)


def test_images_that_are_trained_on_are_not_held_out(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"11 held-out images are in the training data, too \(the first: 0/000\)"):
        run(tmp_path / "out", held_out=probe.data_set(12))
    assert not (tmp_path / "out").exists()


def test_unreadable_images_are_refused_before_anything_is_written_or_left_out_and_named_in_the_card(
    tmp_path: Path,
) -> None:
    bad = probe.data_set(11, change=lambda sample: replace(sample, readable=sample.name != "0/004"))
    with pytest.raises(UsageError, match="1 of 11 images of squares cannot be used: 0/004: is damaged"):
        run(tmp_path / "out", data=bad)
    assert not (tmp_path / "out").exists()
    done = run(tmp_path / "out", data=bad, skip_unreadable=True)
    assert read_prompts(done.prompts[0]).card["data"]["unreadable"] == ["0/004: is damaged"]


def test_without_matplotlib_a_sentence_stands_for_the_plot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    notes = Notes()
    done = run(tmp_path / "out", reporter=notes)
    assert not (done.out / log.PLOT_FILE).exists()
    assert notes.lines[-1] == 'no plot: the plot of the losses needs matplotlib: pip install "blemish[plots]"'


def test_the_log_may_have_a_line_for_some_steps_only(tmp_path: Path) -> None:
    written = records(run(tmp_path / "out", log_every=4).out)
    assert [record["step"] for record in written if record["kind"] == "step"] == [4]
    assert written == [json.loads(json.dumps(record)) for record in written]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"epochs": 0}, "at least 1 epoch"),
        ({"rate": 0.0}, "must be above 0"),
        ({"seed": -1}, "must not be negative"),
        ({"precision": "bf8"}, "unknown precision 'bf8'; did you mean 'bf16'"),
        ({"cache_dtype": "float61"}, "did you mean 'float16'"),
    ],
)
def test_senseless_recipes_are_refused(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Recipe(**changed)
