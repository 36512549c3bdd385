from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_towers import small_text_tower
from torch import Tensor

from blemish.backbones.text import Placement, TextTower
from blemish.errors import UsageError

CONTEXT = 20


def close(ours: Tensor, reference: Tensor, tolerance: float = 1e-5) -> bool:
    return bool((ours - reference).abs().max() <= tolerance * reference.abs().max())


def embeddings(prompts: int = 3, length: int = CONTEXT) -> Tensor:
    return torch.randn(prompts, length, 32, generator=torch.Generator().manual_seed(4))


def layer_tokens(depth: int, tokens: int = 2) -> Tensor:
    return 0.5 * torch.randn(depth, tokens, 32, generator=torch.Generator().manual_seed(5))


def uncut(
    tower: TextTower,
    x: Tensor,
    *,
    pool_at: Tensor,
    fresh: Tensor | None = None,
    insert: bool = True,
    first_block: int = 1,
    carry: float = 0.0,
    causal: bool = True,
) -> Tensor:
    """The slow twin: the whole sequence, masks written out, positions overwritten in place."""
    x = x + tower.position_embedding[: x.shape[1]]
    inside = False
    n = 0 if fresh is None else fresh.shape[1]
    for index, block in enumerate(tower.blocks):
        layer = index - (first_block - 1)
        if fresh is not None and 0 <= layer < len(fresh):
            own = fresh[layer].expand(len(x), -1, -1)
            if layer == 0 and insert:
                x = torch.cat([x[:, :1], own, x[:, 1:]], dim=1)
                inside = True
            else:
                x = x.clone()
                kept = 0.0 if layer == 0 else carry
                x[:, 1 : 1 + n] = kept * x[:, 1 : 1 + n] + (1 - kept) * own
        length = x.shape[1]
        mask = torch.full((length, length), -torch.inf).triu(1) if causal else torch.zeros(length, length)
        query, key, value = block.attention.qkv(block.ln_1(x))
        weights = torch.softmax(query @ key.transpose(2, 3) / query.shape[-1] ** 0.5 + mask, dim=-1)
        x = x + block.attention.out_projection((weights @ value).transpose(1, 2).flatten(2))
        x = x + block.mlp(block.ln_2(x))
        if inside and fresh is not None and layer == len(fresh):
            x = torch.cat([x[:, :1], x[:, 1 + n :]], dim=1)
            inside = False
    return tower.ln_final(x[torch.arange(len(x)), pool_at]) @ tower.projection


@settings(deadline=None, max_examples=60)
@given(
    data=st.data(),
    insert=st.booleans(),
    causal=st.booleans(),
    carry=st.sampled_from([0.0, 0.01, 0.7]),
    blocks=st.sampled_from([(first, last) for first in range(1, 5) for last in range(first - 1, 5)]),
)
def test_cut_sequences_equal_the_uncut_twin(
    data: st.DataObject, insert: bool, causal: bool, carry: float, blocks: tuple[int, int]
) -> None:
    first_block, depth = blocks[0], blocks[1] - blocks[0] + 1
    tower = small_text_tower()
    fresh = layer_tokens(depth) if depth else None
    pool_at = torch.tensor(data.draw(st.lists(st.integers(0, CONTEXT - 1), min_size=3, max_size=3)))
    asked = {"pool_at": pool_at, "first_block": first_block, "carry": carry, "causal": causal}
    with torch.no_grad():
        ours = tower(embeddings(), layer_tokens=fresh, placement="insert" if insert else "overwrite", **asked)
        twin = uncut(tower, embeddings(), fresh=fresh, insert=insert, **asked)
    assert close(ours, twin)


def test_under_the_causal_mask_only_the_tokens_in_use_are_computed() -> None:
    tower = small_text_tower()
    seen: list[int] = []
    tower.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[1]))
    pool_at = torch.tensor([4, 2, 6])
    tower(embeddings(), pool_at=pool_at)
    tower(embeddings(), pool_at=pool_at, layer_tokens=layer_tokens(3), placement="overwrite")
    tower(embeddings(), pool_at=pool_at, layer_tokens=layer_tokens(2), placement="insert")
    tower(embeddings(), pool_at=pool_at, layer_tokens=layer_tokens(4), placement="insert")
    tower(embeddings(), pool_at=pool_at, causal=False)
    assert seen == [7, 7, 9, 7, CONTEXT]


def test_bidirectional_prompts_see_what_stands_behind_the_pooled_position() -> None:
    tower = small_text_tower()
    changed = embeddings()
    changed[:, -1] = torch.randn(32)
    pool_at = torch.tensor([3, 3, 3])
    with torch.no_grad():
        assert torch.equal(tower(embeddings(), pool_at=pool_at), tower(changed, pool_at=pool_at))
        one, other = (tower(x, pool_at=pool_at, causal=False) for x in (embeddings(), changed))
    assert not close(one, other, tolerance=1e-3)


def test_inserted_tokens_that_stay_to_the_end_count_in_the_pooled_position() -> None:
    """DAPO's release pools at the end of text of the sequence before the insertion: n positions too far left."""
    tower = small_text_tower()
    fresh, x = layer_tokens(4, tokens=2), embeddings()
    with torch.no_grad():
        read = [tower(x, pool_at=torch.full((3,), at), layer_tokens=fresh, causal=False) for at in (1, 9)]
        twin = [uncut(tower, x, pool_at=torch.full((3,), at), fresh=fresh, causal=False) for at in (1, 9)]
    assert close(read[0], twin[0])
    assert close(read[1], twin[1])


def test_strings_ids_are_pooled_at_the_end_of_text() -> None:
    tower = small_text_tower()
    ids = torch.zeros(2, CONTEXT, dtype=torch.long)
    ids[0, :5] = torch.tensor([98, 7, 8, 9, 99])
    ids[1, :3] = torch.tensor([98, 7, 99])
    with torch.no_grad():
        ours = tower.encode(ids)
        twin = uncut(tower, tower.embed(ids), pool_at=torch.tensor([4, 2]))
        alone = tower.encode(ids[1:])
    assert ours.shape == (2, 16)
    assert close(ours, twin)
    assert close(ours[1:], alone)


def test_overwriting_acts_only_through_the_blocks_that_are_named() -> None:
    tower = small_text_tower()
    x, pool_at = embeddings(), torch.tensor([8, 9, 10])
    fresh = layer_tokens(1)
    with torch.no_grad():
        overwritten = x.clone()
        overwritten[:, 1:3] = fresh[0] - tower.position_embedding[1:3]
        first = tower(x, pool_at=pool_at, layer_tokens=fresh, placement="overwrite", first_block=1)
        second = tower(x, pool_at=pool_at, layer_tokens=fresh, placement="overwrite", first_block=2)
        assert close(first, tower(overwritten, pool_at=pool_at))
    assert not close(first, second, tolerance=1e-3)


def test_gradients_reach_embeddings_and_every_layer_token() -> None:
    tower = small_text_tower()
    x, pool_at = embeddings().requires_grad_(), torch.tensor([8, 9, 10])
    for placement in ("insert", "overwrite"):
        fresh = layer_tokens(4).requires_grad_()
        x.grad = None
        tower(x, pool_at=pool_at, layer_tokens=fresh, placement=placement, carry=0.1).square().sum().backward()
        assert x.grad is not None
        assert fresh.grad is not None
        assert x.grad.abs().max() > 0
        assert all(gradient.abs().max() > 0 for gradient in fresh.grad)


def test_rounding_to_half_rounds_tokens_and_each_prompt_s_gradient_before_the_sum() -> None:
    tower = small_text_tower(depth=1)
    prompts, pool_at = 64, torch.full((64,), 8)
    x, fresh = embeddings(prompts), layer_tokens(1).requires_grad_()
    asked = {"pool_at": pool_at, "placement": "overwrite"}
    rounded = tower(x, layer_tokens=fresh, round_tokens_to_half=True, **asked)
    with torch.no_grad():
        assert torch.equal(rounded, tower(x, layer_tokens=fresh.half().float(), **asked))
    rounded.square().sum().backward()

    separate = fresh.detach().half().float().repeat(prompts, 1, 1, 1).requires_grad_()  # [P, 1, n, W]
    outputs = [
        tower(x[index : index + 1], layer_tokens=separate[index], pool_at=pool_at[:1], placement="overwrite")
        for index in range(prompts)
    ]
    torch.cat(outputs).square().sum().backward()
    assert separate.grad is not None
    assert fresh.grad is not None
    rounded_before, rounded_never = separate.grad.half().float().sum(dim=0), separate.grad.sum(dim=0)
    assert close(fresh.grad, rounded_before, tolerance=1e-4)
    assert (fresh.grad - rounded_before).abs().mean() < 0.3 * (fresh.grad - rounded_never).abs().mean()


def test_wrong_requests_say_what_is_wrong() -> None:
    tower, pool_at = small_text_tower(), torch.tensor([1, 1, 1])
    with pytest.raises(UsageError, match=r"embeddings \[P, up to 20, 32\], not \[3, 21, 32\]"):
        tower(embeddings(length=21), pool_at=pool_at)
    with pytest.raises(UsageError, match="placement"):
        tower(embeddings(), pool_at=pool_at, layer_tokens=layer_tokens(1), placement="append")
    with pytest.raises(UsageError, match="do not fit into 4 blocks"):
        tower(embeddings(), pool_at=pool_at, layer_tokens=layer_tokens(3), first_block=3)
    with pytest.raises(UsageError, match=r"layer_tokens must be of shape \[d, \(P,\) n, 32\]"):
        tower(embeddings(), pool_at=pool_at, layer_tokens=torch.zeros(2, 32))
    with pytest.raises(UsageError, match="do not fit into a sequence of 3 tokens"):
        tower(embeddings(length=3), pool_at=pool_at, layer_tokens=layer_tokens(1, tokens=3), placement="overwrite")


@pytest.mark.parametrize("start", [1, 4, 7])
@pytest.mark.parametrize("first_block", [1, 2])
def test_prompts_that_begin_alike_give_what_whole_prompts_give(start: int, first_block: int) -> None:
    tower = small_text_tower()
    shared, following = embeddings(1, start)[0], embeddings(3, 5)
    fresh = layer_tokens(2, 2) if start > 2 else None
    whole = torch.cat([shared.expand(3, -1, -1), following], dim=1)
    ends = torch.full((3,), whole.shape[1] - 1)
    ours = tower.continuing(shared, following, layer_tokens=fresh, first_block=first_block)
    assert close(ours, uncut(tower, whole, pool_at=ends, fresh=fresh, insert=False, first_block=first_block))


def test_layer_tokens_must_lie_within_the_shared_start() -> None:
    with pytest.raises(UsageError, match="2 layer tokens do not fit behind the first of 2 shared positions"):
        small_text_tower().continuing(embeddings(1, 2)[0], embeddings(3, 5), layer_tokens=layer_tokens(1, 2))
    with pytest.raises(UsageError, match="takes up to 20 embeddings, not 18"):
        small_text_tower().continuing(embeddings(1, 18)[0], embeddings(3, 5))


@pytest.mark.parametrize("placement", ["insert", "overwrite"])
def test_every_prompt_may_have_layer_tokens_of_its_own(placement: Placement) -> None:
    tower, x, ends = small_text_tower(), embeddings(length=9), torch.tensor([5, 8, 6])
    own = torch.randn(2, 3, 4, 32, generator=torch.Generator().manual_seed(8))
    with torch.no_grad():
        together = tower(x, pool_at=ends, layer_tokens=own, placement=placement, first_block=2)
        for index in range(3):
            tokens, only = own[:, index], slice(index, index + 1)
            alone = tower(x[only], pool_at=ends[only], layer_tokens=tokens, placement=placement, first_block=2)
            assert close(together[index], alone[0])
