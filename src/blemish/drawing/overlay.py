"""The overlay: an image with its heat map, its regions and its verdict, at original size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from blemish.drawing.colours import VERDICT_COLOURS, Colour, heat, type_colour
from blemish.images import Picture
from blemish.maps import Blob, Part, dilate, grow_blobs, visible_part

if TYPE_CHECKING:
    from blemish.results import Inspection, Region

__all__ = ["draw_overlay", "font_of", "region_words"]

Box: TypeAlias = tuple[int, int, int, int]
Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont

DARK: Colour = (24, 24, 28)
WHITE: Colour = (255, 255, 255)
MOST_LABELS = 12
UNTYPED = "defect"
STRIP_PX = 1024  # rows coloured at a time: a large image needs no second one in memory
SMALLEST_CAPTION_PX, SMALLEST_LABELLED_PX = 96, 128  # smaller images have no room for words


def draw_overlay(picture: Picture, inspection: Inspection, *, part: Part | None = None) -> Image.Image:
    """The picture under its heat map, with outlined regions and a caption, RGB at original size.

    `part` is its `blemish.maps.visible_part` where the caller has it already. A clean image comes back as it is, but for the
    caption: the colour scale (see `blemish.drawing.colours`) is absolute.
    """
    threshold, level = inspection.thresholds.pixel, inspection.region_level
    if part is None:
        part = visible_part(inspection.anomaly_map, inspection.map_at_original(), pixel_threshold=level)
    pixels = picture.pixels
    canvas = Image.fromarray(pixels if pixels.dtype == np.uint8 else picture.as_bytes())  # a copy in any case
    left, top = part.box_px[:2]
    for row in range(0, len(part.scores), STRIP_PX):
        _lay_heat(canvas, heat(part.scores[row : row + STRIP_PX], threshold), (left, top + row))
    short = min(canvas.size)
    line_px = int(np.clip(round(short / 256), 1, 12))
    font = font_of(int(np.clip(round(short / 30), 12, 64)))
    if inspection.regions:
        blobs = {_moved(blob.box_px, left, top): blob.pixels for blob in grow_blobs(part.scores, threshold=level)}
        for region in inspection.regions:
            _outline(canvas, Blob(region.box_px, blobs[region.box_px]), _colour_of(region, inspection.types), line_px)
    if canvas.width >= SMALLEST_CAPTION_PX and canvas.height >= SMALLEST_CAPTION_PX // 2:
        boxes = [region.box_px for region in inspection.regions]
        taken = [_caption(canvas, inspection, font)]
        labelled = set()
        for region in inspection.regions[: MOST_LABELS if short >= SMALLEST_LABELLED_PX else 0]:
            colour = _colour_of(region, inspection.types)
            if _label(canvas, region, colour=colour, font=font, line_px=line_px, taken=taken, regions=boxes):
                labelled.add(region.type)
        unsaid = {region.type: _colour_of(region, inspection.types) for region in inspection.regions}
        unsaid = {name: colour for name, colour in unsaid.items() if name not in labelled}
        if unsaid and short >= SMALLEST_LABELLED_PX:
            _legend(canvas, unsaid, font=font, taken=taken, regions=boxes)
    return canvas


def region_words(region: Region) -> str:
    """What stands beside a region: its type with that name's own probability, and the anomaly score of its peak.

    A type that is too unsure to be named stands as a question: "unknown (crack? 41 %), anomaly 0.95".
    """
    anomaly = f"anomaly {region.peak_score:.2f}"
    if region.type is None:
        return anomaly
    if region.type_probability is None:
        return f"{_printable(region.type)}, {anomaly}"
    share = f"{100 * region.type_probability:.0f} %"
    if region.best_guess is not None and region.type != region.best_guess:
        return f"unknown ({_printable(region.best_guess)}? {share}), {anomaly}"
    return f"{_printable(region.type)} {share}, {anomaly}"


def _lay_heat(canvas: Image.Image, coloured: NDArray[np.uint8], place: tuple[int, int]) -> None:
    """Blends a part [h, w, 4] of the heat map into the canvas at `place` (x, y)."""
    layer = Image.fromarray(coloured)
    canvas.paste(layer.convert("RGB"), place, layer)  # by its own opacity


def _moved(box: Box, x: int, y: int) -> Box:
    return box[0] + x, box[1] + y, box[2] + x, box[3] + y


def _colour_of(region: Region, types: Sequence[str]) -> Colour:
    return type_colour(region.type, types)


def _outline(canvas: Image.Image, blob: Blob, colour: Colour, line_px: int) -> None:
    """Draws a line of `line_px` around the blob with a thin dark line outside, readable on any ground."""
    x0, y0, x1, y1 = blob.box_px
    border = line_px + 1
    inside = np.pad(blob.pixels, border)
    line = dilate(inside, line_px)
    shadow = dilate(line, 1)
    area = (x0 - border, y0 - border, x1 + border, y1 + border)
    canvas.paste(DARK, area, Image.fromarray((shadow & ~line).astype(np.uint8) * 150))
    canvas.paste(colour, area, Image.fromarray((line & ~inside).astype(np.uint8) * 255))


def _caption(canvas: Image.Image, inspection: Inspection, font: Font) -> Box:
    """Draws verdict, score and threshold in the first corner where no region is; the box it takes."""
    verdict = inspection.verdict.value
    sign = ">=" if verdict == "ng" else "<"
    tag = verdict.upper()
    text = f"anomaly {inspection.image_score:.2f} {sign} {inspection.thresholds.image:.2f}"
    if verdict != "ok" and inspection.top_type is not None:
        text += f"  {_printable(inspection.top_type)}"
    line_height = _line_height(font)
    gap = max(3, line_height // 3)
    tag_width, text_width = round(font.getlength(tag)) + 2 * gap, round(font.getlength(text)) + 2 * gap
    if tag_width + text_width + 2 * gap > canvas.width:
        text, text_width = "", 0
    size = (tag_width + text_width, line_height + gap)
    box = _free_corner(canvas.size, size, gap, [region.box_px for region in inspection.regions])
    _plate(canvas, box, DARK, opacity=0.78)
    _plate(canvas, (box[0], box[1], box[0] + tag_width, box[3]), VERDICT_COLOURS[verdict], opacity=1)
    draw = ImageDraw.Draw(canvas)
    middle = (box[1] + box[3]) / 2
    tag_colour = DARK if verdict == "review" else WHITE
    draw.text((box[0] + tag_width / 2, middle), tag, font=font, fill=tag_colour, anchor="mm")
    draw.text((box[0] + tag_width + gap, middle), text, font=font, fill=WHITE, anchor="lm")
    return box


def _label(
    canvas: Image.Image,
    region: Region,
    *,
    colour: Colour,
    font: Font,
    line_px: int,
    taken: list[Box],
    regions: Sequence[Box],
) -> bool:
    """Draws the region's type and its anomaly score beside it, where they hide neither words nor a region; whether it did.

    The first label may hide a region where it must, so that an image with regions has one.
    """
    words = region_words(region)
    line_height = _line_height(font)
    gap = max(2, line_height // 5)
    size = (round(font.getlength(words)) + 2 * gap, line_height + gap // 2)
    places = [
        box
        for box in _places_beside(region.box_px, size, line_px + 2, canvas.size)
        if not any(_overlap(box, other) for other in taken)
    ]
    free = [box for box in places if not any(_overlap(box, other) for other in regions)]
    if not free and len(taken) == 1:
        free = places
    if free:
        box = free[0]
        _plate(canvas, box, DARK, opacity=0.78)
        middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
        ImageDraw.Draw(canvas).text(middle, words, font=font, fill=_lighter(colour), anchor="mm")
        taken.append(box)
    return bool(free)


def _legend(
    canvas: Image.Image,
    colours: Mapping[str | None, Colour],
    *,
    font: Font,
    taken: Sequence[Box],
    regions: Sequence[Box],
) -> None:
    """Draws, in a corner without words, the colours of types that no label has told; not where it would fill the image."""
    names = {_printable(name or UNTYPED): colour for name, colour in colours.items()}
    line_height = _line_height(font)
    gap = max(3, line_height // 3)
    width = round(max(font.getlength(name) for name in names)) + line_height + 2 * gap
    size = (width, len(names) * line_height + gap)
    box = _free_corner(canvas.size, size, gap, [*taken, *regions])
    if 2 * size[0] > canvas.width or 2 * size[1] > canvas.height or any(_overlap(box, other) for other in taken):
        return
    canvas.paste(DARK, box, Image.new("L", size, round(0.78 * 255)))
    draw = ImageDraw.Draw(canvas)
    for row, (name, colour) in enumerate(names.items()):
        left, top = box[0] + gap, box[1] + gap // 2 + row * line_height
        side = line_height - gap
        draw.rectangle((left, top + gap // 2, left + side, top + gap // 2 + side), fill=colour, outline=WHITE)
        draw.text((left + line_height, top + line_height / 2), name, font=font, fill=WHITE, anchor="lm")


def _places_beside(region: Box, size: tuple[int, int], gap: int, canvas: tuple[int, int]) -> Iterator[Box]:
    x0, y0, x1, y1 = region
    width, height = size
    left = min(max(0, x0), max(0, canvas[0] - width))
    for x, y in (
        (left, y0 - gap - height),
        (left, y1 + gap),
        (x1 + gap, y0),
        (x0 - gap - width, y0),
        (left, y0 + gap),
    ):
        if x >= 0 and y >= 0 and x + width <= canvas[0] and y + height <= canvas[1]:
            yield x, y, x + width, y + height


def _free_corner(canvas: tuple[int, int], size: tuple[int, int], margin: int, regions: Sequence[Box]) -> Box:
    right, bottom = canvas[0] - margin - size[0], canvas[1] - margin - size[1]
    corners = [(x, y, x + size[0], y + size[1]) for y in (margin, bottom) for x in (margin, right)]
    return next((box for box in corners if not any(_overlap(box, region) for region in regions)), corners[0])


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _plate(canvas: Image.Image, box: Box, colour: Colour, *, opacity: float) -> None:
    canvas.paste(colour, box, _plate_shape((box[2] - box[0], box[3] - box[1]), opacity))


@lru_cache(maxsize=64)
def _plate_shape(size: tuple[int, int], opacity: float) -> Image.Image:
    """A rectangle with round corners and smooth edges."""
    fine = Image.new("L", (size[0] * 4, size[1] * 4))
    ImageDraw.Draw(fine).rounded_rectangle((0, 0, fine.width - 1, fine.height - 1), radius=size[1], fill=255)
    return fine.resize(size, Image.Resampling.BOX).point(lambda value: round(value * opacity))


@lru_cache(maxsize=16)
def font_of(size: int) -> Font:
    """Pillow's built-in font at this size in pixels."""
    return ImageFont.load_default(size=size)


def _line_height(font: Font) -> int:
    return round(font.getbbox("Ag|")[3] * 1.15)


def _lighter(colour: Colour) -> Colour:
    red, green, blue = ((channel + 255) // 2 for channel in colour)
    return red, green, blue


def _printable(name: str) -> str:
    """The name as far as Pillow's built-in font can write it (Latin letters)."""
    shown = name.encode("cp1252", "ignore").decode("cp1252").strip()
    return shown or "defect"
