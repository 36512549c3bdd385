"""AnomalyCLIP on a tiny random backbone: what must hold whatever the weights are, and how releases are read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny import TINY, random_images, tiny_backbone
from torch import Tensor

from blemish import methods
from blemish.backbones.catalog import catalog
from blemish.backbones.model import Clip
from blemish.errors import ModelError, UnknownNameError, UsageError
from blemish.language import Vocabulary, parse_defects
from blemish.methods.anomalyclip import AnomalyCLIP, AnomalyCLIPConfig
from blemish.methods.base import Features, Scores, Targets

DEFECTS = parse_defects("scratch, hole")


@pytest.fixture(scope="module")
def backbone() -> Clip:
    return tiny_backbone()


def anomalyclip(backbone: Clip, **options: Any) -> AnomalyCLIP:
    """The method with prompts far enough apart that each of them matters."""
    torch.manual_seed(3)
    method = AnomalyCLIP(backbone, AnomalyCLIPConfig(**options))
    for part in method.trained_parts().values():
        torch.nn.init.normal_(part, std=0.5)
    return method


def scored(method: AnomalyCLIP, images: Tensor, vocabulary: Vocabulary = DEFECTS) -> Scores:
    with torch.inference_mode():
        return method.score(method.encode(images), method.encode_texts(vocabulary))


def targets(count: int = 3) -> Targets:
    mask = torch.zeros(count, 64, 64)
    mask[0, 10:30, 20:40] = 1
    return Targets(torch.tensor([1, 0, 0][:count]), mask)


def test_parameters_are_the_specification_s() -> None:
    with torch.device("meta"):
        method = AnomalyCLIP(Clip(catalog()["ViT-L-14-336"].config))
    counts = {name: part.numel() for name, part in method.trained_parts().items()}
    assert counts == {"normal_context": 9_216, "abnormal_context": 9_216, "deep_tokens": 24_576}
    assert sum(counts.values()) == 43_008


def test_the_recipe_is_the_authors() -> None:
    from blemish.training.recipe import recipe_of

    recipe = recipe_of("anomalyclip")
    assert (recipe.epochs, recipe.batch_size, recipe.rate, recipe.betas, recipe.seed) == (
        15,
        8,
        1e-3,
        (0.5, 0.999),
        111,
    )


def test_scores_have_the_promised_shapes_and_ranges(backbone: Clip) -> None:
    scores = scored(anomalyclip(backbone), random_images())
    assert scores.types == ("scratch", "hole")
    assert scores.anomaly_map.shape == (3, 64, 64)
    assert scores.type_maps.shape == (3, 2, 8, 8)
    for tensor in (scores.image_score, scores.anomaly_map, scores.type_maps, scores.type_scores):
        assert tensor.min() >= 0
        assert tensor.max() <= 1
    assert torch.allclose(scores.type_scores.sum(1), scores.image_score, atol=1e-6)


def test_the_names_that_are_asked_for_never_move_the_score(backbone: Clip) -> None:
    method, images = anomalyclip(backbone), random_images()
    few, many = (scored(method, images, parse_defects(names)) for names in ("scratch", "stain, hole, dent"))
    assert torch.equal(few.image_score, many.image_score)
    assert torch.equal(few.anomaly_map, many.anomaly_map)


def test_the_map_of_several_levels_is_their_mean(backbone: Clip) -> None:
    method, images = anomalyclip(backbone, levels="backbone"), random_images()
    with torch.inference_mode():
        features, texts = method.encode(images), method.encode_texts(DEFECTS)
        together = method.score(features, texts).anomaly_map
        alone = [
            method.score(Features(features.global_feature, (level,), features.grid), texts).anomaly_map
            for level in features.levels
        ]
    assert len(alone) == len(TINY.levels)
    assert torch.allclose(together, torch.stack(alone).mean(0), atol=1e-6)
    assert torch.equal(alone[-1], scored(anomalyclip(backbone), images).anomaly_map)


def test_the_loss_of_the_last_level_four_times_is_that_of_four_equal_levels(backbone: Clip) -> None:
    """The release before April 2025 collected the last level four times, with weight 1: the same training."""
    features = anomalyclip(backbone).encode(random_images())
    four = replace(features, levels=features.levels * 4)
    last = anomalyclip(backbone).loss(features, targets(), DEFECTS).total
    old = anomalyclip(backbone, local_loss=1.0).loss(four, targets(), DEFECTS).total
    assert torch.allclose(last, old, rtol=1e-6)


def test_the_loss_is_the_sum_of_its_terms_with_their_weights(backbone: Clip) -> None:
    method = anomalyclip(backbone, local_loss=2.5)
    losses = method.loss(method.encode(random_images()), targets(), DEFECTS)
    local = losses.terms["focal"] + losses.terms["dice_abnormal"] + losses.terms["dice_normal"]
    assert torch.allclose(losses.total, 2.5 * local + losses.terms["image_cross_entropy"])


def test_types_of_the_training_data_change_nothing(backbone: Clip) -> None:
    method = anomalyclip(backbone)
    features = method.encode(random_images())
    typed = replace(targets(), type_id=torch.tensor([2, 0, 0]))
    ours = method.loss(features, typed, DEFECTS).total
    assert torch.equal(ours, method.loss(features, targets(), parse_defects("dent")).total)


def test_images_without_a_mask_teach_only_the_image_level(backbone: Clip) -> None:
    method = anomalyclip(backbone)
    features = method.encode(random_images())
    nobody = method.loss(features, replace(targets(), has_mask=torch.zeros(3, dtype=torch.bool)), DEFECTS)
    assert torch.equal(nobody.total, nobody.terms["image_cross_entropy"])
    nobody.total.backward()


def test_every_trained_part_gets_a_gradient_and_the_backbone_none(backbone: Clip) -> None:
    method = anomalyclip(backbone)
    method.loss(method.encode(random_images()), targets(), DEFECTS).total.backward()
    for name, part in method.trained_parts().items():
        assert part.grad is not None, name
        assert part.grad.abs().sum() > 0, name
    assert all(part.grad is None for part in method.backbone.parameters())


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("image_score", ("cls", "cls+map")),
        ("levels", ("last", "backbone")),
        ("cls_norm", (False, True)),
        ("placement", ("overwrite", "insert")),
        ("smoothing", (0.0, 1.0)),
        ("abnormal_word", ("damaged", "broken")),
        ("context_tokens", (12, 3)),
        ("deep_blocks", (None, (1, 4))),
        ("deep_tokens", (4, 0)),
    ],
)
def test_each_option_changes_what_it_names(backbone: Clip, option: str, values: tuple[Any, ...]) -> None:
    seen = set()
    for value in values:
        scores = scored(anomalyclip(backbone, **{option: value}), random_images())
        seen.add((round(float(scores.image_score.sum()), 5), round(float(scores.anomaly_map.max()), 5)))
    assert len(seen) == len(values)


def test_options_that_cannot_be_are_refused(backbone: Clip) -> None:
    with pytest.raises(UsageError, match="context_tokens must be at least 1"):
        AnomalyCLIPConfig(context_tokens=0)
    with pytest.raises(UsageError, match=r"deep_blocks \[2, 9\] are outside 1\.\.4"):
        AnomalyCLIP(backbone, AnomalyCLIPConfig(deep_blocks=(2, 9)))
    with pytest.raises(UnknownNameError, match="did you mean 'levels'"):
        methods.build("anomalyclip", backbone, {"level": "last"})
    with pytest.raises(UsageError, match="70 context tokens"):
        anomalyclip(backbone, context_tokens=70, object_name="a very long name of a product").encode_texts(DEFECTS)


def test_prompts_imported_when_they_counted_as_faprompt_s_score_the_same(backbone: Clip) -> None:
    method = anomalyclip(backbone, deep_blocks=(2, 3), round_deep_tokens=True)
    old_options = {
        "abnormality_prompts": 1,
        "normal_tokens": 12,
        "abnormal_tokens": 12,
        "deep_tokens": 4,
        "round_deep_tokens": True,
        "selection": "released",
        "deep_blocks": [2, 3],
        "prior": False,
        "share_normal_tokens": False,
        "image_score": "cls",
        "smoothing": 4 / 14,
    }
    old = methods.build("faprompt", backbone, old_options)
    assert method.deep_tokens is not None
    old.load_trained(
        {
            "normal_tokens": method.normal_context,
            "abnormal_tokens": method.abnormal_context[None],
            "deep_tokens": method.deep_tokens,
        }
    )
    images = random_images()
    with torch.inference_mode():
        before = old.score(old.encode(images), old.encode_texts(DEFECTS))
    now = scored(method, images)
    assert torch.allclose(before.image_score, now.image_score, atol=1e-6)
    assert torch.allclose(before.anomaly_map, now.anomaly_map, atol=1e-6)


# releases


def released(method: AnomalyCLIP) -> dict[str, Tensor]:
    """The method's parts as the authors' code saves them, with the projections that it never uses."""
    template, n = method.template(), method.config.context_tokens
    state = {"ctx_pos": method.normal_context[None, None], "ctx_neg": method.abnormal_context[None, None]}
    assert method.deep_tokens is not None
    for index, matrix in enumerate(method.deep_tokens):
        state[f"compound_prompts_text.{index}"] = matrix
        state[f"compound_prompt_projections.{index}.weight"] = torch.zeros(5, 3)
    for row, name in enumerate(("pos", "neg")):
        state[f"token_prefix_{name}"] = template.embedded[row][None, None, :1]
        state[f"token_suffix_{name}"] = template.embedded[row][None, None, 1 + n :]
        state[f"tokenized_prompts_{name}"] = template.ids[row].int()[None, None]
    return {f"prompt_learner.{name}": tensor.detach() for name, tensor in state.items()}


def test_a_release_is_read_with_and_without_its_prefix(backbone: Clip) -> None:
    method = anomalyclip(backbone, deep_blocks=(2, 3), round_deep_tokens=True)
    for prefix in ("prompt_learner.", ""):
        state = {prefix + name.removeprefix("prompt_learner."): value for name, value in released(method).items()}
        release = AnomalyCLIP.from_release(state)
        assert release is not None
        again = AnomalyCLIP(backbone, AnomalyCLIPConfig(**release.options))
        again.load_trained(release.parts)
        assert again.fingerprint() == method.fingerprint()


def test_checkpoints_of_other_methods_and_damaged_ones(backbone: Clip) -> None:
    state = released(anomalyclip(backbone))
    assert AnomalyCLIP.from_release({"ctx": torch.zeros(16, 32)}) is None
    assert AnomalyCLIP.from_release(state | {"prompt_learner.patch_meta_net.linear1.weight": torch.zeros(2, 2)}) is None
    without = {name: value for name, value in state.items() if not name.endswith("prompts_text.0")}
    with pytest.raises(ModelError, match=r"lack compound_prompts_text\.0"):
        AnomalyCLIP.from_release(without)
    wide = state | {"prompt_learner.ctx_neg": torch.zeros(1, 1, 12, 33)}
    with pytest.raises(ModelError, match=r"found \[1, 1, 12, 32\] and \[1, 1, 12, 33\]"):
        AnomalyCLIP.from_release(wide)
    release = AnomalyCLIP.from_release({name: torch.zeros(*value.shape[:-1], 40) for name, value in state.items()})
    assert release is not None
    with pytest.raises(
        ModelError, match=r"normal_context is \[12, 40\] in the checkpoint, but \[12, 32\] on this backbone"
    ):
        AnomalyCLIP(backbone, AnomalyCLIPConfig(**release.options)).load_trained(release.parts)
