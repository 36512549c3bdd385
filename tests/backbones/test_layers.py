from __future__ import annotations

import pytest
import torch
from small_towers import materialised_attention

from blemish.backbones import fast
from blemish.backbones.layers import Attention, Block, Mlp, quick_gelu


def test_quick_gelu_is_the_same_with_and_without_gradients_and_leaves_its_input_alone() -> None:
    x = torch.randn(4, 5, dtype=torch.double, requires_grad=True)
    before = x.detach().clone()
    expected = before * torch.sigmoid(1.702 * before)
    assert torch.equal(quick_gelu(x), expected)
    assert torch.equal(quick_gelu(x.detach()), expected)
    assert torch.equal(x.detach(), before)
    assert torch.autograd.gradcheck(quick_gelu, x)


def test_the_activation_is_the_one_of_the_configuration() -> None:
    x = torch.randn(2, 8)
    for activation, function in (("gelu", torch.nn.functional.gelu), ("quick_gelu", quick_gelu)):
        mlp = Mlp(8, 16, activation)
        assert torch.equal(mlp(x), mlp.fc_out(function(mlp.fc_in(x))))


def test_both_kinds_of_attention_share_one_projection() -> None:
    attention = Attention(16, 4)
    x = torch.randn(2, 7, 16)
    query, key, value = attention.qkv(x)
    assert torch.allclose(
        attention.attend(query, key, value), materialised_attention(attention, x, value_value=False), atol=1e-6
    )
    assert torch.allclose(
        attention.attend(value, value, value), materialised_attention(attention, x, value_value=True), atol=1e-6
    )


@pytest.mark.parametrize("causal", [False, True])
def test_one_position_of_each_sequence_is_what_the_whole_block_gives_there(causal: bool) -> None:
    block = Block(16, 2, mlp_ratio=4.0, activation="quick_gelu")
    x, positions = torch.randn(3, 7, 16), torch.tensor([0, 3, 6])
    whole = block(x, causal=causal)
    assert torch.allclose(
        fast.at_positions(block, x, positions, causal=causal), whole[torch.arange(3), positions], atol=1e-6
    )


def test_the_parts_of_a_block_are_what_the_whole_block_gives() -> None:
    block = Block(16, 2, mlp_ratio=4.0, activation="quick_gelu")
    x, v = torch.randn(3, 7, 16), torch.randn(3, 7, 16)
    ordinary, value_value = block(x), v + block.value_value(x)
    for given, expected in zip(fast.dual(block, x, v), (ordinary, value_value), strict=True):
        assert torch.allclose(given, expected, atol=1e-6)
    for given, expected in zip(fast.dual_first_token(block, x, v), (ordinary[:, :1], value_value), strict=True):
        assert torch.allclose(given, expected, atol=1e-6)
    assert torch.allclose(fast.first_token(block, x), ordinary[:, :1], atol=1e-6)
