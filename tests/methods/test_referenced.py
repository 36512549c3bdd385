"""Words read beside good images: on a tiny random backbone, which cuts patches, and on the embedded one, which has a trunk."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny import tiny_backbone
from torch import Tensor

from blemish import models as store
from blemish.errors import UsageError
from blemish.language import parse_defects
from blemish.methods.base import Method, Scores
from blemish.methods.dapo import DAPO
from blemish.methods.ensemble import PromptEnsemble
from blemish.methods.faprompt import FAPrompt
from blemish.methods.reference_memory import MemoryOptions, ReferenceMemory, merge_memories, reduce_memory, remove_image
from blemish.methods.referenced import LEAST_PEERS, ReferencedConfig, ReferencedScoring, among_peers
from blemish.methods.remembering import add_images as add
from blemish.methods.remembering import digest_of
from blemish.methods.remembering import remember_images as remember

DEFECTS = parse_defects("scratch, hole")
MADE = {"counted_distances", "counted_numbers"}


@pytest.fixture(scope="module", params=["patches", "trunk"])
def inner(request: pytest.FixtureRequest) -> PromptEnsemble:
    backbone = tiny_backbone() if request.param == "patches" else store.load_backbone("embedded").at_input(64)
    return PromptEnsemble(backbone)


def alike(count: int, *, seed: int = 0) -> Tensor:
    """Images [B, 3, 64, 64] of one product: the same pattern under a little noise."""
    pattern = torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(3))
    return pattern + 0.05 * torch.randn(count, 3, 64, 64, generator=torch.Generator().manual_seed(seed))


def odd_one(seed: int = 9) -> Tensor:
    """One more of them, with something else in its upper left quarter."""
    image = alike(1, seed=seed)
    image[..., :24, :24] = torch.randn(3, 24, 24, generator=torch.Generator().manual_seed(8))
    return image


def scored(method: Method, images: Tensor) -> Scores:
    with torch.inference_mode():
        return method.score(method.encode(images), method.encode_texts(DEFECTS))


def referenced(inner: Method, good: Tensor, **options: float) -> ReferencedScoring:
    return ReferencedScoring(inner, remember(inner, [good]), ReferencedConfig(**options))  # type: ignore[arg-type]


def same(first: ReferenceMemory, second: ReferenceMemory) -> bool:
    return set(first.arrays) == set(second.arrays) and all(
        (first.arrays[name] == second.arrays[name]).all() for name in first.arrays
    )


def test_scores_have_shapes_and_ranges_of_their_own_grid(inner: PromptEnsemble) -> None:
    found = scored(referenced(inner, alike(8)), alike(3, seed=1))
    assert found.anomaly_map.shape == (3, 8, 8)
    assert found.type_maps.shape == (3, 2, 8, 8)
    for one in (found.image_score, found.anomaly_map, found.type_scores, found.type_maps):
        assert 0 <= one.min() <= one.max() <= 1
    assert torch.allclose(found.type_maps.sum(1), found.anomaly_map, atol=1e-5)
    assert torch.allclose(found.type_scores.sum(1), found.image_score, atol=1e-5)


@pytest.mark.parametrize("good", [1, 2, 8])
def test_what_no_good_image_has_stands_out(inner: PromptEnsemble, good: int) -> None:
    method = referenced(inner, alike(good))
    usual, odd = scored(method, alike(4, seed=1)), scored(method, odd_one())
    assert odd.image_score > usual.image_score.max()
    assert odd.anomaly_map[0, :3, :3].mean() > odd.anomaly_map[0, 4:, 4:].max()
    assert odd.reasons is not None
    assert odd.reasons[0, 1] > 1.2 or good == 1


def test_one_seen_in_good_images_is_forgiven(inner: PromptEnsemble) -> None:
    good = torch.cat([alike(6), *(odd_one(seed=20 + number) for number in range(6))])
    before, after = scored(referenced(inner, good[:6]), odd_one()), scored(referenced(inner, good), odd_one())
    assert after.image_score < 0.5 < before.image_score


def test_each_image_is_scored_as_by_a_memory_that_never_held_it(inner: PromptEnsemble) -> None:
    good = alike(6)
    memory = remember(inner, [good])
    method = ReferencedScoring(inner, memory)
    image_scores, maps = method.leave_one_out(memory, method.encode_texts(DEFECTS))
    for number, digest in enumerate(memory.digests):
        found = scored(ReferencedScoring(inner, remove_image(memory, digest)), good[number : number + 1])
        assert torch.allclose(found.image_score, image_scores[number], atol=1e-3)
        assert torch.allclose(found.anomaly_map, maps[number : number + 1], atol=2e-3)


def test_an_image_is_judged_the_same_in_any_batch(inner: PromptEnsemble) -> None:
    method = referenced(inner, alike(8))
    together, single = scored(method, torch.cat([alike(2, seed=4), odd_one()])), scored(method, odd_one())
    assert torch.allclose(together.anomaly_map[2:], single.anomaly_map, atol=1e-3)


def test_images_that_are_all_the_same_count_once_and_give_numbers(inner: PromptEnsemble) -> None:
    memory = remember(inner, [alike(1).repeat(4, 1, 1, 1), alike(1)])
    assert memory.images == 1
    assert memory.digests == (digest_of(alike(1)[0]),)
    method = ReferencedScoring(inner, memory)
    for image in (alike(1), odd_one(), torch.zeros(1, 3, 64, 64)):
        found = scored(method, image)
        assert torch.isfinite(found.anomaly_map).all()
        assert torch.isfinite(found.image_score).all()


def test_adding_is_as_remembering_at_once(inner: PromptEnsemble) -> None:
    one, grown = remember(inner, [alike(6)]), add(inner, remember(inner, [alike(6)[:4]]), [alike(6)[3:]])
    assert grown.digests == one.digests
    assert (grown.arrays["entries"] == one.arrays["entries"]).all()
    assert same(add(inner, one, [alike(2)]), one)


def test_an_image_that_is_taken_out_leaves_the_memory_of_the_others(inner: PromptEnsemble) -> None:
    whole = remember(inner, [alike(5)])
    less = remove_image(whole, whole.digests[4])
    kept = remember(inner, [alike(5)[:4]])
    assert less.digests == kept.digests
    projection = {name: whole.arrays[name] for name in ("projection", "projection_mean", "projection_lengths")}
    kept = replace(kept, arrays={name: kept.arrays[name] for name in set(kept.arrays) - MADE} | projection)
    assert same(less, kept)
    found, expected = (scored(ReferencedScoring(inner, memory), odd_one()) for memory in (less, kept))
    assert torch.allclose(found.anomaly_map, expected.anomaly_map)
    with pytest.raises(UsageError, match="no image of the memory has the digest nothing"):
        remove_image(whole, "nothing")
    with pytest.raises(UsageError, match="at least one image"):
        remove_image(remember(inner, [alike(1)]), digest_of(alike(1)[0]))


def test_memories_are_merged_without_their_common_images(inner: PromptEnsemble) -> None:
    images = alike(6)
    first, second = remember(inner, [images[:4]]), remember(inner, [images[2:]])
    both = merge_memories(first, second)
    assert set(both.digests) == {digest_of(image) for image in images}
    assert both.entries == 6 * 64
    assert torch.isfinite(scored(ReferencedScoring(inner, both), odd_one()).anomaly_map).all()


def test_a_memory_is_reduced_to_patches_that_cover_the_others(inner: PromptEnsemble) -> None:
    whole = remember(inner, [alike(6)])
    less = reduce_memory(whole, 100)
    assert less.entries == 100
    assert remember(inner, [alike(6)], MemoryOptions(entries=100)).entries == 100
    assert reduce_memory(whole, 1000) is whole
    usual, odd = (scored(ReferencedScoring(inner, less), images) for images in (alike(3, seed=1), odd_one()))
    assert odd.image_score > usual.image_score.max()
    with pytest.raises(UsageError, match="at least one patch"):
        reduce_memory(whole, 0)


def test_a_memory_of_another_model_is_refused(inner: PromptEnsemble) -> None:
    memory = remember(inner, [alike(2)])
    other = PromptEnsemble(inner.backbone, inner.config_from({"temperature": 0.1}))
    with pytest.raises(UsageError, match=r"the memory is of the model ensemble .*, not of ensemble"):
        ReferencedScoring(other, memory)
    with pytest.raises(UsageError, match="references are images"):
        remember(inner, [torch.zeros(1, 3, 32, 32)])
    with pytest.raises(UsageError, match="at least one image"):
        remember(inner, [])


@pytest.mark.parametrize("kind", [FAPrompt, DAPO])
def test_any_methods_words_are_read_beside_good_images(kind: type[Method]) -> None:
    torch.manual_seed(0)
    inner = kind(tiny_backbone(), kind.config_from({})).eval()
    found = scored(referenced(inner, alike(5)), odd_one())
    assert found.types == ("scratch", "hole")
    assert torch.isfinite(found.type_maps).all()


def test_a_defect_that_few_peers_have_stands_out_still(inner: PromptEnsemble) -> None:
    peers = torch.cat([alike(18), *(odd_one(seed=20 + number) for number in range(1))])
    found, usual = (scored(among_peers(inner, [peers]), images) for images in (odd_one(), alike(4, seed=1)))
    assert found.image_score > usual.image_score.max()
    assert found.anomaly_map[0, :3, :3].mean() > found.anomaly_map[0, 4:, 4:].max()


def test_a_peer_is_compared_neither_with_itself_nor_with_a_copy(inner: PromptEnsemble) -> None:
    peers = torch.cat([alike(12), odd_one(), odd_one()])
    own, other = (scored(among_peers(inner, [images]), odd_one()) for images in (peers, peers[:12]))
    assert own.image_score > 0.5
    assert other.image_score > 0.5


def test_too_few_peers_are_refused(inner: PromptEnsemble) -> None:
    with pytest.raises(UsageError, match=f"at least {LEAST_PEERS}.*not with 4"):
        among_peers(inner, [alike(4)])


@pytest.mark.parametrize("options", [{"softness": 0}, {"top_share": 0}, {"peer_share": 1.1}, {"words_weight": -1}])
def test_senseless_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=r"above 0|at least 0"):
        ReferencedConfig(**options)
