"""One random CLIP in the forms in which others publish it, each written by the test itself."""

from __future__ import annotations

import json
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from blemish.backbones.config import BackboneConfig
from blemish.backbones.model import Clip

HUGGINGFACE_HEADS = {"vision": 2, "text": 1}  # width / 64, OpenAI's rule


def tiny_config(**changes: Any) -> BackboneConfig:
    data: dict[str, Any] = {
        "name": "tiny",
        "joint_width": 24,
        "vision": {"image_size": 16, "width": 128, "depth": 3, "heads": 2, "patch_size": 4, "position_grid": 4},
        "text": {"width": 64, "depth": 2, "heads": 1, "context_length": 10, "vocabulary_size": 40},
    }
    return BackboneConfig.from_dict(data | changes)


def tiny_clip(config: BackboneConfig | None = None) -> Clip:
    """A random model whose numbers float16 holds exactly, so that every form of it computes the same."""
    torch.manual_seed(0)
    clip = Clip(config or tiny_config())
    with torch.no_grad():
        for parameter in clip.parameters():
            if parameter.ndim <= 1:  # off its resting value, so that a forgotten one shows
                parameter.add_(torch.randn(parameter.shape), alpha=0.1)
            parameter.copy_(parameter.half())
    return clip.eval()


def outputs(clip: Clip) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    images = torch.randn(2, 3, 16, 16, generator=generator)
    ids = torch.tensor([[38, 5, 6, 39, 0, 0, 0, 0, 0, 0], [38, 7, 39, 0, 0, 0, 0, 0, 0, 0]])
    with torch.inference_mode():
        return clip.image.project(clip.image(images).tokens), clip.text.encode(ids)


def openai_state(clip: Clip) -> dict[str, Tensor]:
    """The parameters in OpenAI's names."""
    state = {}
    for name, tensor in clip.state_dict().items():
        tower, _, rest = name.partition(".")
        for ours, theirs in (
            ("blocks.", "transformer.resblocks."),
            ("attention.in_projection.", "attn.in_proj_"),
            ("attention.out_projection", "attn.out_proj"),
            ("mlp.fc_in", "mlp.c_fc"),
            ("mlp.fc_out", "mlp.c_proj"),
            ("position_embedding", "positional_embedding"),
            ("stem.", "conv1."),
        ):
            rest = rest.replace(ours, theirs)
        if rest == "projection":
            rest = "proj" if tower == "image" else "text_projection"
        state[{"image": f"visual.{rest}", "text": rest}.get(tower, name)] = tensor.clone()
    return state


def huggingface_state(clip: Clip) -> dict[str, Tensor]:
    """The parameters in Hugging Face's names, with the buffers that older versions stored."""
    state = {}
    for name, tensor in clip.state_dict().items():
        tower, _, rest = name.partition(".")
        part = {"image": "vision", "text": "text"}.get(tower)
        if part is None:
            state[name] = tensor
        elif rest == "projection":
            state[f"{'visual' if part == 'vision' else 'text'}_projection.weight"] = tensor.T.contiguous()
        elif ".in_projection." in rest:
            for letter, piece in zip("qkv", tensor.chunk(3), strict=True):
                renamed = rest.replace("attention.in_projection", f"self_attn.{letter}_proj")
                state[f"{part}_model.{renamed.replace('blocks', 'encoder.layers')}"] = piece.contiguous()
        else:
            for ours, theirs in (
                ("ln_pre", "pre_layrnorm"),
                ("ln_post", "post_layernorm"),
                ("ln_final", "final_layer_norm"),
                ("ln_", "layer_norm"),
                ("blocks", "encoder.layers"),
                ("attention.out_projection", "self_attn.out_proj"),
                ("mlp.fc_in", "mlp.fc1"),
                ("mlp.fc_out", "mlp.fc2"),
                ("class_embedding", "embeddings.class_embedding"),
                ("stem", "embeddings.patch_embedding"),
                ("position_embedding", "embeddings.position_embedding.weight"),
                ("token_embedding", "embeddings.token_embedding"),
            ):
                rest = rest.replace(ours, theirs)
            state[f"{part}_model.{rest}"] = tensor
    state["vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    state["text_model.embeddings.position_ids"] = torch.arange(10)[None]
    return {name: tensor.clone() for name, tensor in state.items()}


class _Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.out_proj(x @ self.in_proj_weight[: x.shape[-1]].t())


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.attn = _Attention(width)
        self.ln_1 = nn.LayerNorm(width)
        parts = [("c_fc", nn.Linear(width, 4 * width)), ("gelu", nn.GELU()), ("c_proj", nn.Linear(4 * width, width))]
        self.mlp = nn.Sequential(OrderedDict(parts))
        self.ln_2 = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class _Transformer(nn.Module):
    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.resblocks = nn.Sequential(*(_Block(width) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        return self.resblocks(x)


class _Visual(nn.Module):
    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        vision = config.vision
        assert vision.patch_size is not None
        self.class_embedding = nn.Parameter(torch.empty(vision.width))
        self.positional_embedding = nn.Parameter(torch.empty(vision.position_grid**2 + 1, vision.width))
        self.proj = nn.Parameter(torch.empty(vision.width, config.joint_width))
        self.conv1 = nn.Conv2d(3, vision.width, vision.patch_size, stride=vision.patch_size, bias=False)
        self.ln_pre = nn.LayerNorm(vision.width)
        self.transformer = _Transformer(vision.width, vision.depth)
        self.ln_post = nn.LayerNorm(vision.width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x).flatten(2).transpose(1, 2) + self.positional_embedding[1:] + self.class_embedding
        return self.ln_post(self.transformer(self.ln_pre(x))) @ self.proj


class OpenAiModel(nn.Module):
    """A module tree in OpenAI's names; what its forward computes does not matter, only that it can be scripted."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        text = config.text
        self.positional_embedding = nn.Parameter(torch.empty(text.context_length, text.width))
        self.text_projection = nn.Parameter(torch.empty(text.width, config.joint_width))
        self.logit_scale = nn.Parameter(torch.empty([]))
        self.visual = _Visual(config)
        self.transformer = _Transformer(text.width, text.depth)
        self.token_embedding = nn.Embedding(text.vocabulary_size, text.width)
        self.ln_final = nn.LayerNorm(text.width)
        self.register_buffer("input_resolution", torch.tensor(config.vision.image_size))
        self.register_buffer("context_length", torch.tensor(text.context_length))
        self.vocab_size = text.vocabulary_size
        self.sizes = [1, 2, 3]  # a list of numbers, which the pickle builds by a call

    def forward(self, images: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        x = self.transformer(self.token_embedding(ids) + self.positional_embedding)
        return self.visual(images) * self.logit_scale.exp(), self.ln_final(x) @ self.text_projection


def write_torchscript(clip: Clip, path: Path, *, trace: bool = False, half: bool = True) -> None:
    """An archive as OpenAI published them: weights of products in float16, norms and embeddings in float32."""
    model = OpenAiModel(clip.config).eval()
    model.load_state_dict(openai_state(clip), strict=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated; its files stay
        if trace:
            example = (torch.randn(1, 3, 16, 16), torch.zeros(1, 10, dtype=torch.long))
            torch.jit.trace(model, example, check_trace=False).save(str(path))
            return
        if half:
            for module in model.modules():
                if isinstance(module, nn.Linear | nn.Conv2d | _Attention):
                    module.half()
        torch.jit.script(model).save(str(path))


def write_open_clip(clip: Clip, folder: Path, *, config: dict[str, Any] | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(openai_state(clip), folder / "open_clip_model.safetensors")
    if config is not None:
        (folder / "open_clip_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder / "open_clip_model.safetensors"


def write_huggingface(clip: Clip, folder: Path, *, config: dict[str, Any] | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(huggingface_state(clip), folder / "model.safetensors")
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder / "model.safetensors"
