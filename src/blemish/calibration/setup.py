"""Everything that decides the scores of an image: a threshold holds for the setup that it was found with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from blemish.language import Vocabulary
from blemish.results import ModelInfo

__all__ = ["Setup", "vocabulary_hash"]


@dataclass(frozen=True, kw_only=True)
class Setup:
    """A model and how images come to it.

    vocabulary: 16 hex digits of the defect names, "" where they move no score. input_px, mean, std: the preprocessing.
    tiles: "off", "auto" or a side in pixels. roi, ignore: which mask, "per image", or "" for none. value_range: black and white
    of images with more than 8 bits, None where each run finds its own. peers: which images all are compared with, "" for none.
    """

    model: ModelInfo
    vocabulary: str
    input_px: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    tiles: str | int = "off"
    roi: str = ""
    ignore: str = ""
    value_range: tuple[float, float] | None = None
    peers: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        plain = json.loads(json.dumps(asdict(self)))
        if not self.peers:  # the identity of a calibration without them is that of versions that knew none
            del plain["peers"]
        return {**plain, "model": self.model.to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Setup:
        """A setup from `to_dict`; TypeError or KeyError where something is missing or unknown."""
        lists = {name: None if data[name] is None else tuple(data[name]) for name in ("mean", "std", "value_range")}
        return cls(**{**data, **lists, "model": ModelInfo(**data["model"])})

    def differences(self, other: Setup) -> list[str]:
        """In what scores made with `other` cannot be compared with this one's; empty where they can."""
        found = []
        if self.model.fingerprint != other.model.fingerprint:
            found.append(f"the model {_named(self.model)}, not {_named(other.model)}")
        if self.vocabulary != other.vocabulary:
            found.append(
                f"the vocabulary {self.vocabulary or 'none'}, not {other.vocabulary or 'none'} (its names move the scores of "
                f"the method {self.model.method!r}: give the same --defects)"
            )
        for name, what in (("input_px", "an input of {} px"), ("mean", "the mean {}"), ("std", "the deviation {}")):
            if getattr(self, name) != getattr(other, name):
                found.append(f"{what.format(getattr(self, name))}, not {getattr(other, name)}")
        for name in ("tiles", "roi", "ignore", "value_range", "peers"):
            here, there = getattr(self, name), getattr(other, name)
            if here != there:
                option = "--range" if name == "value_range" else f"--{name}"
                found.append(f"{option} {_shown(here)}, not {_shown(there)}")
        return found


def vocabulary_hash(vocabulary: Vocabulary) -> str:
    """16 hex digits of all names, synonyms and sentences, in their order."""
    types = [[defect.name, list(defect.synonyms), defect.sentence] for defect in vocabulary.types]
    return hashlib.sha256(json.dumps(types).encode()).hexdigest()[:16]


def _named(model: ModelInfo) -> str:
    return f"{model.method} on {model.backbone} ({model.fingerprint})"


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return f"{value[0]:g}:{value[1]:g}"
    return "none" if value in (None, "") else str(value)
