"""What a synthetic picture shows, in one line."""

from __future__ import annotations

from blemish.synthesis.placing import Drawn

__all__ = ["caption"]

STRENGTHS = (
    (0.035, "barely visible"),
    (0.07, "faint"),
    (0.22, ""),
    (1.01, "strong"),
)  # contrast below which a word holds
UNCOUNTED = ("contamination", "corrosion")
SIZES = ((0.001, "tiny"), (0.006, "small"), (0.08, ""), (1.01, "large"))  # share of the image below which a word holds


def caption(thing: str, drawn: Drawn | None = None) -> str:
    """The caption of a good picture of `thing`, or of one with a defect: "a photo of wood with a faint small stain"."""
    if drawn is None:
        return f"a photo of {thing}"
    words = (
        next(word for limit, word in STRENGTHS if drawn.contrast < limit),
        next(word for limit, word in SIZES if float(drawn.mask.mean()) < limit),
        drawn.defect_type,
    )
    defect = " ".join(word for word in words if word)
    if drawn.defect_type in UNCOUNTED:
        return f"a photo of {thing} with {defect}"
    return f"a photo of {thing} with {'an' if defect[0] in 'aeiou' else 'a'} {defect}"
