"""The types of defects that are drawn: what each is, where it belongs, how large it gets."""

from __future__ import annotations

from blemish.synthesis.damage.edges import bend, break_, chip, fray
from blemish.synthesis.damage.lines import crack, cut, scratch, thread
from blemish.synthesis.damage.parts import extra_part, misplacement, missing_part
from blemish.synthesis.damage.relief import bubble, contamination, dent, hole
from blemish.synthesis.damage.surface import burn, corrosion, discolouration, print_error, stain, uneven
from blemish.synthesis.spots import DefectKind

__all__ = ["KINDS"]

# The order is that of the built-in vocabulary and of class indices.
KINDS: dict[str, DefectKind] = {
    "scratch": DefectKind(scratch, "inside", (0.06, 0.9), margin=1.25),
    "crack": DefectKind(crack, "inside", (0.08, 0.95), margin=1.5),
    "cut": DefectKind(cut, "inside", (0.05, 0.4), margin=1.25),
    "hole": DefectKind(hole, "inside", (0.018, 0.22)),
    "dent": DefectKind(dent, "inside", (0.05, 0.4), ceiling=0.16),
    "stain": DefectKind(stain, "inside", (0.04, 0.5), margin=1.8, ceiling=0.35),
    "discolouration": DefectKind(discolouration, "inside", (0.15, 0.9), ceiling=0.2),
    "contamination": DefectKind(contamination, "inside", (0.018, 0.3), margin=1.9, clipped=False),
    "thread": DefectKind(thread, "inside", (0.1, 0.7), margin=1.25, clipped=False),
    "missing part": DefectKind(missing_part, "part", (0.07, 0.35), margin=2.6),
    "burn": DefectKind(burn, "inside", (0.05, 0.45)),
    "corrosion": DefectKind(corrosion, "inside", (0.06, 0.5)),
    "bubble": DefectKind(bubble, "inside", (0.02, 0.22), margin=2.0, ceiling=0.35),
    "chip": DefectKind(chip, "edge", (0.03, 0.2), margin=1.9),
    "break": DefectKind(break_, "edge", (0.3, 1.1), margin=1.2),
    "fray": DefectKind(fray, "edge", (0.2, 1.0), margin=1.2, clipped=False),
    "uneven": DefectKind(uneven, "inside", (0.35, 1.3), margin=1.1, ceiling=0.12),
    "bend": DefectKind(bend, "structure", (0.12, 0.6), margin=1.2, clipped=False),
    "extra part": DefectKind(extra_part, "inside", (0.05, 0.28), margin=1.7, clipped=False),
    "misplacement": DefectKind(misplacement, "part", (0.08, 0.4), margin=2.4, clipped=False),
    "print error": DefectKind(print_error, "structure", (0.08, 0.5), margin=1.4, ceiling=0.35),
}
