"""DAPO on a tiny random backbone: what must hold whatever the weights are, and what the golden values cannot show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from blemish import methods
from blemish.backbones import fast
from blemish.backbones.catalog import catalog
from blemish.backbones.config import BackboneConfig
from blemish.backbones.model import Clip
from blemish.backbones.text import TextTower
from blemish.errors import UnknownNameError, UsageError
from blemish.io.codec import from_dict, to_dict
from blemish.language import DefectType, Vocabulary, general, parse_defects
from blemish.methods.base import Targets
from blemish.methods.dapo import DAPO, VARIANTS, DAPOConfig, DAPOTexts, progressive
from blemish.methods.losses import dice, focal
from blemish.methods.text_cache import TextCache
from blemish.methods.typed import enlarge_maps, type_scores

TINY = BackboneConfig.from_dict(
    {
        "name": "tiny",
        "joint_width": 24,
        "vision": {"image_size": 32, "width": 32, "depth": 4, "heads": 2, "patch_size": 8, "position_grid": 4},
        "text": {"width": 32, "depth": 3, "heads": 2},
    }
)
SMALL = {
    "groups": 2,
    "normal_tokens": 3,
    "abnormal_tokens": 2,
    "text_tokens": 2,
    "image_tokens": 2,
    "variant": "released",
}


@pytest.fixture(scope="module")
def backbone() -> Clip:
    torch.manual_seed(0)
    clip = Clip(TINY)
    torch.nn.init.normal_(clip.text.token_embedding.weight)
    for parameter in clip.parameters():
        if parameter.ndim <= 1:
            torch.nn.init.normal_(parameter, mean=float(parameter.detach().mean()), std=0.1)
    return clip


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


DEFECTS = parse_defects("scratch, hole, loose screw")


def method_with(backbone: Clip, **options: Any) -> DAPO:
    torch.manual_seed(2)
    return DAPO(backbone, DAPO.config_from({**SMALL, **options}))


def texts_of(method: DAPO, vocabulary: Vocabulary = DEFECTS) -> DAPOTexts:
    texts = method.encode_texts(vocabulary)
    assert isinstance(texts, DAPOTexts)
    return texts


def targets(*, types: Sequence[int] = (2, 0, 1)) -> Targets:
    mask = torch.zeros(3, 32, 32)
    mask[0, 4:20, 9:15] = 1
    mask[2, :8] = 1
    return Targets(torch.tensor([1, 0, 1]), mask, type_id=torch.tensor(types))


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


# prompts and tokens


def slow_text(method: DAPO, text: str, context: Tensor) -> Tensor:
    """The text feature [D] as the paper's section has it, block by block, one group at a time."""
    tower, config = method.backbone.text, method.config
    encoded = []
    for group in context:
        prompts, ends = method.embed_prompts([text], group[None])
        x = prompts[0] + tower.position_embedding
        inserted = 0
        for index, block in enumerate(tower.blocks):
            if method.text_tokens is not None and index < len(method.text_tokens):
                fresh = method.text_tokens[index][None]
                n = fresh.shape[1]
                if index:
                    fresh = config.alpha * x[:, 1 : 1 + n] + (1 - config.alpha) * fresh
                x = torch.cat([x[:, :1], fresh, x[:, 1 + (n if index else 0) :]], dim=1)
                inserted = n
            x = block(x, causal=bool(config.causal))
            if method.text_tokens is not None and index == len(method.text_tokens):
                x = torch.cat([x[:, :1], x[:, 1 + inserted :]], dim=1)
                inserted = 0
        place = int(ends[0]) + (inserted if config.pooling == "end" else 0)
        encoded.append(tower.ln_final(x[0, place]) @ tower.projection)
    return torch.stack(encoded).mean(0)


@pytest.mark.parametrize("text_depth", [None, 1, 2])
@pytest.mark.parametrize("variant", VARIANTS)
def test_texts_are_those_of_the_slow_way_at_every_depth(backbone: Clip, variant: Any, text_depth: int | None) -> None:
    method = method_with(backbone, variant=variant, text_depth=text_depth, alpha=0.3)
    with torch.no_grad():
        normal = slow_text(method, str(method.config.normal_anchor), method.normal_context)
        typed = slow_text(method, "loose screw anomaly object", method.abnormal_context)
        assert torch.allclose(method.embed_normal()[0], normal, atol=1e-5)
        assert torch.allclose(method.embed_types([DefectType("loose screw")])[0], typed, atol=1e-5)
    assert torch.allclose(texts_of(method).states[3], F.normalize(typed, dim=0), atol=1e-5)


@pytest.mark.parametrize("image_depth", [None, 1, 3])
def test_images_are_those_of_the_slow_way_at_every_depth(
    backbone: Clip, images: Tensor, image_depth: int | None
) -> None:
    method = method_with(backbone, image_depth=image_depth, alpha=0.3)
    tower, tokens = backbone.image, method.image_tokens
    assert tokens is not None
    with torch.no_grad():
        features = method.encode(images)
        x = tower.embed(images).tokens
        for index, block in enumerate(tower.blocks):
            if index < len(tokens):
                fresh = tokens[index].expand(3, -1, -1)
                kept = fresh if index == 0 else 0.3 * x[:, 1:3] + 0.7 * fresh
                x = torch.cat([x[:, :1], kept, x[:, 1 if index == 0 else 3 :]], dim=1)
            x = block(x)
            adapted = method.adapters[index](x[:, 3:])  # tokens stay in the tower, the features leave them out
            assert torch.allclose(features.levels[index], F.normalize(adapted, dim=-1), atol=1e-5)
        whole = tower.ln_post(x[:, 0]) @ tower.projection
    assert torch.allclose(features.global_feature, F.normalize(whole, dim=-1), atol=1e-5)


@pytest.mark.parametrize("drop", [True, False])
def test_every_image_or_prompt_may_have_tokens_of_its_own(drop: bool) -> None:
    own, streams = torch.randn(3, 2, 4, 8), torch.randn(2, 6, 8)
    together = progressive(own, 0.3, drop=drop)
    apart = [progressive(own[:, row], 0.3, drop=drop) for row in range(2)]
    assert together is not None
    x, rows = streams, [streams[:1], streams[1:]]
    for index in range(6):
        x = together(index, x)
        rows = [
            before_block(index, row) for before_block, row in zip(apart, rows, strict=True) if before_block is not None
        ]
        assert torch.equal(x, torch.cat(rows))
    assert x.shape == (2, 6 if drop else 10, 8)


def test_alpha_0_is_plain_deep_prompting(backbone: Clip, images: Tensor) -> None:
    """Fresh tokens in every block, nothing of what the last block made of its own."""
    method = method_with(backbone, alpha=0.0)
    tokens = method.image_tokens
    assert tokens is not None
    with torch.no_grad():
        x = backbone.image.embed(images).tokens
        for index, block in enumerate(backbone.image.blocks):
            patches = x[:, 1:] if index == 0 else x[:, 1 + tokens.shape[1] :]
            x = block(torch.cat([x[:, :1], tokens[index].expand(3, -1, -1), patches], dim=1))
        plain = F.normalize(backbone.image.project(x[:, 0]), dim=-1)
        assert torch.allclose(method.encode(images).global_feature, plain, atol=1e-5)
        assert not torch.allclose(method_with(backbone, alpha=0.3).encode(images).global_feature, plain, atol=1e-3)


def test_other_input_sizes_resize_the_positions_bicubic_and_antialiased(backbone: Clip) -> None:
    method = method_with(backbone)
    large = torch.randn(1, 3, 48, 48, generator=torch.Generator().manual_seed(3))
    positions = backbone.image.position_embedding.detach()
    square = positions[1:].T.reshape(1, -1, 4, 4)
    resized = F.interpolate(square, size=(6, 6), mode="bicubic", align_corners=False, antialias=True)
    twin = Clip(from_dict(BackboneConfig, {**to_dict(TINY), "vision": {**to_dict(TINY.vision), "position_grid": 6}}))
    state = backbone.state_dict()
    state["image.position_embedding"] = torch.cat([positions[:1], resized[0].flatten(1).T])
    twin.load_state_dict(state)
    other = DAPO(twin, method.config)
    other.load_trained(method.trained_parts())
    with torch.no_grad():
        features = method.encode(large)
        assert torch.allclose(features.global_feature, other.encode(large).global_feature, atol=1e-6)
        assert method.score(features, texts_of(method)).anomaly_map.shape == (1, 48, 48)


def test_without_tokens_the_towers_are_clip_s_own(backbone: Clip, images: Tensor) -> None:
    method = method_with(backbone, text_tokens=0, image_tokens=0)
    assert set(method.trained_parts()) == {"normal_context", "abnormal_context"} | {
        f"adapters.{level}.{part}" for level in range(4) for part in ("weight", "bias")
    }
    with torch.inference_mode():
        whole = method.encode(images).global_feature
        plain = backbone.image.project(backbone.image(images).tokens[:, 0])
    assert torch.allclose(whole, F.normalize(plain, dim=-1), atol=1e-6)


def test_all_words_of_a_type_are_averaged_like_groups(backbone: Clip) -> None:
    method = method_with(backbone, words="all")
    bolt = DefectType("loose bolt", ("slack bolt",), "A bolt that stands out.")
    with torch.no_grad():
        words = ["loose bolt", "slack bolt", "bolt that stands out"]
        expected = method.embed_types([DefectType(word) for word in words]).mean(0)
        assert torch.allclose(method.embed_types([bolt])[0], expected, atol=1e-5)
        name = method_with(backbone).embed_types([bolt])[0]
    assert not torch.allclose(name, expected, atol=1e-3)


# the vocabulary


@pytest.mark.parametrize("fused", [False, True])
def test_texts_are_kept_until_a_trained_part_moves(
    backbone: Clip, monkeypatch: pytest.MonkeyPatch, fused: bool
) -> None:
    method, cache = method_with(backbone), TextCache()
    scratch_hole, hole_stain = parse_defects("scratch, hole"), parse_defects("hole, stain")

    def states(method: DAPO, vocabulary: Vocabulary) -> Tensor:
        texts = method.encode_texts(vocabulary, cache=cache)
        assert isinstance(texts, DAPOTexts)
        return texts.states

    first = states(method, scratch_hole)
    asked: list[str] = []
    embed = method.embed_types

    def counted(types: Sequence[DefectType]) -> Tensor:
        asked.extend(defect.name for defect in types)
        return embed(types)

    monkeypatch.setattr(method, "embed_types", counted)
    assert torch.equal(states(method, scratch_hole), first)
    assert asked == []
    assert torch.equal(states(method, hole_stain)[1], first[2])
    assert asked == ["stain"]

    optimiser = torch.optim.Adam(method.trained_parts().values(), lr=0.1, fused=fused)
    method.abnormal_context.grad = torch.randn_like(method.abnormal_context)
    optimiser.step()
    later = states(method, hole_stain)
    assert asked == ["stain", "hole", "stain"]
    fresh = method_with(backbone)
    fresh.load_trained(method.trained_parts())
    assert torch.allclose(texts_of(fresh, hole_stain).states, later, atol=1e-6)
    assert not torch.allclose(later[1], first[2], atol=1e-4)
    assert torch.equal(states(fresh, hole_stain), later)  # the same weights, the same features


def test_200_types_are_encoded_in_bounded_chunks(
    backbone: Clip, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    text_features = fast.text_features

    def counted(tower: TextTower, embeddings: Tensor, **options: Any) -> Tensor:
        sizes.append(len(embeddings))
        return text_features(tower, embeddings, **options)

    monkeypatch.setattr(fast, "text_features", counted)
    names = [f"defect {number}" for number in range(200)]
    method = method_with(backbone)
    texts = texts_of(method, parse_defects(names))
    assert max(sizes) <= 64
    assert sum(sizes) == (200 + 1) * 2
    together = method.embed_types([DefectType(name) for name in names[:5]])
    assert torch.allclose(texts.states[1:6], F.normalize(together, dim=-1), atol=1e-5)
    with torch.inference_mode():
        assert method.score(method.encode(images), texts).type_maps.shape == (3, 200, 4, 4)


def test_a_name_that_does_not_fit_into_a_prompt_is_refused_in_words(backbone: Clip) -> None:
    method = method_with(backbone)
    with pytest.raises(UsageError, match=r"room for 73 tokens, and this has 302.*long long"):
        method.encode_texts(Vocabulary((DefectType("long " * 299 + "crack"),)))
    assert bool(texts_of(method, Vocabulary((DefectType("скол на краю"),))).states.isfinite().all())


# losses


def slow_loss(method: DAPO, images: Tensor, truth: Targets, rows: list[int]) -> dict[str, Tensor]:
    """The terms with all classes at full size; the local ones over these rows."""
    assert truth.type_id is not None
    features = method.encode(images)
    texts = F.normalize(torch.cat([method.embed_normal(), method.embed_types(DEFECTS.types)]), dim=-1)
    classes = (truth.mask * truth.type_id[:, None, None]).long()[rows]
    mask = truth.mask[rows]
    terms = {"focal": torch.zeros(()), "dice_normal": torch.zeros(()), "dice_abnormal": torch.zeros(())}
    for places in features.levels:
        cosines = (places[rows] @ texts.T / 0.07).transpose(1, 2).reshape(len(rows), -1, 4, 4)
        before = method.config.softmax == "before"
        p = enlarge_maps(cosines.softmax(1), (32, 32)) if before else enlarge_maps(cosines, (32, 32)).softmax(1)
        terms["focal"] = terms["focal"] + focal(p, classes)
        terms["dice_normal"] = terms["dice_normal"] + dice(p[:, 0], 1 - mask)
        terms["dice_abnormal"] = terms["dice_abnormal"] + dice(p[:, 1:].sum(1), mask)
    terms["image_cross_entropy"] = F.cross_entropy(method.image_logits(features, texts), truth.label)
    return terms


@pytest.mark.parametrize("softmax", ["before", "after"])
def test_three_classes_an_image_give_the_loss_and_gradients_of_all_classes(
    backbone: Clip, images: Tensor, softmax: str
) -> None:
    method = method_with(backbone, softmax=softmax)
    losses = method.loss(method.encode(images), targets(), DEFECTS)
    expected = slow_loss(method, images, targets(), [0, 1, 2])
    local = expected["focal"] + expected["dice_normal"] + expected["dice_abnormal"]
    total = 4 * local + expected["image_cross_entropy"]
    for name, term in expected.items():
        assert torch.allclose(losses.terms[name], term, rtol=1e-5), name
    assert torch.allclose(losses.total, total, rtol=1e-5)
    parts = list(method.trained_parts().values())
    for ours, theirs in zip(torch.autograd.grad(losses.total, parts), torch.autograd.grad(total, parts), strict=True):
        assert float((ours - theirs).abs().max()) <= 1e-5 * float(theirs.abs().max())


def test_images_without_a_mask_teach_only_the_image_loss(backbone: Clip, images: Tensor) -> None:
    method = method_with(backbone)
    truth = targets()
    drawn = torch.tensor([True, True, False])
    losses = method.loss(method.encode(images), Targets(truth.label, truth.mask, drawn, truth.type_id), DEFECTS)
    expected = slow_loss(method, images, truth, [0, 1])
    for name, term in expected.items():
        assert torch.allclose(losses.terms[name], term, rtol=1e-5), name
    nothing = Targets(truth.label, truth.mask, torch.zeros(3, dtype=torch.bool), truth.type_id)
    losses = method.loss(method.encode(images), nothing, DEFECTS)
    assert torch.allclose(losses.total, losses.terms["image_cross_entropy"])
    losses.total.backward()


def test_a_defect_that_nobody_named_may_be_of_any_type(backbone: Clip, images: Tensor) -> None:
    method = method_with(backbone)
    truth = targets(types=(-1, 0, -1))
    features = method.encode(images)
    unnamed = method.loss(features, truth, DEFECTS).terms
    assert torch.allclose(
        method.loss(features, Targets(truth.label, truth.mask), DEFECTS).terms["focal"], unnamed["focal"]
    )
    two = torch.zeros(())
    with torch.inference_mode():
        maps = method.maps(features, texts_of(method), size=(32, 32))
    for p in maps.unbind(1):
        two = two + focal(torch.stack([p[:, 0], 1 - p[:, 0]], dim=1), truth.mask)
    assert torch.allclose(unnamed["focal"], two, rtol=1e-4)


def test_the_weights_of_the_loss_are_options(backbone: Clip, images: Tensor) -> None:
    method = method_with(backbone, local_loss=2.0, global_loss=0.0, normal_dice=False)
    losses = method.loss(method.encode(images), targets(), DEFECTS)
    assert torch.allclose(losses.total, 2 * (losses.terms["focal"] + losses.terms["dice_abnormal"]))


def test_types_of_the_truth_that_the_vocabulary_lacks_are_refused(backbone: Clip, images: Tensor) -> None:
    method = method_with(backbone)
    with pytest.raises(UsageError, match="type 2 of 1: give the vocabulary of the data's own types"):
        method.loss(method.encode(images), targets(), parse_defects("scratch"))


def test_a_few_steps_lower_the_loss_and_leave_the_backbone_alone(backbone: Clip, images: Tensor) -> None:
    method = method_with(backbone)
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    optimiser = torch.optim.Adam(method.trained_parts().values(), lr=1e-2)
    seen = []
    for _ in range(8):
        losses = method.loss(method.encode(images), targets(), DEFECTS)
        optimiser.zero_grad()
        losses.total.backward()
        optimiser.step()
        seen.append(float(losses.total.detach()))
    assert seen[-1] < 0.9 * seen[0]
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())


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
