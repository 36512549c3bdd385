"""When no type stands out: the name "unknown defect", and where its line comes from.

What counts is how clearly a region's likeliest type leads: p1 / (p1 + p2), its probability against the next one alone. Unlike
p1 itself it does not shrink when a vocabulary has more names, so that a line found with one vocabulary holds for another.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike

from blemish.errors import UsageError

__all__ = ["UnknownRule", "find_unknown_rule"]

KEEP = 0.9  # of the rightly typed regions
DIGITS = 1e6


@dataclass(frozen=True)
class UnknownRule:
    """Regions whose type leads by less than `min_lead` (0.5..1) are of an unknown type.

    On the data it was found on: `right` regions were typed rightly and `wrong` wrongly (a type that the vocabulary lacks is
    always wrong); the shares right_named and wrong_named of them keep their name.
    """

    min_lead: float
    right: int
    wrong: int
    right_named: float
    wrong_named: float

    def to_dict(self) -> dict[str, float | int]:
        """Plain data for a card, under "typing"."""
        return asdict(self)


def find_unknown_rule(leads: ArrayLike, correct: ArrayLike, *, keep: float = KEEP) -> UnknownRule:
    """The highest line at which at least the share `keep` of the rightly typed regions keeps its name.

    leads [n] are the regions' leads, correct [n] whether their likeliest type is the true one; take them from held-out
    images, some of types that the vocabulary lacks. UsageError where no region is typed rightly.
    """
    leads, correct = np.asarray(leads, np.float64), np.asarray(correct, bool)
    if leads.ndim != 1 or leads.shape != correct.shape or not np.isfinite(leads).all():
        raise UsageError(f"leads and correct must be numbers of one length, not {leads.shape} and {correct.shape}")
    if not 0 < keep <= 1:
        raise UsageError(f"the share to keep must be above 0 and at most 1, not {keep:g}")
    right, wrong = np.sort(leads[correct])[::-1], leads[~correct]
    if not len(right):
        raise UsageError("no region is typed rightly: there is no line between known and unknown to find")
    line = math.floor(right[math.ceil(keep * len(right) - 1e-9) - 1] * DIGITS) / DIGITS  # down: the region itself stays
    return UnknownRule(
        min_lead=line,
        right=len(right),
        wrong=len(wrong),
        right_named=round(float((right >= line).mean()), 4),
        wrong_named=round(float((wrong >= line).mean()), 4) if len(wrong) else 0.0,
    )
