"""From a configuration to something that works: an engine, a vocabulary, masks, thresholds, an inspector."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from blemish.calibration import Setup, read_calibration
from blemish.config import Config, ModelConfig, VocabularyConfig, settings
from blemish.engines import ENGINES
from blemish.engines.base import Engine, LoadedEngine
from blemish.engines.exported import ExportedEngine, is_exported
from blemish.errors import UsageError
from blemish.images import RangeGiven, ValueRanges
from blemish.inspection.decide import resolve_thresholds
from blemish.inspection.inspector import Inspector
from blemish.inspection.masks import Masks
from blemish.inspection.references import with_references
from blemish.inspection.tiling import check_tiles
from blemish.language import Vocabulary, load_vocabulary, parse_defects
from blemish.profiles import ProductProfile, read_profile

__all__ = ["EngineLoader", "choose_vocabulary", "load", "load_engine", "merge", "with_profile"]


class EngineLoader(Protocol):
    """What `load_engine` is called with."""

    def __call__(
        self, model: ModelConfig, *, input_px: int | None = None, setup: Setup | None = None
    ) -> LoadedEngine: ...


def load(config: Config | str | Path | None = None, *, engines: EngineLoader | None = None, **given: Any) -> Inspector:
    """An inspector, ready for images.

    Args:
        config: A configuration, or the name or path of a backbone.
        engines: What loads the engine in the place of `load_engine`, where several inspectors share one.
        **given: Settings by their names, as `Config.with_settings` takes them; they come before those of `config`. All of
            them are listed in docs/python.md, among them: `defects`, the types to tell apart, as "scratch, hole" or a list of
            names; `method` and `prompts`; `threshold` and `pixel_threshold`, 0..1; `calibration`, the file of
            `blemish calibrate`; `tiles`, `input_px`; `roi` and `ignore`, masks; `peers` and `references`, images of
            the same product, also as a list of images; `profile`, the file of `blemish learn`; `device`.

    Returns:
        An Inspector. Its thresholds are marked "uncalibrated" unless they are given or come from a calibration. Tiles, value
        range and input size are the calibration's by default.

    Raises:
        UnknownNameError: A setting, a backbone, a method or an option of it is unknown; the nearest one is named.
        UsageError: Settings contradict each other, or the calibration was made with another setup.
        ModelError: Weights or prompts are not what was expected.

    Example:
        >>> inspector = load(defects="scratch, hole", threshold=0.7)
        >>> inspector.types, inspector.thresholds.image
        (('scratch', 'hole'), 0.7)
    """
    # images themselves, and not where they are, are in no configuration
    images = {
        name: given.pop(name) for name in ("peers", "references") if not isinstance(given.get(name), str | Path | None)
    }
    config = merge(config, given)
    profile = None if config.references.profile is None else read_profile(config.references.profile)
    if profile is not None:
        config = profile.merged(config)
    calibration = None if profile is None else profile.calibration
    if config.thresholds.calibration is not None:
        calibration = read_calibration(config.thresholds.calibration)
    known = calibration or profile
    setup = None if known is None else known.setup
    vocabulary = choose_vocabulary(config.vocabulary)
    masks = Masks.open(config.masks.roi, config.masks.ignore)
    if profile is not None:
        vocabulary = vocabulary or profile.vocabulary
        masks = masks or Masks.of_pixels(profile.roi, profile.ignore, path=Path(config.references.profile or ""))
    value_range = _value_range(config.input.value_range, setup)
    tiles = config.input.tiles
    tiles = check_tiles(tiles if tiles is not None else "off" if setup is None else setup.tiles)
    named = config.references.peers
    peers = images.get("peers", None if named in ("auto", "off") else named)  # auto is of a folder: `runs.peers`
    good = images.get("references", config.references.references)
    if peers is not None and good is not None:
        raise UsageError("images are compared with unlabelled peers or with good references: leave one of them out")
    if profile is not None and images:
        raise UsageError("a profile has its own good images: leave peers and references out")
    references = peers if good is None else good
    if references is not None and tiles != "off":
        what = "peers" if good is None else "references"
        raise UsageError(f"{what} are compared with whole images, not with tiles: leave one of them out")
    compared_at = config.references.compare_px  # that is then the size of a setup, and not what the words look at
    own_setup = None if compared_at else setup
    loaded = (engines or load_engine)(config.model, input_px=config.input.input_px, setup=own_setup)
    engine, card = loaded.engine, loaded.thresholds
    notes: tuple[str, ...] = ()
    if references is not None:
        comparing = with_references(
            engine,
            references,
            good=good is not None,
            value_range=value_range,
            max_megapixels=config.input.max_megapixels,
            batch_size=config.model.batch_size,
            compare_px=compared_at,
        )
        engine, value_range, notes = comparing.engine, comparing.value_range, comparing.notes
        card = engine.own_thresholds or card
    if profile is not None:
        engine = with_profile(engine, profile)
        card = engine.own_thresholds or card
    thresholds = resolve_thresholds(
        card,
        calibration=None if calibration is None else calibration.thresholds,
        image=config.thresholds.threshold,
        pixel=config.thresholds.pixel_threshold,
        only_map=masks is not None,
    )
    return Inspector(
        engine,
        thresholds=thresholds,
        vocabulary=vocabulary,
        min_lead=loaded.min_lead,
        batch_size=config.model.batch_size,
        min_area_px=config.regions.min_area_px,
        mm_per_px=config.regions.mm_per_px,
        tiles=tiles,
        masks=masks,
        calibration=calibration,
        profile=profile,
        value_range=value_range,
        max_megapixels=config.input.max_megapixels,
        notes=notes,
    )


def _signature() -> inspect.Signature:
    """What `help(load)` shows: every setting as a keyword with its default."""
    keywords = [
        inspect.Parameter(setting.name, inspect.Parameter.KEYWORD_ONLY, default=setting.default)
        for setting in settings().values()
    ]
    first = inspect.Parameter("config", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None)
    return inspect.Signature([first, *keywords], return_annotation=Inspector)


load.__signature__ = _signature()  # type: ignore[attr-defined]


def merge(config: Config | str | Path | None, given: Mapping[str, Any]) -> Config:
    """The configuration with the given settings in their places; a name or path in place of it is the backbone's."""
    if isinstance(config, Config):
        return config.with_settings(**given)
    if config is not None and "backbone" in given:
        raise UsageError(f"the backbone is given twice, as {config} and as {given['backbone']}")
    return Config().with_settings(**({} if config is None else {"backbone": config}), **given)


def load_engine(model: ModelConfig, *, input_px: int | None = None, setup: Setup | None = None) -> LoadedEngine:
    """The engine of a configuration; the errors are those of `Engine.load`, and UnknownNameError for an unknown engine.

    Args:
        model: Which one.
        input_px: Side of the square that images are resized to; None for that of `setup`, else the backbone's own.
        setup: What a calibration was made with. That of another backbone is refused later, with the reason.
    """
    kind: type[Engine] = ExportedEngine if is_exported(model.backbone) else ENGINES[model.engine]
    loaded = kind.load(model, input_px=input_px)
    engine = loaded.engine
    if input_px is not None or setup is None or setup.model.backbone != engine.model.backbone:
        return loaded
    return loaded if setup.input_px == engine.input.size else kind.load(model, input_px=setup.input_px)


def choose_vocabulary(config: VocabularyConfig) -> Vocabulary | None:
    """The vocabulary of the named types or of the file; None for the built-in one."""
    if config.vocabulary is not None:
        return load_vocabulary(config.vocabulary, product=config.product)
    return None if config.defects is None else parse_defects(config.defects)


def with_profile(engine: Engine, profile: ProductProfile) -> Engine:
    """The engine with the profile's memory; UsageError where that is of another model."""
    there, here = profile.model, engine.model
    if there.fingerprint != here.fingerprint:
        raise UsageError(
            f"{profile.path}: the profile was learned with {there.method} on {there.backbone} at {profile.setup.input_px} px "
            f"({there.fingerprint}, Blemish {there.version}), not with {here.method} on {here.backbone} at "
            f"{engine.input.size} px ({here.fingerprint}, Blemish {here.version}): leave the model's options out, or learn the "
            "product again"
        )
    try:
        return engine.with_memory(profile.memory)
    except UsageError as error:
        raise UsageError(f"{profile.path}: {error}") from error


def _value_range(given: RangeGiven | None, setup: Setup | None) -> RangeGiven | None:
    """The range that is given, else that of the setup of a calibration or profile."""
    known = None if setup is None else setup.value_range
    if given is not None and known is not None and not ValueRanges(given).is_fixed:
        raise UsageError(
            f"percentiles ({given[0]}:{given[1]}) are found anew in every batch, but the thresholds hold for "
            f"{known[0]:g}:{known[1]:g}: leave --range out"
        )
    return known if given is None else given
