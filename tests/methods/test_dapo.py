"""DAPO on a tiny random backbone: what must hold whatever the weights are, and what the golden values cannot show."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from blemish import methods
from blemish.backbones.catalog import catalog
from blemish.backbones.model import Clip
from blemish.errors import UnknownNameError, UsageError
from blemish.io.codec import to_dict
from blemish.language import general, parse_defects
from blemish.methods.dapo import DAPO, VARIANTS, DAPOConfig
from blemish.methods.typed import enlarge_maps, type_scores
from methods.tiny_dapo import method_with, texts_of, tiny_clip, tiny_images


@pytest.fixture(scope="module")
def backbone() -> Clip:
    return tiny_clip()


@pytest.fixture(scope="module")
def images() -> Tensor:
    return tiny_images()


# what the paper's sizes come to


@pytest.fixture
def vit_large() -> Clip:
    """ViT-L/14 at 336 px, shapes only: nothing is allocated."""
    with torch.device("meta"):
        return Clip(catalog()["ViT-L-14-336"].config)


def test_the_trained_parts_of_vit_l_14_336_have_3_360_768_parameters(vit_large: Clip) -> None:
    with torch.device("meta"):
        parts = DAPO(vit_large).trained_parts()
    sizes = {name: part.numel() for name, part in parts.items()}
    assert sizes["normal_context"] + sizes["abnormal_context"] == 2 * 10 * 5 * 768
    assert sizes["text_tokens"] == 12 * 4 * 768
    assert sizes["image_tokens"] == 24 * 4 * 1024
    assert sum(size for name, size in sizes.items() if name.startswith("adapters.")) == 4 * (1024 * 768 + 768)
    assert sum(sizes.values()) == 3_360_768
    assert tuple(vit_large.config.levels) == (6, 12, 18, 24)


def test_first_tokens_are_drawn_as_words_are_spread_and_visual_ones_by_the_rule(backbone: Clip) -> None:
    method = method_with(backbone, groups=400, image_tokens=400)
    table = backbone.text.token_embedding.weight
    drawn = method.abnormal_context.detach().flatten(0, 1)
    assert torch.allclose(drawn.mean(0), table.mean(0), atol=0.2)
    assert torch.allclose(drawn.std(0), table.std(0), rtol=0.2)
    assert method.image_tokens is not None
    bound = math.sqrt(6 / (3 * 8 * 8 + 32))
    assert 0.98 * bound < float(method.image_tokens.detach().abs().max()) <= bound


# maps


def test_scores_have_the_promised_shapes_and_ranges(backbone: Clip, images: Tensor) -> None:
    method = method_with(backbone)
    with torch.inference_mode():
        scores = method.score(method.encode(images), texts_of(method))
    assert scores.types == ("scratch", "hole", "loose screw")
    assert scores.image_score.shape == (3,)
    assert scores.anomaly_map.shape == (3, 32, 32)
    assert scores.type_maps.shape == (3, 3, 4, 4)
    assert scores.type_scores.shape == (3, 3)
    for tensor in (scores.image_score, scores.anomaly_map, scores.type_maps, scores.type_scores):
        assert tensor.min() >= 0
        assert tensor.max() <= 1
    assert torch.allclose(scores.type_scores.sum(1), scores.image_score, atol=1e-6)


@pytest.mark.parametrize("size", [None, (32, 32)])
@pytest.mark.parametrize("softmax", ["before", "after"])
def test_maps_of_all_types_and_normal_add_up_to_the_number_of_levels(
    backbone: Clip, images: Tensor, softmax: str, size: tuple[int, int] | None
) -> None:
    method = method_with(backbone, softmax=softmax)
    with torch.inference_mode():
        maps = method.maps(method.encode(images), texts_of(method), size=size)
    assert maps.shape == (3, 4, 4, *(size or (4, 4)))  # [B, L, 1 + T, h, w]
    assert torch.allclose(maps.sum((1, 2)), torch.full(maps.sum((1, 2)).shape, 4.0), atol=1e-5)


@pytest.mark.parametrize("softmax", ["before", "after"])
def test_the_anomaly_map_is_the_mean_over_levels_of_what_is_not_normal(
    backbone: Clip, images: Tensor, softmax: str
) -> None:
    method = method_with(backbone, softmax=softmax)
    texts = texts_of(method, parse_defects([f"kind {letter}" for letter in "abcdefghijklmnopqrs"]))
    with torch.inference_mode():
        features = method.encode(images)
        scores, maps = method.score(features, texts), method.maps(features, texts, size=(32, 32))
    assert torch.allclose(scores.anomaly_map, 1 - maps[:, :, 0].mean(1), atol=1e-5)
    assert torch.allclose(scores.type_maps, method.maps(features, texts)[:, :, 1:].mean(1), atol=1e-6)


def test_no_score_depends_on_the_order_of_the_vocabulary(backbone: Clip, images: Tensor) -> None:
    method = method_with(backbone)
    texts = [
        texts_of(method, parse_defects(names)) for names in ("scratch, hole, loose screw", "loose screw, hole, scratch")
    ]
    with torch.inference_mode():
        one, other = (method.score(method.encode(images), asked) for asked in texts)
    assert torch.allclose(one.anomaly_map, other.anomaly_map, atol=1e-6)
    assert torch.allclose(one.image_score, other.image_score, atol=1e-6)
    assert torch.allclose(one.type_maps, other.type_maps.flip(1), atol=1e-6)
    assert torch.allclose(one.type_scores, other.type_scores.flip(1), atol=1e-6)


def test_an_image_scores_the_same_alone_and_in_a_batch(backbone: Clip, images: Tensor) -> None:
    method = method_with(backbone)
    with torch.inference_mode():
        texts = texts_of(method)
        together, alone = (method.score(method.encode(batch), texts) for batch in (images, images[1:2]))
    assert torch.allclose(together.anomaly_map[1:2], alone.anomaly_map, atol=1e-5)
    assert torch.allclose(together.type_scores[1:2], alone.type_scores, atol=1e-5)


# scores


@pytest.mark.parametrize("scale", [1 / 0.07, 100.0])
def test_the_temperature_is_a_constant_whatever_clip_s_own_scale_is(
    backbone: Clip, images: Tensor, scale: float
) -> None:
    method = method_with(backbone)
    with torch.inference_mode():
        before = backbone.logit_scale.clone()
        backbone.logit_scale.fill_(math.log(scale))
        features = method.encode(images)
        texts = texts_of(method)
        abnormal = F.normalize(texts.states[1:].mean(0), dim=-1)
        expected = (
            torch.stack([features.global_feature @ texts.states[0], features.global_feature @ abnormal], dim=1) / 0.07
        )
        assert torch.allclose(method.image_logits(features, texts.states), expected, atol=1e-5)
        score = method.score(features, texts).image_score
        backbone.logit_scale.copy_(before)
    assert torch.allclose(score, expected.softmax(1)[:, 1], atol=1e-6)


def test_the_map_s_maximum_can_stand_beside_cls_in_the_image_score(backbone: Clip, images: Tensor) -> None:
    cls, both = method_with(backbone), method_with(backbone, image_score="cls+map")
    with torch.inference_mode():
        one, other = (method.score(method.encode(images), texts_of(method)) for method in (cls, both))
    assert torch.allclose(other.image_score, (one.image_score + one.anomaly_map.flatten(1).amax(1)) / 2, atol=1e-6)


def test_with_the_built_in_types_the_names_asked_for_move_no_score(backbone: Clip, images: Tensor) -> None:
    few, all_types = method_with(backbone, binary_types="built-in"), method_with(backbone)
    with torch.inference_mode():
        features = few.encode(images)
        one = few.score(features, texts_of(few, parse_defects("scratch, loose screw")))
        other = all_types.score(features, texts_of(all_types, parse_defects(general().names)))
    assert torch.allclose(one.anomaly_map, other.anomaly_map, atol=1e-6)
    assert torch.allclose(one.image_score, other.image_score, atol=1e-6)
    assert torch.allclose(one.type_maps.sum(1), other.type_maps.sum(1), atol=1e-6)
    assert one.types == ("scratch", "loose screw")
    assert (few.scores_depend_on_vocabulary, all_types.scores_depend_on_vocabulary) == (False, True)


def test_adapters_that_start_as_the_projection_make_places_what_the_tower_would(backbone: Clip, images: Tensor) -> None:
    started = method_with(backbone, adapter_start="projection", image_tokens=0)
    with torch.inference_mode():
        seen = backbone.image(images, levels=backbone.config.levels)
        for places, level in zip(started.encode(images).levels, sorted(backbone.config.levels), strict=True):
            stream = seen.levels[level][:, 1:]
            centred = stream - stream.mean(
                -1, keepdim=True
            )  # of standard deviation 1, the tower's own layer norm is exact
            own = backbone.image.project(centred / stream.std(-1, correction=0, keepdim=True))
            assert F.cosine_similarity(places, own, dim=-1).mean() > 0.9
        unit = seen.levels[level] / seen.levels[level].std(-1, correction=0, keepdim=True)
        adapted = started.adapters[-1](unit)
        assert torch.allclose(adapted, backbone.image.project(unit), atol=1e-4)


def test_an_image_is_typed_by_its_most_anomalous_places_by_cls_or_by_both() -> None:
    maps = torch.tensor([[[0.6, 0.1, 0.0], [0.2, 0.0, 0.1]]])  # [B, T, N]: place 0 is the most anomalous
    cosines, image_score = torch.tensor([[0.1, 0.3]]), torch.tensor([0.8])

    def scores(typing: Any) -> Tensor:
        return type_scores(maps, cosines, image_score, typing=typing, temperature=0.1, share=0.3)

    by_cls = torch.tensor([[0.1, 0.3]]).div(0.1).softmax(1)
    assert torch.allclose(scores("places"), 0.8 * torch.tensor([[0.75, 0.25]]))
    assert torch.allclose(scores("cls"), 0.8 * by_cls)
    assert torch.allclose(scores("both"), 0.8 * (torch.tensor([[0.75, 0.25]]) + by_cls) / 2)


def test_with_the_average_type_more_names_do_not_mean_more_anomaly(backbone: Clip, images: Tensor) -> None:
    method = method_with(backbone, binary_map="average")
    with torch.inference_mode():
        features, texts = method.encode(images), texts_of(method, parse_defects("scratch, hole"))
        scores = method.score(features, texts)
        states = torch.stack([texts.states[0], F.normalize(texts.states[1:].mean(0), dim=-1)])
        levels = [(places @ states.T / 0.07).softmax(-1)[..., 1].reshape(3, 1, 4, 4) for places in features.levels]
        expected = torch.stack(levels).mean(0)
        assert torch.allclose(scores.anomaly_map, enlarge_maps(expected, (32, 32))[:, 0], atol=1e-5)
        assert torch.allclose(scores.type_maps.sum(1), expected[:, 0], atol=1e-5)
        repeated = texts.states[[0, 1, 2, 1, 2, 1, 2]]  # the same two types under six names
        more = replace(texts, states=repeated, binary=repeated)
        assert torch.allclose(method.score(features, more).anomaly_map, scores.anomaly_map, atol=1e-5)


# options


def test_a_variant_sets_what_is_not_given_and_a_given_option_wins() -> None:
    assert DAPO.config_from({"variant": "paper"}).normal_anchor == "normal object"
    mixed = DAPO.config_from({"variant": "clean", "causal": False, "normal_anchor": "intact object"})
    assert (mixed.causal, mixed.pooling, mixed.normal_anchor) == (False, "end", "intact object")
    assert DAPO.config_from({"variant": "released"}) == VARIANTS["released"]
    for config in (mixed, *VARIANTS.values()):
        assert DAPO.config_from(to_dict(config)) == config
    assert DAPO.config_from({}) == DAPOConfig() == VARIANTS["clean"]
    assert all(config.variant == name for name, config in VARIANTS.items())


def test_options_of_older_prompts_that_lack_some_take_them_from_their_variant() -> None:
    saved = to_dict(VARIANTS["released"])
    del saved["binary_types"], saved["align_corners"]
    assert DAPO.config_from(saved) == VARIANTS["released"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groups": 0}, "groups must be at least 1"),
        ({"alpha": 1.5}, "alpha lies in 0..1"),
        ({"image_tokens": -1}, "must not be negative"),
        ({"variant": "released", "causal": True}, "add pooling = 'end'"),
        ({"variant": "relaesed"}, "did you mean 'released'"),
        ({"text_depth": 9}, r"text_depth 9 is outside 1\.\.3"),
        ({"image_depth": 0}, r"image_depth 0 is outside 1\.\.4"),
    ],
)
def test_senseless_options_are_refused_in_words(backbone: Clip, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        DAPO(backbone, DAPO.config_from(options))


def test_the_method_is_found_by_name(backbone: Clip) -> None:
    assert isinstance(methods.build("dapo", backbone, {"groups": 2, "variant": "paper"}), DAPO)
    with pytest.raises(UnknownNameError, match="did you mean 'normal_anchor'"):
        methods.build("dapo", backbone, {"normal_anker": "x"})
