"""APRIL-GAN on a tiny random backbone: what must hold whatever the weights are."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tiny import TINY, random_images, tiny_backbone
from torch import Tensor

from blemish.backbones.catalog import catalog
from blemish.backbones.config import BackboneConfig
from blemish.backbones.model import Clip
from blemish.errors import ModelError, UsageError
from blemish.language import parse_defects
from blemish.methods.aprilgan import AprilGAN, AprilGANConfig, AprilGANTexts, phrases
from blemish.methods.base import Features, Scores, Targets
from blemish.methods.losses import dice, focal
from blemish.methods.text_cache import TextCache

VOCABULARY = parse_defects("scratch, hole")


@pytest.fixture(scope="module")
def backbone() -> Clip:
    return tiny_backbone()


def method_with(backbone: Clip, **options: Any) -> AprilGAN:
    torch.manual_seed(2)
    return AprilGAN(backbone, AprilGANConfig(**{"temperature": 0.1, **options}))


def texts_of(method: AprilGAN) -> AprilGANTexts:
    texts = method.encode_texts(VOCABULARY)
    assert isinstance(texts, AprilGANTexts)
    return texts


@torch.inference_mode()
def scores_of(method: AprilGAN, images: Tensor) -> Scores:
    return method.score(method.encode(images), texts_of(method))


def targets(*products: str) -> Targets:
    mask = torch.zeros(3, 64, 64)
    mask[0, 8:40, 10:25] = 1
    return Targets(torch.tensor([1, 0, 0]), mask, products=products)


@pytest.mark.parametrize(
    ("name", "count"),
    [("ViT-L-14-336", 3_148_800), ("ViT-B-16", 1_574_912), ("ViT-B-32", 1_574_912), ("ViT-B-16-plus-240", 2_296_320)],
)
def test_only_the_adapters_are_trained(name: str, count: int) -> None:
    with torch.device("meta"):
        method = AprilGAN(Clip(catalog()[name].config))
    assert sum(part.numel() for part in method.trained_parts().values()) == count
    assert len(method.trained_parts()) == 8


def test_the_adapters_of_a_vit_h_14_have_the_published_size() -> None:
    huge = {
        "name": "ViT-H-14",
        "joint_width": 1024,
        "vision": {"image_size": 224, "width": 1280, "depth": 32, "heads": 16, "patch_size": 14, "position_grid": 16},
        "text": {"width": 1024, "depth": 24, "heads": 16},
    }
    with torch.device("meta"):
        method = AprilGAN(Clip(BackboneConfig.from_dict(huge)))
    assert sum(part.numel() for part in method.trained_parts().values()) == 5_246_976


def test_there_are_245_normal_and_175_abnormal_phrases() -> None:
    assert (len(set(phrases("normal"))), len(set(phrases("abnormal")))) == (245, 175)
    assert all(text.endswith(".") and "{}" in text for text in (*phrases("normal"), *phrases("abnormal")))


def test_scores_are_in_0_to_1_and_types_share_them(backbone: Clip) -> None:
    for method in (method_with(backbone), method_with(backbone).with_references([random_images(2)])):
        found = scores_of(method, random_images())
        assert found.anomaly_map.shape == (3, 64, 64)
        assert found.type_maps.shape == (3, 2, 8, 8)
        for values in (found.image_score, found.anomaly_map, found.type_scores, found.type_maps):
            assert values.isfinite().all()
            assert 0 <= float(values.min()) <= float(values.max()) <= 1
        assert torch.allclose(found.type_scores.sum(1), found.image_score, atol=1e-6)


def test_training_moves_the_map_and_not_the_zero_shot_image_score(backbone: Clip) -> None:
    method, images = method_with(backbone), random_images()
    before = scores_of(method, images)
    with torch.no_grad():
        features = method.encode(images)
    optimiser = torch.optim.Adam(method.trained_parts().values(), lr=0.01)
    first = float(method.loss(features, targets(), VOCABULARY).total.detach())
    for _ in range(5):
        optimiser.zero_grad()
        method.loss(features, targets(), VOCABULARY).total.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    after = scores_of(method, images)
    assert float(method.loss(features, targets(), VOCABULARY).total.detach()) < first
    assert torch.equal(after.image_score, before.image_score)
    assert not torch.allclose(after.anomaly_map, before.anomaly_map, atol=1e-3)
    assert all(part.grad is None for part in method.backbone.parameters())


def test_the_loss_is_the_sum_over_levels_of_focal_and_dice_of_abnormal(backbone: Clip) -> None:
    method = method_with(backbone)
    with torch.no_grad():
        features, states = method.encode(random_images()), texts_of(method).states
        truth, expected = targets(), 0.0
        for logits in method.logits(method.adapted(features), states, features.grid):
            both = F.interpolate(logits, (64, 64), mode="bilinear", align_corners=True).softmax(1)
            expected += float(focal(both, truth.mask > 0.5)) + float(dice(both[:, 1], truth.mask))
        found = method.loss(features, truth, VOCABULARY)
    assert float(found.total) == pytest.approx(expected, rel=1e-6)
    assert float(found.total) == pytest.approx(sum(float(term) for term in found.terms.values()), rel=1e-6)


def test_each_image_is_trained_with_the_prompts_of_its_own_product(backbone: Clip) -> None:
    method = method_with(backbone)
    with torch.no_grad():
        features = method.encode(random_images())
        mixed = method.level_losses(features, targets("bolt", "cable", "bolt"), cache=TextCache())
        by_hand = []
        for row, product in enumerate(("bolt", "cable", "bolt")):
            one = Features(
                features.global_feature[row : row + 1],
                tuple(level[row : row + 1] for level in features.levels),
                features.grid,
            )
            alone = Targets(targets().label[row : row + 1], targets().mask[row : row + 1])
            by_hand.append(method.for_product(product).level_losses(one, alone, cache=TextCache())["dice_abnormal"])
        fixed = method_with(backbone, object_name="nut")
        named = fixed.level_losses(features, targets("bolt", "cable", "bolt"), cache=TextCache())
        unnamed = fixed.level_losses(features, targets(), cache=TextCache())
    assert torch.allclose(mixed["dice_abnormal"], torch.stack(by_hand).mean(0), atol=1e-6)
    assert not torch.allclose(mixed["dice_abnormal"], named["dice_abnormal"], atol=1e-4)
    assert torch.equal(named["dice_abnormal"], unnamed["dice_abnormal"])


def test_images_without_a_mask_teach_nothing(backbone: Clip) -> None:
    method, truth = method_with(backbone), targets()
    features = method.encode(random_images())
    drawn = Targets(truth.label, truth.mask, has_mask=torch.tensor([True, False, True]))
    rest = Features(features.global_feature[::2], tuple(level[::2] for level in features.levels), features.grid)
    expected = method.loss(rest, Targets(truth.label[::2], truth.mask[::2]), VOCABULARY).total.item()
    assert method.loss(features, drawn, VOCABULARY).total.item() == pytest.approx(expected, rel=1e-6)
    nothing = Targets(truth.label, truth.mask, has_mask=torch.zeros(3, dtype=torch.bool))
    total = method.loss(features, nothing, VOCABULARY).total
    total.backward()  # type: ignore[no-untyped-call]
    assert total.item() == 0


def test_another_activation_is_another_model_on_the_same_weights(backbone: Clip) -> None:
    exact = method_with(backbone, activation="gelu")
    assert exact.backbone.config.vision.activation == exact.backbone.config.text.activation == "gelu"
    assert backbone.config.vision.activation == "quick_gelu"
    ours, theirs = dict(exact.backbone.named_parameters()), dict(backbone.named_parameters())
    assert all(ours[name] is theirs[name] for name in theirs)
    assert method_with(backbone, activation="quick_gelu").backbone is backbone
    before, after = (scores_of(method, random_images()) for method in (method_with(backbone), exact))
    assert not torch.allclose(before.image_score, after.image_score, atol=1e-4)
    assert exact.fingerprint() != method_with(backbone).fingerprint()
    assert exact.frozen_key() != method_with(backbone).frozen_key()


def test_the_memory_holds_raw_tokens_of_the_chosen_levels(backbone: Clip) -> None:
    method = method_with(backbone, few_shot_levels=(2,))
    with_memory = method.with_references(random_images(2).split(1))
    assert with_memory.memory is not None
    assert [tuple(level.shape) for level in with_memory.memory.levels] == [(128, 32)]
    with torch.inference_mode():
        seen = backbone.image(random_images(2), levels=[2]).levels[2][:, 1:]
        same = with_memory.distance_map(with_memory.encode(random_images(2)[1:]))
    assert torch.allclose(with_memory.memory.levels[0], F.normalize(seen.flatten(0, 1), dim=-1), atol=1e-6)
    assert float(same.abs().max()) <= 1e-6
    assert with_memory.adapters is method.adapters


def test_levels_of_the_memory_need_not_be_those_of_the_adapters(backbone: Clip) -> None:
    levels = BackboneConfig.from_dict(
        {
            "name": "tiny",
            "joint_width": 24,
            "vision": {"image_size": 64, "width": 32, "depth": 4, "heads": 2, "patch_size": 8, "position_grid": 8},
            "text": {"width": 32, "depth": 4, "heads": 2},
            "levels": [3, 1],
        }
    )
    clip = Clip(levels)
    clip.load_state_dict(backbone.state_dict())
    method = method_with(clip, few_shot_levels=(4, 1)).with_references([random_images(2)])
    with torch.inference_mode():
        features, seen = method.encode(random_images()), clip.image(random_images(), levels=[1, 3, 4]).levels
        assert all(torch.allclose(a, seen[b][:, 1:]) for a, b in zip(method.compared(features), (4, 1), strict=True))
        assert all(torch.allclose(a, seen[b][:, 1:]) for a, b in zip(features.levels[:2], (3, 1), strict=True))
    assert scores_of(method, random_images()).anomaly_map.isfinite().all()


def test_scaled_over_the_test_set_an_image_depends_on_the_others_and_by_default_it_does_not(backbone: Clip) -> None:
    images = random_images()
    fixed = method_with(backbone).with_references([random_images(2).flip(-1)])
    alone = torch.cat([scores_of(fixed, image[None]).image_score for image in images])
    assert torch.allclose(alone, scores_of(fixed, images).image_score, atol=1e-6)
    released = method_with(backbone, map_scale="test-set").with_references([random_images(2).flip(-1)])
    together, zero = scores_of(released, images), scores_of(method_with(backbone), images)
    part = 2 * together.image_score - zero.image_score
    assert (float(part.min()), float(part.max())) == pytest.approx((0, 1), abs=1e-6)
    assert scores_of(released, images[:1]).image_score.isfinite().all()


def test_references_that_do_not_suit_are_refused(backbone: Clip) -> None:
    with pytest.raises(UsageError, match="'aprilgan' compares with good images of the product: give at least one"):
        method_with(backbone).with_references([])
    with pytest.raises(UsageError, match=r"takes reference images \[b, 3, 64, 64\], not \[1, 3, 64, 48\]"):
        method_with(backbone).with_references([torch.zeros(1, 3, 64, 48)])


@pytest.mark.parametrize("options", [{"few_shot_levels": (5,)}, {"few_shot_levels": ()}, {"temperature": 0.0}])
def test_options_that_make_no_sense_are_refused(backbone: Clip, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        method_with(backbone, **options)


def released_state(levels: int = len(TINY.levels)) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(5)
    state = {}
    for number in range(levels):
        state[f"trainable_linearlayer.fc.{number}.weight"] = torch.randn(24, 32, generator=generator)
        state[f"trainable_linearlayer.fc.{number}.bias"] = torch.randn(24, generator=generator)
    return state


def test_the_authors_checkpoints_become_adapters_on_exact_gelu(backbone: Clip) -> None:
    release = AprilGAN.from_release(released_state())
    assert release is not None
    assert release.options == {"activation": "gelu"}
    method = method_with(backbone, **release.options)
    method.load_trained(release.parts)
    assert torch.equal(method.adapters[1].weight, released_state()["trainable_linearlayer.fc.1.weight"])


def test_checkpoints_that_do_not_fit_are_refused_in_one_line(backbone: Clip) -> None:
    assert AprilGAN.from_release({"prompt_learner.ctx": torch.zeros(2)}) is None
    state = released_state()
    del state["trainable_linearlayer.fc.2.bias"]
    with pytest.raises(ModelError, match=r"lacks trainable_linearlayer\.fc\.2\.bias"):
        AprilGAN.from_release(state)
    with pytest.raises(ModelError, match=r"holds an unknown part, other\.weight"):
        AprilGAN.from_release({**released_state(), "other.weight": torch.zeros(1)})
    release = AprilGAN.from_release(released_state(levels=3))
    assert release is not None
    with pytest.raises(ModelError, match=r"lacks adapters\.3\.weight of the method 'aprilgan'"):
        method_with(backbone).load_trained(release.parts)
    wide = {name: torch.zeros(40, *value.shape[1:]) for name, value in released_state().items()}
    release = AprilGAN.from_release(wide)
    assert release is not None
    with pytest.raises(ModelError, match=r"adapters\.0\.weight is \[40, 32\] in the checkpoint, but \[24, 32\]"):
        method_with(backbone).load_trained(release.parts)
