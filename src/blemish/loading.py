"""From names to something that works: a backbone, a method with its trained prompts, thresholds, an inspector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from blemish.clip.config import from_dict, to_dict
from blemish.errors import ModelError, UnknownNameError, UsageError
from blemish.images import DEFAULT_MEGAPIXELS
from blemish.methods import METHODS, build
from blemish.methods.base import Method
from blemish.pipeline import Inspector, device_of
from blemish.results import Thresholds
from blemish.store.prompts import Prompts, find_prompts, read_prompts, shipped_prompts
from blemish.vocabulary import parse_defects

__all__ = ["Loaded", "choose_thresholds", "load", "load_method"]

SHIPPED = "shipped"


@dataclass(frozen=True)
class Loaded:
    """A method with everything it was trained to be, not yet prepared. `prompts` names its trained prompts, "" where it has none;
    `thresholds` are the card's for it; `notes` are lines worth telling the user."""

    method: Method
    prompts: str = ""
    thresholds: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def load(
    backbone: str = "embedded",
    *,
    method: str | None = None,
    prompts: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
    force: bool = False,
    defects: str | Sequence[str] | None = None,
    device: str = "cpu",
    threshold: float | None = None,
    pixel_threshold: float | None = None,
    batch_size: int = 8,
    value_range: tuple[float, float] | None = None,
    max_megapixels: float = DEFAULT_MEGAPIXELS,
) -> Inspector:
    """An inspector with a backbone (a name that `blemish models list` shows, or a path) and a method, ready to use.

    `method`, `prompts`, `options` and `force` are those of `load_method`. `defects` names the types to tell apart, as
    "scratch, hole" or a sequence; None takes the built-in vocabulary. The thresholds (0..1) come from the card and are
    marked "uncalibrated" unless given; see `choose_thresholds`. Unknown names raise UnknownNameError.
    """
    vocabulary = None if defects is None else parse_defects(defects)
    device_of(device)
    loaded = load_method(backbone, method=method, prompts=prompts, options=options, force=force)
    thresholds = choose_thresholds(loaded.thresholds, threshold=threshold, pixel_threshold=pixel_threshold)
    loaded.method.prepare(vocabulary)
    config = loaded.method.backbone.config
    return Inspector(
        loaded.method,
        preprocess=config.preprocess,
        thresholds=thresholds,
        backbone=config.name,
        prompts=loaded.prompts,
        device=device,
        batch_size=batch_size,
        value_range=value_range,
        max_megapixels=max_megapixels,
    )


def load_method(
    backbone: str = "embedded",
    *,
    method: str | None = None,
    prompts: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
    force: bool = False,
) -> Loaded:
    """A method on a backbone, with trained prompts where it needs some; not yet prepared.

    `prompts` is a name in the store or a path to what `blemish train` wrote; None takes those that ship for this backbone.
    `options` override the method's. Prompts of another backbone, and options other than those that the prompts were trained
    with (`Method.scoring_options` excepted), are refused unless `force`. Without `method`, it is the prompts', else the
    backbone's default.
    """
    from blemish import store

    if method is not None and method not in METHODS:
        raise UnknownNameError("method", method, METHODS)
    card = store.card(backbone)
    found = None if prompts is None else read_prompts(find_prompts(prompts))
    if found is not None and method not in (None, found.method):
        raise UsageError(f"{found.place}: prompts of the method {found.method!r}, not of {method!r}")
    name = found.method if found is not None else method or str(card.get("default_method", "ensemble"))
    clip = store.load_backbone(backbone)
    if found is None and (shipped := shipped_prompts(clip.config.name, name)) is not None:
        found, prompts = read_prompts(shipped), SHIPPED
    if found is None:
        built = build(name, clip, options)
        if built.trained_parts():
            raise UsageError(
                f"the method {name!r} needs trained prompts, and none ship for {clip.config.name}: name some with --prompts, "
                f"import the authors' (blemish models import), or train them (blemish train {name} --backbone …)"
            )
        return Loaded(built, thresholds=dict(card.get("thresholds", {}).get(name, {})))
    built = build(name, clip, {**found.options, **(options or {})})
    notes = _mismatches(found, built, options or {})
    if notes and not force:
        raise ModelError(f"{found.place}: {'; '.join(notes)} (--force goes on all the same)")
    try:
        built.load_trained(found.state)
    except ModelError as error:
        raise ModelError(f"{found.place}: {error}") from error
    return Loaded(built, str(prompts), dict(found.card.get("thresholds") or {}), tuple(notes))


def choose_thresholds(
    card: Mapping[str, float], *, threshold: float | None = None, pixel_threshold: float | None = None
) -> Thresholds:
    """The thresholds of a card for one method, overridden by the user's where given.

    The user's image threshold alone makes the verdict NG; the card's review threshold stays where it lies below it,
    else there is no review band. A card without thresholds counts as 0.5 and no review band.
    """
    image = float(card.get("image", 0.5)) if threshold is None else threshold
    review = card.get("review")
    return Thresholds(
        image=image,
        review=float(review) if review is not None and review < image else None,
        pixel=float(card.get("pixel", 0.5)) if pixel_threshold is None else pixel_threshold,
        calibration="uncalibrated" if threshold is None else "user",
        pixel_calibration="uncalibrated" if pixel_threshold is None else "user",
    )


def _mismatches(prompts: Prompts, method: Method, options: Mapping[str, Any]) -> list[str]:
    """In what the method differs from the one that the prompts were trained for."""
    here, fingerprint = method.backbone.config.name, method.backbone.fingerprint()
    found = []
    if prompts.fingerprint and prompts.fingerprint != fingerprint:
        found.append(
            f"trained on the backbone {prompts.backbone} ({prompts.fingerprint}), not on {here} ({fingerprint})"
        )
    trained = to_dict(from_dict(method.config_type, prompts.options))
    for name, value in to_dict(method.config).items():
        if name in options and name not in method.scoring_options and value != trained.get(name):
            found.append(f"trained with {name} {trained.get(name)!r}, not {value!r}")
    return found
