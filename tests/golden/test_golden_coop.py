"""CoOp and CoCoOp against what the authors' learners compute: prompts, texts, logits, losses, gradients, two steps of SGD."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from golden_sets import GoldenSet, load, relative_error, sets
from torch import Tensor

from blemish.language import general
from blemish.methods.base import Features, Targets
from blemish.methods.cocoop import CoCoOp, CoCoOpConfig
from blemish.methods.coop import CoOp, CoOpConfig, CoOpTexts
from blemish.methods.prompting import embed_words
from blemish.training import recipe_of
from blemish.training.optimisers import optimiser_of, rate_of_epoch

FORWARD, SCORE, GRADIENT = 5e-6, 2e-5, 1e-5
LOSS, AFTER_STEP = 5e-6, 4e-7  # absolute; a step's weight decay is 1e-6


@pytest.fixture(params=sets("coop"), scope="module")
def golden(request: pytest.FixtureRequest) -> GoldenSet:
    path: Path = request.param
    return load(path)


def words_of(golden: GoldenSet, names: str) -> dict[str, str]:
    """The options that make one of the set's lists of names."""
    (normal, product), (abnormal, other) = (name.split(" ", 1) for name in golden.metadata[names])
    assert product == other
    return {"normal_word": normal, "abnormal_word": abnormal, "object_name": product}


def learned(golden: GoldenSet, variant: str) -> dict[str, Tensor]:
    """The tensors of a variant under the names of its checkpoint."""
    return {
        key.removeprefix(f"{variant}."): value for key, value in golden.weights.items() if key.startswith(f"{variant}.")
    }


def method_of(golden: GoldenSet, variant: str) -> CoOp:
    """A variant's method with its context, read as an official checkpoint."""
    if variant == "cocoop":
        release = CoCoOp.from_release(learned(golden, variant))
        assert release is not None
        config: dict[str, Any] = release.options | words_of(golden, "class_names")
        method: CoOp = CoCoOp(golden.backbone(), CoCoOpConfig(**config))
    else:
        release = CoOp.from_release(learned(golden, variant))
        assert release is not None
        described = golden.metadata["variants"][variant]
        assert release.options["class_specific"] == described["class_specific"]
        config = release.options | words_of(golden, described["names"]) | {"name_position": described["position"]}
        method = CoOp(golden.backbone(), CoOpConfig(**config))
    method.load_trained(release.parts)
    return method


def variants(golden: GoldenSet) -> list[str]:
    return [*golden.metadata["variants"], "cocoop"]


def texts_of(method: CoOp) -> CoOpTexts:
    texts = method.encode_texts(general())
    assert isinstance(texts, CoOpTexts)
    return texts


def features_of(golden: GoldenSet, method: CoOp) -> Features:
    """What the tower gives of the images; of a reduced copy what is recorded."""
    if golden.has_image_tower:
        return method.encode(golden.values["image"])
    patches = F.normalize(golden.values["ours.patch_features_raw"], dim=-1)
    side = round(patches.shape[1] ** 0.5)
    return Features(F.normalize(golden.values["image_features_raw"], dim=-1), (patches,), (side, side))


def shift_of(golden: GoldenSet, method: CoOp) -> Tensor | None:
    if not isinstance(method, CoCoOp):
        return None
    return method.meta_net(features_of(golden, method).global_feature)


def beside_the_context(method: CoOp, recorded: Tensor) -> None:
    """Compares token ids but for the context: where words start it, the release has those words as placeholders."""
    n = method.config.context_tokens
    assert torch.equal(method.template().ids[:, 1 + n :], recorded[:, 1 + n :].long())


def test_tokens_prompts_and_text_features(golden: GoldenSet) -> None:
    for variant in variants(golden):
        method = method_of(golden, variant)
        with torch.inference_mode():
            shift = shift_of(golden, method)
            if shift is not None:
                golden.check("cocoop.bias", shift, tolerance=FORWARD)
            golden.check(f"{variant}.prompts", method.embed_prompts(shift), tolerance=FORWARD)
            golden.check(f"{variant}.text_features_raw", method.embed_states(shift), tolerance=FORWARD)
    template = method_of(golden, "coop").template()
    n = golden.weights["coop.ctx"].shape[-2]
    assert torch.equal(template.ids, golden.values["coop.tokens"].long())
    beside_the_context(method_of(golden, "cocoop"), golden.values["cocoop.tokens"])
    assert torch.equal(template.embedded[:, :1], golden.values["coop.token_prefix"])
    assert torch.equal(template.embedded[:, 1 + n :], golden.values["coop.token_suffix"])


def test_features_logits_and_scores(golden: GoldenSet) -> None:
    for variant in variants(golden):
        method = method_of(golden, variant)
        with torch.inference_mode():
            features, texts = features_of(golden, method), texts_of(method)
            recorded = F.normalize(golden.values["image_features_raw"], dim=-1)
            assert relative_error(features.global_feature, recorded) <= FORWARD
            logits = method.image_logits(features, method.states(features, texts))
            golden.check(f"{variant}.logits", logits, tolerance=FORWARD)
            golden.check(f"{variant}.score", method.score(features, texts).image_score, tolerance=SCORE)


def test_our_maps_of_plain_patch_features(golden: GoldenSet) -> None:
    method = method_of(golden, "coop")
    with torch.inference_mode():
        features, texts = features_of(golden, method), texts_of(method)
        recorded = F.normalize(golden.values["ours.patch_features_raw"], dim=-1)
        assert relative_error(features.levels[0], recorded) <= FORWARD
        on_the_grid = method.patch_logits(features, texts.states).softmax(1)[:, 1]
        golden.check("ours.coop.map", on_the_grid, tolerance=SCORE)
        scores = method.score(features, texts)
        enlarged = F.interpolate(on_the_grid[:, None], scores.anomaly_map.shape[-2:], mode="bilinear")[:, 0]
        assert relative_error(scores.anomaly_map, enlarged) <= FORWARD


def test_a_context_may_start_from_words(golden: GoldenSet) -> None:
    words = golden.metadata["start_words"]
    count = len(golden.values["coop_words.start"])
    config = CoOpConfig(context_tokens=count, start=words, **words_of(golden, "class_names"))
    method = CoOp(golden.backbone(), config)
    assert torch.equal(method.context, golden.values["coop_words.start"])
    beside_the_context(method, golden.values["coop_words.tokens"])
    with torch.inference_mode():
        features = features_of(golden, method)
        logits = method.image_logits(features, method.states(features, texts_of(method)))
        golden.check("coop_words.logits", logits, tolerance=FORWARD)
    assert torch.equal(embed_words(method.backbone.text, CoCoOpConfig().start), golden.values["cocoop.start"])


@pytest.mark.parametrize(("method", "epochs"), [("coop", 50), ("cocoop", 10)])
def test_the_learning_rate_of_every_epoch(golden: GoldenSet, method: str, epochs: int) -> None:
    recipe = recipe_of(method, epochs=epochs)
    rates = [rate_of_epoch(recipe, epoch) for epoch in range(1, epochs + 1)]
    assert rates == pytest.approx(golden.values[f"lr_{epochs}_epochs"].tolist(), abs=1e-12, rel=0)


def test_losses_gradients_and_two_steps_of_sgd(golden: GoldenSet) -> None:
    values = golden.values
    targets = Targets(label=values["label"], mask=torch.zeros(len(values["label"]), 1, 1))
    for variant in variants(golden):
        method = method_of(golden, variant)
        features = features_of(golden, method)
        optimiser = optimiser_of(recipe_of(method.name), method.trained_parts().values())
        for step in (1, 2):
            loss = method.loss(features, targets, general()).total
            recorded = float(values[f"{variant}.loss" if step == 1 else f"{variant}.loss2"])
            assert float(loss.detach()) == pytest.approx(recorded, abs=LOSS, rel=0)
            optimiser.zero_grad()
            loss.backward()
            for name, part in method.trained_parts().items():
                theirs = "ctx" if name == "context" else name
                assert part.grad is not None
                if step == 1:
                    error = relative_error(part.grad, values[f"{variant}.grad.{theirs}"])
                    assert error <= GRADIENT, f"{variant} gradient of {name}: {error:.2e}"
            optimiser.step()
            for name, part in method.trained_parts().items():
                theirs = "ctx" if name == "context" else name
                apart = float((part.detach() - values[f"{variant}.after_step{step}.{theirs}"]).abs().max())
                assert apart <= AFTER_STEP, f"{variant} {name} after step {step}: {apart:.2e} apart"
