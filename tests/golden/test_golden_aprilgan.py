"""APRIL-GAN against what the authors' code computes: texts, tokens, logits, maps, few-shot, losses, gradients, one Adam step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from golden_sets import GoldenSet, load, relative_error, sets
from torch import Tensor

from blemish.backbones.config import BackboneConfig
from blemish.backbones.model import Clip
from blemish.backbones.tokenizer import tokenize
from blemish.backbones.vision import interpolate_positions
from blemish.io.codec import to_dict
from blemish.methods.aprilgan import AprilGAN, AprilGANConfig, AprilGANTexts, phrases
from blemish.methods.base import Features, Targets
from blemish.methods.good_references import GoodReferences
from blemish.methods.text_cache import TextCache
from blemish.methods.typed import enlarge_maps

FORWARD, PROBABILITY, LOSS, GRADIENT = 5e-6, 1e-5, 3e-6, 1e-5
AFTER_STEP = 1e-6  # absolute; the step itself is 1e-3
RATE, BETAS = 1e-3, (0.5, 0.999)
OFFICIAL = "trainable_linearlayer.fc."


@pytest.fixture(params=sets("aprilgan"))
def golden(request: pytest.FixtureRequest) -> GoldenSet:
    return load(request.param)


def method_of(golden: GoldenSet, product: int = 0, **options: Any) -> AprilGAN:
    """The method with the set's adapters, read as the authors' checkpoints are, for one of its products."""
    state = {key.replace("adapter.fc.", OFFICIAL): tensor for key, tensor in golden.weights.items()}
    release = AprilGAN.from_release(state)
    assert release is not None
    assert release.options == {"activation": "gelu"}
    options = {
        "activation": golden.metadata["activation"],
        "temperature": golden.metadata["temperature"],
        "few_shot_levels": tuple(golden.metadata["few_shot_levels"]),
        **options,
    }
    method = AprilGAN(backbone_of(golden), AprilGANConfig(**options))
    method.load_trained(release.parts)
    return method.for_product(golden.metadata["class_names"][product])


def backbone_of(golden: GoldenSet) -> Clip:
    """The set's towers; the reduced copy has no image tower, and a random one stands there."""
    levels = golden.metadata["levels"]
    if not golden.reduced:
        clip = golden.backbone(levels=levels, preprocess={"size": golden.values["image"].shape[-1]})
        other = "quick_gelu" if golden.metadata["activation"] == "gelu" else "gelu"
        return clip.with_activation(other)  # type: ignore[arg-type]  # so that the method's option is what decides
    text = golden.text_tower()
    size, width = golden.values["mask"].shape[-1], golden.weights["adapter.fc.0.weight"].shape[1]
    side = round((golden.values[f"patch_tokens_layer{levels[0]}"].shape[1] - 1) ** 0.5)
    vision = {"image_size": size, "width": width, "depth": max(levels), "heads": 1, "patch_size": size // side}
    shape = {
        "name": golden.name,
        "joint_width": text.projection.shape[1],
        "text": to_dict(text.config),
        "levels": levels,
    }
    clip = Clip(BackboneConfig.from_dict({**shape, "vision": {**vision, "position_grid": side}}))
    clip.text = text
    return clip


def features_of(golden: GoldenSet, method: AprilGAN, images: Tensor | None = None) -> Features:
    """What the tower gives of the images, or of the reduced copy what is recorded."""
    rows = torch.arange(len(golden.values["label"])) if images is None else images
    if not golden.reduced:
        return method.encode(golden.values["image"][rows])
    tokens = [golden.values[f"patch_tokens_layer{level}"][rows, 1:] for level in method._encoded]
    side = round(tokens[0].shape[1] ** 0.5)
    return Features(F.normalize(golden.values["image_features_raw"][rows], dim=-1), tuple(tokens), (side, side))


def texts_of(method: AprilGAN) -> AprilGANTexts:
    texts = method.encode_texts()
    assert isinstance(texts, AprilGANTexts)
    return texts


def names_of(golden: GoldenSet) -> tuple[str, ...]:
    return tuple(golden.metadata["class_names"][row] for row in golden.values["class_id"].tolist())


@torch.inference_mode()
def test_prompts_have_the_recorded_ids_and_texts(golden: GoldenSet) -> None:
    method, name = method_of(golden), golden.metadata["class_names"][0]
    for state in ("normal", "abnormal"):
        assert sorted(text.replace("{}", name) for text in phrases(state)) == sorted(golden.metadata[state])
        ids = torch.from_numpy(tokenize(golden.metadata[state]))
        assert torch.equal(ids, golden.values[f"tokens_{state}"].to(ids.dtype))
        golden.check(f"text_{state}", method.backbone.text.encode(ids), tolerance=FORWARD)
    directions = method.state_directions(golden.metadata["class_names"], TextCache())
    golden.check("text_features", directions, tolerance=FORWARD)
    assert torch.equal(texts_of(method).states, directions[0])


@torch.inference_mode()
def test_positions_and_tokens_of_every_level(golden: GoldenSet) -> None:
    if golden.reduced:
        pytest.skip(f"{golden.name}: the image tower needs the full golden set, here is the reduced copy")
    method = method_of(golden)
    tower, grid = golden.image_tower(), method.encode(golden.values["image"][:1]).grid
    positions = interpolate_positions(tower.position_embedding, grid, interpolation="bicubic-antialias")
    golden.check("positions", positions, tolerance=FORWARD)
    features = method.encode(golden.values["image"])
    recorded = F.normalize(golden.values["image_features_raw"], dim=-1)
    assert relative_error(features.global_feature, recorded) <= FORWARD
    for level, tokens in zip(golden.metadata["levels"], features.levels, strict=False):
        assert relative_error(tokens, golden.values[f"patch_tokens_layer{level}"][:, 1:]) <= FORWARD


@torch.inference_mode()
def test_logits_probabilities_scores_and_maps(golden: GoldenSet) -> None:
    method = method_of(golden)
    features, size = features_of(golden, method), golden.values["mask"].shape[-2:]
    products = method.state_directions(golden.metadata["class_names"], TextCache())
    states = products[golden.values["class_id"]]
    logits = method.logits(method.adapted(features), states, features.grid)
    levels = golden.metadata["levels"]
    for index, level in enumerate(levels):
        adapted = method.adapters[index](features.levels[index])
        golden.check(f"adapted_layer{level}", adapted, tolerance=FORWARD)
        golden.check(f"logits_layer{level}", logits[index], tolerance=PROBABILITY)
        probabilities = enlarge_maps(logits[index], size).softmax(1)
        golden.check(f"probabilities_layer{level}", probabilities, tolerance=PROBABILITY)
    for product in range(len(products)):
        rows = (golden.values["class_id"] == product).nonzero()[:, 0]
        own = method_of(golden, product)
        scores = own.score(features_of(golden, own, rows), texts_of(own))
        assert relative_error(scores.image_score, golden.values["score"][rows]) <= PROBABILITY
        assert relative_error(scores.anomaly_map * len(levels), golden.values["anomaly_map"][rows]) <= PROBABILITY


@torch.inference_mode()
def test_few_shot_distances_maps_and_scores(golden: GoldenSet) -> None:
    method, values = method_of(golden, map_scale="test-set"), golden.values
    levels = golden.metadata["few_shot_levels"]
    if golden.reduced:
        memory = tuple(F.normalize(values[f"few.memory_layer{level}"], dim=-1) for level in levels)
        method.memory = GoodReferences(memory, "recorded")
    else:
        for level, tokens in zip(levels, method.compared(method.encode(values["reference"])), strict=True):
            golden.check(f"few.memory_layer{level}", tokens.flatten(0, 1), tolerance=FORWARD)
        method = method.with_references(values["reference"].split(1))
    assert method.memory is not None
    features = features_of(golden, method, values["few.images"])
    for number, (level, tokens) in enumerate(zip(levels, method.compared(features), strict=True)):
        distances = method.memory.distances(number, tokens).unflatten(1, features.grid)
        golden.check(f"few.distance_layer{level}", distances, tolerance=PROBABILITY)
    size = values["mask"].shape[-2:]
    few_map = enlarge_maps(method.distance_map(features)[:, None], size)[:, 0]
    golden.check("few.map", few_map, tolerance=PROBABILITY)
    scores = method.score(features, texts_of(method))
    largest = len(golden.metadata["levels"]) + 2 * len(levels)
    golden.check("few.anomaly_map", scores.anomaly_map * largest, tolerance=PROBABILITY)
    golden.check("few.map_max", scores.anomaly_map.amax((1, 2)) * largest, tolerance=PROBABILITY)
    golden.check("few.score", scores.image_score, tolerance=PROBABILITY)


def test_losses_gradients_and_one_adam_step(golden: GoldenSet) -> None:
    values = golden.values
    method = method_of(golden)
    method.config = replace(method.config, object_name="")  # each image has its own product
    rows = values["train_images"]
    products = tuple(names_of(golden)[row] for row in rows.tolist())
    targets = Targets(label=values["label"][rows], mask=values["mask"][rows, 0], products=products)
    with torch.no_grad():
        features = features_of(golden, method, rows)
    by_level = method.level_losses(features, targets, cache=TextCache())
    golden.check("loss_focal", by_level["focal"], tolerance=LOSS)
    golden.check("loss_dice", by_level["dice_abnormal"], tolerance=LOSS)
    losses = method.loss(features, targets, method.encode_texts().vocabulary)
    golden.check("loss_total", losses.total, tolerance=LOSS)

    optimiser = torch.optim.Adam(method.trained_parts().values(), lr=RATE, betas=BETAS)
    losses.total.backward()
    for name, part in method.trained_parts().items():
        assert part.grad is not None
        golden.check(name.replace("adapters.", "grad.fc."), part.grad, tolerance=GRADIENT)
    optimiser.step()
    for name, part in method.trained_parts().items():
        expected = values[name.replace("adapters.", "after_step.fc.")]
        error = float((part.detach() - expected).abs().max())
        assert error <= AFTER_STEP, f"{golden.name} {name} after the step: {error:.2e} apart"


@torch.inference_mode()
def test_the_values_tell_the_variants_apart(golden: GoldenSet) -> None:
    rows = golden.values["few.images"]
    method = method_of(golden)
    features, expected = features_of(golden, method, rows), golden.values["anomaly_map"][rows]
    count = len(golden.metadata["levels"])
    assert relative_error(method.score(features, texts_of(method)).anomaly_map * count, expected) <= PROBABILITY
    for options in ({"temperature": 0.07}, {"align_corners": False}, {"underscores": "blank"}):
        other = method_of(golden, **options)
        found = other.score(features, texts_of(other)).anomaly_map * count
        assert relative_error(found, expected) > 20 * PROBABILITY, options
