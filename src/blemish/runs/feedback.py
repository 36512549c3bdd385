"""A profile changed by what was learned since: false alarms remembered, images forgotten, profiles joined, misses reported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from blemish.config import Config
from blemish.engines.base import ReferenceMemory
from blemish.errors import ImageError, UsageError
from blemish.inspection.inspector import Inspector
from blemish.inspection.load import choose_vocabulary, load, merge, with_profile
from blemish.inspection.masks import Masks
from blemish.io.progress import Reporter
from blemish.io.provenance import command_line
from blemish.methods.reference_memory import merge as merge_memories
from blemish.methods.reference_memory import remove as forget
from blemish.profiles import GoodImage, Profile, read_profile, write_profile
from blemish.runs.calibrate import ImageNames, distinct_files, image_files, score_images, without_thresholds
from blemish.runs.good_images import GoodReader, score_good_images
from blemish.runs.learn import Learned, check_new_file, remembering, too_few_note
from blemish.runs.promise import Wanted, promised
from blemish.runs.suspects import score_remembered

__all__ = ["Missed", "MissedReport", "add_good_images", "merge_profiles", "remove_images", "report_missed"]


def add_good_images(
    images: ImageNames,
    profile: str | Path,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    config: Config | None = None,
    reporter: Reporter | None = None,
    command: Sequence[str] | None = None,
    **given: Any,
) -> Learned:
    """Puts good images that were called NG into a profile's memory and finds its thresholds again, as `learn --add` does.

    Args:
        images: The false alarms: files, folders, patterns, .txt lists of them.
        profile: The file of the profile.
        out: The file to write; None replaces `profile`.
        overwrite: Replace `out`.
        config: A configuration: where and how the model runs.
        reporter: Is told how the work goes on.
        command: What the file names as the command; by default that of this process.
        **given: Settings by their names, as `blemish.load` takes them.

    Returns:
        The profile after and before, and the images that could not be read.

    Raises:
        UsageError: All images are in the profile already, or the profile is of another model.
    """
    path, before, base = _open(profile, out, overwrite, config, given)
    files, _ = distinct_files(image_files(images))
    reader = GoodReader(base, files, known=[image.digest for image in before.images], reporter=reporter)
    new = base.engine.remember(reader.batches())
    if not reader.read:
        raise UsageError(
            f"all of these images are in the profile {profile} already"
            if not reader.unreadable
            else f"none of the {len(files)} images can be used; the first: {reader.unreadable[0]}"
        )
    memory = merge_memories(before.memory, new)
    added = [
        replace(image.good, origin="added", memory_digest=digest)
        for image, digest in zip(reader.read, new.digests, strict=True)
    ]
    command = command_line() if command is None else command
    after = _again(before, base, memory, [*before.images, *added], command=command, reporter=reporter)
    after = after.with_history(what="added", added=[image.source for image in added], command=list(command))
    above = _above(after, {image.digest for image in added})
    notes = (
        [] if above is None else [f"of {len(added)} added images, {above} would be NG by a memory without themselves"]
    )
    return _written(after, before, path, notes=notes, unreadable=tuple(reader.unreadable))


def remove_images(
    images: ImageNames,
    profile: str | Path,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    config: Config | None = None,
    reporter: Reporter | None = None,
    command: Sequence[str] | None = None,
    **given: Any,
) -> Learned:
    """Takes images out of a profile and finds its thresholds again, as `learn --remove` does; else as `add_good_images`."""
    path, before, base = _open(profile, out, overwrite, config, given)
    files = image_files(images)
    places = {Path(image.source).resolve(): image for image in before.images}
    gone = {places[file.resolve()].digest for file in files if file.resolve() in places}
    others = [file for file in files if file.resolve() not in places]
    if others:  # moved or renamed since: known by their pixels
        reader = GoodReader(base, others, reporter=reporter)
        for _ in reader.batches():
            pass
        known = {image.digest for image in before.images}
        strange = [image.path for image in reader.read if image.good.digest not in known]
        if strange or reader.unreadable:
            raise UsageError(
                f"{strange[0] if strange else reader.unreadable[0]}: the profile {profile} holds no such image"
            )
        gone |= {image.good.digest for image in reader.read}
    kept = [image for image in before.images if image.digest not in gone]
    if not any(image.memory_digest for image in kept):
        raise UsageError("a profile keeps at least one image: learn the product again")
    memory = before.memory
    for image in before.images:
        if image.digest in gone and image.memory_digest is not None:
            memory = forget(memory, image.memory_digest)
    command = command_line() if command is None else command
    after = _again(before, base, memory, kept, command=command, reporter=reporter)
    sources = [image.source for image in before.images if image.digest in gone]
    after = after.with_history(what="removed", removed=sources, command=list(command))
    return _written(after, before, path, notes=[], unreadable=())


def merge_profiles(
    profile: str | Path,
    other: str | Path,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    config: Config | None = None,
    reporter: Reporter | None = None,
    command: Sequence[str] | None = None,
    **given: Any,
) -> Learned:
    """Joins another profile of the same product and model into one, as `learn --merge` does; else as `add_good_images`.

    Images that both hold count once.
    """
    path, before, base = _open(profile, out, overwrite, config, given)
    second = read_profile(other)
    _check_alike(before, second)
    known = {image.digest for image in before.images}
    new = [image for image in second.images if image.digest not in known]
    if not new:
        raise UsageError(f"{other}: all of its images are in {profile} already")
    memory = merge_memories(before.memory, second.memory)
    command = command_line() if command is None else command
    after = _again(before, base, memory, [*before.images, *new], command=command, reporter=reporter)
    after = after.with_history(
        what="merged", other=second.identity, added=[image.source for image in new], command=list(command)
    )
    return _written(after, before, path, notes=[], unreadable=())


@dataclass(frozen=True, kw_only=True)
class Missed:
    """An image with a defect, and what it would cost to catch it."""

    source: str
    image_score: float  # 0..1; an image threshold up to it catches the image
    good_above: int  # good images of the profile that such a threshold calls NG


@dataclass(frozen=True, kw_only=True)
class MissedReport:
    """Which defects a profile could catch at which image threshold, and what that costs in false rejects."""

    images: tuple[Missed, ...]  # the highest score first
    threshold: float  # the image threshold in force, 0..1
    good_images: int  # that were scored without themselves
    unreadable: tuple[ImageError, ...] = ()

    def lines(self) -> list[str]:
        """A table for a person."""
        caught = [image for image in self.images if image.image_score >= self.threshold]
        lines = [
            f"image threshold {self.threshold:.4g}: {len(caught)} of {len(self.images)} images are NG with this profile",
            "caught by  good images NG  at most    image",
        ]
        for image in self.images:
            n, above = self.good_images, image.good_above
            cost = f"{above:>6} of {n:<6}  {100 * (above + 1) / (n + 1):>6.3g} %" if n else f"{'unknown':>25}"
            state = "  (NG already)" if image.image_score >= self.threshold else ""
            lines.append(f"{image.image_score:9.4f}  {cost}   {image.source}{state}")
        lines.append(
            "caught by: the highest image threshold that calls the image NG (--threshold); at most: the share of good"
        )
        lines.append("images that are NG then, on average over profiles of so many good images")
        return lines


def report_missed(
    images: ImageNames,
    profile: str | Path,
    *,
    config: Config | None = None,
    reporter: Reporter | None = None,
    **given: Any,
) -> MissedReport:
    """What it costs to catch images with defects that were called OK, as `learn --found` does. Nothing is written.

    Args:
        images: The images with defects: files, folders, patterns, .txt lists of them.
        profile: The file of the profile.
        config: A configuration: where and how the model runs.
        reporter: Is told how the work goes on.
        **given: Settings by their names, as `blemish.load` takes them.
    """
    config = merge(config, given).with_settings(profile=profile)
    inspector = load(config)
    assert inspector.profile is not None
    scored = score_images(inspector, image_files(images), reporter=reporter)
    good = [image.seen.image_score for image in inspector.profile.images if image.origin == "drawn"]
    known = [score for score in good if score is not None]
    found = [
        Missed(
            source=image.source,
            image_score=image.image_score,
            good_above=sum(score >= image.image_score for score in known),
        )
        for image in scored.scores
        if image is not None
    ]
    return MissedReport(
        images=tuple(sorted(found, key=lambda image: -image.image_score)),
        threshold=inspector.thresholds.image,
        good_images=len(known),
        unreadable=scored.unreadable,
    )


def _open(
    profile: str | Path, out: str | Path | None, overwrite: bool, config: Config | None, given: dict[str, Any]
) -> tuple[Path, Profile, Inspector]:
    """The file to write, the profile, and an inspector of its model and masks without its memory."""
    path = Path(profile).expanduser() if out is None else check_new_file(out, overwrite=overwrite)
    before = read_profile(profile)
    config = before.merged(without_thresholds(merge(config, given)).with_settings(profile=None))
    plain = load(config)
    with_profile(plain.engine, before)  # refused before anything is read
    inspector = Inspector(
        plain.engine,
        thresholds=plain.thresholds,
        vocabulary=choose_vocabulary(config.vocabulary) or before.vocabulary,
        min_lead=plain.min_lead,
        batch_size=plain.batch_size,
        value_range=before.setup.value_range or plain.value_range,
        max_megapixels=plain.max_megapixels,
        masks=Masks.of_pixels(before.roi, before.ignore, path=Path(profile)),
    )
    return path, before, inspector


def _again(
    before: Profile,
    base: Inspector,
    memory: ReferenceMemory,
    images: Sequence[GoodImage],
    *,
    command: Sequence[str],
    reporter: Reporter | None,
) -> Profile:
    """The profile with another memory and other images: all are scored again, and thresholds found by the same rule."""
    inspector = remembering(base, memory, ranges=set())
    by_digest = {image.memory_digest: image for image in images}
    remembered = [by_digest[digest] for digest in memory.digests]
    calibrating = [image for image in images if image.memory_digest is None]
    scored = score_remembered(inspector, memory, remembered)
    if calibrating:
        read, errors = score_good_images(inspector, [Path(image.source) for image in calibrating], reporter=reporter)
        if errors or [image.good.digest for image in read] != [image.digest for image in calibrating]:
            raise UsageError(
                "the images that calibrate this profile are no longer where they were, or are others now, so that its thresholds "
                "cannot be found again: learn the product again"
            )
        scored += [replace(image.good, origin=old.origin) for image, old in zip(read, calibrating, strict=True)]
    wanted = Wanted() if before.calibration is None else Wanted.of(before.calibration.rule)
    calibration = promised(
        wanted,
        scored,
        setup=inspector.setup,
        types=inspector.types,
        command=command,
        split=bool(calibrating),
    )
    return replace(
        before, memory=memory, setup=inspector.setup, images=tuple(scored), calibration=calibration, path=None
    )


def _written(
    after: Profile, before: Profile, path: Path, *, notes: Sequence[str], unreadable: tuple[ImageError, ...]
) -> Learned:
    notes = [*notes, *([too_few_note(len(after.images))] if after.calibration is None else [])]
    return Learned(profile=write_profile(after, path), notes=tuple(notes), unreadable=unreadable, before=before)


def _above(profile: Profile, digests: set[str]) -> int | None:
    if profile.calibration is None:
        return None
    limit = profile.calibration.thresholds.image
    return sum((image.seen.image_score or 0) >= limit for image in profile.images if image.digest in digests)


def _check_alike(first: Profile, second: Profile) -> None:
    """UsageError where the profiles are of other models, words, masks or value ranges."""
    if first.model.fingerprint != second.model.fingerprint:
        raise UsageError(
            f"{second.path}: was learned with another model than {first.path}: profiles of one model are merged"
        )
    alike = {
        "defect types": first.vocabulary == second.vocabulary,
        "masks": first.setup.roi == second.setup.roi and first.setup.ignore == second.setup.ignore,
        "value range (--range)": first.setup.value_range == second.setup.value_range,
    }
    for what, same in alike.items():
        if not same:
            raise UsageError(f"{second.path}: was learned with other {what} than {first.path}")
