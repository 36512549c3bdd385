"""From a method's name and a data set to trained prompts: checks first, then features, then the loop."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch

from blemish import models as store
from blemish.backbones.model import Clip
from blemish.data.opening import open_data
from blemish.data.samples import DataSet
from blemish.engines.torch import device_of
from blemish.errors import UsageError
from blemish.io.atomic import make_folder, write_text
from blemish.io.codec import to_dict
from blemish.io.json_files import read_json_if_there
from blemish.io.progress import Reporter
from blemish.io.provenance import command_line
from blemish.language import general, parse_defects
from blemish.methods import build, method_class
from blemish.methods.base import Method
from blemish.models.feature_cache import CacheDtype, FeatureStore, feature_store
from blemish.models.paths import WEIGHTS
from blemish.models.prompts import CARD
from blemish.training.batches import Source, cache_features
from blemish.training.card import describe_data, differences, identity, in_short, provenance
from blemish.training.examples import Examples, examine, require_both_classes, require_masks
from blemish.training.log import LOG_FILE, PLOT_FILE
from blemish.training.loop import Trainer, TrainingSettings, epoch_folder
from blemish.training.recipe import Recipe, recipe_of
from blemish.training.state import STATE_FILE

__all__ = ["IDENTITY_FILE", "Trained", "choose_split", "train"]

SplitGiven: TypeAlias = Literal["train", "test", "all"]

IDENTITY_FILE = "state.json"  # what the training in a folder is; written before anything else
SCHEMA = "blemish.training/1"
OWN_FILES = (IDENTITY_FILE, STATE_FILE, LOG_FILE, PLOT_FILE)
OWN_FILES_OF_AN_EPOCH = (WEIGHTS["prompts"], CARD)


@dataclass(frozen=True)
class Trained:
    """A finished training: its folder, the prompts after each epoch, and for each epoch what the log says of it."""

    out: Path
    prompts: tuple[Path, ...]
    history: tuple[dict[str, Any], ...]


def train(
    method: str,
    data: DataSet | str | Path,
    *,
    out: str | Path,
    split: SplitGiven | None = None,
    backbone: str | Path | Clip = "embedded",
    options: Mapping[str, Any] | None = None,
    recipe: Recipe | None = None,
    held_out: DataSet | str | Path | None = None,
    device: str = "cpu",
    overwrite: bool = False,
    skip_unreadable: bool = False,
    save_every_s: float = 60.0,
    log_every: int = 1,
    command: str | None = None,
    reporter: Reporter | None = None,
) -> Trained:
    """Trains the prompts of a method on a data set, as `blemish train` does, and puts them into `out`, a folder for each epoch.

    Where a training of the same method, options, recipe and data was stopped in `out`, it goes on and ends with the same bytes.
    docs/training.md describes the files.

    Args:
        method: The method's name.
        data: Images with masks: a data set, its name or folder, or "synthetic:COUNT@SEED".
        out: Folder for prompts, cards, log and state.
        split: Part of `data`, where that is a name or a folder: "train", "test" or "all". None: test where there is one, as its
            images show defects; else train.
        backbone: The frozen backbone: a name, a path or a loaded one.
        options: Of the method.
        recipe: Epochs, batch size, learning rate, seed, precision; None for that of the method's authors.
        held_out: Other images, measured after every epoch; they give the thresholds of the cards and select nothing.
        device: "cpu", "cuda", "cuda:1" or "mps".
        overwrite: Start anew in `out`.
        skip_unreadable: Leave out images that cannot be read, instead of refusing.
        save_every_s: Seconds between two states on the disk.
        log_every: Steps between two lines of the log.
        command: What the cards name as the command; by default that of this process.
        reporter: Is told how the work goes on.

    Returns:
        The prompts after each epoch, and what the log says of it.

    Raises:
        UsageError: Unfit data, unreadable images (all of them named), another training in `out`.
        OutputError: No room on the disk.
        ModelError: A loss that is no number, with its batch; the state before it stays.

    Example:
        >>> trained = train("faprompt", "synthetic:200@1", out="prompts")  # doctest: +SKIP
        >>> trained.prompts[-1]  # doctest: +SKIP
        PosixPath('prompts/epoch-07')
    """
    reporter, folder = reporter or Reporter(), Path(out).expanduser()
    check_trainable(method, options or {})
    recipe = recipe or recipe_of(method)
    if not isinstance(data, DataSet):
        data = choose_split(open_data(data), split)
    if held_out is not None and not isinstance(held_out, DataSet):
        held_out = choose_split(open_data(held_out))
    place = open_device(device, recipe)
    _check_folder(folder, overwrite=overwrite)
    clip = backbone if isinstance(backbone, Clip) else store.load_backbone(backbone)
    built = _built(method, clip, options or {}, seed=recipe.seed).to(place)
    whole: dict[str, Any] = {"schema": SCHEMA, **identity(built, recipe, place)}
    _require_same(folder, whole, overwrite=overwrite)  # what can be told before a look at the data

    features = _store_for(built, recipe)
    training, measured = _examined(
        data, held_out, clip=clip, features=features, skip_unreadable=skip_unreadable, reporter=reporter
    )
    described = describe_data(data, training)
    described_held_out = None if held_out is None or measured is None else describe_data(held_out, measured)
    whole |= {"data": in_short(described), "held_out": described_held_out and in_short(described_held_out)}
    _require_same(folder, whole, overwrite=overwrite)
    make_folder(folder)
    _remove_remains(folder)
    if overwrite:
        _remove_training(folder)
    write_text(folder / IDENTITY_FILE, json.dumps(whole, indent=2) + "\n")

    # numbers of types in the targets are places in this vocabulary
    vocabulary = parse_defects(training.types) if training.types else general()
    if features is not None:
        sets = (training,) if measured is None else (training, measured)
        cache_features(built, sets, features, device=place, reporter=reporter)
    trainer = Trainer(
        built,
        Source(training, clip.config.preprocess, features),
        vocabulary=vocabulary,
        recipe=recipe,
        device=place,
        settings=TrainingSettings(out=folder, save_every_s=save_every_s, log_every=log_every),
        card={
            "data": described,
            "held_out": described_held_out,
            "types": list(vocabulary.names),
            **provenance(recipe, place, command=command or shlex.join(command_line())),
        },
        held_out=None if measured is None else Source(measured, clip.config.preprocess, features),
        reporter=reporter,
    )
    if steps := trainer.progress.steps:
        what = "going on after step" if steps < trainer.all_steps else "finished before, at step"
        reporter.say(f"{folder}: {what} {steps} of {trainer.all_steps}")
    trainer.run()
    history = tuple(trainer.progress.history)
    return Trained(folder, tuple(epoch_folder(folder, record["epoch"]) for record in history), history)


def choose_split(data: DataSet, split: SplitGiven | None = None) -> DataSet:
    """The asked part of a data set; None asks for its test split, else its train split.

    Raises:
        UsageError: There is no image in that part.
    """
    if split == "all":
        return data
    part = data.of(split=split or "test")
    if not part.samples and split is None:
        part = data.of(split="train")
    if not part.samples:
        raise UsageError(f"{data.name} has no images in its {split or 'test'} split; see --split")
    return part


def check_trainable(method: str, options: Mapping[str, Any]) -> None:
    """Raises UsageError where there is no such method or option, or where a method has nothing to train."""
    kind = method_class(method)
    if not kind.is_trained():
        raise UsageError(f"the method {method!r} needs no training: use it as it is, with --method {method}")
    kind.config_from(options)


def open_device(name: str, recipe: Recipe) -> torch.device:
    """The device of this name; UsageError where it is not here or cannot do the recipe's precision."""
    device = device_of(name)
    if recipe.precision == "fp16" and device.type != "cuda":
        raise UsageError(f"fp16 trains on a GPU only, and this is {name!r}; --precision bf16 or fp32 does")
    return device


def _built(name: str, clip: Clip, options: Mapping[str, Any], *, seed: int) -> Method:
    """The method with its first prompts drawn from the seed; the caller's random numbers stay as they are."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build(name, clip, options)


def _examined(
    data: DataSet,
    held_out: DataSet | None,
    *,
    clip: Clip,
    features: FeatureStore | None,
    skip_unreadable: bool,
    reporter: Reporter,
) -> tuple[Examples, Examples | None]:
    """Both sets after a look at every image; UsageError where one of them is not fit for its purpose."""

    def look(these: DataSet) -> Examples:
        found = examine(
            these,
            size=clip.config.preprocess.size,
            store=features,
            skip_unreadable=skip_unreadable,
            reporter=reporter,
        )
        _note(found, these, reporter)
        require_both_classes(found, these.name)
        return found

    training = look(data)
    require_masks(training, data.name)
    if held_out is None:
        return training, None
    measured = look(held_out)
    _require_apart(training, measured)
    return training, measured


def _store_for(method: Method, recipe: Recipe) -> FeatureStore | None:
    """Where features are kept; None where nothing can or shall be kept."""
    dtype = recipe.cache_dtype
    if not method.worth_caching or dtype == "none":
        return None
    kept: CacheDtype = dtype
    return feature_store(method, dtype=kept)


def _check_folder(folder: Path, *, overwrite: bool) -> None:
    """Raises UsageError where a folder holds something that no training wrote."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: is a file; --out takes a folder")
    if (folder / IDENTITY_FILE).is_file() or not folder.is_dir() or not any(folder.iterdir()):
        return
    hint = ", and --overwrite replaces nothing else" if overwrite else ""
    raise UsageError(f"{folder}: is not empty and holds no training{hint}; choose another --out")


def _require_same(folder: Path, wanted: Mapping[str, Any], *, overwrite: bool) -> None:
    """Raises UsageError where the training in a folder is not the wanted one, with every difference."""
    if overwrite or not (folder / IDENTITY_FILE).is_file():
        return
    before = read_json_if_there(folder / IDENTITY_FILE)
    # figures that recipes did not have yet were as they are by default
    before["recipe"] = to_dict(Recipe()) | before.get("recipe", {})
    said = differences({key: before.get(key) for key in wanted}, wanted)
    if said:
        raise UsageError(
            f"{folder}: holds another training: {'; '.join(said)}. Choose another --out, or start anew with --overwrite"
        )


def _require_apart(found: Examples, measured: Examples) -> None:
    """Raises UsageError where images are trained on and measured on."""
    trained_on = set(found.digests)
    both = [s.name for s, digest in zip(measured.samples, measured.digests, strict=True) if digest in trained_on]
    if both:
        raise UsageError(
            f"{len(both)} held-out images are in the training data, too (the first: {both[0]}); "
            "a measure on them says nothing"
        )


def _note(examples: Examples, data: DataSet, reporter: Reporter) -> None:
    counts = examples.counts()
    reporter.say(
        f"{data.name}{f' ({data.variant})' if data.variant else ''}: {counts['normal']} normal and {counts['anomalous']} "
        f"anomalous images, {counts['anomalous_with_mask']} of them with a mask"
    )
    for note in data.notes:
        reporter.say(f"note: {note}")
    for error in examples.unreadable:
        reporter.say(f"left out: {error}")
    if empty := examples.empty_masks():
        reporter.say(
            f"note: {empty} masks of anomalous images are empty at {examples.size} px: their places count as normal"
        )


def _remove_training(folder: Path) -> None:
    """Deletes what an earlier training wrote into a folder, and nothing else."""
    files = [folder / name for name in OWN_FILES]
    files += [epoch / name for epoch in folder.glob("epoch-*") for name in OWN_FILES_OF_AN_EPOCH]
    store.remove(tuple(file for file in files if file.is_file()))


def _remove_remains(folder: Path) -> None:
    """Deletes temporary files that a killed training left behind."""
    found = [file for name in OWN_FILES for file in folder.glob(f".{name}.*.tmp")]
    found += [file for name in OWN_FILES_OF_AN_EPOCH for file in folder.glob(f"epoch-*/.{name}.*.tmp")]
    store.remove(tuple(found))
