"""Both towers together."""

from __future__ import annotations

import torch
from small_towers import images

from blemish.backbones.config import BackboneConfig
from blemish.backbones.model import Clip

CONFIG = BackboneConfig.from_dict(
    {
        "name": "small",
        "joint_width": 16,
        "vision": {"image_size": 32, "width": 32, "depth": 3, "heads": 4, "patch_size": 8, "position_grid": 4},
        "text": {"width": 32, "depth": 3, "heads": 4, "vocabulary_size": 100},
    }
)


def test_another_activation_shares_the_weights_and_changes_the_features() -> None:
    torch.manual_seed(0)
    clip = Clip(CONFIG)
    exact = clip.with_activation("gelu")
    assert (exact.config.vision.activation, exact.config.text.activation) == ("gelu", "gelu")
    assert clip.config.vision.activation == "quick_gelu"
    assert all(one is other for one, other in zip(clip.parameters(), exact.parameters(), strict=True))
    assert exact.fingerprint() == clip.fingerprint()
    assert clip.with_activation("quick_gelu") is clip
    ids = torch.tensor([[1, 5, 99, 0]])
    with torch.inference_mode():
        pairs = [(tower.image(images()).tokens, tower.text.encode(ids)) for tower in (clip, exact)]
    for ours, theirs in zip(*pairs, strict=True):
        assert not torch.allclose(ours, theirs, atol=1e-4)


def test_another_activation_equals_a_backbone_that_was_built_with_it() -> None:
    torch.manual_seed(0)
    clip = Clip(CONFIG)
    exact = clip.with_activation("gelu")
    built = Clip(exact.config)
    built.load_state_dict(clip.state_dict())
    with torch.inference_mode():
        assert torch.equal(exact.image(images()).tokens, built.image(images()).tokens)
