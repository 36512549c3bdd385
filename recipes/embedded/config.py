"""The embedded backbone's shape, and the recipe's numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace

from blemish.backbones.config import BackboneConfig

BACKBONE = BackboneConfig.from_dict(
    {
        "name": "embedded",
        "joint_width": 128,
        "vision": {
            "image_size": 224,
            "width": 128,
            "depth": 4,
            "heads": 2,
            "patch_size": 8,
            "position_grid": 28,
            "stem": "efficientnet-lite0",
            "mlp_ratio": 2.0,
            "activation": "gelu",
        },
        "text": {"width": 192, "depth": 4, "heads": 3, "activation": "quick_gelu"},
        # EfficientNet-Lite0 wants (pixel - 127) / 128
        "preprocess": {"size": 224, "mean": [127 / 255] * 3, "std": [128 / 255] * 3},
        "source": "trained by training/embedded on rendered images; trunk: EfficientNet-Lite0 (Apache-2.0)",
        "licence": "MIT (trunk: Apache-2.0)",
    }
)


def abreast(count: int) -> BackboneConfig:
    """The shape of so many image sides next to each other, which is what ships."""
    vision = BACKBONE.vision
    return replace(
        BACKBONE, vision=replace(vision, width=count * vision.width, heads=count * vision.heads, members=count)
    )


PLACE_PX = 8  # side of a place, at whatever size an image is shown


@dataclass(frozen=True)
class TextRecipe:
    """How the text tower learns from the sentence model. All seeds of the image side share one."""

    seed: int = 0
    corpus: int = 40_000
    steps: int = 1_200
    batch: int = 192
    rate: float = 1e-3
    apart: float = 0.3  # weight of telling the types' words apart


@dataclass(frozen=True)
class Recipe:
    """Steps, batches, rates and weights of the image side; `seed` fixes everything random.

    Steps are the measure of length, not minutes. What `python -m recipes.embedded.ablation` switches off is a number here.
    """

    seed: int = 0
    train_images: int = 26_000  # half as many scenes: each is seen twice, in two states
    held_out_images: int = 2_000
    batch: int = 16
    local_steps: int = 1_600  # the stem alone, aligned with the texts
    local_rate: float = 2e-3
    joint_steps: int = 1_500  # everything
    joint_rate: float = 8e-4
    temperature: float = 0.07
    likeness: bool = True  # each place is told how much its image holds that looks like it
    paired: bool = True  # a batch holds scenes in two states each
    easy_contrast: float = (
        0.12  # at first only defects that are stronger; then ever fainter ones, all from `easy_share` on
    )
    easy_share: float = 0.4  # of the local stage
    zoom: float = 0.6  # the smallest share of a picture's side that a view shows
    sides: tuple[int, ...] = (128, 160, 192, 224)  # of the views, in pixels
    naming: float = 1.0  # weight of "each defective image counts the same for its type"
    captions: float = 0.3  # weight of telling a picture's caption from those with another defect or material
    apart: float = 0.3  # weight of telling the types' words apart
    earlier_levels: float = 0.3  # weight of one of the blocks before the last
