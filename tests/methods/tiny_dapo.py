"""DAPO on a tiny random backbone: 4 x 4 patches, four blocks, three of the text tower."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from blemish.backbones.config import BackboneConfig
from blemish.backbones.model import Clip
from blemish.language import Vocabulary, parse_defects
from blemish.methods.base import Targets
from blemish.methods.dapo import DAPO, DAPOTexts

TINY = BackboneConfig.from_dict(
    {
        "name": "tiny",
        "joint_width": 24,
        "vision": {"image_size": 32, "width": 32, "depth": 4, "heads": 2, "patch_size": 8, "position_grid": 4},
        "text": {"width": 32, "depth": 3, "heads": 2},
    }
)
SMALL = {
    "groups": 2,
    "normal_tokens": 3,
    "abnormal_tokens": 2,
    "text_tokens": 2,
    "image_tokens": 2,
    "variant": "released",
}
DEFECTS = parse_defects("scratch, hole, loose screw")


def tiny_clip() -> Clip:
    torch.manual_seed(0)
    clip = Clip(TINY)
    torch.nn.init.normal_(clip.text.token_embedding.weight)
    for parameter in clip.parameters():
        if parameter.ndim <= 1:
            torch.nn.init.normal_(parameter, mean=float(parameter.detach().mean()), std=0.1)
    return clip


def tiny_images() -> Tensor:
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def method_with(backbone: Clip, **options: Any) -> DAPO:
    torch.manual_seed(2)
    return DAPO(backbone, DAPO.config_from({**SMALL, **options}))


def texts_of(method: DAPO, vocabulary: Vocabulary = DEFECTS) -> DAPOTexts:
    texts = method.encode_texts(vocabulary)
    assert isinstance(texts, DAPOTexts)
    return texts


def targets(*, types: Sequence[int] = (2, 0, 1)) -> Targets:
    mask = torch.zeros(3, 32, 32)
    mask[0, 4:20, 9:15] = 1
    mask[2, :8] = 1
    return Targets(torch.tensor([1, 0, 1]), mask, type_id=torch.tensor(types))
