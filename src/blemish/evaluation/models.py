"""What is evaluated: a method with its prompts on a backbone, and the choice of them for a command."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from blemish.backbones.config import PreprocessConfig
from blemish.errors import UnknownNameError, UsageError
from blemish.io.codec import to_dict
from blemish.language import Vocabulary, parse_defects
from blemish.methods import METHODS
from blemish.methods.base import Method
from blemish.models.load import load_method
from blemish.models.prompts import find_prompts, read_prompts

__all__ = ["Choice", "Model", "choose", "load_model", "with_vocabulary"]


@dataclass(frozen=True)
class Model:
    """A method ready to be prepared, and what tells it from others. `prompts` names its trained prompts, "" where it has none;
    `trained_on` is the data set that they were trained on, "" where nobody said; `pixel_threshold` the card's, for pictures."""

    method: Method
    preprocess: PreprocessConfig
    backbone: str
    backbone_fingerprint: str
    fingerprint: str
    prompts: str = ""
    trained_on: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    pixel_threshold: float = 0.5
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.method.name

    def to_dict(self) -> dict[str, Any]:
        return {
            "method": self.name,
            "options": dict(self.options),
            "fingerprint": self.fingerprint,
            "backbone": self.backbone,
            "backbone_fingerprint": self.backbone_fingerprint,
            "input_px": self.preprocess.size,
            "prompts": self.prompts,
            "trained_on": self.trained_on,
        }


@dataclass(frozen=True)
class Choice:
    """A model that was asked for and is not yet loaded."""

    backbone: str
    method: str | None
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


def load_model(
    choice: Choice, *, options: Mapping[str, Any] | None = None, force: bool = False, input_px: int | None = None
) -> Model:
    """The model of a choice; the errors are those of `blemish.models.load.load_method`."""
    loaded = load_method(
        choice.backbone,
        method=choice.method,
        prompts=choice.prompts,
        options=options,
        force=force,
        input_px=input_px,
    )
    method = loaded.method
    clip = method.backbone
    return Model(
        method=method,
        preprocess=clip.config.preprocess,
        backbone=clip.config.name,
        backbone_fingerprint=clip.fingerprint(),
        fingerprint=method.fingerprint(),
        prompts=loaded.prompts,
        trained_on=_trained_on(choice.prompts),
        options=to_dict(method.config),
        pixel_threshold=float(loaded.thresholds.get("pixel", 0.5)),
        notes=loaded.notes,
    )


def with_vocabulary(method: Method, vocabulary: Vocabulary | Sequence[str] | None) -> Method:
    """A second instance of the method prepared for another vocabulary; all weights are shared, and the first stays as it is."""
    second = copy.deepcopy(method, {id(weight): weight for weight in method.parameters()})
    names = vocabulary is None or isinstance(vocabulary, Vocabulary)
    second.prepare(vocabulary if names else parse_defects(vocabulary))  # type: ignore[arg-type]
    return second


def _trained_on(prompts: Path | None) -> str:
    if prompts is None:
        return ""
    data = read_prompts(prompts).card.get("data")
    return str(data.get("name", "")) if isinstance(data, Mapping) else ""
