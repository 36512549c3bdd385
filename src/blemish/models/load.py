"""From names to a method on its backbone, with its trained prompts and what the card says of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from blemish import models
from blemish.backbones.catalog import catalog
from blemish.errors import ModelError, UnknownNameError, UsageError
from blemish.io.codec import to_dict
from blemish.methods import METHODS, build
from blemish.methods.base import Method
from blemish.models.prompts import Prompts, find_prompts, read_prompts, shipped_prompts

__all__ = ["Loaded", "load_method"]

SHIPPED = "shipped"


@dataclass(frozen=True)
class Loaded:
    """A method with everything it was trained to be. `prompts` names its trained prompts, "" where it has none;
    `thresholds` are the card's for it, and `min_lead` is the line below which a type is unknown (0: none); `notes` are lines
    worth telling the user."""

    method: Method
    prompts: str = ""
    thresholds: dict[str, float] = field(default_factory=dict)
    min_lead: float = 0.0
    notes: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()  # what the card says to whoever uses these prompts


def load_method(
    backbone: str = "embedded",
    *,
    method: str | None = None,
    prompts: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
    force: bool = False,
    input_px: int | None = None,
) -> Loaded:
    """A method on a backbone, with trained prompts where it needs some.

    `prompts` is a name in the store or a path to what `blemish train` wrote; None takes those that ship for this backbone.
    `options` override the method's. Prompts of another backbone, and options other than those that the prompts were trained
    with (`Method.scoring_options` excepted), are refused unless `force`. Without `method`, it is the prompts', else the
    backbone's default. `input_px` is the side in pixels that images are resized to, None for what the card says of the method,
    else the backbone's own; prompts hold no positions and serve every size. UsageError where the backbone does not take it
    (`backbones.config.at_input`).
    """
    if method is not None and method not in METHODS:
        raise UnknownNameError("method", method, METHODS)
    card = models.card(backbone)
    found = None if prompts is None else read_prompts(find_prompts(prompts))
    if found is not None and method not in (None, found.method):
        raise UsageError(f"{found.place}: prompts of the method {found.method!r}, not of {method!r}")
    original = models.load_backbone(backbone)
    name = found.method if found is not None else method or _default_method(card, original.config.name)
    clip = original.at_input(card.get("input_px", {}).get(name) if input_px is None else input_px)
    own_px, used_px = original.config.preprocess.size, clip.config.preprocess.size
    if found is None and (shipped := shipped_prompts(clip.config.name, name)) is not None:
        found, prompts = read_prompts(shipped), SHIPPED
    if found is None:
        built = build(name, clip, options)
        if built.trained_parts():
            raise UsageError(
                f"the method {name!r} needs trained prompts, and none ship for {clip.config.name}: name some with --prompts, "
                f"import the authors' (blemish models import), or train them (blemish train {name} --backbone …)"
            )
        lead = float(card.get("typing", {}).get(name, {}).get("min_lead", 0.0))
        by_size = {str(own_px): card.get("thresholds", {}).get(name, {})}
        by_size |= card.get("thresholds_by_input_px", {}).get(name, {})
        return Loaded(
            built,
            thresholds=dict(by_size.get(str(used_px), {})),
            min_lead=lead,
            remarks=_no_thresholds(used_px, [int(px) for px, lines in by_size.items() if lines]),
        )
    try:
        built = build(name, clip, {**found.options, **(options or {})})
    except UsageError as error:
        raise ModelError(f"{found.place}: these prompts do not fit the backbone {clip.config.name}: {error}") from error
    notes = _mismatches(found, built, options or {})
    if notes and not force:
        raise ModelError(f"{found.place}: {'; '.join(notes)} (--force goes on all the same)")
    try:
        built.load_trained(found.state)
    except ModelError as error:
        raise ModelError(f"{found.place}: {error}") from error
    typing = found.card.get("typing") or {}
    lead, sizes = float(typing.get("min_lead", 0.0)), [own_px] if found.card.get("thresholds") else []
    thresholds = dict(found.card.get("thresholds") or {}) if used_px == own_px else {}
    remarks = (*_remarks(found.card), *_no_thresholds(used_px, sizes))
    return Loaded(built, str(prompts), thresholds, lead, tuple(notes), remarks=remarks)


def _remarks(card: Mapping[str, Any]) -> tuple[str, ...]:
    """What the card of prompts says to whoever uses them."""
    source = card.get("thresholds_from")
    said = str(card.get("note", "")), f"the thresholds that come with these prompts are {source}" if source else ""
    return tuple(line for line in said if line)


def _default_method(card: Mapping[str, Any], backbone: str) -> str:
    """The method of a backbone where none is named: its card's, the catalog's, else the prompt ensemble."""
    known = catalog().get(backbone)
    return str(card.get("default_method") or (known.default_method if known else "") or "ensemble")


def _no_thresholds(used_px: int, known_px: Sequence[int]) -> tuple[str, ...]:
    """A remark where the card has thresholds for other input sizes only."""
    if not known_px or used_px in known_px:
        return ()
    known = " and ".join(f"{px} px" for px in sorted(known_px))
    return (
        f"the card has thresholds for an input of {known}, and none for {used_px} px: 0.5 stands in and means little until "
        "you give your own or a calibration's",
    )


def _mismatches(prompts: Prompts, method: Method, options: Mapping[str, Any]) -> list[str]:
    """In what the method differs from the one that the prompts were trained for."""
    here, fingerprint = method.backbone.config.name, method.backbone.fingerprint()
    found = []
    if prompts.fingerprint and prompts.fingerprint != fingerprint:
        found.append(
            f"trained on the backbone {prompts.backbone} ({prompts.fingerprint}), not on {here} ({fingerprint})"
        )
    trained = to_dict(method.config_from(prompts.options))
    for name, value in to_dict(method.config).items():
        if name in options and name not in method.scoring_options and value != trained.get(name):
            found.append(f"trained with {name} {trained.get(name)!r}, not {value!r}")
    return found
