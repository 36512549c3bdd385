"""The loop: steps of an optimiser over shuffled batches, a state after every few of them, prompts and a card after every epoch.

Nothing random survives from one step to the next: the order of an epoch follows from (seed, epoch), what a step draws from
(seed, step). So a training that goes on from a state ends as if it had never stopped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from blemish.errors import MissingExtraError, ModelError, OutputError
from blemish.io.log import Log
from blemish.io.prefetch import in_chunks
from blemish.io.progress import Reporter
from blemish.language import Vocabulary
from blemish.methods.base import Losses, Method
from blemish.methods.text_cache import TextCache
from blemish.models.prompts import write_prompts
from blemish.training.batches import Batch, Rows, Source
from blemish.training.held_out import HeldOut, measure
from blemish.training.log import LOG_FILE, plot_losses
from blemish.training.mosaics import Mosaics
from blemish.training.optimisers import optimiser_of, rate_of_epoch
from blemish.training.recipe import Recipe
from blemish.training.state import STATE_FILE, TrainingProgress, load_state, save_state

__all__ = ["Trainer", "TrainingSettings", "epoch_folder", "order_of_epoch"]

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """What changes nothing about the result: where it goes and how often something is written."""

    out: Path
    save_every_s: float = 60.0
    log_every: int = 1


class Trainer:
    """One training: a method on its device, the examples, and how far it is. `run` brings it to the last epoch."""

    def __init__(
        self,
        method: Method,
        source: Source,
        *,
        vocabulary: Vocabulary,
        recipe: Recipe,
        device: torch.device,
        settings: TrainingSettings,
        card: Mapping[str, Any],
        held_out: Source | None = None,
        reporter: Reporter | None = None,
    ) -> None:
        self.method = method.to(device)
        self.source = source
        self.vocabulary = vocabulary
        self.cache = TextCache()
        self.recipe = recipe
        self.device = device
        self.settings = settings
        self.card = card
        self.held_out = held_out
        self.reporter = reporter or Reporter()
        self.optimiser = optimiser_of(recipe, method.trained_parts().values())
        self.scaler = torch.amp.GradScaler(device.type, enabled=recipe.precision == "fp16")
        self.progress = TrainingProgress()
        if (settings.out / STATE_FILE).is_file():
            self.progress = load_state(settings.out, method, self.optimiser)
            if self.scaler.is_enabled() and self.progress.loss_scale:
                self.scaler.load_state_dict(self.progress.loss_scale)

    @property
    def steps_of_epoch(self) -> int:
        return math.ceil(len(self.source.examples) / self.recipe.batch_size)

    @property
    def all_steps(self) -> int:
        return self.recipe.epochs * self.steps_of_epoch

    def run(self) -> None:
        """Trains what is left; OutputError or ModelError where it cannot go on, with the last good state on the disk."""
        if self.progress.epochs >= self.recipe.epochs:
            return
        log = Log(self.settings.out / LOG_FILE, cut_to=self.progress.log_bytes)
        try:
            with (
                _without_subnormals(),
                torch.random.fork_rng(devices=_forked(self.device)),  # the caller's random numbers are not ours
                self.reporter.progress("training", self.all_steps, done=self.progress.steps) as advance,
            ):
                while self.progress.epochs < self.recipe.epochs:
                    self._train_epoch(log, advance)
                    self._finish_epoch(log)
        finally:
            log.close()

    def _train_epoch(self, log: Log, advance: Any) -> None:
        order = order_of_epoch(len(self.source.examples), seed=self.recipe.seed, epoch=self.progress.epochs)
        batches = in_chunks(order, self.recipe.batch_size)[self.progress.batches :]
        for group in self.optimiser.param_groups:
            group["lr"] = rate_of_epoch(self.recipe, self.progress.epochs + 1)
        self.method.train()
        self.method.backbone.eval()  # frozen: no statistics of its layers may move
        started = saved = time.perf_counter()
        before = self.progress.seconds
        for batch in self._source_of_epoch().feed(batches):
            losses = self.step(batch.to(self.device))
            progress = self.progress
            progress.steps += 1
            progress.batches += 1
            for name, value in losses.items():
                progress.sums[name] = progress.sums.get(name, 0.0) + value
            if progress.steps % self.settings.log_every == 0:
                log.write({"kind": "step", "epoch": progress.epochs + 1, "step": progress.steps, "losses": losses})
            now = time.perf_counter()
            progress.seconds = before + now - started
            if now - saved >= self.settings.save_every_s and progress.batches < self.steps_of_epoch:
                self._save(log)
                saved = time.perf_counter()
            advance()

    def _source_of_epoch(self) -> Source:
        if not self.recipe.mosaics:
            return self.source
        mosaics = Mosaics(
            self.recipe.mosaics,
            seed=(self.recipe.seed, self.progress.epochs),
            label_of_replaced=self.recipe.mosaic_label == "replaced",
        )
        return replace(self.source, mosaics=mosaics)

    def step(self, batch: Batch) -> dict[str, float]:
        """One step of the optimiser on a batch that is on the device; the losses by name, their total last."""
        torch.manual_seed(_seed_of_step(self.recipe.seed, self.progress.steps))
        losses = self._losses(batch)
        named = {**losses.terms, "total": losses.total}
        values = {name: float(value.detach()) for name, value in named.items()}
        wrong = [name for name, value in values.items() if not math.isfinite(value)]
        if wrong:
            raise self._not_a_number(batch.rows, f"the loss ({', '.join(wrong)}) is {values[wrong[0]]}")
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(losses.total).backward()  # type: ignore[no-untyped-call]
        if not self.scaler.is_enabled():  # it leaves out such a step by itself, and scales less
            for name, parameter in self.method.trained_parts().items():
                if parameter.grad is not None and not bool(parameter.grad.isfinite().all()):
                    raise self._not_a_number(batch.rows, f"the gradient of {name} is not a number")
        self.scaler.step(self.optimiser)
        self.scaler.update()
        return values

    def _losses(self, batch: Batch) -> Losses:
        dtype = AUTOCAST.get(self.recipe.precision)
        with torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None):
            return self.method.loss(batch.features(self.method), batch.targets, self.vocabulary, cache=self.cache)

    def _finish_epoch(self, log: Log) -> None:
        progress = self.progress
        number = progress.epochs + 1
        means = {name: value / progress.batches for name, value in progress.sums.items()}
        started = time.perf_counter()
        found = self._measure()
        record = {
            "epoch": number,
            "step": progress.steps,
            "means": means,
            "held_out": None if found is None else found.metrics,
            "seconds": round(progress.seconds, 3),
            "held_out_seconds": round(time.perf_counter() - started, 3),
        }
        self._write_prompts(number, record, found)
        log.write({"kind": "epoch", **record})
        progress.history.append(record)
        progress.epochs, progress.batches, progress.sums, progress.seconds = number, 0, {}, 0.0
        self._save(log)
        self.reporter.say(epoch_line(record, self.recipe.epochs))
        try:
            plot_losses(self.settings.out)
        except MissingExtraError as error:
            if number == self.recipe.epochs:
                self.reporter.say(f"no plot: {error}")

    def _measure(self) -> HeldOut | None:
        if self.held_out is None:
            return None
        self.method.eval()
        return measure(
            self.method,
            self.held_out,
            vocabulary=self.vocabulary,
            device=self.device,
            batch_size=self.recipe.batch_size,
        )

    def _write_prompts(self, number: int, record: Mapping[str, Any], found: HeldOut | None) -> None:
        from safetensors import SafetensorError

        card = {**self.card, "epoch": number, "history": [*self.progress.history, record]}
        if found is not None:
            card["metrics"], card["thresholds"] = found.metrics, found.thresholds
        folder = epoch_folder(self.settings.out, number)
        try:
            write_prompts(folder, self.method, card)
        except SafetensorError as error:  # how that library reports a full disk
            raise OutputError(f"{folder}: cannot be written ({error}); run it again, the last state stays") from error

    def _save(self, log: Log) -> None:
        self.progress.log_bytes = log.sync()  # first the log: a state never points beyond its end
        self.progress.loss_scale = self.scaler.state_dict() if self.scaler.is_enabled() else {}
        save_state(self.settings.out, self.method, self.optimiser, self.progress)

    def _not_a_number(self, rows: Rows, what: str) -> ModelError:
        progress = self.progress
        done = f"the prompts of epoch {progress.epochs} and " if progress.epochs else ""
        return ModelError(
            f"step {progress.steps + 1} (epoch {progress.epochs + 1}, batch {progress.batches + 1}): {what}; "
            f"its images: {self.source.names(rows)}. {done}the last state in {self.settings.out} are as they were before; "
            "look at these images, or try a smaller --rate or --precision fp32 with another --out"
        )


def order_of_epoch(count: int, *, seed: int, epoch: int) -> Rows:
    """The order of `count` images in an epoch (from 0): the same for the same seed, whatever was drawn before."""
    return np.random.default_rng((seed, epoch)).permutation(count)


def epoch_folder(out: Path, number: int) -> Path:
    """Where the prompts after epoch `number` (from 1) lie."""
    return out / f"epoch-{number:02d}"


def epoch_line(record: Mapping[str, Any], epochs: int) -> str:
    """A finished epoch in one line."""
    parts = [f"epoch {record['epoch']}/{epochs}", f"loss {record['means']['total']:.4f}"]
    parts += [f"{name.replace('_', ' ')} {value:.4f}" for name, value in (record["held_out"] or {}).items()]
    return ", ".join([*parts, f"{record['seconds']:.0f} s"])


@contextmanager
def _without_subnormals() -> Iterator[None]:
    """Numbers below 1e-38 count as 0 meanwhile: gradients behind a saturated softmax are full of them, and a processor takes ten
    times as long for them (AdaCLIP at its temperature of 1 / 100)."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def _forked(device: torch.device) -> list[int]:
    return [device.index or 0] if device.type == "cuda" else []


def _seed_of_step(seed: int, step: int) -> int:
    return int(np.random.SeedSequence((seed, step)).generate_state(1)[0])
