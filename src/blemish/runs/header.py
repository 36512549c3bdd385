"""What run.json says of a run from its beginning, and what a run that goes on with it must have in common with it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from blemish.calibration import Setup, vocabulary_hash
from blemish.config import Config, settings
from blemish.images import FoundImage, RangeGiven
from blemish.inspection.inspector import Inspector
from blemish.io.provenance import command_line, utc_now, versions
from blemish.profiles import ProductProfile
from blemish.profiles.drift import Drift, find_drift
from blemish.results import ModelInfo, Thresholds
from blemish.runs.counts import RunCounts
from blemish.runs.shards import Summary

__all__ = ["RunHeader", "header_of", "identity_of"]


@dataclass(frozen=True, kw_only=True)
class RunHeader:
    """What is known of a run before its first image; docs/results.md describes the fields."""

    model: ModelInfo
    types: tuple[str, ...]  # names of the defect types
    min_lead: float  # 0..1
    thresholds: Thresholds
    calibration: str | None  # its identity
    setup: Setup  # what decides the scores
    value_range: RangeGiven | None  # as it was given
    profile: ProductProfile | None = None  # of the product
    peers: str = ""  # what was decided about comparing the images with each other, "" where nothing was
    config: Mapping[str, Any] = field(default_factory=dict)  # what was asked for, but its defaults
    command: Sequence[str] = field(default_factory=command_line)
    started: str = field(default_factory=utc_now)
    made_in: str = field(default_factory=os.getcwd)  # the folder that relative sources lie below
    versions: Mapping[str, str] = field(default_factory=versions)

    def to_dict(self, counts: RunCounts | Summary, *, duration_s: float) -> dict[str, Any]:
        """The content of run.json, but its schema, status and identity."""
        return {
            "command": list(self.command),
            "started": self.started,
            "made_in": self.made_in,
            "duration_s": round(duration_s, 3),
            "versions": dict(self.versions),
            "config": dict(self.config),
            "model": self.model.to_dict(),
            "types": list(self.types),
            "min_lead": self.min_lead,
            "thresholds": self.thresholds.to_dict(),
            "calibration": self.calibration,
            **({} if self.profile is None else self._of_profile(self.profile, counts)),
            "setup": self.setup.with_ranges(counts.value_ranges).to_dict(),
            "value_range": None if self.value_range is None else list(self.value_range),
            "peers": self.peers,
            **counts.to_dict(),
        }

    def drift(self, counts: RunCounts | Summary) -> Drift | None:
        """How the images so far compare with the profile's good ones; None without a profile, or without images."""
        if self.profile is None or not counts.seen or not self.profile.good:
            return None
        return find_drift(counts.seen, self.profile.good)

    def _of_profile(self, profile: ProductProfile, counts: RunCounts | Summary) -> dict[str, Any]:
        drift = self.drift(counts)
        return {
            "profile": {"id": profile.identity, "file": str(profile.path), "good_images": len(profile.images)},
            "drift": None if drift is None else drift.to_dict(),
        }


def header_of(
    inspector: Inspector, *, config: Config | None = None, command: Sequence[str] | None = None, peers: str = ""
) -> RunHeader:
    """The header of a run with this inspector, which `config` asked for."""
    return RunHeader(
        model=inspector.model,
        types=inspector.types,
        min_lead=inspector.min_lead,
        thresholds=inspector.thresholds,
        calibration=None if inspector.calibration is None else inspector.calibration.identity,
        setup=inspector.setup,
        profile=inspector.profile,
        value_range=inspector.value_range,
        peers=peers,
        config={} if config is None else config.to_dict(),
        command=command_line() if command is None else list(command),
    )


def identity_of(inspector: Inspector, images: Sequence[FoundImage] | str | None, *, keep_maps: bool) -> dict[str, Any]:
    """What a run that resumes another one must have in common with it: the setup, and every setting that decides results.

    Args:
        inspector: What inspects the images.
        images: The images; None where they are watched for; or what stands for the list of them.
        keep_maps: Whether the raw maps are kept.
    """
    deciding = [setting.name for setting in settings().values() if setting.decides == "results"]
    return {
        **inspector.setup.to_dict(),
        "types": list(inspector.types),
        "words": vocabulary_hash(inspector.vocabulary),
        "thresholds": inspector.thresholds.to_dict(),
        "value_range": inspector.value_range,
        "min_lead": inspector.min_lead,
        **{name: getattr(inspector, name) for name in deciding},
        "profile": None if inspector.profile is None else inspector.profile.identity,
        "keep_maps": keep_maps,
        "images": images if isinstance(images, str) else _listed(images),
    }


def _listed(images: Sequence[FoundImage] | None) -> str:
    if images is None:
        return "watched"
    names = "\n".join(image.path.as_posix() for image in images).encode("utf-8", "surrogateescape")
    return f"{len(images)} (list {hashlib.sha256(names).hexdigest()[:16]})"
