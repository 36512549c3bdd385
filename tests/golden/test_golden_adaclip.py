"""AdaCLIP against what the authors' code computes: both passes, prompts, texts, fusion, scores, losses, gradients, AdamW."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden_sets import COARSE, GoldenSet, load, relative_error, sets
from torch import Tensor

from blemish.backbones.tokenizer import tokenize
from blemish.backbones.vision import interpolate_positions
from blemish.language import general
from blemish.methods.adaclip import AdaCLIP, AdaCLIPConfig, AdaCLIPTexts, sentences
from blemish.methods.base import Features, Release, Targets
from blemish.methods.fusion import fuse
from blemish.methods.tokens import inserted_tokens
from blemish.methods.typed import enlarge_maps
from blemish.training import recipe_of
from blemish.training.optimisers import optimiser_of

FORWARD = 2e-5
LOSS = {True: 2e-4, False: 1e-5}  # whether the hybrid tokens are rounded to float16
GRADIENT = {True: 2e-3, False: 2e-5}
FIRST_STEP, SMALL_GRADIENTS, SECOND_STEP = 1e-6, 1e-3, {True: 1e-3, False: 2e-4}  # absolute; a step of AdamW is 1e-2
SIGNIFICANT = 1e-3  # share of a tensor's largest gradient below which the first step's direction is not certain
SIGMA_PX = 4
DEAD = "text_prompter.static_prompts.0"


@pytest.fixture(params=sets("adaclip"), scope="module")
def golden(request: pytest.FixtureRequest) -> GoldenSet:
    path: Path = request.param
    return load(path)


def released(state: dict[str, Tensor]) -> Release:
    release = AdaCLIP.from_release(state)
    assert release is not None
    return release


def method_of(golden: GoldenSet, image: int = 0, *, rounded: bool = True) -> AdaCLIP:
    """The method with the set's checkpoint, for the product of one of its images."""
    shape = golden.metadata
    release = released(golden.weights)
    options, parts = release.options, release.parts
    assert [options["blocks"], options["tokens"]] == shape["prompting"]
    options |= {
        "round_tokens": rounded,
        "object_name": shape["class_names"][image],
        "activation": shape["activation"],
        "clusters": shape["clusters"],
        "fusion_seed": shape["numpy_seed"],
        "fusion_draws": "stream",
        "smoothing": SIGMA_PX / shape["patch"],
        "dice": "rows",
    }
    method = AdaCLIP(golden.backbone(levels=shape["levels"]), AdaCLIPConfig(**options))
    method.load_trained(parts)
    return method


def of_every_image(golden: GoldenSet, *, rounded: bool = True) -> list[AdaCLIP]:
    """A method for each image, all drawing from one stream, as the release's process does."""
    methods = [method_of(golden, image, rounded=rounded) for image in range(len(golden.metadata["class_names"]))]
    for method in methods:
        method._stream = methods[0]._stream
    return methods


def texts_of(method: AdaCLIP) -> AdaCLIPTexts:
    texts = method.encode_texts(general())
    assert isinstance(texts, AdaCLIPTexts)
    return texts


def features_of(golden: GoldenSet, method: AdaCLIP, images: slice) -> Features:
    """What the tower gives of some images; of a reduced copy what is recorded, which was computed with rounding."""
    values = golden.values
    if golden.has_image_tower:
        return method.encode(values["image"][images])
    if not method.config.round_tokens:
        pytest.skip(f"{golden.name}: the image tower needs the full golden set, here is the reduced copy")
    patches = [values[f"patch_features_layer{level}"][images] for level in golden.metadata["levels"]]
    side = round(patches[0].shape[1] ** 0.5)
    both = torch.cat([values["projected_image_features"], values["first_image_features"]], dim=1)[images]
    return Features(both, tuple(patches), (side, side))


def only(image: int) -> slice:
    return slice(image, image + 1)


def in_our_names(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    found = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    return released(found).parts


def same_clusters(ours: Any, theirs: Tensor) -> bool:
    """Whether two labellings make the same sets; the clusters' order is that of the starts."""
    pairs = {(int(a), int(b)) for a, b in zip(ours, theirs, strict=True)}
    return len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


def test_every_trained_part_of_the_release_has_its_place(golden: GoldenSet) -> None:
    used = sum(tensor.numel() for key, tensor in golden.weights.items() if DEAD not in key)
    assert sum(part.numel() for part in method_of(golden).trained_parts().values()) == used


def test_positions_both_passes_and_dynamic_prompts(golden: GoldenSet) -> None:
    golden.need_image_tower()
    method = method_of(golden)
    tower, levels, values = method.backbone.image, golden.metadata["levels"], golden.values
    grid = (values["image"].shape[2] // golden.metadata["patch"],) * 2
    positions = interpolate_positions(tower.position_embedding, grid, interpolation="bicubic")
    assert relative_error(positions, values["position_embedding"]) <= 1e-6
    with torch.inference_mode():
        frozen = method.encode_frozen(values["image"])
        first = frozen.global_feature[:, method.backbone.config.vision.width :]
        golden.check("first_image_features", first, tolerance=FORWARD)
        count = golden.metadata["prompting"][1]
        for kind, layer in (("visual", method.to_image_tokens), ("text", method.to_text_tokens)):
            assert layer is not None
            dynamic = layer(first).reshape(len(first), count, -1)
            golden.check(f"dynamic_{kind}_prompts", dynamic, tolerance=FORWARD)
        seen = tower(
            values["image"],
            levels=levels,
            before_block=inserted_tokens(method.image_layer_tokens(first)),
            interpolation="bicubic",
        )
        for level in levels:
            without = torch.cat([seen.levels[level][:, :1], seen.levels[level][:, 1 + count :]], dim=1)
            golden.check(f"tokens_layer{level}", without, tolerance=FORWARD)
        golden.check("image_features", tower.project(seen.tokens[:, 0]), tolerance=FORWARD)
        features = method.encode(values["image"])
    projected = features.global_feature[:, : method.backbone.config.joint_width]
    golden.check("projected_image_features", projected, tolerance=FORWARD)
    for level, patches in zip(levels, features.levels, strict=True):
        golden.check(f"patch_features_layer{level}", patches, tolerance=FORWARD)


def test_sentences_and_the_texts_of_each_image(golden: GoldenSet) -> None:
    for image, name in enumerate(golden.metadata["class_names"]):
        tokens = torch.from_numpy(tokenize(sentences(name)))
        assert torch.equal(tokens, golden.values["sentence_tokens"][image])
        for rounded, prefix in ((True, ""), (False, "unrounded.")):
            method = method_of(golden, image, rounded=rounded)
            with torch.inference_mode():
                texts, first = texts_of(method), golden.values["first_image_features"][only(image)]
                encoded = method.encode_sentences(texts.sentences, texts.ends, first)[0]
                features = Features(torch.cat([first, first], dim=1), (), (0, 0))  # states ask for the first pass alone
                states = method.states(features, texts)[0]
            recorded = golden.values[f"{prefix}sentence_features"][image]
            assert relative_error(encoded, recorded) <= FORWARD
            assert relative_error(states, golden.values[f"{prefix}text_features"][image]) <= FORWARD


def test_images_of_one_batch_have_texts_of_their_own(golden: GoldenSet) -> None:
    method = method_of(golden)
    with torch.inference_mode():
        texts = texts_of(method)
        together = method.states(features_of(golden, method, slice(None)), texts)
        alone = [method.states(features_of(golden, method, only(image)), texts)[0] for image in range(len(together))]
    assert relative_error(together, torch.stack(alone)) <= FORWARD
    assert relative_error(together[0], together[1]) > 100 * FORWARD


@pytest.mark.parametrize("rounded", [True, False])
def test_logits_fusion_scores_and_maps_of_images_in_order(golden: GoldenSet, rounded: bool) -> None:
    values, prefix = golden.values, "" if rounded else "unrounded."
    for image, method in enumerate(of_every_image(golden, rounded=rounded)):

        def close(key: str, ours: Tensor, image: int = image) -> None:
            key = prefix + key
            if key not in values:  # of a reduced copy, on a coarser grid
                key, ours = key + COARSE, ours[..., 3::7, 3::7]
            assert relative_error(ours, values[key][image]) <= FORWARD, f"{key} of image {image}"

        with torch.inference_mode():
            features, texts = features_of(golden, method, only(image)), texts_of(method)
            by_level = method.level_logits(features, method.states(features, texts))
            if rounded:
                for level, logits in zip(golden.metadata["levels"], by_level, strict=True):
                    close(f"patch_logits_layer{level}", logits[0].flatten(1).T)
            mean = torch.stack(by_level).mean(0)
            before = method._stream.get_state()
            fused = method.fused(features, mean)
            assert fused is not None
            assert torch.equal(fused.patches[0], values[f"{prefix}top_patches"][image])
            assert fused.clusterings[0].starts.tolist() == values[f"{prefix}kmeans_start"][image].tolist()
            assert same_clusters(fused.clusterings[0].labels, values[f"{prefix}kmeans_labels"][image])
            close("clustered_features", fused.features[0])
            method._stream.set_state(before)
            scores = method.score(features, texts)
        close("image_score", scores.image_score[0])
        close("anomaly_map", scores.anomaly_map[0])
        close("map_before_smoothing", enlarge_maps(mean, scores.anomaly_map.shape[1:]).softmax(1)[0, 1])


@pytest.mark.parametrize("rounded", [True, False])
def test_losses_gradients_and_two_steps_of_adamw(golden: GoldenSet, rounded: bool) -> None:
    golden.need_image_tower()
    values, run = golden.values, "train" if rounded else "unrounded.train"
    methods = of_every_image(golden, rounded=rounded)
    trained = methods[0].trained_parts()
    optimiser = optimiser_of(recipe_of("adaclip"), trained.values())
    for step, method in enumerate(methods):
        prefix = f"{run}.step{step}."
        method.load_trained(trained)
        features = trained_features(method, golden.values["image"][only(step)])
        targets = Targets(label=values["label"][step : step + 1], mask=values["mask"][step].float())
        losses = method.loss(features, targets, general())
        recorded = values[f"{prefix}loss_parts"].sum(0)
        for index, name in enumerate(("focal", "dice_abnormal", "dice_normal")):
            assert relative_error(losses.terms[name], recorded[index]) <= LOSS[rounded], f"{prefix}{name}"
        assert relative_error(losses.terms["image_focal"], values[f"{prefix}loss_image"]) <= LOSS[rounded]
        assert relative_error(losses.total, values[f"{prefix}loss_total"]) <= LOSS[rounded]

        gradients = dict(
            zip(trained, torch.autograd.grad(losses.total, list(method.trained_parts().values())), strict=True)
        )
        expected, after = in_our_names(values, f"{prefix}grad."), in_our_names(values, f"{prefix}after.")
        for name, part in trained.items():
            error = relative_error(gradients[name], expected[name])
            assert error <= GRADIENT[rounded], f"{prefix} gradient of {name}: {error:.2e}"
            part.grad = gradients[name]
        optimiser.step()
        for name, part in trained.items():
            apart = (part.detach() - after[name]).abs()
            if step == 0:
                clear = expected[name].abs() > SIGNIFICANT * expected[name].abs().max()
                assert float(apart[clear].max()) <= FIRST_STEP, f"{prefix}{name}: {float(apart[clear].max()):.2e} apart"
                assert float(apart.max()) <= SMALL_GRADIENTS, f"{prefix}{name}: {float(apart.max()):.2e} apart"
            else:
                assert float(apart.max()) <= SECOND_STEP[rounded], f"{prefix}{name}: {float(apart.max()):.2e} apart"


def trained_features(method: AdaCLIP, images: Tensor) -> Features:
    with torch.no_grad():
        frozen = method.encode_frozen(images)
    return method.encode_trained(frozen)


def test_the_fusion_alone_with_its_starts_and_labels(golden: GoldenSet) -> None:
    values, unit = golden.values, "unit.fusion."
    count = sum(key.startswith(f"{unit}patch_features_level") for key in values)
    given = [values[f"{unit}patch_features_level{index}"] for index in range(count)]
    logits = torch.stack([values[f"{unit}patch_logits_level{index}"] for index in range(count)]).mean(0)
    stream = np.random.RandomState(golden.metadata["numpy_seed"])
    fused = fuse(
        given,
        logits.softmax(-1)[..., 1],
        clusters=values[f"{unit}kmeans_start"].shape[1],
        fusion="released",
        generator=lambda: stream,
    )
    assert torch.equal(fused.patches, values[f"{unit}top_patches"])
    for image, clustering in enumerate(fused.clusterings):
        assert clustering.starts.tolist() == values[f"{unit}kmeans_start"][image].tolist()
        assert clustering.labels.tolist() == values[f"{unit}kmeans_labels"][image].tolist()
    assert relative_error(fused.features, values[f"{unit}clustered_features"]) <= FORWARD
