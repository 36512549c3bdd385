"""WinCLIP on a tiny random backbone: what must hold whatever the weights are."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny import random_images, tiny_backbone
from torch import Tensor

from blemish.backbones.catalog import catalog
from blemish.backbones.model import Clip
from blemish.errors import UsageError
from blemish.language import parse_defects
from blemish.methods import build
from blemish.methods.base import Features, Scores
from blemish.methods.winclip import RELEASES, WinCLIP, WinCLIPConfig, WinCLIPTexts, phrases


@pytest.fixture(scope="module")
def backbone() -> Clip:
    return tiny_backbone()


def method_with(backbone: Clip, **options: Any) -> WinCLIP:
    return WinCLIP(backbone, WinCLIPConfig(**options))


def texts_of(method: WinCLIP, defects: str = "scratch, hole") -> WinCLIPTexts:
    texts = method.encode_texts(parse_defects(defects))
    assert isinstance(texts, WinCLIPTexts)
    return texts


@torch.inference_mode()
def scores_of(method: WinCLIP, images: Tensor, defects: str = "scratch, hole") -> Scores:
    return method.score(method.encode(images), texts_of(method, defects))


def test_the_backbone_of_the_catalogue_has_the_published_parameters_and_nothing_is_trained() -> None:
    with torch.device("meta"):
        clip = Clip(catalog()["ViT-B-16-plus-240"].config)
    assert sum(part.numel() for part in clip.parameters()) == 208_377_345
    assert sum(part.numel() for part in clip.image.parameters()) == 117_213_824
    assert not WinCLIP(clip).trained_parts()


def test_there_are_22_templates_7_normal_and_4_abnormal_states() -> None:
    paper, anomalib = WinCLIPConfig(), WinCLIPConfig(templates="anomalib", full_stop=True)
    for config, normal, abnormal in ((paper, 154, 88), (anomalib, 147, 84)):
        assert (len(phrases("normal", config)), len(phrases("abnormal", config))) == (normal, abnormal)
    assert len(set(phrases("normal", paper))) == 154
    assert len(set(phrases("normal", anomalib))) == 140  # one template stands twice
    assert all(
        text.endswith(".") == config.full_stop for config in (paper, anomalib) for text in phrases("normal", config)
    )


def test_scores_are_in_0_to_1_and_the_map_is_of_the_input_size(backbone: Clip) -> None:
    for options in ({}, *RELEASES.values()):
        for good in (None, random_images(2)):
            method = method_with(backbone, **options)
            method = method if good is None else method.with_references([good])
            found = scores_of(method, random_images())
            assert found.anomaly_map.shape == (3, 64, 64)
            assert found.type_maps.shape == (3, 2, 8, 8)
            for values in (found.image_score, found.anomaly_map, found.type_scores, found.type_maps):
                assert values.isfinite().all()
                assert 0 <= float(values.min()) <= float(values.max()) <= 1


def test_names_of_types_move_no_score(backbone: Clip) -> None:
    one, other = (scores_of(method_with(backbone), random_images(), defects) for defects in ("scratch", "hole, stain"))
    assert torch.equal(one.image_score, other.image_score)
    assert torch.equal(one.anomaly_map, other.anomaly_map)
    assert torch.allclose(other.type_scores.sum(1), other.image_score, atol=1e-6)


def test_an_image_in_a_batch_scores_as_alone(backbone: Clip) -> None:
    method, images = method_with(backbone).with_references([random_images(2)]), random_images()
    together = scores_of(method, images)
    for row in range(len(images)):
        alone = scores_of(method, images[row : row + 1])
        assert torch.allclose(alone.anomaly_map[0], together.anomaly_map[row], atol=1e-6)
        assert torch.allclose(alone.image_score[0], together.image_score[row], atol=1e-6)


def test_the_map_is_never_above_the_largest_window(backbone: Clip) -> None:
    method = method_with(backbone, whole_image=False, scales=(2,))
    texts = texts_of(method)
    with torch.inference_mode():
        features = method.encode(random_images())
        _, found = method.zero_shot(features, texts)
        windows = method.probability(features.levels[1], texts.states)
    assert (found.amax((1, 2)) <= windows.amax(1) + 1e-6).all()
    assert (found.amin((1, 2)) >= windows.amin(1) - 1e-6).all()


def test_an_image_among_the_references_is_at_distance_0_everywhere(backbone: Clip) -> None:
    images = random_images()
    method = method_with(backbone).with_references([images])
    with torch.inference_mode():
        assert float(method.distance_map(method.encode(images[1:2])).abs().max()) <= 1e-6
        assert float(method.distance_map(method.encode(images.flip(-1))).amin((1, 2)).min()) > 1e-4


def test_references_are_a_new_method_and_leave_the_old_one_alone(backbone: Clip) -> None:
    method = method_with(backbone)
    before = scores_of(method, random_images())
    with_two, with_one = (
        method.with_references([random_images(2)]),
        method.with_references(random_images(2)[:1].split(1)),
    )
    assert torch.equal(scores_of(method, random_images()).anomaly_map, before.anomaly_map)
    assert method.good_references == ""
    assert with_two.good_references.startswith("2 good images (")
    assert with_one.good_references.startswith("1 good images (")
    assert with_two.fingerprint() == method.fingerprint()  # `good_references` says which images they are


def test_references_are_the_same_in_whatever_batches_they_come(backbone: Clip) -> None:
    images = random_images()
    one, other = (method_with(backbone).with_references(images.split(size)) for size in (1, 2))
    assert one.good_references == other.good_references
    assert torch.allclose(scores_of(one, images.flip(0)).anomaly_map, scores_of(other, images.flip(0)).anomaly_map)


def test_references_that_do_not_suit_are_refused(backbone: Clip) -> None:
    with pytest.raises(UsageError, match="'winclip' compares with good images of the product: give at least one"):
        method_with(backbone).with_references([])
    with pytest.raises(UsageError, match=r"takes reference images \[b, 3, 64, 64\], not \[2, 3, 32, 32\]"):
        method_with(backbone).with_references([torch.zeros(2, 3, 32, 32)])
    with pytest.raises(UsageError, match="'ensemble' has no memory of good images"):
        build("ensemble", backbone).with_references([random_images()])


def test_the_products_name_stands_in_the_prompts(backbone: Clip) -> None:
    method = method_with(backbone)
    assert method.product == "object"
    nut = method.for_product("metal_nut")
    assert nut.product == "metal_nut"
    assert not torch.equal(texts_of(nut).states, texts_of(method).states)
    assert method_with(backbone, underscores="blank").for_product("metal_nut").product == "metal nut"
    assert method_with(backbone, object_name="bolt").for_product("metal_nut").product == "bolt"
    good = method.with_references([random_images(2)])
    assert good.for_product("metal_nut").good_references == good.good_references


def test_features_serve_every_text_and_every_reference(backbone: Clip) -> None:
    with torch.inference_mode():
        features = method_with(backbone).encode(random_images())
        assert [tuple(level.shape) for level in features.levels] == [(3, 64, 32), (3, 49, 24), (3, 36, 24)]
        other = method_with(backbone, temperature=0.01, object_name="cable").with_references([random_images(2)])
        kept = Features(features.global_feature, features.levels, features.grid)
        expected = scores_of(other, random_images())
        assert torch.equal(other.score(kept, texts_of(other)).anomaly_map, expected.anomaly_map)
    assert method_with(backbone).frozen_key() == other.frozen_key()
    assert method_with(backbone, patch_tokens="raw").frozen_key() != other.frozen_key()


def test_nothing_can_be_trained(backbone: Clip) -> None:
    with pytest.raises(UsageError, match="needs no training"):
        method_with(backbone).loss(None, None, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{"temperature": 0.0}, {"scales": ()}, {"scales": (2, 2)}, {"scales": (0,)}])
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        WinCLIPConfig(**options)


def test_windows_larger_than_the_grid_are_refused_at_once(backbone: Clip) -> None:
    with pytest.raises(UsageError, match="windows of 9 x 9 patches do not fit into a grid of 8 x 8"):
        method_with(backbone, scales=(2, 9))


def test_only_a_convolutional_stem_is_remarked_on(backbone: Clip) -> None:
    assert method_with(backbone).remarks() == ()
