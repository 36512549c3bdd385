"""Everything that decides the scores of an image: a threshold holds for the setup that it was found with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from blemish.config import SAME_SCORES, NumberPrecision, settings
from blemish.io.codec import from_dict, to_dict
from blemish.language import Vocabulary
from blemish.results import ModelInfo

__all__ = ["Setup", "vocabulary_hash"]

LATER = ("peers", "references", "engine", "precision", "deviation")  # fields that older files do not have


@dataclass(frozen=True, kw_only=True)
class Setup:
    """A model and how images come to it."""

    model: ModelInfo
    vocabulary: str  # 16 hex digits of the defect names; "" where they move no score
    input_px: int  # side of the square that the model looks at
    mean: tuple[float, ...]  # of the preprocessing, per channel, 0..1
    std: tuple[float, ...]  # of the preprocessing, per channel
    tiles: str | int = "off"  # "off", "auto", or the side of a tile in pixels
    roi: str = ""  # the mask of the region of interest: its digest, "per image", or "" for none
    ignore: str = ""  # the mask of what to ignore: likewise
    value_range: tuple[float, float] | None = (
        None  # black and white of images over 8 bits; None: each run finds its own
    )
    peers: str = ""  # the reference images that all are compared with: their number and digest, or "" for none
    references: str = ""  # the good ones in a method's memory: likewise
    engine: str = "torch"  # the library that ran the model
    precision: NumberPrecision = "float32"  # of the numbers that it computed in
    deviation: float = 0.0  # 0..1; no score lies further from those of torch in float32

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        data = to_dict(self, keep_none=True)
        for name in LATER:
            if (
                data[name] == FIELDS[name].default
            ):  # the identity of a calibration is that of versions that knew none of them
                del data[name]
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Setup:
        """A setup from `to_dict`; UsageError where something is missing, unknown or of another type."""
        setup = from_dict(cls, data)
        if setup.value_range is not None:  # as it was written: an identity distinguishes 4095 from 4095.0
            setup = replace(setup, value_range=tuple(data["value_range"]))
        return setup

    def differences(self, other: Setup) -> list[str]:
        """In what scores made with `other` cannot be compared with this one's; empty where they can."""
        found = []
        if self.model.fingerprint != other.model.fingerprint:
            found.append(f"the model {_model_name(self.model)}, not {_model_name(other.model)}")
        if self.vocabulary != other.vocabulary:
            found.append(
                f"the vocabulary {self.vocabulary or 'none'}, not {other.vocabulary or 'none'} (its names move the scores of "
                f"the method {self.model.method!r}: give the same --defects)"
            )
        if (self.engine, self.precision) != (other.engine, other.precision):
            apart = self.deviation + other.deviation
            if apart > SAME_SCORES:
                found.append(
                    f"{_engine_name(self)}, not {_engine_name(other)} (their scores may lie {apart:.1g} apart; up to "
                    f"{SAME_SCORES:g} a threshold holds for both)"
                )
        named = {"input_px": "an input of {} px", "mean": "the mean {}", "std": "the deviation {}"}
        options = {setting.name: f"{setting.option} {{}}" for setting in settings().values()}
        for field in fields(self):
            if field.name in ("model", "vocabulary", "engine", "precision", "deviation"):
                continue
            here, there = getattr(self, field.name), getattr(other, field.name)
            if here != there:
                words = named.get(field.name) or options[field.name]
                found.append(f"{words.format(_shown(here))}, not {_shown(there)}")
        return found

    def with_ranges(self, ranges: Collection[tuple[float, float]]) -> Setup:
        """This setup with the value range that images were read on, where it left that open and they shared one."""
        if self.value_range is not None or len(ranges) != 1:
            return self
        low, high = next(iter(ranges))
        return replace(self, value_range=(float(low), float(high)))


FIELDS = {field.name: field for field in fields(Setup)}


def vocabulary_hash(vocabulary: Vocabulary) -> str:
    """16 hex digits of all names, synonyms and sentences, in their order."""
    types = [[defect.name, list(defect.synonyms), defect.sentence] for defect in vocabulary.types]
    return hashlib.sha256(json.dumps(types).encode()).hexdigest()[:16]


def _engine_name(setup: Setup) -> str:
    return f"the engine {setup.engine} in {setup.precision}"


def _model_name(model: ModelInfo) -> str:
    return f"{model.method} on {model.backbone} ({model.fingerprint})"


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ":".join(f"{number:g}" for number in value)
    return "none" if value in (None, "") else str(value)
