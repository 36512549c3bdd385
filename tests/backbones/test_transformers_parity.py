"""Both towers against transformers' CLIP on the same random weights, at the shapes of OpenAI's models."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from small_towers import disturbed
from torch import Tensor
from transformers import CLIPConfig, CLIPModel

from blemish.backbones.config import BackboneConfig
from blemish.backbones.model import Clip

TOLERANCE = 1e-5  # relative: largest difference / largest size


@dataclass(frozen=True)
class Shape:
    name: str
    patch_size: int
    image_size: int  # native
    other_size: int
    vision: tuple[int, int, int]  # width, depth, heads
    text: tuple[int, int, int]
    joint_width: int


# L/14 has the full width and depth on a small grid, so that the test stays short.
SHAPES = [
    Shape("ViT-B-32", 32, 224, 288, (768, 12, 12), (512, 12, 8), 512),
    Shape("ViT-B-16", 16, 224, 176, (768, 12, 12), (512, 12, 8), 512),
    Shape("ViT-L-14", 14, 56, 84, (1024, 24, 16), (768, 12, 12), 768),
]


SLOW = {"ViT-L-14"}


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(shape, id=shape.name, marks=[pytest.mark.slow] if shape.name in SLOW else []) for shape in SHAPES
    ],
)
def pair(request: pytest.FixtureRequest) -> tuple[Shape, Clip, CLIPModel]:
    shape: Shape = request.param
    vision, text = ({"width": w, "depth": d, "heads": h} for w, d, h in (shape.vision, shape.text))
    config = BackboneConfig.from_dict(
        {
            "name": shape.name,
            "joint_width": shape.joint_width,
            "vision": vision
            | {
                "image_size": shape.image_size,
                "patch_size": shape.patch_size,
                "position_grid": shape.image_size // shape.patch_size,
            },
            "text": text,
        }
    )
    torch.manual_seed(0)
    reference = CLIPModel(reference_config(config)).eval()
    disturbed(reference)
    with torch.device("meta"):
        ours = Clip(config)
    ours.load_state_dict(to_our_names(reference.state_dict()), assign=True)
    return shape, ours.eval(), reference


def reference_config(config: BackboneConfig) -> CLIPConfig:
    vision, text = config.vision, config.text
    shared = {"projection_dim": config.joint_width, "hidden_act": "quick_gelu"}
    return CLIPConfig(
        text_config=shared
        | {
            "hidden_size": text.width,
            "intermediate_size": 4 * text.width,
            "num_hidden_layers": text.depth,
            "num_attention_heads": text.heads,
            "eos_token_id": 49407,
            "bos_token_id": 49406,
        },
        vision_config=shared
        | {
            "hidden_size": vision.width,
            "intermediate_size": 4 * vision.width,
            "num_hidden_layers": vision.depth,
            "num_attention_heads": vision.heads,
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
        },
        projection_dim=config.joint_width,
    )


def to_our_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """transformers' names as ours; query, key and value are stacked."""
    renamed = {"logit_scale": state["logit_scale"]}
    for theirs, ours in (("vision", "image"), ("text", "text")):
        renamed[f"{ours}.projection"] = state[f"{'visual' if theirs == 'vision' else 'text'}_projection.weight"].T
        model = f"{theirs}_model."
        for key, tensor in state.items():
            if not key.startswith(model) or key.endswith("position_ids") or ".k_proj." in key or ".v_proj." in key:
                continue
            merged = tensor
            if ".q_proj." in key:
                merged = torch.cat([state[key.replace(".q_proj.", f".{letter}_proj.")] for letter in "qkv"])
            renamed[f"{ours}.{our_name(key.removeprefix(model))}"] = merged
    return renamed


def our_name(name: str) -> str:
    for theirs, ours in (
        ("encoder.layers", "blocks"),
        ("layer_norm", "ln_"),
        ("self_attn.q_proj", "attention.in_projection"),
        ("self_attn.out_proj", "attention.out_projection"),
        ("mlp.fc1", "mlp.fc_in"),
        ("mlp.fc2", "mlp.fc_out"),
        ("embeddings.class_embedding", "class_embedding"),
        ("embeddings.patch_embedding", "stem"),
        ("embeddings.position_embedding.weight", "position_embedding"),
        ("embeddings.token_embedding", "token_embedding"),
        ("pre_layrnorm", "ln_pre"),
        ("post_layernorm", "ln_post"),
        ("final_ln_", "ln_final"),
    ):
        name = name.replace(theirs, ours)
    return name


def assert_close(ours: Tensor, reference: Tensor) -> None:
    error = float((ours - reference).abs().max() / reference.abs().max())
    assert error <= TOLERANCE, f"relative error {error:.1e}"


@pytest.mark.parametrize("native", [True, False], ids=["native size", "another size"])
def test_image_tower_equals_transformers(pair: tuple[Shape, Clip, CLIPModel], native: bool) -> None:
    shape, ours, reference = pair
    size = shape.image_size if native else shape.other_size
    images = torch.randn(2, 3, size, size)
    with torch.inference_mode():
        seen = reference.vision_model(images, output_hidden_states=True, interpolate_pos_encoding=not native)
        levels = range(1, shape.vision[1] + 1)
        features = ours.image(images, levels=levels, interpolation="bicubic")
        for level in levels:
            assert_close(features.levels[level], seen.hidden_states[level])
        joint = ours.image.project(features.tokens[:, 0])
        assert_close(joint, reference.visual_projection(seen.pooler_output))


def test_text_tower_equals_transformers(pair: tuple[Shape, Clip, CLIPModel]) -> None:
    _, ours, reference = pair
    ids = torch.zeros(3, 77, dtype=torch.long)
    for row, length in zip(ids, (0, 6, 75), strict=True):
        row[0] = 49406
        row[1 : 1 + length] = torch.randint(1, 49406, (length,))
        row[1 + length] = 49407
    with torch.inference_mode():
        joint = reference.text_projection(reference.text_model(ids).pooler_output)
        assert_close(ours.text.encode(ids), joint)
        assert_close(ours.text.encode(ids[:2]), joint[:2])  # cut to 8 tokens
