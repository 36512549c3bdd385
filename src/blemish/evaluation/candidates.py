"""What is evaluated: an engine with what tells it from others, and the choice of them for a command."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from blemish.engines.base import Engine
from blemish.errors import UnknownNameError, UsageError
from blemish.io.codec import to_dict
from blemish.methods import METHODS
from blemish.models.prompts import find_prompts, read_prompts

__all__ = ["Candidate", "Choice", "choose", "load_candidate"]


@dataclass(frozen=True, eq=False)
class Candidate:
    """An engine to be evaluated, and what tells it from others."""

    engine: Engine
    backbone_fingerprint: str  # 16 hex digits of the backbone's weights
    trained_on: str = ""  # the data set that the prompts were trained on, "" where nobody said
    options: Mapping[str, Any] = field(default_factory=dict)  # of the method
    pixel_threshold: float = 0.5  # the card's, for pictures
    image_threshold: float | None = None  # the card's, where it has one
    notes: tuple[str, ...] = ()  # lines worth telling the user

    @property
    def name(self) -> str:
        """The name of the method."""
        return self.engine.model.method

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, as results name a model."""
        model = self.engine.model
        return {
            "method": model.method,
            "options": dict(self.options),
            "fingerprint": model.fingerprint,
            "backbone": model.backbone,
            "backbone_fingerprint": self.backbone_fingerprint,
            "input_px": self.engine.input.size,
            "prompts": model.prompts,
            "trained_on": self.trained_on,
        }


@dataclass(frozen=True)
class Choice:
    """A candidate that was asked for and is not yet loaded."""

    backbone: str
    method: str | None  # None: the prompts', else the backbone's own
    prompts: Path | None


def choose(methods: Sequence[str], *, backbones: Sequence[str], prompts: Sequence[str | Path] = ()) -> Iterator[Choice]:
    """Every method on every backbone; a method with several prompts once with each.

    Prompts say which method they belong to, and with several backbones, which backbone. Without methods, they are the
    prompts', else the backbone's own. UsageError names prompts that belong to none.
    """
    for name in methods:
        if name not in METHODS:
            raise UnknownNameError("method", name, METHODS)
    found = [read_prompts(find_prompts(place)) for place in prompts]
    for one in found:
        if methods and one.method not in methods:
            raise UsageError(f"{one.place}: prompts of the method {one.method!r}, not of {' or '.join(methods)}")
        if len(backbones) > 1 and one.backbone not in backbones:
            raise UsageError(f"{one.place}: prompts for the backbone {one.backbone!r}, not for {', '.join(backbones)}")
    names: Sequence[str | None] = list(methods) or list(dict.fromkeys(one.method for one in found)) or [None]
    for backbone in backbones:
        for method in names:
            own = [one for one in found if one.method == method and (len(backbones) == 1 or one.backbone == backbone)]
            yield from (Choice(backbone, method, one.place) for one in own)
            if not own:
                yield Choice(backbone, method, None)


def load_candidate(
    choice: Choice,
    *,
    options: Mapping[str, Any] | None = None,
    force: bool = False,
    input_px: int | None = None,
    device: str = "cpu",
) -> Candidate:
    """The candidate of a choice, on a device; the errors are those of `blemish.models.load.load_method`."""
    from blemish.engines.torch import TorchEngine
    from blemish.models.load import load_method

    loaded = load_method(
        choice.backbone,
        method=choice.method,
        prompts=choice.prompts,
        options=options,
        force=force,
        input_px=input_px,
    )
    method = loaded.method
    return Candidate(
        engine=TorchEngine(method, backbone=method.backbone.config.name, prompts=loaded.prompts, device=device),
        backbone_fingerprint=method.backbone.fingerprint(),
        trained_on=_trained_on(choice.prompts),
        options=to_dict(method.config),
        pixel_threshold=float(loaded.thresholds.get("pixel", 0.5)),
        image_threshold=loaded.thresholds.get("image"),
        notes=(*loaded.notes, *method.remarks()),
    )


def _trained_on(prompts: Path | None) -> str:
    if prompts is None:
        return ""
    data = read_prompts(prompts).card.get("data")
    return str(data.get("name", "")) if isinstance(data, Mapping) else ""
