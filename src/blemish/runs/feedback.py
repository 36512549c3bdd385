"""A profile changed by what was learned since: false alarms remembered, images forgotten, profiles joined, misses reported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from blemish.config import Config
from blemish.engines.base import merge_memories, remove_image
from blemish.errors import ImageError, UsageError
from blemish.images import FoundImages
from blemish.inspection.inspector import Inspector
from blemish.inspection.load import load, merge, with_profile
from blemish.inspection.masks import Masks
from blemish.io.progress import Reporter
from blemish.io.provenance import command_line
from blemish.profiles import GoodImage, ProductProfile, read_profile, write_profile
from blemish.runs.calibrate import ImageNames, distinct_files, image_files, score_images, without_thresholds
from blemish.runs.good_images import GoodReader, score_good_images
from blemish.runs.learn import LearnedProfile, check_new_file, remembering, too_few_note
from blemish.runs.promise import WantedPromise, promised
from blemish.runs.suspects import score_remembered

__all__ = ["Missed", "MissedReport", "report_missed", "update_profile"]


def update_profile(
    profile: str | Path,
    *,
    add: ImageNames = (),
    remove: ImageNames = (),
    merge_with: str | Path | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    config: Config | None = None,
    reporter: Reporter | None = None,
    command: Sequence[str] | None = None,
    **given: Any,
) -> LearnedProfile:
    """Changes a profile by what was learned since, and finds its thresholds again, as `blemish learn --profile` does.

    Args:
        profile: The file of the profile.
        add: Good images that were called NG: files, folders, patterns, .txt lists of them. The memory then has them, and the
            thresholds, which each image's score without itself decides again, are only raised by them.
        remove: Images to forget, likewise; also copies of them that have moved since.
        merge_with: The file of another profile of the same product and model. Images that both hold count once.
        out: The file to write; None replaces `profile`.
        overwrite: Replace `out`.
        config: A configuration: where and how the model runs.
        reporter: Is told how the work goes on.
        command: What the file names as the command; by default that of this process.
        **given: Settings by their names, as `blemish.load` takes them.

    Returns:
        The profile after and before, and the images that could not be read.

    Raises:
        UsageError: Nothing would change, an image to forget is not in the profile, or the profiles are of other models.

    Example:
        >>> from blemish.runs.learn import learn
        >>> first = learn("good", out="part.blemish", input_px=160, keep_all=True, overwrite=True)
        >>> learned = update_profile("part.blemish", remove="good/07.png", out="second.blemish")
        >>> len(learned.before.images), len(learned.profile.images)
        (20, 19)
    """
    path = Path(profile).expanduser() if out is None else check_new_file(out, overwrite=overwrite)
    before, base = _open(profile, config, given)
    command = command_line() if command is None else command
    changed = replace(before, path=None)
    notes: list[str] = []
    unreadable: list[ImageError] = []
    if merge_with is not None:
        changed = _merged(changed, read_profile(merge_with), path=Path(profile), other=Path(merge_with))
    if removed := image_files(remove).paths if remove else []:
        changed = _without(changed, base, removed, where=profile, reporter=reporter)
    added: list[GoodImage] = []
    found = image_files(add) if add else FoundImages(())
    if found.summary:
        notes.append(found.summary)
    unreadable += found.unlisted
    if files := distinct_files(found.paths)[0]:
        changed, reader = _with_added(changed, base, files, where=profile, reporter=reporter)
        added = [image for image in changed.images if image.digest in {read.good.digest for read in reader.read}]
        unreadable += reader.unreadable
        if reader.known:
            notes.append(
                f"{len(reader.known)} of the images to add are in the profile already ({reader.known[0]} the first)"
            )
    if changed.images == before.images:
        raise UsageError("nothing to change: give images to add or to remove, or another profile")
    changed = _scored_again(changed, base, command=command, reporter=reporter)
    limit = None if changed.calibration is None else changed.calibration.thresholds.image
    if added and limit is not None:
        scores = {image.digest: image.seen.image_score or 0.0 for image in changed.images}
        above = sum(scores[image.digest] >= limit for image in added)
        notes.append(f"of {len(added)} added images, {above} would be NG by a memory without themselves")
    if limit is None:
        notes.append(too_few_note(len(changed.images)))
    digests = {image.digest for image in changed.images}
    changed = changed.with_history(
        what="changed",
        added=[image.source for image in added],
        removed=[image.source for image in before.images if image.digest not in digests],
        merged_with=None if merge_with is None else str(merge_with),
        before=before.identity,
        command=list(command),
    )
    written = write_profile(changed, path)
    return LearnedProfile(profile=written, notes=tuple(notes), unreadable=tuple(unreadable), before=before)


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

    Returns:
        Each image with the highest image threshold that catches it, and how many good images are NG then.

    Raises:
        UsageError: None of the images can be read, or the profile is of another model.

    Example:
        >>> from blemish.runs.learn import learn
        >>> first = learn("good", out="part.blemish", input_px=160, keep_all=True, overwrite=True)
        >>> report_missed("parts/bad.png", "part.blemish").good_images
        20
    """
    config = merge(config, given).with_settings(profile=profile)
    inspector = load(config)
    assert inspector.profile is not None
    scored = score_images(inspector, image_files(images).paths, reporter=reporter)
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


def _open(profile: str | Path, config: Config | None, given: dict[str, Any]) -> tuple[ProductProfile, Inspector]:
    """The profile, and an inspector of its model, words and masks without its memory."""
    before = read_profile(profile)
    config = before.merged(without_thresholds(merge(config, given)).with_settings(profile=None))
    plain = load(config)
    with_profile(plain.engine, before)  # refused before anything is read
    inspector = Inspector(
        plain.engine.comparing_at(before.setup.input_px),
        thresholds=plain.thresholds,
        vocabulary=before.vocabulary or plain.vocabulary,
        min_lead=plain.min_lead,
        batch_size=plain.batch_size,
        value_range=before.setup.value_range or plain.value_range,
        max_megapixels=plain.max_megapixels,
        masks=Masks.of_pixels(before.roi, before.ignore, path=Path(profile)),
    )
    return before, inspector


def _with_added(
    profile: ProductProfile, base: Inspector, files: list[Path], *, where: str | Path, reporter: Reporter | None
) -> tuple[ProductProfile, GoodReader]:
    """The profile with the images of these files in its memory, not scored yet, and what was read."""
    reader = GoodReader(base, files, known=[image.digest for image in profile.images], reporter=reporter)
    batches = list(reader.batches())
    if not batches:
        raise UsageError(
            f"none of the {len(files)} images can be used; the first: {reader.unreadable[0]}"
            if reader.unreadable
            else f"all of the images to add are in the profile {where} already"
        )
    memory = base.engine.add(profile.memory, batches)
    added = [
        replace(image.good, origin="added", memory_digest=digest)
        for image, digest in zip(reader.read, memory.digests[profile.memory.images :], strict=True)
    ]
    return replace(profile, memory=memory, images=(*profile.images, *added)), reader


def _without(
    profile: ProductProfile, base: Inspector, files: Sequence[Path], *, where: str | Path, reporter: Reporter | None
) -> ProductProfile:
    """The profile without the images of these files, which are known by their paths, or else by their pixels."""
    places = {Path(image.source).resolve(): image.digest for image in profile.images}
    gone = {places[file.resolve()] for file in files if file.resolve() in places}
    moved = [file for file in files if file.resolve() not in places]
    if moved:
        reader = GoodReader(base, moved, reporter=reporter)
        for _ in reader.batches():
            pass
        known = set(places.values())
        strange = [image.path for image in reader.read if image.good.digest not in known]
        if strange or reader.unreadable:
            raise UsageError(
                f"{strange[0] if strange else reader.unreadable[0]}: the profile {where} holds no such image"
            )
        gone |= {image.good.digest for image in reader.read}
    kept = tuple(image for image in profile.images if image.digest not in gone)
    if not any(image.memory_digest for image in kept):
        raise UsageError("a profile keeps at least one image: learn the product again")
    memory = profile.memory
    for image in profile.images:
        if image.digest in gone and image.memory_digest is not None:
            memory = remove_image(memory, image.memory_digest)
    return replace(profile, memory=memory, images=kept)


def _merged(first: ProductProfile, second: ProductProfile, *, path: Path, other: Path) -> ProductProfile:
    """The first profile with the images of the second that it does not hold, not scored again yet."""
    alike = {
        "weights or options of the model": first.model.fingerprint == second.model.fingerprint,
        "defect types": first.vocabulary == second.vocabulary,
        "masks": (first.setup.roi, first.setup.ignore) == (second.setup.roi, second.setup.ignore),
        "value range (--range)": first.setup.value_range == second.setup.value_range,
    }
    for what, same in alike.items():
        if not same:
            raise UsageError(f"{other}: was learned with other {what} than {path}, and profiles of one kind are merged")
    known = {image.digest for image in first.images}
    new = tuple(image for image in second.images if image.digest not in known)
    if not new:
        raise UsageError(f"{other}: all of its images are in {path} already")
    return replace(first, memory=merge_memories(first.memory, second.memory), images=(*first.images, *new))


def _scored_again(
    profile: ProductProfile, base: Inspector, *, command: Sequence[str], reporter: Reporter | None
) -> ProductProfile:
    """The profile with all its images scored by its memory without each, and thresholds found by the rule it had."""
    inspector = remembering(base, profile.memory, ranges=set())
    by_digest = {image.memory_digest: image for image in profile.images}
    calibrating = [image for image in profile.images if image.memory_digest is None]
    scored = score_remembered(inspector, profile.memory, [by_digest[digest] for digest in profile.memory.digests])
    if calibrating:
        read, errors = score_good_images(inspector, [Path(image.source) for image in calibrating], reporter=reporter)
        if errors or [image.good.digest for image in read] != [image.digest for image in calibrating]:
            raise UsageError(
                "images that calibrate this profile are no longer where they were, or are others now, so that its thresholds "
                "cannot be found again: learn the product again"
            )
        scored += [replace(image.good, origin=old.origin) for image, old in zip(read, calibrating, strict=True)]
    wanted = WantedPromise() if profile.calibration is None else WantedPromise.of(profile.calibration.rule)
    calibration = promised(
        wanted,
        scored,
        setup=inspector.setup,
        types=inspector.types,
        command=command,
        split=bool(calibrating),
    )
    return replace(profile, setup=inspector.setup, images=tuple(scored), calibration=calibration)
