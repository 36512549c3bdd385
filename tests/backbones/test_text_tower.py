from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_towers import small_text_tower
from torch import Tensor

from blemish.backbones import fast
from blemish.backbones.layers import BeforeBlock
from blemish.backbones.text import TextTower
from blemish.errors import UsageError

CONTEXT = 20


def close(ours: Tensor, reference: Tensor, tolerance: float = 1e-5) -> bool:
    return bool((ours - reference).abs().max() <= tolerance * reference.abs().max())


def embeddings(prompts: int = 3, length: int = CONTEXT) -> Tensor:
    return torch.randn(prompts, length, 32, generator=torch.Generator().manual_seed(4))


def overwriting(*, first: int = 0, blocks: int = 2) -> BeforeBlock:
    """Two tokens of each of these blocks, from the first (0-based) on, in place of positions 1 and 2."""
    tokens = 0.5 * torch.randn(blocks, 2, 32, generator=torch.Generator().manual_seed(5))

    def before_block(index: int, x: Tensor) -> Tensor:
        if not first <= index < first + blocks:
            return x
        return torch.cat([x[:, :1], tokens[index - first].expand(len(x), -1, -1), x[:, 3:]], dim=1)

    return before_block


def materialised(
    tower: TextTower, x: Tensor, *, pool_at: Tensor, before_block: BeforeBlock | None = None, causal: bool = True
) -> Tensor:
    """The slow twin: masks and softmax written out."""
    x = x + tower.position_embedding[: x.shape[1]]
    for index, block in enumerate(tower.blocks):
        x = x if before_block is None else before_block(index, x)
        length = x.shape[1]
        mask = torch.full((length, length), -torch.inf).triu(1) if causal else torch.zeros(length, length)
        query, key, value = block.attention.qkv(block.ln_1(x))
        weights = torch.softmax(query @ key.transpose(2, 3) / query.shape[-1] ** 0.5 + mask, dim=-1)
        x = x + block.attention.out_projection((weights @ value).transpose(1, 2).flatten(2))
        x = x + block.mlp(block.ln_2(x))
    return tower.ln_final(x[torch.arange(len(x)), pool_at]) @ tower.projection


@settings(deadline=None, max_examples=40)
@given(
    data=st.data(),
    causal=st.booleans(),
    before_block=st.sampled_from([None, overwriting(), overwriting(first=1), overwriting(first=2, blocks=2)]),
)
def test_both_ways_equal_a_twin_that_materialises_attention(
    data: st.DataObject, causal: bool, before_block: BeforeBlock | None
) -> None:
    tower = small_text_tower()
    pool_at = torch.tensor(data.draw(st.lists(st.integers(0, CONTEXT - 1), min_size=3, max_size=3)))
    asked = {"pool_at": pool_at, "before_block": before_block, "causal": causal}
    with torch.no_grad():
        twin = materialised(tower, embeddings(), **asked)
        assert close(tower(embeddings(), **asked), twin)
        assert close(fast.text_features(tower, embeddings(), **asked), twin)


def test_bidirectional_prompts_see_what_stands_behind_the_pooled_position() -> None:
    tower = small_text_tower()
    changed = embeddings()
    changed[:, -1] = torch.randn(32)
    pool_at = torch.tensor([3, 3, 3])
    with torch.no_grad():
        assert torch.equal(tower(embeddings(), pool_at=pool_at), tower(changed, pool_at=pool_at))
        one, other = (tower(x, pool_at=pool_at, causal=False) for x in (embeddings(), changed))
    assert not close(one, other, tolerance=1e-3)


def test_strings_ids_are_pooled_at_the_end_of_text() -> None:
    tower = small_text_tower()
    ids = torch.zeros(2, CONTEXT, dtype=torch.long)
    ids[0, :5] = torch.tensor([98, 7, 8, 9, 99])
    ids[1, :3] = torch.tensor([98, 7, 99])
    with torch.no_grad():
        ours = tower.encode(ids)
        twin = materialised(tower, tower.embed(ids), pool_at=torch.tensor([4, 2]))
        alone = tower.encode(ids[1:])
    assert ours.shape == (2, 16)
    assert close(ours, twin)
    assert close(ours[1:], alone)


def test_of_token_ids_only_those_in_use_are_computed() -> None:
    tower = small_text_tower()
    seen: list[int] = []
    tower.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[1]))
    ids = torch.zeros(1, CONTEXT, dtype=torch.long)
    ids[0, :5] = torch.tensor([98, 7, 8, 9, 99])
    tower.encode(ids)
    assert seen == [5]


def test_gradients_reach_the_embeddings() -> None:
    tower, pool_at = small_text_tower(), torch.tensor([8, 9, 10])
    gradients = []
    for encode in (tower, partial(fast.text_features, tower)):
        x = embeddings().requires_grad_()
        encode(x, pool_at=pool_at, before_block=overwriting()).square().sum().backward()
        assert x.grad is not None
        gradients.append(x.grad)
    assert gradients[0].abs().max() > 0
    assert close(gradients[1], gradients[0], tolerance=1e-4)


def test_wrong_requests_say_what_is_wrong() -> None:
    tower, pool_at = small_text_tower(), torch.tensor([1, 1, 1])
    for encode in (tower, partial(fast.text_features, tower)):
        with pytest.raises(UsageError, match=r"embeddings \[P, up to 20, 32\], not \[3, 21, 32\]"):
            encode(embeddings(length=21), pool_at=pool_at)


@pytest.mark.parametrize("start", [3, 4, 7])
@pytest.mark.parametrize("before_block", [None, overwriting(), overwriting(first=1)])
def test_prompts_that_begin_alike_give_what_whole_prompts_give(start: int, before_block: BeforeBlock | None) -> None:
    tower = small_text_tower()
    shared, endings = embeddings(1, start)[0], embeddings(3, 5)
    whole = torch.cat([shared.expand(3, -1, -1), endings], dim=1)
    ends = torch.full((3,), whole.shape[1] - 1)
    ours = fast.shared_start_features(tower, shared, endings, before_block=before_block)
    assert close(ours, tower(whole, pool_at=ends, before_block=before_block))


def test_a_shared_start_keeps_its_length_and_fits_the_context() -> None:
    tower = small_text_tower()
    with pytest.raises(UsageError, match="only overwriting keeps its length"):
        fast.shared_start_features(
            tower, embeddings(1, 4)[0], embeddings(3, 5), before_block=lambda _, x: torch.cat([x, x], dim=1)
        )
    with pytest.raises(UsageError, match=r"up to 20, 32\], not \[3, 23, 32\]"):
        fast.shared_start_features(tower, embeddings(1, 18)[0], embeddings(3, 5))
