"""The values of masks, without any conversion of colour, and which of them are foreground."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["MaskValues"]

GREY_FROM = 128  # a lossless mask that reaches this is a grey picture; one that stays below holds small ids
HALF = 127


@dataclass(frozen=True)
class MaskValues:
    """The upright values [H, W] of a mask file as it stores them: 1 bit as 0 and 255, a palette as its indices, 16 bits
    as they are, of several colours the highest; transparent parts are 0.

    kind: "lossy" values (JPEG) scatter about what was meant, "ids" are the indices of a palette, "plain" all others.
    """

    values: NDArray[Any]
    source: str
    kind: Literal["lossy", "ids", "plain"]

    def above(self, threshold: int | None) -> NDArray[np.bool_]:
        """The foreground [H, W]: the values above `threshold`.

        With None the file decides: lossy ones, and lossless ones that reach 128, are grey pictures (above 127); others hold
        small ids (above 0). An index of a palette is never a grey level: of those, all but 0 are foreground.
        """
        if self.kind == "ids":
            return np.asarray(self.values != 0)
        if threshold is None:
            grey = self.kind == "lossy" or (self.values.size and self.values.max() >= GREY_FROM)
            threshold = HALF if grey else 0
        return np.asarray(self.values > threshold)
