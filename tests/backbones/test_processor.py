"""The quick ways of a processor give what torch's own layers give."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blemish.backbones import processor
from blemish.backbones.efficientnet import EfficientNetLite0, LocalStem
from blemish.backbones.processor import convolved, is_traced, linear, pointwise

ACTIVATIONS = {"none": lambda x: x, "gelu": F.gelu, "relu6": F.relu6}


def rows(*shape: int) -> Tensor:
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What oneDNN's layer was called with."""
    if processor._LINEAR is None:
        pytest.skip("this build of torch has no oneDNN")
    made: list[Any] = []
    fused = processor._LINEAR

    def noted(*arguments: Any) -> Tensor:
        made.append(arguments)
        return fused(*arguments)

    monkeypatch.setattr(processor, "_LINEAR", noted)
    return made


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_a_linear_layer_by_onednn_is_torch_s_own(activation: str, bias: bool, calls: list[Any]) -> None:
    layer = nn.Linear(24, 40, bias=bias).requires_grad_(False)
    x = rows(2, 7, 48)[..., :24]  # a view with gaps, as the parts of a fused projection are
    expected = ACTIVATIONS[activation](layer(x))
    assert torch.allclose(linear(x, layer.weight, layer.bias, activation=activation), expected, atol=1e-5)
    assert len(calls) == 1


def test_gradients_and_other_numbers_take_torch_s_own_way(calls: list[Any]) -> None:
    weight, x = rows(5, 4).requires_grad_(), rows(3, 4)
    linear(x, weight, None, activation="gelu").sum().backward()
    assert weight.grad is not None and weight.grad.abs().sum() > 0
    frozen = weight.detach()
    assert linear(x.double(), frozen.double(), None).dtype == torch.float64
    assert linear(x[:0], frozen, None).shape == (0, 5)
    assert not calls
    linear(x, frozen, None)
    assert len(calls) == 1


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_a_1x1_convolution_is_a_linear_layer(memory: torch.memory_format, activation: str) -> None:
    convolution = nn.Conv2d(6, 10, 1).requires_grad_(False)
    maps = rows(2, 6, 5, 3).contiguous(memory_format=memory)
    expected = ACTIVATIONS[activation](convolution(maps))
    assert torch.allclose(pointwise(convolution, maps, activation=activation), expected, atol=1e-5)


@pytest.mark.parametrize("activation", ["none", "relu6"])
@pytest.mark.parametrize(
    ("stride", "before", "after"), [(1, (2, 2), (2, 2)), (2, (1, 1), (2, 2)), (2, (2, 1), (2, 2)), (2, (0, 1), (3, 1))]
)
def test_a_convolution_pads_with_zeros_before_and_after(
    stride: int, before: tuple[int, int], after: tuple[int, int], activation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    convolution = nn.Conv2d(6, 6, 5, stride=stride, groups=6).requires_grad_(False)
    maps = rows(2, 6, 12, 10).contiguous(memory_format=torch.channels_last)
    expected = ACTIVATIONS[activation](convolution(F.pad(maps, (before[1], after[1], before[0], after[0]))))
    for way in (processor._CONVOLUTION, None):
        monkeypatch.setattr(processor, "_CONVOLUTION", way)
        found = convolved(convolution, maps, before=before, after=after, activation=activation)  # type: ignore[arg-type]
        assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the tracer that the exporter to ONNX stands on
def test_a_trace_holds_torch_s_own_layers() -> None:
    convolution = nn.Conv2d(6, 10, 1).requires_grad_(False)
    assert not is_traced()
    seen = []

    def traced(x: Tensor) -> Tensor:
        seen.append(is_traced())
        return pointwise(convolution, x)

    graph = torch.jit.trace(traced, rows(1, 6, 2, 2), check_trace=False).graph
    assert seen == [True]
    assert "aten::_convolution" in str(graph)


def test_the_trunk_and_the_stem_are_the_same_without_onednn_s_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    stem = LocalStem(16).eval().requires_grad_(False)
    images = rows(3, 3, 64, 96)
    with torch.no_grad():
        quick = stem.local_maps(images)
        patches = stem.patches(quick)
        monkeypatch.setattr(processor, "_LINEAR", None)
        monkeypatch.setattr(processor, "_CONVOLUTION", None)
        plain = stem.trunk(images)
        assert torch.allclose(patches, stem.patches(quick), atol=1e-4)
    for own, twin in zip(quick.trunk, plain, strict=True):
        assert torch.allclose(own, twin, atol=1e-4 * float(twin.abs().max()))
    assert [own.shape[1] for own in quick.trunk] == list(EfficientNetLite0.channels)
