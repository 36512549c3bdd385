"""The largest input, and the precision, that keep within a time for an image on this machine, and what that costs."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from blemish.backbones.preprocess import to_array
from blemish.config import ModelConfig, NumberPrecision
from blemish.engines import ENGINES
from blemish.engines.base import Engine, LoadedEngine
from blemish.engines.comparing import graph_folder
from blemish.engines.exported import is_exported
from blemish.engines.held_out import on_held_out, rendered_pictures
from blemish.errors import UsageError
from blemish.images import Picture
from blemish.io.atomic import write_text
from blemish.io.json_files import json_text, read_json_if_there
from blemish.language import general
from blemish.models.load import load_method

__all__ = ["BudgetChoice", "choose_within", "parse_time"]

SHARES = (1.0, 0.7, 0.5)  # of the model's own input size
PRECISIONS: tuple[NumberPrecision, ...] = ("float32", "half")  # half moves scores less than a smaller input does
PHOTOS = 60  # that the cost is measured on
TIMES = 3  # that an image is looked at


@dataclass(frozen=True, kw_only=True)
class BudgetChoice:
    """An input size and a precision that keep within a budget."""

    input_px: int
    precision: NumberPrecision
    seconds: float  # an image takes, measured
    own_px: int  # the model's own input size
    photos: int = 0  # held-out rendered pictures that the cost was measured on; 0: it was not
    image_auroc: tuple[float, float] = (0.0, 0.0)  # of the model's own input in float32, and of this one; 0..1
    pixel_auroc: tuple[float, float] = (0.0, 0.0)

    def __str__(self) -> str:
        said = f"{self.input_px} px in {self.precision}, {self.seconds:.2g} s an image here"
        if (self.input_px, self.precision) == (self.own_px, "float32"):
            return f"{said}: the model's own input, it costs nothing"
        if not self.photos:
            return f"{said}; what it costs was not measured (blemish engines --budget measures it)"
        images, pixels = (f"{before:.3f} -> {after:.3f}" for before, after in (self.image_auroc, self.pixel_auroc))
        return (
            f"{said}; on {self.photos} held-out rendered pictures image AUROC {images}, pixel AUROC {pixels} beside "
            f"{self.own_px} px in float32"
        )


def parse_time(text: str) -> float:
    """Seconds, of "2s", "0.5 s" or "300ms"; UsageError for anything else."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s)\s*", text)
    seconds = float(found[1]) * (1e-3 if found[2] == "ms" else 1.0) if found else 0.0
    if seconds <= 0:
        raise UsageError(f"a budget is a time for an image, as 2s or 300ms, not {text!r}")
    return seconds


def choose_within(config: ModelConfig, *, budget_s: float, measure_s: float | None = None) -> BudgetChoice:
    """The first of: the model's own input in float32, in 16 bits, then smaller ones likewise, that keeps within the budget.

    Args:
        config: The model; its precision is chosen.
        budget_s: Seconds for one image by itself, from pixels to scores.
        measure_s: The cost is measured where that takes no more seconds than this, or was measured before; None: in any case.

    Raises:
        UsageError: None does, or the model is exported, with one input size.
    """
    if is_exported(config.backbone):
        raise UsageError(f"{config.backbone}: an exported model has one input size: export a smaller one (--input-px)")
    method = load_method(
        config.backbone,
        method=config.method,
        prompts=config.prompts,
        options=config.options,
        force=config.force,
    ).method
    own_px, step = method.backbone.config.preprocess.size, method.backbone.config.vision.patch_size or 32
    tried: list[str] = []
    for input_px in dict.fromkeys([own_px, *(max(step, round(own_px * share / step) * step) for share in SHARES[1:])]):
        for precision in PRECISIONS:
            try:
                engine = ENGINES[config.engine].load(replace(config, precision=precision), input_px=input_px).engine
            except UsageError:
                if precision == "float32":
                    raise
                continue  # an engine that computes in float32 only
            seconds = _seconds(engine, budget_s)
            tried.append(f"{input_px} px in {precision} {seconds:.2g} s")
            if seconds > budget_s:
                continue
            choice = BudgetChoice(input_px=input_px, precision=precision, seconds=seconds, own_px=own_px)
            if (input_px, precision) == (own_px, "float32"):
                return choice
            load_own = partial(ENGINES[config.engine].load, replace(config, precision="float32"), input_px=own_px)
            kept = graph_folder(method) / f"budget-{engine.name}-{input_px}-{precision}-{PHOTOS}.json"
            return replace(choice, **_cost(kept, engine, load_own, seconds=seconds, measure_s=measure_s))
    raise UsageError(f"no input of this model keeps within {budget_s:g} s an image here: {', '.join(tried)}")


def _seconds(engine: Engine, budget_s: float) -> float:
    """What one rendered picture takes."""
    picture = Picture(next(rendered_pictures(1)).image, source="rendered")
    texts, taken = engine.encode_texts(general()), []
    for _ in range(1 + TIMES):  # the first one exports, compiles, warms
        started = time.perf_counter()
        engine.score(engine.encode(np.stack([to_array(picture, engine.input)])), texts)
        taken.append(time.perf_counter() - started)
        if len(taken) > 1 and taken[-1] > 2 * budget_s:
            break
    return statistics.median(taken[1:])


def _cost(
    file: Path, engine: Engine, load_own: Callable[[], LoadedEngine], *, seconds: float, measure_s: float | None
) -> dict[str, Any]:
    """The fields of a choice that say what it costs, read from the file where they are; empty where measuring takes too long."""
    if found := read_json_if_there(file):
        return {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}
    if measure_s is not None and 3 * seconds * PHOTOS > measure_s:  # the model's own input takes longer
        return {}
    here, there = on_held_out(engine, count=PHOTOS), on_held_out(load_own().engine, count=PHOTOS)
    cost = {
        "photos": PHOTOS,
        "image_auroc": (there.image_auroc, here.image_auroc),
        "pixel_auroc": (there.pixel_auroc, here.pixel_auroc),
    }
    write_text(file, json_text(cost))
    return cost
