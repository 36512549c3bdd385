"""CoOp and CoCoOp on a tiny random backbone: what must hold whatever the weights are, and how releases are read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny import random_images, tiny_backbone
from torch import Tensor

from blemish.backbones.catalog import catalog
from blemish.backbones.config import BackboneConfig
from blemish.backbones.model import Clip
from blemish.errors import ModelError, UsageError
from blemish.language import parse_defects
from blemish.methods.base import Scores, Targets
from blemish.methods.cocoop import CoCoOp, CoCoOpConfig
from blemish.methods.coop import CoOp, CoOpConfig

DEFECTS = parse_defects("scratch, hole")


@pytest.fixture(scope="module")
def backbone() -> Clip:
    return tiny_backbone()


def coop(backbone: Clip, **options: Any) -> CoOp:
    """CoOp with a context far enough from rest to matter."""
    torch.manual_seed(3)
    return spread(CoOp(backbone, CoOpConfig(**options)))


def cocoop(backbone: Clip, **options: Any) -> CoCoOp:
    torch.manual_seed(3)
    method = CoCoOp(backbone, CoCoOpConfig(**options))
    spread(method)
    return method


def spread(method: CoOp) -> CoOp:
    for part in method.trained_parts().values():
        torch.nn.init.normal_(part, std=0.5)
    return method


def scored(method: CoOp, images: Tensor) -> Scores:
    with torch.inference_mode():
        return method.score(method.encode(images), method.encode_texts(DEFECTS))


def targets(count: int = 3) -> Targets:
    mask = torch.zeros(count, 64, 64)
    mask[0, 10:30, 20:40] = 1
    return Targets(torch.tensor([1, 0, 0][:count]), mask)


def shape_of(width: int, joint_width: int) -> BackboneConfig:
    config = catalog()["ViT-B-16"].config
    return replace(config, text=replace(config.text, width=width, heads=width // 64), joint_width=joint_width)


@pytest.mark.parametrize(
    ("width", "shared", "specific", "short", "conditional"),
    [
        (768, 12_288, 24_576, 3_072, 77_616),
        (512, 8_192, 16_384, 2_048, 35_360),
        (640, 10_240, 20_480, 2_560, 54_440),
    ],
)
def test_parameters_are_the_specification_s(
    width: int, shared: int, specific: int, short: int, conditional: int
) -> None:
    with torch.device("meta"):
        clip = Clip(shape_of(width, width))
        built = (
            CoOp(clip),
            CoOp(clip, CoOpConfig(class_specific=True)),
            CoOp(clip, CoOpConfig(context_tokens=4)),
            CoCoOp(clip),
        )
    counts = [sum(part.numel() for part in method.trained_parts().values()) for method in built]
    assert counts == [shared, specific, short, conditional]


@pytest.mark.parametrize("maps", ["plain", "value-value"])
@pytest.mark.parametrize("make", [coop, cocoop])
def test_scores_have_the_promised_shapes_and_ranges(backbone: Clip, make: Any, maps: str) -> None:
    scores = scored(make(backbone, maps=maps), random_images())
    assert scores.types == ("scratch", "hole")
    assert scores.anomaly_map.shape == (3, 64, 64)
    assert scores.type_maps.shape == (3, 2, 8, 8)
    for tensor in (scores.image_score, scores.anomaly_map, scores.type_maps, scores.type_scores):
        assert tensor.min() >= 0
        assert tensor.max() <= 1


@pytest.mark.parametrize("make", [coop, cocoop])
def test_an_image_scores_the_same_alone_and_in_a_batch(backbone: Clip, make: Any) -> None:
    method, images = make(backbone), random_images()
    together = scored(method, images)
    for index in range(len(images)):
        alone = scored(method, images[index : index + 1])
        assert torch.allclose(together.image_score[index], alone.image_score[0], atol=1e-5)
        assert torch.allclose(together.anomaly_map[index], alone.anomaly_map[0], atol=1e-5)


@pytest.mark.parametrize("make", [coop, cocoop])
def test_every_trained_part_gets_a_gradient_and_the_backbone_none(backbone: Clip, make: Any) -> None:
    method = make(backbone)
    method.loss(method.encode(random_images()), targets(), DEFECTS).total.backward()
    for name, part in method.trained_parts().items():
        assert part.grad is not None, name
        assert part.grad.abs().sum() > 0, name
    assert all(part.grad is None for part in method.backbone.parameters())


def test_only_value_value_maps_are_trained_with_pixel_losses(backbone: Clip) -> None:
    plain, trained = coop(backbone), coop(backbone, maps="value-value", local_loss=2.0)
    losses = plain.loss(plain.encode(random_images()), targets(), DEFECTS)
    assert set(losses.terms) == {"image_cross_entropy"}
    losses = trained.loss(trained.encode(random_images()), targets(), DEFECTS)
    local = losses.terms["focal"] + losses.terms["dice_abnormal"] + losses.terms["dice_normal"]
    assert torch.allclose(losses.total, losses.terms["image_cross_entropy"] + 2 * local)


def test_the_meta_network_shifts_all_context_of_both_prompts_alike(backbone: Clip) -> None:
    method = cocoop(backbone)
    shift = torch.randn(2, 32, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        prompts, resting = method.embed_prompts(shift), method.embed_prompts()
    moved = prompts - resting  # [B, 2, 77, W]
    assert torch.allclose(moved[:, :, 1:5], shift[:, None, None].expand(2, 2, 4, 32), atol=1e-6)
    assert not moved[:, :, :1].any()
    assert not moved[:, :, 5:].any()


@pytest.mark.parametrize("make", [coop, cocoop])
def test_every_image_trains_in_the_words_of_its_own_product(backbone: Clip, make: Any) -> None:
    method, products = make(backbone), ("metal_nut", "screw", "metal_nut")
    features = method.encode(random_images())
    together = method._states_of(features, products)
    for row, product in enumerate(products):
        named = method.for_product(product)
        states = named.states(features, named.encode_texts(DEFECTS)).expand(3, -1, -1)
        assert torch.allclose(states[row], together[row], atol=1e-5)
    fixed = make(backbone, object_name="bottle")
    assert fixed.for_product("screw") is fixed
    losses = [fixed.loss(features, replace(targets(), products=named), DEFECTS).total for named in ((), products)]
    assert torch.allclose(*losses)


def test_the_temperature_is_the_backbone_s_own_unless_it_is_given(backbone: Clip) -> None:
    assert coop(backbone).temperature == pytest.approx(float(1 / backbone.logit_scale.exp()))
    assert coop(backbone, temperature=0.5).temperature == 0.5


def test_each_option_changes_what_it_names(backbone: Clip) -> None:
    options: dict[str, tuple[Any, ...]] = {
        "name_position": ("end", "middle", "front"),
        "class_specific": (False, True),
        "maps": ("plain", "value-value"),
        "object_name": ("", "metal_nut"),
        "abnormal_word": ("anomalous", "damaged"),
        "smoothing": (0.0, 1.0),
    }
    for option, values in options.items():
        seen = set()
        for value in values:
            scores = scored(coop(backbone, **{option: value}), random_images())
            seen.add((round(float(scores.image_score.sum()), 5), round(float(scores.anomaly_map.max()), 5)))
        assert len(seen) == len(values), option


def test_options_that_cannot_be_are_refused(backbone: Clip) -> None:
    with pytest.raises(UsageError, match="context_tokens must be at least 1"):
        CoOpConfig(context_tokens=0)
    with pytest.raises(UsageError, match="'a photo of a', 4 tokens, so context_tokens is 4, not 6"):
        CoCoOp(backbone, CoCoOpConfig(context_tokens=6))
    with pytest.raises(UsageError, match=r"has room for \d+, and 'normal .*shorten it"):
        coop(backbone, object_name="very " * 70).encode_texts(DEFECTS)


# releases


def test_releases_are_told_apart_and_read(backbone: Clip) -> None:
    frozen = {"token_prefix": torch.zeros(2, 1, 32), "token_suffix": torch.zeros(2, 60, 32)}
    plain = coop(backbone, class_specific=True)
    state = frozen | {"ctx": plain.context.detach().half()}
    release = CoOp.from_release(state)
    assert release is not None
    assert CoCoOp.from_release(state) is None
    again = CoOp(backbone, CoOpConfig(**release.options))
    again.load_trained(release.parts)
    assert torch.equal(again.context, plain.context.half().float())

    method = cocoop(backbone)
    names = {name.replace("context", "ctx"): part.detach() for name, part in method.trained_parts().items()}
    conditional = {f"prompt_learner.{name}": part for name, part in (frozen | names).items()}
    release = CoCoOp.from_release(conditional)
    assert release is not None
    assert CoOp.from_release(conditional) is None
    again = CoCoOp(backbone, CoCoOpConfig(**release.options))
    again.load_trained(release.parts)
    assert torch.equal(again.meta_net.linear1.weight, method.meta_net.linear1.weight)


def test_a_classifier_of_other_classes_is_refused() -> None:
    with pytest.raises(ModelError, match=r"\[2, tokens, width\] for normal and abnormal, found \[1000, 16, 512\]"):
        CoOp.from_release({"ctx": torch.zeros(1000, 16, 512)})


def test_a_context_of_another_width_is_refused_by_name(backbone: Clip) -> None:
    release = CoOp.from_release({"ctx": torch.zeros(16, 512)})
    assert release is not None
    with pytest.raises(ModelError, match=r"context is \[16, 512\] in the checkpoint, but \[16, 32\] on this backbone"):
        CoOp(backbone, CoOpConfig(**release.options)).load_trained(release.parts)
