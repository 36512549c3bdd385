"""DAPO against what the authors' code computes: prompts, features, logits, maps, losses, gradients, one Adam step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from golden_sets import GoldenSet, load, relative_error, sets
from torch import Tensor

from blemish.backbones.config import BackboneConfig
from blemish.backbones.model import Clip
from blemish.io.codec import to_dict
from blemish.language import DefectType, Vocabulary
from blemish.methods.base import Features, Targets
from blemish.methods.dapo import DAPO, DAPOTexts, abnormal_text, normal_text, progressive
from blemish.methods.typed import enlarge_maps

FORWARD, LOSS, GRADIENT = 5e-6, 1e-6, 1e-5
AFTER_STEP = 1e-6  # absolute; the step itself is 1e-3
RATE, BETAS = 1e-3, (0.5, 0.999)
DEAD = "meta_net"  # of the release: parameters that no loss reaches


@pytest.fixture(params=sets("dapo"), scope="module")
def golden(request: pytest.FixtureRequest) -> GoldenSet:
    path: Path = request.param
    return load(path)


def levels_of(golden: GoldenSet) -> list[int]:
    """The recorded blocks, from the key names."""
    return sorted(int(key.removeprefix("adapted_layer")) for key in golden.values if key.startswith("adapted_layer"))


def method_of(golden: GoldenSet) -> DAPO:
    """The method in its released variant with the set's weights and vocabulary."""
    vision, text = golden.image_tower(), golden.text_tower()
    clip = Clip(
        BackboneConfig.from_dict(
            {
                "name": golden.name,
                "joint_width": text.projection.shape[1],
                "vision": to_dict(vision.config),
                "text": to_dict(text.config),
                "levels": levels_of(golden),
            }
        )
    )
    clip.image, clip.text = vision, text
    release = DAPO.from_release(golden.weights)
    assert release is not None
    method = DAPO(clip, DAPO.config_from(release.options))
    method.load_trained(release.parts)
    return method


def vocabulary_of(golden: GoldenSet) -> Vocabulary:
    return Vocabulary(tuple(DefectType(state) for state in golden.metadata["states"]))


def texts_of(golden: GoldenSet, method: DAPO) -> DAPOTexts:
    texts = method.encode_texts(vocabulary_of(golden))
    assert isinstance(texts, DAPOTexts)
    return texts


def in_our_names(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Tensors named as the official classes name them behind a prefix, as our trained parts."""
    release = DAPO.from_release(
        {name.removeprefix(prefix): part for name, part in tensors.items() if name.startswith(prefix)}
    )
    assert release is not None
    return release.parts


def features_of(golden: GoldenSet, method: DAPO) -> Features:
    return method.encode(golden.values["image"])


def targets_of(golden: GoldenSet) -> Targets:
    values = golden.values
    return Targets(label=values["label"], mask=values["mask"][:, 0], type_id=values["type_id"])


def test_every_trained_part_of_the_release_has_its_place(golden: GoldenSet) -> None:
    method = method_of(golden)
    used = sum(tensor.numel() for key, tensor in golden.weights.items() if DEAD not in key)
    assert sum(part.numel() for part in method.trained_parts().values()) == used


def test_layer_tokens_and_adapted_features(golden: GoldenSet) -> None:
    method = method_of(golden)
    with torch.inference_mode():
        seen = method.backbone.image(
            golden.values["image"],
            levels=levels_of(golden),
            before_block=progressive(method.image_tokens, method.config.alpha),
        )
        inserted = method.config.image_tokens
        features = features_of(golden, method)
        for index, level in enumerate(levels_of(golden)):
            patches = seen.levels[level][:, 1 + inserted :]
            tokens = torch.cat([seen.levels[level][:, :1], patches], dim=1)
            golden.check(f"patch_tokens_layer{level}", tokens, tolerance=FORWARD)
            adapted = method.adapters[index](patches)
            golden.check(f"adapted_layer{level}", adapted, tolerance=FORWARD)
            recorded = F.normalize(golden.values[f"adapted_layer{level}"], dim=-1)
            assert relative_error(features.levels[index], recorded) <= FORWARD
        image = method.backbone.image.project(seen.tokens[:, 0])
        golden.check("image_features", image, tolerance=FORWARD)
        assert relative_error(features.global_feature, F.normalize(golden.values["image_features"], dim=-1)) <= FORWARD


def test_prompt_embeddings_and_text_features(golden: GoldenSet) -> None:
    method = method_of(golden)
    types = vocabulary_of(golden).types
    with torch.inference_mode():
        normal, _ = method.embed_prompts([normal_text(method.config)], method.normal_context)
        texts = [abnormal_text(defect.name, method.config) for defect in types]
        abnormal, ends = method.embed_prompts(texts, method.abnormal_context)
        golden.check("prompt_embeddings", torch.cat([normal, abnormal]), tolerance=FORWARD)
        groups = method.config.groups
        assert torch.equal(ends, golden.values["template_tokens"].argmax(-1)[groups::groups])
        features = torch.cat([method.embed_normal(), method.embed_types(types)])
        golden.check("text_features", features, tolerance=FORWARD)
        assert (
            relative_error(texts_of(golden, method).states, F.normalize(golden.values["text_features"], dim=-1))
            <= FORWARD
        )


def test_logits_score_typed_maps_and_anomaly_map(golden: GoldenSet) -> None:
    method = method_of(golden)
    size = golden.values["mask"].shape[-2:]
    with torch.inference_mode():
        features, texts = features_of(golden, method), texts_of(golden, method)
        golden.check("logits", method.image_logits(features, texts.states), tolerance=FORWARD)
        golden.check("type_maps", method.maps(features, texts, size=size), tolerance=FORWARD)
        scores = method.score(features, texts)
        golden.check("score", scores.image_score, tolerance=FORWARD)
        golden.check("anomaly_map", scores.anomaly_map * len(features.levels), tolerance=FORWARD)
        typed = enlarge_maps(scores.type_maps, size) * len(features.levels)
        assert relative_error(typed.sum(1), golden.values["anomaly_map"]) <= FORWARD


def test_losses_gradients_and_one_adam_step(golden: GoldenSet) -> None:
    method = method_of(golden)
    losses = method.loss(features_of(golden, method), targets_of(golden), vocabulary_of(golden))
    local = losses.terms["focal"] + losses.terms["dice_normal"] + losses.terms["dice_abnormal"]
    golden.check("loss_image", losses.terms["image_cross_entropy"], tolerance=LOSS)
    golden.check("loss_local", local, tolerance=LOSS)
    golden.check("loss_total", losses.total, tolerance=LOSS)

    optimiser = torch.optim.Adam(method.trained_parts().values(), lr=RATE, betas=BETAS)
    losses.total.backward()
    expected = in_our_names(golden.values, "grad.")
    assert expected.keys() == method.trained_parts().keys()
    for name, part in method.trained_parts().items():
        assert part.grad is not None
        error = relative_error(part.grad, expected[name])
        assert error <= GRADIENT, f"{golden.name} gradient of {name}: relative error {error:.2e}"
    optimiser.step()
    expected = in_our_names(golden.values, "after_step.")
    for name, part in method.trained_parts().items():
        error = float((part.detach() - expected[name]).abs().max())
        assert error <= AFTER_STEP, f"{golden.name} {name} after the step: {error:.2e} apart"


def test_the_values_tell_the_variants_apart(golden: GoldenSet) -> None:
    """Not by chance: every other variant is further away than the tolerance."""
    method = method_of(golden)
    released = golden.values["text_features"]
    for options in (
        {"causal": True, "pooling": "end"},
        {"pooling": "end"},
        {"alpha": 0.0},
        {"normal_anchor": "normal object"},
        {"abnormal_anchor": "object"},
    ):
        other = DAPO(method.backbone, replace(method.config, **options))  # type: ignore[arg-type]
        other.load_trained(method.trained_parts())
        with torch.inference_mode():
            features = torch.cat([other.embed_normal(), other.embed_types(vocabulary_of(golden).types)])
        assert relative_error(features, released) > 20 * FORWARD, options
