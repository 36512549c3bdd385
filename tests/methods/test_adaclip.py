"""AdaCLIP on a tiny random backbone: what must hold whatever the weights are, and how releases are read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tiny import random_images
from torch import Tensor
from torch.nn.functional import normalize

from blemish import methods
from blemish.backbones.catalog import catalog
from blemish.backbones.config import BackboneConfig
from blemish.backbones.model import Clip
from blemish.errors import ModelError, UnknownNameError, UsageError
from blemish.language import Vocabulary, parse_defects
from blemish.methods.adaclip import AdaCLIP, AdaCLIPConfig, sentences
from blemish.methods.base import Scores, Targets
from blemish.methods.fusion import fuse

DEFECTS = parse_defects("scratch, hole")
SPEC_COUNTS = {  # ViT-L/14@336, the specification's table; the dead text prompt, 3,840 numbers, is left out
    "text_tokens": 15_360 - 3_840,
    "image_tokens": 20_480,
    "patch_layers": 3_148_800,
    "image_layer": 590_592,
    "to_image_tokens": 3_937_280,
    "to_text_tokens": 2_952_960,
}
SHAPE = BackboneConfig.from_dict(
    {
        "name": "tiny",
        "joint_width": 24,
        "vision": {"image_size": 64, "width": 32, "depth": 5, "heads": 2, "patch_size": 8, "position_grid": 8},
        "text": {"width": 24, "depth": 5, "heads": 2},
    }
)


@pytest.fixture(scope="module")
def backbone() -> Clip:
    torch.manual_seed(0)
    clip = Clip(SHAPE)
    torch.nn.init.normal_(clip.text.token_embedding.weight)
    return clip


def adaclip(backbone: Clip, **options: Any) -> AdaCLIP:
    """The method with tokens and layers far enough from rest that each of them matters."""
    torch.manual_seed(3)
    method = AdaCLIP(backbone, AdaCLIPConfig(**{"clusters": 3, "temperature": 0.07, **options}))
    for part in method.trained_parts().values():
        torch.nn.init.normal_(part, std=0.3)
    return method


def scored(method: AdaCLIP, images: Tensor, vocabulary: Vocabulary = DEFECTS) -> Scores:
    with torch.inference_mode():
        return method.score(method.encode(images), method.encode_texts(vocabulary))


def targets(count: int = 3) -> Targets:
    mask = torch.zeros(count, 64, 64)
    mask[0, 10:30, 20:40] = 1
    return Targets(torch.tensor([1, 0, 0][:count]), mask)


def test_parameters_are_the_specification_s() -> None:
    with torch.device("meta"):
        method = AdaCLIP(Clip(catalog()["ViT-L-14-336"].config))
    counts = dict.fromkeys(SPEC_COUNTS, 0)
    for name, part in method.trained_parts().items():
        counts[name.split(".", 1)[0]] += part.numel()
    assert counts == SPEC_COUNTS
    assert sum(counts.values()) == 10_661_632


def test_sentences_of_a_product_are_the_releases() -> None:
    made = sentences("metal_nut-x")
    assert len(made) == 48
    assert made[0] == "a bad photo of a metal_nut x."
    assert made[4] == "a bad photo of a flawless metal_nut x."
    assert made[28] == "a bad photo of a damaged metal_nut x."
    assert sentences("")[0] == "a bad photo of a object."
    assert made[-1] == "a cropped photo of the metal_nut x with damage."


@pytest.mark.parametrize("kinds", ["static", "dynamic", "both"])
@pytest.mark.parametrize("branches", ["image", "text", "both"])
def test_scores_have_the_promised_shapes_and_ranges(backbone: Clip, kinds: str, branches: str) -> None:
    scores = scored(adaclip(backbone, kinds=kinds, branches=branches), random_images())
    assert scores.types == ("scratch", "hole")
    assert scores.anomaly_map.shape == (3, 64, 64)
    assert scores.type_maps.shape == (3, 2, 8, 8)
    for tensor in (scores.image_score, scores.anomaly_map, scores.type_maps, scores.type_scores):
        assert tensor.min() >= 0
        assert tensor.max() <= 1
    assert torch.allclose(scores.type_scores.sum(1), scores.image_score, atol=1e-6)


@pytest.mark.parametrize("fusion", ["released", "paper", "mean", "none"])
def test_an_image_scores_the_same_alone_and_in_a_batch(backbone: Clip, fusion: str) -> None:
    method, images = adaclip(backbone, fusion=fusion), random_images()
    together = scored(method, images)
    for index in range(len(images)):
        alone = scored(method, images[index : index + 1])
        assert torch.allclose(together.image_score[index], alone.image_score[0], atol=1e-5)
        assert torch.allclose(together.anomaly_map[index], alone.anomaly_map[0], atol=1e-5)


def test_one_stream_of_draws_makes_scores_depend_on_the_images_before(backbone: Clip) -> None:
    images = random_images(1).repeat(6, 1, 1, 1)
    streamed = scored(adaclip(backbone, fusion_draws="stream", clusters=4), images).image_score
    same = scored(adaclip(backbone, clusters=4), images).image_score
    assert len({round(float(score), 6) for score in streamed}) > 1
    assert torch.allclose(same, same[:1].expand(6), atol=1e-6)


def test_the_names_that_are_asked_for_never_move_the_score(backbone: Clip) -> None:
    method, images = adaclip(backbone), random_images()
    few, many = (scored(method, images, parse_defects(names)) for names in ("scratch", "stain, hole, dent"))
    assert torch.equal(few.image_score, many.image_score)
    assert torch.equal(few.anomaly_map, many.anomaly_map)


def test_every_image_trains_in_the_words_of_its_own_product(backbone: Clip) -> None:
    method, products = adaclip(backbone), ("metal_nut", "screw", "metal_nut")
    features = method.encode(random_images())
    together = method._states_of(features, products)
    for row, product in enumerate(products):
        named = method.for_product(product)
        assert torch.allclose(named.states(features, named.encode_texts(DEFECTS))[row], together[row], atol=1e-5)
    fixed = adaclip(backbone, object_name="bottle")
    assert fixed.for_product("screw") is fixed
    losses = [fixed.loss(features, replace(targets(), products=named), DEFECTS).total for named in ((), products)]
    assert torch.allclose(*losses)


def test_without_dynamic_text_tokens_no_image_changes_the_texts(backbone: Clip) -> None:
    method = adaclip(backbone, kinds="static")
    texts = method.encode_texts(DEFECTS)
    fixed = method.states(method.encode(random_images()), texts)
    assert torch.equal(fixed[0], fixed[1])
    encoded = method.encode_sentences(texts.sentences, texts.ends, torch.zeros(2, 24))
    assert torch.allclose(normalize(normalize(encoded[0, :28], dim=-1).mean(0), dim=-1), fixed[0, 0], atol=1e-6)
    moving = adaclip(backbone)
    states = moving.states(moving.encode(random_images()), moving.encode_texts(DEFECTS))
    assert not torch.allclose(states[0], states[1], atol=1e-3)


def test_the_backbone_s_own_weights_are_computed_with_the_exact_gelu(backbone: Clip) -> None:
    released, own = adaclip(backbone), adaclip(backbone, activation="backbone")
    assert released.backbone.config.vision.activation == "gelu"
    assert own.backbone is backbone
    assert released.backbone.fingerprint() == backbone.fingerprint()
    assert released.fingerprint() != own.fingerprint()
    ours, theirs = (scored(method, random_images()).image_score for method in (released, own))
    assert not torch.allclose(ours, theirs, atol=1e-4)


def test_every_trained_part_gets_a_gradient_and_the_backbone_none(backbone: Clip) -> None:
    method = adaclip(backbone)
    method.loss(method.encode(random_images()), targets(), DEFECTS).total.backward()
    for name, part in method.trained_parts().items():
        assert part.grad is not None, name
        assert part.grad.abs().sum() > 0, name
    assert all(part.grad is None for part in method.backbone.parameters())


def test_images_without_a_mask_teach_only_the_image_level(backbone: Clip) -> None:
    method = adaclip(backbone)
    features = method.encode(random_images())
    nobody = method.loss(features, replace(targets(), has_mask=torch.zeros(3, dtype=torch.bool)), DEFECTS)
    assert torch.allclose(nobody.total, nobody.terms["image_focal"])
    nobody.total.backward()


def test_dice_over_rows_is_dice_over_images_of_one_row_each(backbone: Clip) -> None:
    by_image, by_row = adaclip(backbone), adaclip(backbone, dice="rows")
    features = by_image.encode(random_images())
    found = [method.loss(features, targets(), DEFECTS).terms for method in (by_image, by_row)]
    assert torch.equal(found[0]["focal"], found[1]["focal"])
    assert not torch.allclose(found[0]["dice_abnormal"], found[1]["dice_abnormal"], atol=1e-3)


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("fusion", ("released", "paper", "mean", "none")),
        ("fusion_weight", (0.2, 0.7)),
        ("clusters", (3, 5)),
        ("object_name", ("", "metal_nut")),
        ("smoothing", (0.0, 1.0)),
        ("tokens", (5, 2)),
        ("blocks", (4, 3)),
    ],
)
def test_each_option_changes_what_it_names(backbone: Clip, option: str, values: tuple[Any, ...]) -> None:
    seen = set()
    for value in values:
        scores = scored(adaclip(backbone, **{option: value}), random_images())
        seen.add((round(float(scores.image_score.sum()), 5), round(float(scores.anomaly_map.max()), 5)))
    assert len(seen) == len(values)


def test_the_paper_s_fusion_takes_the_most_abnormal_cluster() -> None:
    near, far = normalize(torch.eye(6)[:2] + 0.01, dim=-1)
    levels = torch.stack([near] * 7 + [far] * 3)[None]  # [1, 10, 6]
    abnormal = torch.tensor([[0.1] * 7 + [0.9] * 3])
    fused = fuse([levels], abnormal, clusters=2, fusion="paper", generator=lambda: np.random.RandomState(0))
    assert torch.allclose(fused.features[0], far, atol=1e-6)
    equal = fuse([levels], abnormal, clusters=2, fusion="released", generator=lambda: np.random.RandomState(0))
    assert torch.allclose(equal.features[0], normalize(near + far, dim=-1), atol=1e-6)


def test_equal_patches_give_no_empty_clusters() -> None:
    levels = torch.ones(1, 10, 4) / 2
    fused = fuse([levels], torch.rand(1, 10), clusters=5, fusion="released", generator=lambda: np.random.RandomState(0))
    assert torch.allclose(fused.features, torch.full((1, 4), 0.5))


def test_options_that_cannot_be_are_refused(backbone: Clip) -> None:
    with pytest.raises(UsageError, match="clusters must be at least 1"):
        AdaCLIPConfig(clusters=0)
    with pytest.raises(UsageError, match=r"blocks 6 is outside 2\.\.5"):
        AdaCLIP(backbone, AdaCLIPConfig(blocks=6))
    with pytest.raises(UnknownNameError, match="did you mean 'fusion'"):
        methods.build("adaclip", backbone, {"fussion": "paper"})


# releases


def released(method: AdaCLIP) -> dict[str, Tensor]:
    """The method's parts as the authors' code saves them."""
    state: dict[str, Tensor] = {"text_prompter.static_prompts.0": torch.ones(5, 24)}
    n = method.config.tokens
    assert method.text_tokens is not None
    assert method.image_tokens is not None
    for index, tokens in enumerate(method.text_tokens, start=1):
        state[f"text_prompter.static_prompts.{index}"] = tokens
    for index, tokens in enumerate(method.image_tokens):
        state[f"visual_prompter.static_prompts.{index}"] = tokens
    for kind, layer in (("visual", method.to_image_tokens), ("text", method.to_text_tokens)):
        assert layer is not None
        for part in ("weight", "bias"):
            for index, piece in enumerate(getattr(layer, part).chunk(n)):
                state[f"dynamic_{kind}_prompt_generator.head.{index}.{part}"] = piece
    for index, layer in enumerate(method.patch_layers):
        state |= {f"patch_token_layer.head.{index}.{part}": getattr(layer, part) for part in ("weight", "bias")}
    state |= {f"cls_token_layer.head.0.{part}": getattr(method.image_layer, part) for part in ("weight", "bias")}
    return {f"clip_model.{name}": tensor.detach() for name, tensor in state.items()}


def test_a_release_is_read(backbone: Clip) -> None:
    method = adaclip(backbone, round_tokens=True)
    release = AdaCLIP.from_release(released(method))
    assert release is not None
    again = AdaCLIP(backbone, AdaCLIPConfig(**release.options | {"clusters": 3, "temperature": 0.07}))
    again.load_trained(release.parts)
    assert again.fingerprint() == method.fingerprint()


def test_a_release_with_one_kind_of_tokens_in_one_tower(backbone: Clip) -> None:
    state = released(adaclip(backbone))
    only = {name: value for name, value in state.items() if "dynamic" not in name and "text" not in name}
    release = AdaCLIP.from_release(only)
    assert release is not None
    assert (release.options["kinds"], release.options["branches"]) == ("static", "image")
    method = AdaCLIP(backbone, AdaCLIPConfig(**release.options))
    method.load_trained(release.parts)


def test_checkpoints_of_other_methods_and_damaged_ones(backbone: Clip) -> None:
    state = released(adaclip(backbone))
    assert AdaCLIP.from_release({"ctx_pos": torch.zeros(1, 1, 12, 32)}) is None
    for missing in ("cls_token_layer.head.0.bias", "dynamic_text_prompt_generator.head.2.weight"):
        without = {name: value for name, value in state.items() if not name.endswith(missing)}
        with pytest.raises(ModelError, match="lacks clip_model"):
            AdaCLIP.from_release(without)
    with pytest.raises(ModelError, match="of one shape"):
        AdaCLIP.from_release(state | {"clip_model.visual_prompter.static_prompts.1": torch.zeros(4, 32)})
    release = AdaCLIP.from_release(state)
    assert release is not None
    fewer = Clip(replace(SHAPE, levels=(2, 4)))
    with pytest.raises(ModelError, match=r"holds an unknown part, patch_layers\.2\.weight"):
        AdaCLIP(fewer, AdaCLIPConfig(**release.options)).load_trained(release.parts)
