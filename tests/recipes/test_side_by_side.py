"""What ships: the image sides of several seeds abreast, and the mean of their text sides."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from recipes.embedded.config import BACKBONE
from recipes.embedded.export import side_by_side

from blemish.backbones.model import Clip
from blemish.backbones.tokenizer import tokenize
from blemish.backbones.vision import ImageTower


@torch.no_grad()
def test_images_are_seen_by_all_and_words_are_read_by_their_mean() -> None:
    torch.manual_seed(0)
    clips = [Clip(BACKBONE).eval() for _ in range(2)]
    first, second = (clip.image for clip in clips)
    assert isinstance(first, ImageTower)
    assert isinstance(second, ImageTower)
    second.stem.load_state_dict(
        {**second.stem.state_dict(), **first.stem.trunk.state_dict(prefix="trunk.")}  # type: ignore[union-attr]
    )
    whole = side_by_side(clips)
    images = torch.randn(1, 3, 64, 64)
    alone = torch.stack([clip.image.project(clip.image(images).tokens) for clip in clips]).mean(0)
    assert torch.allclose(whole.image.project(whole.image(images).tokens), alone, atol=1e-4)

    for name, value in whole.text.state_dict().items():
        assert torch.allclose(value, (clips[0].text.state_dict()[name] + clips[1].text.state_dict()[name]) / 2)
    assert whole.text.encode(torch.from_numpy(tokenize(["a scratch"]))).shape == (1, BACKBONE.joint_width)
    assert whole.config.vision.members == 2
    assert side_by_side(clips[:1]) is clips[0]
    assert sum(".trunk.stem." in name for name in whole.state_dict()) == 2  # weight and bias, once
