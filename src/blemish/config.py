"""One configuration: which model scores, how images come to it, which pixels count, and what is decided from the scores.

Every setting is written once, as a field of one of the tables below. From it follow the key in a TOML file, the keyword of
`blemish.load` and the functions beside it (the field's own name), and the option of the commands (`option`, or the name with
dashes). Importing this imports nothing heavy.
"""

from __future__ import annotations

import dataclasses
import os
import tomllib
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

from blemish.errors import UnknownNameError, UsageError
from blemish.io.atomic import reason
from blemish.io.codec import from_dict, to_dict
from blemish.io.parsing import parse_options, parse_range

__all__ = [
    "SAME_SCORES",
    "Config",
    "InputConfig",
    "MasksConfig",
    "ModelConfig",
    "NumberPrecision",
    "ReferencesConfig",
    "RegionsConfig",
    "Setting",
    "ThresholdsConfig",
    "VocabularyConfig",
    "settings",
]

# Scores: another value gives other scores, so that thresholds found with one do not hold for the other. Results: a run that
# is resumed must have the same. Nothing: speed, or a limit.
Decides: TypeAlias = Literal["model", "scores", "results", "nothing"]
NumberPrecision: TypeAlias = Literal["float32", "half", "int8"]
SAME_SCORES = 1e-3  # as far as the scores of two engines may lie apart, for a threshold of one to hold for the other
PathKind: TypeAlias = Literal["", "path", "name or path"]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting: all that its keyword, its key in a file and its option have in common."""

    name: str  # the keyword, and the key in a file
    table: str  # the table of a file
    hint: Any  # the type
    default: Any
    help: str  # one or two sentences for the command line
    option: str  # of the commands
    metavar: str | None = None  # what stands for the value in a help text
    parse: Callable[[Any], Any] | None = None  # from the text (or texts) of the option; None: the text itself
    decides: Decides = "nothing"
    path: PathKind = ""  # whether the value is a path, a name or a path, or neither
    replaces: tuple[str, ...] = ()  # settings that it stands instead of


def _setting(default: Any, *, help: str, **facts: Any) -> Any:
    """A field of a table, with what `Setting` holds of it."""
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata={"help": help, **facts})
    return field(default=default, metadata={"help": help, **facts})


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Which model scores the images, and where it runs."""

    backbone: str = _setting(
        "embedded",
        decides="model",
        path="name or path",
        help="Backbone: a name that `blemish models list` shows, or a path.",
    )
    method: str | None = _setting(
        None, decides="model", help="Method. Default: that of the prompts, else the backbone's own."
    )
    prompts: str | None = _setting(
        None,
        decides="model",
        path="name or path",
        help="Trained prompts: a name or a path. Default: the backbone's own.",
    )
    options: Mapping[str, Any] = _setting(
        {},
        decides="model",
        option="--set",
        metavar="KEY=VALUE",
        parse=parse_options,
        help="An option of the method, as --set smoothing=0.5; may be given several times.",
    )
    force: bool = _setting(
        False, help="Use prompts with another backbone, or with another option, than they were trained with."
    )
    engine: str = _setting("torch", decides="scores", help="The library that runs the model.")
    device: str = _setting("cpu", help="Where the model runs: cpu, cuda, cuda:1, mps.")
    precision: Literal["float32", "half", "int8"] = _setting(
        "float32",
        decides="scores",
        help="Numbers that the blocks of the image tower are computed in: float32, or half (16 bits: faster, other scores); "
        "int8 with exported models that have it.",
    )
    threads: int | None = _setting(
        None,
        help="Threads that the model computes with. Default: one for each processor that is free for this process.",
    )
    compiled: bool = _setting(
        False, help="Let torch compile the image side: minutes at the first image, worth it on a GPU and for long runs."
    )
    batch_size: int = _setting(8, decides="results", help="Images that the model gets at once.")

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise UsageError(f"the model computes with at least one thread, not {self.threads}")


@dataclass(frozen=True, kw_only=True)
class VocabularyConfig:
    """The defect types to tell apart; without any, the built-in ones."""

    defects: str | tuple[str, ...] | None = _setting(
        None,
        replaces=("vocabulary", "product"),
        help='Names of the defect types to tell apart: "scratch, hole". Default: the built-in ones.',
    )
    vocabulary: str | None = _setting(
        None,
        decides="scores",
        path="path",
        metavar="FILE",
        replaces=("defects",),
        help="TOML file of defect types, their words and products, instead of --defects.",
    )
    product: str | None = _setting(None, help="The product in the vocabulary file whose defect types these are.")

    def __post_init__(self) -> None:
        if self.defects is not None and self.vocabulary is not None:
            raise UsageError("name the defects or give a vocabulary file, not both")
        if self.vocabulary is None and self.product is not None:
            raise UsageError(f"a product ({self.product}) is one of a vocabulary file; give that, too")


@dataclass(frozen=True, kw_only=True)
class InputConfig:
    """How images come to the model."""

    input_px: int | None = _setting(
        None,
        decides="scores",
        metavar="PIXELS",
        help="Side of the square that images are resized to, as 448. Default: the backbone's own.",
    )
    tiles: str | int | None = _setting(
        None,
        decides="scores",
        help="Look at large images in overlapping tiles, too: auto, off, or the side of a tile in pixels. Default: off.",
    )
    value_range: tuple[float | str, float | str] | None = _setting(
        None,
        decides="scores",
        option="--range",
        metavar="LOW:HIGH",
        parse=parse_range,
        help="Values of black and white in images with more than 8 bits, as 0:4095 or 1%:99%. Default: from the images.",
    )
    max_megapixels: float = _setting(200.0, help="Megapixels of the largest image that is decoded.")


@dataclass(frozen=True, kw_only=True)
class ReferencesConfig:
    """Images that every image is compared with."""

    peers: str | None = _setting(
        None,
        decides="scores",
        path="path",
        metavar="PATH",
        replaces=("references", "profile"),
        help="Compare each image with these of the same product, unlabelled, most of them good: a folder or a pattern; auto: "
        "with each other, where they are a series of one product; off. Default: auto for a folder, else off.",
    )
    references: str | None = _setting(
        None,
        decides="scores",
        path="path",
        metavar="PATH",
        replaces=("peers", "profile"),
        help="Good images of the same product, one or thousands, that each image is compared with: a folder or a pattern.",
    )
    compare_px: int | None = _setting(
        None,  # decides scores as the size of the engine's input, which a setup has
        metavar="PIXELS",
        help="Side of the square at which images are compared, as 448: finer than the words look. Default: the input's.",
    )
    profile: str | None = _setting(
        None,
        decides="results",  # of the scores its memory decides, which a setup has as "references"
        path="path",
        metavar="FILE",
        replaces=(
            *("peers", "references", "calibration", "threshold", "pixel_threshold"),
            *("defects", "vocabulary", "product", "roi", "ignore"),
        ),
        help="File of blemish learn: memory, thresholds, defect types, masks and model of one product. "
        "Settings given beside it come before it.",
    )


@dataclass(frozen=True, kw_only=True)
class MasksConfig:
    """The pixels that count; without masks, all do."""

    roi: str | None = _setting(
        None,
        decides="scores",
        path="path",
        metavar="PATH",
        help="Mask of the pixels that count: one file for all images, or a folder with a mask of each image's name.",
    )
    ignore: str | None = _setting(
        None, decides="scores", path="path", metavar="PATH", help="Mask of the pixels that do not count, as --roi."
    )


@dataclass(frozen=True, kw_only=True)
class RegionsConfig:
    """Which regions are listed, and in which units."""

    min_area_px: float | None = _setting(
        None,
        decides="results",
        option="--min-area",
        metavar="PIXELS",
        help="Area of the smallest region that is listed. Default: a quarter of the model's patch.",
    )
    mm_per_px: float | None = _setting(
        None,
        decides="results",
        metavar="MM",
        help="Side of a pixel in millimetres; gives regions a size in millimetres.",
    )


@dataclass(frozen=True, kw_only=True)
class ThresholdsConfig:
    """What is decided from the scores. A threshold given here comes before the calibration's, that before the model card's."""

    threshold: float | None = _setting(
        None, help="Image score (0..1) from which an image is NG. Default: the calibration's, else the model card's."
    )
    pixel_threshold: float | None = _setting(
        None, help="Pixel score (0..1) from which a pixel belongs to a region. Default: as --threshold."
    )
    calibration: str | None = _setting(
        None,
        path="path",
        metavar="FILE",
        replaces=("threshold", "pixel_threshold"),
        help="File of blemish calibrate: its thresholds, if it was made with this model and setup.",
    )


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that `blemish.load` needs to know; each field is a table of a TOML file.

    Raises:
        UsageError: Settings contradict each other.

    Example:
        >>> config = Config(vocabulary=VocabularyConfig(defects="scratch, hole"))
        >>> config.with_settings(threshold=0.7).thresholds
        ThresholdsConfig(threshold=0.7, pixel_threshold=None, calibration=None)
        >>> print(config.to_toml())
        [vocabulary]
        defects = "scratch, hole"
        <BLANKLINE>
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    vocabulary: VocabularyConfig = field(default_factory=VocabularyConfig)
    input: InputConfig = field(default_factory=InputConfig)
    references: ReferencesConfig = field(default_factory=ReferencesConfig)
    masks: MasksConfig = field(default_factory=MasksConfig)
    regions: RegionsConfig = field(default_factory=RegionsConfig)
    thresholds: ThresholdsConfig = field(default_factory=ThresholdsConfig)

    def __post_init__(self) -> None:
        references = self.references
        if references.peers not in (None, "auto", "off") and references.references is not None:
            raise UsageError("images are compared with unlabelled peers or with good references: leave one of them out")
        if references.profile is not None and references != ReferencesConfig(profile=references.profile):
            raise UsageError("a profile has its own good images: leave --peers and --references out")
        if references.profile is not None and self.input.tiles not in (None, "off"):
            raise UsageError("a profile compares whole images, not tiles: leave one of them out")
        for name in ("peers", "references"):
            if getattr(references, name) not in (None, "auto", "off") and self.input.tiles not in (None, "off"):
                raise UsageError(f"{name} are compared with whole images, not with tiles: leave one of them out")

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, folder: Path | None = None) -> Config:
        """The configuration of these tables; relative paths are meant from `folder`, where one is given.

        Raises:
            UnknownNameError: A table or a key is unknown; the nearest one is named.
            UsageError: A value has the wrong type, or settings contradict each other.
        """
        tables = typing.get_type_hints(cls)
        for name, table in data.items():
            if name not in tables:
                if name in settings():
                    raise UsageError(f"the key {name!r} belongs into the table [{settings()[name].table}]")
                raise UnknownNameError("table", name, tables)
            for key in table if isinstance(table, Mapping) else ():
                if key in settings() and settings()[key].table != name:
                    raise UsageError(f"the key {key!r} belongs into the table [{settings()[key].table}], not [{name}]")
            if not isinstance(table, Mapping):
                raise UsageError(f"{name} must be a table, not {table!r}")
        config = cls(**{name: from_dict(tables[name], table, where=f"[{name}]") for name, table in data.items()})
        return config if folder is None else config.from_folder(folder)

    @classmethod
    def from_toml(cls, path: str | Path) -> Config:
        """The configuration in a TOML file; relative paths in it are meant from the file's folder.

        A backbone or prompts are names, unless a file or folder of that name lies beside the file.

        Raises:
            UsageError: The file cannot be read, is not TOML, or says something that no configuration can say.
        """
        path = Path(path).expanduser()
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        except OSError as error:
            raise UsageError(f"{path}: the configuration cannot be read ({reason(error)})") from error
        except ValueError as error:  # of tomllib, or bytes that are not UTF-8
            raise UsageError(f"{path}: is not TOML ({error})") from error
        try:
            return cls.from_dict(data, folder=path.parent)
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from error

    def to_dict(self) -> dict[str, Any]:
        """Tables of the settings that are not the default, as plain data."""
        tables: dict[str, Any] = {}
        for table in dataclasses.fields(self):
            value, default = getattr(self, table.name), typing.get_type_hints(type(self))[table.name]()
            changed = {key: plain for key, plain in to_dict(value).items() if plain != to_dict(default).get(key)}
            tables |= {table.name: changed} if changed else {}
        return tables

    def to_toml(self) -> str:
        """A TOML file that `from_toml` reads back, with the settings that are not the default."""
        import tomli_w

        return tomli_w.dumps(self.to_dict())

    def with_settings(self, **given: Any) -> Config:
        """This configuration with other values of some settings, by their names.

        Options of the method are added to those there are. A setting given here also takes away what it stands instead of:
        `defects` a vocabulary file, that one `defects`, and `calibration` both thresholds.

        Raises:
            UnknownNameError: There is no such setting; the nearest one is named.
            UsageError: A value has the wrong type, or settings contradict each other.
        """
        known = settings()
        for name in given:
            if name not in known:
                raise UnknownNameError("setting", name, known)
        cleared = {other for name, value in given.items() if value is not None for other in known[name].replaces}
        values = {name: known[name].default for name in cleared - given.keys()}
        values |= {name: _plain(value) for name, value in given.items()}
        if values.get("options"):
            values["options"] = {**self.model.options, **values["options"]}
        return self._with(values)

    def settings(self) -> Iterator[tuple[Setting, Any]]:
        """Every setting with its value here."""
        for setting in settings().values():
            yield setting, getattr(getattr(self, setting.table), setting.name)

    def from_folder(self, folder: Path) -> Config:
        """This configuration with its relative paths meant from a folder.

        A backbone or prompts are names, unless a file or folder of that name lies there.
        """
        moved = {}
        for setting, value in self.settings():
            if not setting.path or value in (None, "data", "auto", "off") or Path(value).expanduser().is_absolute():
                continue
            if setting.path == "path" or (folder / value).exists():
                moved[setting.name] = str(folder / Path(value).expanduser())
        return self._with(moved)

    def _with(self, values: Mapping[str, Any]) -> Config:
        """This configuration with these values, checked; None stands for the default."""
        tables: dict[str, dict[str, Any]] = {}
        for name, value in values.items():
            setting = settings()[name]
            tables.setdefault(setting.table, {})[name] = setting.default if value is None else value
        changed = {}
        for name, table in tables.items():
            before = getattr(self, name)
            current = {key.name: getattr(before, key.name) for key in dataclasses.fields(before)}
            changed[name] = from_dict(type(before), current | table, where=f"[{name}]")
        return dataclasses.replace(self, **changed)


@cache
def settings() -> dict[str, Setting]:
    """Every setting by its name, in the order of the tables."""
    found = {}
    for table, kind in typing.get_type_hints(Config).items():
        hints = typing.get_type_hints(kind)
        for key in dataclasses.fields(kind):
            made = key.default_factory
            default = key.default if made is dataclasses.MISSING else made()
            facts = {"option": f"--{key.name.replace('_', '-')}", **key.metadata}
            found[key.name] = Setting(name=key.name, table=table, hint=hints[key.name], default=default, **facts)
    return found


def _plain(value: Any) -> Any:
    """A value as a configuration holds it: paths as text, NumPy's numbers as Python's, lists as tuples."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if getattr(value, "ndim", None) == 0:
        return value.item()
    return tuple(map(_plain, value)) if isinstance(value, list | tuple) else value
