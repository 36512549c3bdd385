"""MultiADS on a tiny random backbone: what must hold whatever the weights are."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from blemish.backbones.catalog import catalog
from blemish.backbones.config import BackboneConfig
from blemish.backbones.model import Clip
from blemish.backbones.tokenizer import tokenize
from blemish.errors import UsageError
from blemish.language import DefectType, Vocabulary, parse_defects
from blemish.language.checks import MOST_TOKENS
from blemish.methods import naming
from blemish.methods.base import Targets
from blemish.methods.losses import dice, focal
from blemish.methods.multiads import MultiADS, MultiADSConfig, MultiADSTexts, phrases
from blemish.methods.text_cache import TextCache

TINY = BackboneConfig.from_dict(
    {
        "name": "tiny",
        "joint_width": 24,
        "vision": {"image_size": 32, "width": 32, "depth": 4, "heads": 2, "patch_size": 8, "position_grid": 4},
        "text": {"width": 16, "depth": 2, "heads": 2},
    }
)


@pytest.fixture(scope="module")
def backbone() -> Clip:
    torch.manual_seed(0)
    clip = Clip(TINY)
    torch.nn.init.normal_(clip.text.token_embedding.weight)
    return clip


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


DEFECTS = parse_defects("scratch, hole")


def method_with(backbone: Clip, **options: Any) -> MultiADS:
    torch.manual_seed(2)
    return MultiADS(backbone, MultiADSConfig(temperature=0.1, **options))


def texts_of(method: MultiADS, vocabulary: Vocabulary = DEFECTS) -> MultiADSTexts:
    texts = method.encode_texts(vocabulary)
    assert isinstance(texts, MultiADSTexts)
    return texts


def targets() -> Targets:
    mask = torch.zeros(3, 32, 32)
    mask[0, 4:20, 9:15] = 1
    return Targets(torch.tensor([1, 0, 0]), mask, type_id=torch.tensor([2, 0, 0]))


def test_only_the_adapters_are_trained() -> None:
    with torch.device("meta"):
        method = MultiADS(Clip(catalog()["ViT-L-14-336"].config))
    assert sum(part.numel() for part in method.trained_parts().values()) == 3_148_800


def test_there_are_10_phrases_for_normal_6_for_a_type_and_35_templates() -> None:
    normal, typed = phrases("normal"), phrases("typed", ["dent"])
    assert (len(set(normal)), len(set(typed))) == (350, 210)
    assert all("{}" in text for text in normal + typed)
    assert all("dent" in text and "{defect}" not in text for text in typed)


def test_the_longest_wording_that_a_vocabulary_takes_fits_into_every_phrase() -> None:
    longest = " ".join(["crack"] * MOST_TOKENS)
    tokenize([text.replace("{}", "object") for text in phrases("typed", [longest])])
    tokenize([text.replace("{}", "object") for text in naming.phrases("typed", DefectType(longest))])


def test_a_text_is_the_normalised_mean_of_its_normalised_phrases(backbone: Clip) -> None:
    method = method_with(backbone, object_name="bottle")
    ids = torch.from_numpy(tokenize([text.replace("{}", "bottle") for text in phrases("typed", ["hole"])]))
    with torch.inference_mode():
        encoded = F.normalize(backbone.text.encode(ids), dim=-1).mean(0)
        assert torch.allclose(texts_of(method).states[2], F.normalize(encoded, dim=-1), atol=1e-5)


def test_all_words_of_a_type_take_part_where_asked_for(backbone: Clip) -> None:
    dent = Vocabulary((DefectType("dent", ("dimple",), "A hollow in the sheet."),))
    one, every = MultiADS(backbone), MultiADS(backbone, MultiADSConfig(words="all"))
    assert not torch.allclose(texts_of(one, dent).states, texts_of(every, dent).states, atol=1e-4)
    name = Vocabulary((DefectType("dent"),))
    assert torch.allclose(texts_of(one, name).states, texts_of(every, name).states)


@pytest.mark.parametrize("image_score", ["top3", "global+map", "global"])
@pytest.mark.parametrize("softmax", ["before", "after"])
def test_scores_have_the_promised_shapes_and_ranges(
    backbone: Clip, images: Tensor, image_score: str, softmax: str
) -> None:
    method = method_with(backbone, image_score=image_score, softmax=softmax)
    with torch.inference_mode():
        features = method.encode(images)
        texts = texts_of(method)
        scores, maps = method.score(features, texts), method.maps(features, texts, size=(32, 32))
    assert scores.type_maps.shape == (3, 2, 4, 4)
    for tensor in (scores.image_score, scores.anomaly_map, scores.type_maps, scores.type_scores):
        assert 0 <= tensor.min() <= tensor.max() <= 1
    assert torch.allclose(scores.anomaly_map, 1 - maps[:, :, 0].mean(1), atol=1e-5)
    assert torch.allclose(maps.sum((1, 2)), torch.full((3, 32, 32), 4.0), atol=1e-5)
    assert torch.allclose(scores.type_scores.sum(1), scores.image_score, atol=1e-6)
    whole = 1 - (features.global_feature @ texts.states.T / 0.1).softmax(1)[:, 0]
    pixels = scores.anomaly_map.flatten(1)
    expected = {
        "top3": pixels.sort(1, descending=True).values[:, :3].mean(1),
        "global+map": (whole + pixels.amax(1)) / 2,
        "global": whole,
    }
    assert torch.allclose(scores.image_score, expected[image_score], atol=1e-6)


def test_the_order_of_names_only_orders_the_results(backbone: Clip, images: Tensor) -> None:
    method = method_with(backbone)
    texts = [texts_of(method, parse_defects(names)) for names in ("scratch, hole", "hole, scratch")]
    with torch.inference_mode():
        one, other = (method.score(method.encode(images), asked) for asked in texts)
    assert torch.allclose(one.type_maps, other.type_maps.flip(1), atol=1e-5)
    assert torch.allclose(one.anomaly_map, other.anomaly_map, atol=1e-5)


def test_features_can_be_kept_and_no_option_changes_them(backbone: Clip, images: Tensor) -> None:
    one, other = method_with(backbone), method_with(backbone, image_score="global", softmax="before")
    assert one.worth_caching
    assert one.frozen_key() == other.frozen_key()
    with torch.inference_mode():
        before = one.encode(images)
        one.load_trained({name: torch.zeros_like(part) for name, part in one.trained_parts().items()})
        after = one.encode(images)
    assert all(torch.equal(a, b) for a, b in zip(before.levels, after.levels, strict=True))


@pytest.mark.parametrize("with_dice", [True, False])
def test_the_loss_is_the_mean_over_levels_of_focal_and_dice(backbone: Clip, images: Tensor, with_dice: bool) -> None:
    method = method_with(backbone, dice=with_dice)
    truth = targets()
    assert truth.type_id is not None
    with torch.no_grad():
        features = method.encode(images)
    losses = method.loss(features, truth, DEFECTS)
    with torch.inference_mode():
        levels = method.maps(features, texts_of(method), size=(32, 32)).unbind(1)
        classes = (truth.mask * truth.type_id[:, None, None]).long()
        by_level = [focal(p, classes) + (dice(p[:, 1:].sum(1), truth.mask) if with_dice else 0) for p in levels]
        expected = torch.stack(by_level).mean() / (2 if with_dice else 1)
    assert torch.allclose(losses.total, expected, rtol=1e-4)
    losses.total.backward()
    assert all(part.grad is not None for part in method.trained_parts().values())


def test_a_training_encodes_texts_once(backbone: Clip, images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    method, cache = method_with(backbone), TextCache()
    asked: list[int] = []
    encode = method._encode
    monkeypatch.setattr(method, "_encode", lambda texts: asked.append(len(texts)) or encode(texts))
    with torch.no_grad():
        features = method.encode(images)
    optimiser = torch.optim.Adam(method.trained_parts().values(), lr=1e-2)
    seen = []
    for _ in range(5):
        losses = method.loss(features, targets(), DEFECTS, cache=cache)
        optimiser.zero_grad()
        losses.total.backward()
        optimiser.step()
        seen.append(float(losses.total.detach()))
    assert asked == [350, 210, 210]
    assert seen[-1] < seen[0]
    cache = TextCache()
    method.encode_texts(DEFECTS, cache=cache)
    method.encode_texts(DEFECTS, cache=cache)
    assert asked == 2 * [350, 210, 210]
    losses = method.loss(features, targets(), DEFECTS, cache=cache)  # texts that were encoded in inference mode
    losses.total.backward()


@pytest.mark.parametrize("options", [{"temperature": 0.0}, {"typing_share": 0.0}, {"object_name": " "}])
def test_senseless_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        MultiADSConfig(**options)
