"""DAPO's prompts and tokens beside a slow way that follows the paper's section, and what is kept of texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from blemish.backbones import fast
from blemish.backbones.config import BackboneConfig
from blemish.backbones.model import Clip
from blemish.backbones.text import TextTower
from blemish.errors import UsageError
from blemish.io.codec import from_dict, to_dict
from blemish.language import DefectType, Vocabulary, parse_defects
from blemish.methods.dapo import DAPO, VARIANTS, DAPOTexts, progressive
from blemish.methods.text_cache import TextCache
from methods.tiny_dapo import TINY, method_with, texts_of, tiny_clip, tiny_images


@pytest.fixture(scope="module")
def backbone() -> Clip:
    return tiny_clip()


@pytest.fixture(scope="module")
def images() -> Tensor:
    return tiny_images()


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
