"""The prompt ensemble on a tiny random backbone: what must hold whatever the weights are."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny import TINY, random_images, tiny_backbone

from blemish import methods
from blemish.backbones.model import Clip
from blemish.errors import UnknownNameError, UsageError
from blemish.language import DefectType, general, parse_defects
from blemish.methods.base import Targets
from blemish.methods.ensemble import EnsembleConfig, PromptEnsemble
from blemish.methods.naming import phrases


@pytest.fixture(scope="module")
def backbone() -> Clip:
    return tiny_backbone()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return random_images()


def scored(backbone: Clip, images: torch.Tensor, defects: str, **options: float) -> methods.base.Scores:  # type: ignore[name-defined]
    method = PromptEnsemble(backbone, EnsembleConfig(**options))
    with torch.inference_mode():
        return method.score(method.encode(images), method.encode_texts(parse_defects(defects)))


def test_scores_have_the_promised_shapes_and_ranges(backbone: Clip, images: torch.Tensor) -> None:
    scores = scored(backbone, images, "scratch, hole")
    assert scores.types == ("scratch", "hole")
    assert scores.image_score.shape == (3,)
    assert scores.anomaly_map.shape == (3, 8, 8)
    assert scores.type_maps.shape == (3, 2, 8, 8)
    assert scores.type_scores.shape == (3, 2)
    for tensor in (scores.image_score, scores.anomaly_map, scores.type_maps, scores.type_scores):
        assert tensor.min() >= 0
        assert tensor.max() <= 1


def test_types_share_the_anomaly_so_that_names_never_move_the_score(backbone: Clip, images: torch.Tensor) -> None:
    few, many = scored(backbone, images, "scratch"), scored(backbone, images, "hole, stain, loose screw")
    assert torch.allclose(few.image_score, many.image_score)
    assert torch.allclose(few.anomaly_map, many.anomaly_map)
    assert torch.allclose(many.type_maps.sum(1), many.anomaly_map, atol=1e-6)
    assert torch.allclose(many.type_scores.sum(1), many.image_score, atol=1e-6)


def test_the_order_of_names_only_orders_the_results(backbone: Clip, images: torch.Tensor) -> None:
    forward, backward = scored(backbone, images, "scratch, hole"), scored(backbone, images, "hole, scratch")
    assert torch.allclose(forward.type_maps, backward.type_maps.flip(1), atol=1e-6)


def test_an_image_scores_the_same_alone_and_in_a_batch(backbone: Clip, images: torch.Tensor) -> None:
    together, alone = scored(backbone, images, "scratch"), scored(backbone, images[1:2], "scratch")
    assert torch.allclose(together.image_score[1:2], alone.image_score, atol=1e-5)


def test_the_image_score_is_the_stated_mixture(backbone: Clip, images: torch.Tensor) -> None:
    whole, places = (scored(backbone, images, "hole", global_weight=weight) for weight in (1.0, 0.0))
    half = scored(backbone, images, "hole", global_weight=0.5)
    assert torch.allclose(half.image_score, (whole.image_score + places.image_score) / 2, atol=1e-6)
    top = scored(backbone, images, "hole", global_weight=0.0, top_share=1 / 64)
    assert torch.allclose(top.image_score, top.anomaly_map.flatten(1).max(1).values)


def test_without_value_value_blocks_the_ordinary_patches_are_scored(images: torch.Tensor) -> None:
    torch.manual_seed(0)
    clip = Clip(replace(TINY, value_value_depth=0))
    scores = scored(clip, images, "hole")
    assert scores.anomaly_map.shape == (3, 8, 8)
    assert scores.anomaly_map.std() > 0


def test_phrases_name_the_defect_and_its_synonyms_in_every_frame() -> None:
    texts = phrases("typed", DefectType("dent", ("dimple",)))
    assert "{} with a dent" in texts
    assert "a photo of a dimple on the {}" in texts
    assert len(texts) == len(set(texts))
    assert all("{defect}" not in text for text in texts)


def test_an_unknown_method_suggests_the_nearest(backbone: Clip) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'ensemble'"):
        methods.build("ensembel", backbone)


def test_a_method_without_training_says_so(backbone: Clip, images: torch.Tensor) -> None:
    method = methods.build("ensemble", backbone)
    with pytest.raises(UsageError, match="needs no training"):
        method.loss(method.encode(images), Targets(torch.zeros(3), torch.zeros(3, 64, 64)), general())
