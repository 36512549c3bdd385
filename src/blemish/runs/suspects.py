"""Good images scored by a memory without themselves, and those that look suspicious then: shown before they count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from blemish.drawing.colours import VERDICT_COLOURS
from blemish.drawing.overlay import draw_overlay
from blemish.drawing.sheet import SheetCell, draw_sheet
from blemish.engines.base import ReferenceMemory, remove_image
from blemish.errors import ImageError
from blemish.images import save
from blemish.inspection.inspector import Inspected, Inspector
from blemish.inspection.scoring import counted, inside_of
from blemish.io.atomic import write_text
from blemish.profiles import GoodImage
from blemish.profiles.checks import suspicious
from blemish.results import Thresholds

__all__ = ["Suspects", "find_suspects", "score_remembered", "write_suspects"]

MOST_SHOWN = 23  # suspicious images on the sheet, beside a usual one
MOST_NAMED = 3
MARGIN = 1e-4  # above 0, the lowest threshold


@dataclass(frozen=True)
class Suspects:
    """Good images that do not look like the other good ones."""

    images: tuple[GoodImage, ...]  # the highest score first
    usual: GoodImage  # the image in the middle of all
    highest_peak: float  # of the maps of all others, 0..1

    @property
    def words(self) -> str:
        """How many, and the first ones."""
        names = ", ".join(image.source for image in self.images[:MOST_NAMED])
        more = f" and {len(self.images) - MOST_NAMED} more" if len(self.images) > MOST_NAMED else ""
        look = "1 image does" if len(self.images) == 1 else f"{len(self.images)} images do"
        return f"{look} not look like the other good ones ({names}{more})"


def score_remembered(inspector: Inspector, memory: ReferenceMemory, images: Sequence[GoodImage]) -> list[GoodImage]:
    """The images of a memory with the scores that each has by the memory without it; a single image has none.

    Args:
        inspector: Its engine has this memory, and its masks say which pixels count.
        memory: The memory.
        images: Its images, in its order.
    """
    if memory.images == 1:
        return [replace(images[0], memory_digest=memory.digests[0], map_peak=None)]
    texts = inspector.engine.encode_texts(inspector.vocabulary)
    scored = []
    for image, digest, raw in zip(images, memory.digests, inspector.engine.leave_one_out(memory, texts), strict=True):
        inside = inside_of(inspector.masks, image.source, image.seen.size_px, None)
        scores, full_map = counted(raw, image.seen.size_px, inside)
        seen = replace(image.seen, image_score=scores.image_score)
        scored.append(replace(image, seen=seen, map_peak=float(full_map.max()), memory_digest=digest))
    return scored


def find_suspects(read: Sequence[GoodImage]) -> Suspects | None:
    """The suspicious ones among scored images; None where there are none."""
    scores = [image.seen.image_score or 0.0 for image in read]
    numbers = suspicious(scores)
    if not numbers:
        return None
    others = [image for number, image in enumerate(read) if number not in set(numbers)]
    usual = sorted(others, key=lambda image: image.seen.image_score or 0.0)[len(others) // 2]
    return Suspects(
        tuple(read[number] for number in numbers), usual, max(float(image.map_peak or 0) for image in others)
    )


def write_suspects(
    suspects: Suspects, inspector: Inspector, memory: ReferenceMemory, *, beside: Path
) -> tuple[Path, Path]:
    """Writes a picture of the suspicious images and a list of their paths beside the profile; both paths.

    Each picture is an overlay by the memory without the image; a usual good image stands first. What lies there already stays.
    """
    number, stem = 1, f"{beside.stem}.suspicious"
    while (sheet := beside.with_name(f"{stem}.jpg")).exists() or (listed := beside.with_name(f"{stem}.txt")).exists():
        number += 1
        stem = f"{beside.stem}.suspicious-{number}"
    shown = [suspects.usual, *suspects.images[:MOST_SHOWN]]
    cells = (_cell(image, suspects, inspector, memory) for image in shown)
    save(draw_sheet(cells, count=len(shown)), sheet)
    lines = [image.source for image in suspects.images]
    write_text(
        listed, "# Do these images show good parts? Take out the lines of those that do.\n" + "\n".join(lines) + "\n"
    )
    return sheet, listed


def _cell(image: GoodImage, suspects: Suspects, inspector: Inspector, memory: ReferenceMemory) -> SheetCell:
    is_usual = image is suspects.usual
    words = f"{'a usual one' if is_usual else 'suspicious'}, score {image.seen.image_score:.2f}"
    colour = VERDICT_COLOURS["ok" if is_usual else "ng"]
    return SheetCell(_overlay(image, suspects, inspector, memory), colour, (Path(image.source).name, words))


def _overlay(image: GoodImage, suspects: Suspects, inspector: Inspector, memory: ReferenceMemory) -> Image.Image:
    """The overlay of an image by the memory without it; the suspicious ones are NG, so that the highest place is outlined."""
    least, usual = suspects.images[-1].seen.image_score or 0.0, suspects.usual.seen.image_score or 0.0
    engine = inspector.engine
    if image.memory_digest is not None and memory.images > 1:
        engine = engine.with_memory(remove_image(memory, image.memory_digest))
    # halfway: a score by the memory without this image alone differs a little from that without its whole fold
    limits = Thresholds(image=max((least + usual) / 2, MARGIN), pixel=max(suspects.highest_peak, MARGIN))
    seen = inspector.with_engine(engine, thresholds=limits)
    outcome: Inspected | ImageError = next(iter(seen.stream([Path(image.source)])))
    if isinstance(outcome, ImageError):
        return Image.new("RGB", (64, 64))
    return draw_overlay(outcome.picture, outcome.inspection)
