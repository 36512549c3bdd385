"""The embedded backbone's shape, and the recipe's numbers."""

from __future__ import annotations

from dataclasses import dataclass

from blemish.clip.config import BackboneConfig

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


@dataclass(frozen=True)
class Recipe:
    """Steps, batches and rates of the recipe; `seed` fixes everything random. Steps are the measure of length, not minutes."""

    seed: int = 0
    train_images: int = 26_000
    held_out_images: int = 2_000
    text_steps: int = 1_200
    text_batch: int = 192
    text_rate: float = 1e-3
    local_steps: int = 1_600  # the stem alone, aligned with the texts
    joint_steps: int = 1_000  # everything
    batch: int = 16
    local_rate: float = 2e-3
    joint_rate: float = 6e-4
    naming_steps: int = 420  # the same, told apart by type
    naming_rate: float = 6e-4
    temperature: float = 0.07
