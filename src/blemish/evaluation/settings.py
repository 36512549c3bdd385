"""How to evaluate, as plain data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from blemish.errors import UnknownNameError, UsageError
from blemish.metrics.steps import AUPRO_LIMIT

__all__ = ["DATA_TYPES", "LEGACY_METRIC", "Kept", "Settings", "Size"]

Size = Literal["model", "original"]
Kept = Literal["none", "float16", "bfloat16", "float32"]
DATA_TYPES = "data"  # stands for the data set's own types in `defects`
LEGACY_METRIC = "aupro_200_steps"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What decides numbers, and a little that does not.

    size: pixels are compared at the tower's input ("model") or at each image's own size. defects: the vocabulary while anomalies
    are measured: None for the built-in one, "data" for all types of the data set, else names. typed: also which type it is, with
    a vocabulary for each product. legacy: the papers' AUPRO, too, in a second pass. rounds: bootstrap resamples, 0 for none.
    cache: what image features are kept in, on the disk. limit: of AUPRO's false positive rate.
    """

    size: Size = "original"
    defects: str | tuple[str, ...] | None = None
    typed: bool = False
    legacy: bool = False
    rounds: int = 200
    limit: float = AUPRO_LIMIT
    batch_size: int = 8
    cache: Kept = "none"
    device: str = "cpu"
    save_every_s: float = 60.0

    def __post_init__(self) -> None:
        for kind, value, known in (("size", self.size, get_args(Size)), ("cache", self.cache, get_args(Kept))):
            if value not in known:
                raise UnknownNameError(kind, value, known)
        if self.batch_size < 1 or self.rounds < 0:
            raise UsageError(f"a batch has 1 image or more, not {self.batch_size}; rounds are not {self.rounds}")
        if not 0 < self.limit <= 1:
            raise UsageError(f"the limit of the false positive rate lies in (0, 1], not {self.limit:g}")

    def deciding(self) -> dict[str, Any]:
        """What must be equal to go on with an evaluation."""
        told = asdict(self)
        for name in ("legacy", "limit", "save_every_s"):
            del told[name]
        return told | {"device": self.device.partition(":")[0]}

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
