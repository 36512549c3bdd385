"""A product learned from good images: memory, thresholds with their promise, and what good images look like, into one file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from blemish.config import Config
from blemish.engines.base import ReferenceMemory
from blemish.errors import ImageError, ModelError, UsageError
from blemish.inspection.inspector import Inspector
from blemish.inspection.load import choose_vocabulary, load, merge
from blemish.inspection.masks import Masks
from blemish.io.progress import Reporter
from blemish.io.provenance import command_line
from blemish.profiles.checks import groups_of, near_copies
from blemish.profiles.file import ProductProfile, kept_config, write_profile
from blemish.runs.calibrate import ImageNames, copies_note, distinct_files, image_files, without_thresholds
from blemish.runs.good_images import GoodReader, ReadImage, score_good_images
from blemish.runs.promise import FEWEST_FOR_THRESHOLDS, WantedPromise, promised
from blemish.runs.suspects import find_suspects, score_remembered, write_suspects

__all__ = ["LearnedProfile", "check_new_file", "learn", "remembering"]

SPLIT_FROM = (
    400  # good images: half of so many are memory enough, and the other half carry a promise without conditions
)
SEED = 0
MOST_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class LearnedProfile:
    """A profile, and what became of its images."""

    profile: ProductProfile
    notes: tuple[str, ...] = ()  # lines that a person should read
    unreadable: tuple[ImageError, ...] = ()  # images that are not in it
    before: ProductProfile | None = None  # the profile that was changed


def learn(
    good: ImageNames,
    *,
    out: str | Path | None = None,
    max_false_rejects: float | Literal["auto"] = "auto",
    confidence: float | None = None,
    review: float | Literal["auto"] | None = "auto",
    split: bool | None = None,
    keep_all: bool = False,
    leave_out: ImageNames | None = None,
    overwrite: bool = False,
    config: Config | None = None,
    reporter: Reporter | None = None,
    command: Sequence[str] | None = None,
    **given: Any,
) -> LearnedProfile:
    """Learns one product from good images, as `blemish learn` does: everything about it in one profile.

    Args:
        good: Good images, from one on: files, folders (searched recursively), patterns, .txt lists of them. From ten on there
            are thresholds with a promise.
        out: The file to write, as "part.blemish"; None writes none.
        max_false_rejects: The share (0..1) of good images that may be called NG; "auto" for 1 %, 5 % or 10 %, whichever is the
            least that so many images can promise.
        confidence: Promise it for this very profile with this confidence, as 0.95; splits the images.
        review: The share (0..1) of good images that may be called NG or review; "auto" for 5 %, or twice
            `max_false_rejects` where that is more; None for no review band.
        split: Half of the images go into the memory, the other half find the thresholds. None: from 400 images on. Without
            it, all go into the memory, and each is scored without itself.
        keep_all: Images that look suspicious count, too.
        leave_out: Images that do not count, as `good`; all others do, however they look.
        overwrite: Replace the file.
        config: A configuration; its thresholds and references do not matter here.
        reporter: Is told how the work goes on.
        command: What the file names as the command; by default that of this process.
        **given: Settings by their names, as `blemish.load` takes them; they come before those of `config`.

    Returns:
        The profile, what is to be known of it, and the images that could not be read.

    Raises:
        UsageError: Some images do not look like the other good ones and nobody decided about them; too few images for the
            promise that was asked for; a file that is there already; or the model has no memory of good images.

    Example:
        >>> learned = learn("good", out="part.blemish", keep_all=True)
        >>> len(learned.profile.images), learned.profile.path.name
        (20, 'part.blemish')
    """
    path = None if out is None else check_new_file(out, overwrite=overwrite)
    command = command_line() if command is None else command
    wanted = WantedPromise(max_false_rejects=max_false_rejects, confidence=confidence, review=review)
    config = _of_product(merge(config, given))
    found = image_files(good)
    files, copies, left_out = _files(found.paths, leave_out)
    base = inspector = load(config)
    if config.references.compare_px is not None:
        inspector = base.with_engine(base.engine.comparing_at(config.references.compare_px))
    masks = _shared(inspector.masks)
    remembered, calibrating = _dealt(files, split=split, confidence=confidence)

    reader = GoodReader(inspector, remembered, reporter=reporter)
    memory = inspector.engine.remember(reader.batches())
    if not reader.read:
        raise UsageError(f"none of the {len(remembered)} good images can be used; the first: {reader.unreadable[0]}")
    if memory.images != len(reader.read):
        raise ModelError(f"the memory holds {memory.images} images of {len(reader.read)} that it was given")
    inspector = remembering(inspector, memory, ranges=reader.ranges)
    images = score_remembered(inspector, memory, [image.good for image in reader.read])
    others, errors = score_good_images(inspector, calibrating, reporter=reporter) if calibrating else ([], [])
    read = [*reader.read, *others]
    images += [image.good for image in others]

    suspects = find_suspects(images)
    if suspects is not None and leave_out is None and not keep_all:
        hint = "look at them, then repeat with --keep-all or --leave-out LIST"
        if path is not None:
            sheet, listed = write_suspects(suspects, inspector, memory, beside=path)
            hint = f"look at {sheet}, then repeat with --leave-out {listed} (take out of it what is good) or --keep-all"
        raise UsageError(f"{suspects.words}; nothing is learned before you decide: {hint}")
    calibration = promised(
        wanted,
        images,
        setup=inspector.setup,
        types=inspector.types,
        command=command,
        split=bool(calibrating),
    )
    profile = ProductProfile(
        memory=memory,
        model=base.model,
        setup=inspector.setup,
        config=kept_config(config, input_px=base.engine.input.size),
        vocabulary=choose_vocabulary(config.vocabulary),
        images=tuple(images),
        calibration=calibration,
        roi=None if masks.roi is None else masks.roi.shared,
        ignore=None if masks.ignore is None else masks.ignore.shared,
    ).with_history(what="learned", images=len(images), left_out=left_out, command=list(command))
    notes = [
        *([found.summary] if found.summary else []),
        *_notes(read, copies=[*copies, *reader.copies]),
        *([f"{suspects.words}; nothing is left out for that"] if suspects is not None else []),
        *([too_few_note(len(images))] if calibration is None else []),
    ]
    if path is not None:
        profile = write_profile(profile, path)
    return LearnedProfile(
        profile=profile, notes=tuple(notes), unreadable=(*reader.unreadable, *errors, *found.unlisted)
    )


def check_new_file(out: str | Path, *, overwrite: bool) -> Path:
    """The path of a file to write; UsageError where it is there already."""
    path = Path(out).expanduser()
    if path.is_dir():
        raise UsageError(f"{path}: is a folder; --out names a file, as part.blemish")
    if path.exists() and not overwrite:
        raise UsageError(f"{path}: is there already; --overwrite replaces it, --out writes another")
    return path


def remembering(inspector: Inspector, memory: ReferenceMemory, *, ranges: set[tuple[float, float]]) -> Inspector:
    """The inspector with this memory, on the value range that the images of the memory were read on."""
    value_range = inspector.value_range if len(ranges) != 1 else next(iter(ranges))
    return inspector.with_engine(inspector.engine.with_memory(memory), value_range=value_range)


def too_few_note(images: int) -> str:
    """That so few images give no thresholds."""
    are = "image is" if images == 1 else "images are"
    return (
        f"{images} good {are} too few for a promise: the thresholds are the model card's, uncalibrated; from "
        f"{FEWEST_FOR_THRESHOLDS} on there are thresholds of the product's own"
    )


def _of_product(config: Config) -> Config:
    """The configuration of the model and its input alone."""
    if config.input.tiles not in (None, "off"):
        raise UsageError("a profile compares whole images, not tiles: leave --tiles out")
    return without_thresholds(config).with_settings(peers=None, references=None, profile=None)


def _files(
    found: Sequence[Path], leave_out: ImageNames | None
) -> tuple[list[Path], list[tuple[Path, Path]], list[str]]:
    """The different files, the copies among them, and what was left out."""
    unwanted = set() if leave_out is None else {file.resolve() for file in image_files(leave_out).paths}
    files = [file for file in found if file.resolve() not in unwanted]
    if not files:
        raise UsageError("all of the good images are left out")
    distinct, copies = distinct_files(files)
    return distinct, copies, [str(file) for file in found if file.resolve() in unwanted]


def _shared(masks: Masks | None) -> Masks:
    for option, mask in () if masks is None else (("roi", masks.roi), ("ignore", masks.ignore)):
        if mask is not None and mask.shared is None:
            raise UsageError(f"--{option} {mask.path}: a profile holds one mask for all images, not a folder of them")
    return masks or Masks()


def _dealt(files: list[Path], *, split: bool | None, confidence: float | None) -> tuple[list[Path], list[Path]]:
    """The files that are remembered, and those that only calibrate."""
    if confidence is not None and split is False:
        raise UsageError("--confidence needs images that are not in the memory: leave --no-split out")
    if not (split or confidence is not None or (split is None and len(files) >= SPLIT_FROM)):
        return files, []
    if len(files) < 2:
        raise UsageError("a single good image cannot be split: leave --split and --confidence out")
    half = set(np.random.default_rng(SEED).permutation(len(files))[: len(files) // 2].tolist())
    calibrating = [file for number, file in enumerate(files) if number in half]
    return [file for number, file in enumerate(files) if number not in half], calibrating


def _notes(read: Sequence[ReadImage], *, copies: Sequence[tuple[Path, Path]]) -> list[str]:
    """What a person should know of the images together."""
    looks = [image.look for image in read]
    notes = [copies_note(copies)] if copies else []
    if len(read) == 1 and copies:
        notes.append("all files hold the same image: they count as one")
    pairs = near_copies(looks)
    if pairs:
        shown = ", ".join(f"{read[later].path} = {read[first].path}" for later, first in pairs[:MOST_NAMED])
        shown += " …" if pairs[MOST_NAMED:] else ""
        notes.append(
            f"{len(pairs)} of {len(read)} images are nearly the same photo as another ({shown}); "
            "several photos of one part say no more than one, and the promise counts them all"
        )
    groups = groups_of(looks)
    if groups is not None:
        large, small = groups
        notes.append(
            f"the images look like two products: {len(small)} of {len(read)} ({read[small[0]].path} …) are unlike the others "
            f"({read[large[0]].path} …); a profile is for one"
        )
    sizes = {image.good.seen.size_px for image in read}
    if len(sizes) > 1:
        least, most = min(sizes), max(sizes)
        notes.append(f"the images have {len(sizes)} sizes, from {least[0]} x {least[1]} to {most[0]} x {most[1]} px")
    if len({image.good.seen.is_deep for image in read}) > 1:
        notes.append("some images have 8 bits and others more: inspect with the depth that you learned with")
    return notes
