"""Linear layers and convolutions the way that is fastest on a processor; elsewhere, and in exports, as torch has them.

torch's own linear layers in float32 go to a BLAS that is half as fast as oneDNN on some processors, its 1×1 convolutions on one
thread to a slow path that copies every patch. An activation or a padding by itself costs a pass through the memory.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["FusedActivation", "convolved", "is_traced", "linear", "pointwise"]

FusedActivation = Literal["none", "gelu", "relu6"]

_HAS_ONEDNN: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
# oneDNN's layers with an activation in them, as torch.compile uses them; None in builds of torch without oneDNN
_LINEAR = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if _HAS_ONEDNN else None
_CONVOLUTION = getattr(torch.ops.mkldnn, "_convolution_pointwise", None) if _HAS_ONEDNN else None
# names, parameters and algorithms of activations there
_IN_ONEDNN: dict[FusedActivation, tuple[str, list[float], str]] = {
    "none": ("none", [], ""),
    "gelu": ("gelu", [], "none"),
    "relu6": ("hardtanh", [0.0, 6.0], ""),
}


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, *, activation: FusedActivation = "none") -> Tensor:
    """The linear layer [..., W] -> [..., W'] of a weight [W', W] and a bias [W'], with an activation behind it."""
    if _LINEAR is not None and _by_onednn(x, weight):
        return _LINEAR(x, weight, bias, *_IN_ONEDNN[activation])
    return _activated(F.linear(x, weight, bias), activation)


def pointwise(convolution: nn.Conv2d, x: Tensor, *, activation: FusedActivation = "none") -> Tensor:
    """What a 1×1 convolution makes of maps [B, C, h, w]; on a processor the linear layer that it is, for channels-last maps."""
    if x.device.type != "cpu" or is_traced():
        return _activated(convolution(x), activation)
    x = linear(x.permute(0, 2, 3, 1), convolution.weight.flatten(1), convolution.bias, activation=activation)
    return x.permute(0, 3, 1, 2)


def convolved(
    convolution: nn.Conv2d,
    x: Tensor,
    *,
    before: tuple[int, int],
    after: tuple[int, int],
    activation: FusedActivation = "none",
) -> Tensor:
    """What a convolution makes of maps [B, C, h, w] with rows and columns of zeros before and after them, in place of its own
    padding."""
    weight, (rows, columns) = convolution.weight, before
    uneven = after[0] - rows, after[1] - columns
    if _CONVOLUTION is not None and uneven in ((0, 0), (1, 1)) and _by_onednn(x, weight):
        if uneven == (1, 1):  # a first row and column of zeros in the weights takes one more of them before the map
            weight, rows, columns = F.pad(weight, (1, 0, 1, 0)), rows + 1, columns + 1
        return _CONVOLUTION(
            x,
            weight,
            convolution.bias,
            [rows, columns],
            convolution.stride,
            convolution.dilation,
            convolution.groups,
            *_IN_ONEDNN[activation],
        )
    if uneven != (0, 0):
        x, rows, columns = F.pad(x, (columns, after[1], rows, after[0])), 0, 0
    x = F.conv2d(
        x, weight, convolution.bias, convolution.stride, (rows, columns), convolution.dilation, convolution.groups
    )
    return _activated(x, activation)


def is_traced() -> bool:
    """Whether torch is writing down what is computed, to compile or to export it."""
    return bool(torch.jit.is_tracing()) or torch.compiler.is_compiling()  # type: ignore[attr-defined, no-untyped-call]


def _activated(x: Tensor, activation: FusedActivation) -> Tensor:
    if activation == "gelu":
        return F.gelu(x)
    return F.relu6(x, inplace=True) if activation == "relu6" else x


def _by_onednn(x: Tensor, weight: Tensor) -> bool:
    needs_gradient = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.numel() > 0
        and not (needs_gradient or is_traced() or torch.is_autocast_enabled("cpu"))
    )
