"""Mutual scoring on a tiny random backbone, which cuts patches, and on the embedded one, which has a trunk."""

from __future__ import annotations

import pytest
import torch
from tiny import tiny_backbone
from torch import Tensor

from blemish import models as store
from blemish.errors import UsageError
from blemish.language import parse_defects
from blemish.methods.base import Method, Scores
from blemish.methods.ensemble import PromptEnsemble
from blemish.methods.memory import FeatureBank, PatchView, RobustScale
from blemish.methods.mutual import LEAST_REFERENCES, STILL, MutualConfig, MutualScoring, _digest, mean_of_nearest

DEFECTS = parse_defects("scratch, hole")


@pytest.fixture(scope="module", params=["patches", "trunk"])
def inner(request: pytest.FixtureRequest) -> PromptEnsemble:
    backbone = tiny_backbone() if request.param == "patches" else store.load_backbone("embedded").at_input(64)
    return PromptEnsemble(backbone)


def alike(count: int, *, seed: int = 0) -> Tensor:
    """Images [B, 3, 64, 64] of one product: the same pattern under a little noise."""
    generator = torch.Generator().manual_seed(3)
    pattern = torch.randn(3, 64, 64, generator=generator)
    return pattern + 0.05 * torch.randn(count, 3, 64, 64, generator=torch.Generator().manual_seed(seed))


def odd_one(seed: int = 9) -> Tensor:
    """One more of them, with something else in its upper left quarter."""
    image = alike(1, seed=seed)
    image[..., :24, :24] = torch.randn(3, 24, 24, generator=torch.Generator().manual_seed(8))
    return image


def mutual(inner: PromptEnsemble, peers: Tensor, **options: float) -> MutualScoring:
    return MutualScoring(inner, [peers], MutualConfig(**options))


def scored(method: Method, images: Tensor) -> Scores:
    with torch.inference_mode():
        return method.score(method.encode(images), method.encode_texts(DEFECTS))


def test_scores_have_the_shapes_and_ranges_of_the_other_method(inner: PromptEnsemble) -> None:
    method = mutual(inner, alike(8))
    found, alone = scored(method, alike(3, seed=1)), scored(inner, alike(3, seed=1))
    assert found.types == alone.types
    for name in ("image_score", "anomaly_map", "type_scores", "type_maps"):
        one = getattr(found, name)
        assert one.shape == getattr(alone, name).shape
        assert one.min() >= 0
        assert one.max() <= 1
    assert torch.allclose(found.type_maps.sum(1), found.anomaly_map, atol=1e-5)
    assert torch.allclose(found.type_scores.sum(1), found.image_score, atol=1e-5)


def corner_rise(inner: PromptEnsemble, *, twins: int, share: float) -> float:
    """By how much the log odds in the odd corner rise above those of the opposite one, with so many peers that have it, too."""
    method = mutual(inner, torch.cat([alike(8), *(odd_one(seed=20 + number) for number in range(twins))]), share=share)
    found, alone = scored(method, odd_one()), scored(inner, odd_one())
    rise = (found.anomaly_map.logit() - alone.anomaly_map.logit())[0]  # [8, 8]
    return float(rise[:3, :3].mean() - rise[5:, 5:].mean())


def test_what_the_peers_lack_stands_out_where_it_is(inner: PromptEnsemble) -> None:
    method = mutual(inner, alike(8))
    found, alone = scored(method, odd_one()), scored(inner, odd_one())
    rise = (found.anomaly_map.logit() - alone.anomaly_map.logit())[0]
    row, column = divmod(int(rise.argmax()), rise.shape[1])
    assert max(row, column) < 4
    assert found.image_score > alone.image_score
    assert found.image_score > scored(method, alike(1, seed=5)).image_score
    assert corner_rise(inner, twins=0, share=0.1) > 1


def test_one_other_piece_with_the_same_defect_does_not_hide_it_but_two_may(inner: PromptEnsemble) -> None:
    none, one, two = (corner_rise(inner, twins=twins, share=0.1) for twins in (0, 1, 2))
    assert none > one > two
    assert one > 1
    assert corner_rise(inner, twins=2, share=0.5) > two


def test_an_image_is_not_compared_with_itself_nor_with_a_copy(inner: PromptEnsemble) -> None:
    peers = alike(8)
    without, twice = mutual(inner, peers), mutual(inner, torch.cat([peers, odd_one(), odd_one()]))
    assert sum(without.others(_digest(odd_one()[0]))) == 8
    assert sum(twice.others(_digest(odd_one()[0]))) == 8
    assert sum(twice.others(_digest(peers[3]))) == 9
    assert scored(twice, odd_one()).image_score > scored(inner, odd_one()).image_score


def test_a_constant_background_says_nothing() -> None:
    """Most patches are the same in all images: what is good on the thing is still near the middle."""
    torch.manual_seed(4)
    level = torch.zeros(9, 6, 10, 10)
    level[:, :, 3:7, 3:7] = torch.randn(6, 4, 4) + 0.3 * torch.randn(9, 6, 4, 4)
    bank = FeatureBank([level], PatchView(0, 1, standardised=False))
    others = ~torch.eye(9, dtype=torch.bool)
    by_image = [
        mean_of_nearest(bank.distances(own)[which], 2) for own, which in zip(bank.patches(level), others, strict=True)
    ]
    distances = torch.stack(by_image).unflatten(1, (10, 10))
    deviations = RobustScale.of(distances, still=STILL * bank.norm()).deviations(distances)
    assert deviations[:, 3:7, 3:7].abs().max() < 10
    assert deviations.max() < 10


def test_the_mean_is_over_the_nearest_reference_images() -> None:
    distances = torch.tensor([[3.0], [1.0], [2.0]])
    assert float(mean_of_nearest(distances, 2)) == 1.5
    assert float(mean_of_nearest(distances, 5)) == 2
    assert not mean_of_nearest(distances[:0], 2).any()


def test_an_image_passes_the_tower_once(inner: PromptEnsemble, monkeypatch: pytest.MonkeyPatch) -> None:
    method, passed = mutual(inner, alike(6)), []
    embed = inner.backbone.image.embed
    monkeypatch.setattr(
        inner.backbone.image, "embed", lambda images, **options: passed.append(len(images)) or embed(images, **options)
    )
    scored(method, alike(2, seed=1))
    assert passed == [2]


def test_a_reference_image_that_is_inspected_is_known_already(
    inner: PromptEnsemble, monkeypatch: pytest.MonkeyPatch
) -> None:
    references = alike(6)
    method, compared = mutual(inner, references), []
    distances = method._distances
    monkeypatch.setattr(
        method, "_distances", lambda maps, digests: compared.append(len(digests)) or distances(maps, digests)
    )
    images = torch.cat([references[3:4], odd_one(), references[:1]])
    together = scored(method, images)
    assert compared == [1]
    method._numbers = {}  # nothing is known: all are compared
    again = scored(method, images)
    assert torch.allclose(together.anomaly_map, again.anomaly_map, atol=1e-5)
    assert torch.allclose(together.image_score, again.image_score, atol=1e-5)


def test_without_weight_the_other_method_speaks_alone(inner: PromptEnsemble) -> None:
    method = mutual(inner, alike(6), weight=0.0)
    found, alone = scored(method, odd_one()), scored(inner, odd_one())
    assert torch.allclose(found.image_score, alone.image_score, atol=1e-5)
    assert torch.allclose(found.anomaly_map, alone.anomaly_map, atol=1e-5)


def test_the_order_of_the_peers_moves_no_score(inner: PromptEnsemble) -> None:
    forward, backward = mutual(inner, alike(9)), mutual(inner, alike(9).flip(0))
    assert torch.allclose(scored(forward, odd_one()).anomaly_map, scored(backward, odd_one()).anomaly_map, atol=1e-4)


def test_peers_that_are_all_the_same_image_give_numbers(inner: PromptEnsemble) -> None:
    same = alike(1).repeat(6, 1, 1, 1)
    method = mutual(inner, same)
    for image in (same[:1], odd_one(), torch.zeros(1, 3, 64, 64)):
        found = scored(method, image)
        assert torch.isfinite(found.anomaly_map).all()
        assert torch.isfinite(found.image_score).all()


def test_an_image_is_judged_the_same_in_any_batch(inner: PromptEnsemble) -> None:
    method = mutual(inner, alike(8))
    images = torch.cat([alike(2, seed=4), odd_one()])
    together, single = scored(method, images), scored(method, images[2:])
    assert torch.allclose(together.anomaly_map[2:], single.anomaly_map, atol=1e-4)


def test_the_peers_are_named_apart_from_the_model(inner: PromptEnsemble) -> None:
    first, second = mutual(inner, alike(6)), mutual(inner, alike(6, seed=2))
    assert first.name == "ensemble+mutual"
    assert first.fingerprint() == second.fingerprint() != inner.fingerprint()
    assert first.references != second.references
    assert first.references.startswith("6 images (")
    assert mutual(inner, alike(6), share=0.5).fingerprint() != first.fingerprint()


def test_too_few_peers_are_refused(inner: PromptEnsemble) -> None:
    with pytest.raises(UsageError, match=f"at least {LEAST_REFERENCES}.*not with 4"):
        mutual(inner, alike(4))


@pytest.mark.parametrize("options", [{"share": 0}, {"share": 1.1}, {"weight": -1}, {"scale": 0}, {"top_share": 0}])
def test_senseless_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="shares lie above 0"):
        MutualConfig(**options)
