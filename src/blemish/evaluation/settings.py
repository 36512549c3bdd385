"""How to evaluate, as plain data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from blemish.errors import UnknownNameError, UsageError
from blemish.inspection.samples import Size
from blemish.metrics.steps import AUPRO_LIMIT

__all__ = ["DATA_TYPES", "LEGACY_METRIC", "OF_PRODUCT", "SERIES", "EvaluationSettings", "Kept", "Size"]

Kept = Literal["none", "float16", "bfloat16", "float32"]
DATA_TYPES = "data"  # stands for the data set's own types in `defects`
OF_PRODUCT = "data"  # stands for the images of each image's own product in `references`
SERIES = "auto"  # likewise, for products whose images are a series
LEGACY_METRIC = "aupro_200_steps"


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """What decides numbers, and a little that does not.

    size: pixels are compared at the tower's input ("model") or at each image's own size. defects: the vocabulary while anomalies
    are measured: None for the built-in one, "data" for all types of the data set, else names. typed: also which type it is, with
    a vocabulary for each product. legacy: the papers' AUPRO, too, in a second pass. rounds: bootstrap resamples, 0 for none.
    cache: what image features are kept in, on the disk. limit: of AUPRO's false positive rate. vocabulary, product: a file of
    types instead of `defects`. tiles, roi, ignore: as `blemish.load` takes them. references: images that all others are compared
    with: a folder or a pattern, or "data" for those of each image's own product, good and bad, unlabelled; "auto" for the same
    where they are a series. good_references: good images, likewise; {product} in the path stands for each image's product.
    profile: the file of `blemish learn`, whose memory all images are compared with. compare_px: side of the square at which
    they are compared with references.
    """

    size: Size = "original"
    defects: str | tuple[str, ...] | None = None
    vocabulary: str | None = None
    product: str | None = None
    tiles: str | int = "off"
    roi: str | None = None
    ignore: str | None = None
    references: str | None = None
    good_references: str | None = None
    profile: str | None = None
    compare_px: int | None = None
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
        if self.defects is not None and self.vocabulary is not None:
            raise UsageError("name the defects or give a vocabulary file, not both")
        if self.size == "model" and (self.tiles != "off" or self.roi is not None or self.ignore is not None):
            raise UsageError("tiles and masks are of the images' own size: leave --size model away")
        compared = (self.references, self.good_references, self.profile) != (None, None, None)
        if self.cache != "none" and (self.tiles != "off" or compared):
            raise UsageError(
                "cached features are of whole images alone: leave --cache away, or --tiles, --peers and --references"
            )
        if self.tiles != "off" and compared:
            raise UsageError("references are compared with whole images, not with tiles: leave one of them out")
        if self.compare_px is not None and (not compared or self.profile is not None):
            raise UsageError("--compare-px goes with --peers or --references; a profile has its own: leave it away")
        if not 0 < self.limit <= 1:
            raise UsageError(f"the limit of the false positive rate lies in (0, 1], not {self.limit:g}")

    def deciding(self) -> dict[str, Any]:
        """What must be equal to go on with an evaluation."""
        told = asdict(self)
        for name in ("legacy", "limit", "save_every_s"):
            del told[name]
        for name in (
            "vocabulary",
            "product",
            "tiles",
            "roi",
            "ignore",
            "references",
            "good_references",
            "profile",
            "compare_px",
        ):  # as before there were any
            if told[name] in (None, "off"):
                del told[name]
        return told | {"device": self.device.partition(":")[0]}

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
