"""Finds and reads golden sets: the full ones of $BLEMISH_GOLDEN and the reduced copies that lie beside this file.

A reduced copy is one .npz a set, as tests/golden/reduce.py writes it. Values that it holds on a coarser grid are named
`<key>_from3_every7`: every seventh row and column from the fourth on.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from blemish.backbones.config import BackboneConfig, TextConfig, VisionConfig
from blemish.backbones.model import Clip
from blemish.backbones.text import TextTower
from blemish.backbones.vision import ImageTower
from blemish.io.codec import to_dict

HERE = Path(__file__).parent
FOLDER = Path(os.environ.get("BLEMISH_GOLDEN") or HERE.parents[2] / "shared" / "golden")
COARSE = "_from3_every7"
TEXT_HEADS = 4  # of every set; golden/README.md
VISION_HEADS = 4  # of every set but faprompt's, unless its metadata says otherwise
FAPROMPT_HEAD_WIDTH = 64  # vision heads = width / 64 in every faprompt set


@dataclass(frozen=True)
class GoldenSet:
    """Weights (names without `clip.` or `clip/` in `clip`) and values of one set, as float32 where they are floats."""

    name: str
    reduced: bool
    clip: dict[str, Tensor]
    weights: dict[str, Tensor]
    values: dict[str, Any] = field(repr=False)  # tensors; strings as numpy arrays
    metadata: dict[str, Any]

    def check(self, key: str, ours: Tensor, *, tolerance: float) -> None:
        """Fails where `ours` is further from the value than `tolerance` (relative: difference / largest size)."""
        if key in self.values:
            error = relative_error(ours, self.values[key])
        else:
            error = relative_error(ours[..., 3::7, 3::7], self.values[key + COARSE])
        assert error <= tolerance, f"{self.name} {key}: relative error {error:.2e} > {tolerance:.0e}"

    def text_tower(self) -> TextTower:
        width, joint_width = self.clip["text_projection"].shape
        config = TextConfig(
            width=width,
            depth=_depth(self.clip, "transformer.resblocks."),
            heads=self.metadata.get("text_heads", self.metadata.get("heads", TEXT_HEADS)),
            context_length=len(self.clip["positional_embedding"]),
            vocabulary_size=len(self.clip["token_embedding.weight"]),
            activation=self.metadata.get("activation", "quick_gelu"),
        )
        tower = TextTower(config, joint_width)
        tower.load_state_dict(_renamed(self.clip, vision=False))
        return tower.requires_grad_(False)

    def image_tower(self) -> ImageTower:
        self.need_image_tower()
        width, joint_width = self.clip["visual.proj"].shape
        side = math.isqrt(len(self.clip["visual.positional_embedding"]) - 1)
        patch_size = self.clip["visual.conv1.weight"].shape[-1]
        config = VisionConfig(
            image_size=side * patch_size,
            width=width,
            depth=_depth(self.clip, "visual.transformer.resblocks."),
            heads=width // FAPROMPT_HEAD_WIDTH if self.name.startswith("faprompt") else self._vision_heads,
            patch_size=patch_size,
            position_grid=side,
            activation=self.metadata.get("activation", "quick_gelu"),
        )
        tower = ImageTower(config, joint_width)
        tower.load_state_dict(_renamed(self.clip, vision=True))
        return tower.requires_grad_(False)

    @property
    def _vision_heads(self) -> int:
        return int(self.metadata.get("vision_heads", self.metadata.get("heads", VISION_HEADS)))

    def backbone(self, **where: Any) -> Clip:
        """Both towers; `where` says where a method acts in them (levels, value_value_depth, deep_text_blocks)."""
        text = self.text_tower()
        vision = self.image_tower() if self.has_image_tower else self._stand_in(text.projection.shape[1])
        shape = {"vision": to_dict(vision.config), "text": to_dict(text.config)}
        config = {"name": self.name, "joint_width": text.projection.shape[1], **shape, **where}
        clip = Clip(BackboneConfig.from_dict(config))
        clip.image, clip.text = vision, text
        clip.logit_scale = nn.Parameter(self.clip["logit_scale"], requires_grad=False)
        return clip

    @property
    def has_image_tower(self) -> bool:
        """False for reduced copies, which begin at what the tower gave."""
        return "visual.proj" in self.clip

    def need_image_tower(self) -> None:
        """Skips the test where the set is a reduced copy without one."""
        if not self.has_image_tower:
            pytest.skip(f"{self.name}: the image tower needs the full golden set, here is the reduced copy")

    def _stand_in(self, joint_width: int) -> ImageTower:
        """A random tower of the recorded shape, in place of the one that the reduced copy lacks."""
        patch = self.metadata.get("patch", 14)
        side = self.metadata.get("position_grid", 7)
        width = self.metadata.get("vision_width", 64)
        depth = max(self.metadata.get("levels", [1]))
        heads = self._vision_heads
        shape = {"image_size": side * patch, "patch_size": patch, "position_grid": side}
        return ImageTower(VisionConfig(**shape, width=width, depth=depth, heads=heads), joint_width)

    def numbered(self, prefix: str) -> Tensor:
        """The weights prefix0, prefix1, ... stacked."""
        found = [key for key in self.weights if key.startswith(prefix) and key.removeprefix(prefix).isdigit()]
        return torch.stack([self.weights[f"{prefix}{index}"] for index in range(len(found))])


def relative_error(ours: Tensor, reference: Tensor) -> float:
    """Largest difference over largest magnitude of the reference."""
    assert ours.shape == reference.shape, f"shape {tuple(ours.shape)} instead of {tuple(reference.shape)}"
    ours = ours.detach()
    return float((ours.double() - reference.double()).abs().max() / reference.double().abs().max())


def sets(kind: str) -> list[Any]:
    """Parameters for pytest: every set of a kind ("dapo", "anomalyclip", …); where the full ones are missing, a skip."""
    ending = "values.npz" if kind == "faprompt" else "values.safetensors"
    full = sorted(FOLDER.glob(f"{kind}_*.{ending}"))
    reduced = sorted(HERE.glob(f"{kind}_*.npz"))
    parameters = [pytest.param(path, id=path.name.split(".")[0]) for path in full]
    if not full:
        reason = f"no full {kind} sets in {FOLDER} (set BLEMISH_GOLDEN)"
        parameters = [pytest.param(None, id=f"{kind}_full", marks=pytest.mark.skip(reason=reason))]
    return parameters + [pytest.param(path, id=path.name.split(".")[0] + "-reduced") for path in reduced]


@cache
def load(path: Path) -> GoldenSet:
    """The set whose values are in `path` (weights beside it), or the reduced copy `path`."""
    name = path.name.split(".")[0]
    metadata: dict[str, Any] = {}
    if path.parent == HERE:
        everything = read_packed(path)
        metadata = json.loads(str(everything.pop("metadata"))) if "metadata" in everything else {}
        weights = {key.removeprefix("weights|"): _tensor(a) for key, a in everything.items() if key[:8] == "weights|"}
        values = {key.removeprefix("values|"): _tensor(a) for key, a in everything.items() if key[:7] == "values|"}
        rows = weights.pop("clip.token_embedding.rows").long()
        table = torch.zeros(49408, weights["clip.token_embedding.weight"].shape[1])
        table[rows] = weights["clip.token_embedding.weight"]
        weights["clip.token_embedding.weight"] = table
    elif path.suffix == ".npz":
        with np.load(path) as arrays:
            values = {key: _tensor(arrays[key]) for key in arrays.files}
        with np.load(path.with_name(f"{name}.weights.npz")) as arrays:
            weights = {key.replace("clip/", "clip.", 1): _tensor(arrays[key]) for key in arrays.files}
    else:
        weights, values = ({}, {})
        for target, part in ((weights, "weights"), (values, "values")):
            with safe_open(path.with_name(f"{name}.{part}.safetensors"), framework="pt") as file:
                target.update({key: _as_float32(file.get_tensor(key)) for key in file.keys()})  # noqa: SIM118
                metadata |= {key: _plain(text) for key, text in (file.metadata() or {}).items()}
    return GoldenSet(
        name=name,
        reduced=path.parent == HERE,
        clip={key.removeprefix("clip."): weights[key] for key in weights if key.startswith("clip.")},
        weights={key: tensor for key, tensor in weights.items() if not key.startswith("clip.")},
        values=values,
        metadata=metadata,
    )


def read_packed(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays of a file that `reduce.py` wrote: bytes of equal significance lie together, for the compression."""
    with np.load(path) as file:
        layout = json.loads(str(file["layout"]))
        arrays = {}
        for index, (key, (dtype, shape)) in enumerate(layout.items()):
            planes = file[f"{index}"]  # [itemsize, entries]
            arrays[key] = np.frombuffer(np.ascontiguousarray(planes.T).tobytes(), dtype=dtype).reshape(shape)
    return arrays


def _tensor(array: np.ndarray[Any, Any]) -> Any:
    if array.dtype.kind not in "fiub":
        return array
    tensor = torch.from_numpy(array.copy())
    return tensor.float() if array.dtype == np.float16 else tensor


def _as_float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype == torch.float16 else tensor


def _plain(text: str) -> Any:
    """The value of a piece of metadata: JSON, or else plain text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _depth(clip: dict[str, Tensor], prefix: str) -> int:
    return 1 + max(int(key.removeprefix(prefix).split(".")[0]) for key in clip if key.startswith(prefix))


def _renamed(clip: dict[str, Tensor], *, vision: bool) -> dict[str, Tensor]:
    """OpenAI's names of one tower as ours."""
    renamed = {}
    for key, tensor in clip.items():
        if key.startswith("visual.") != vision or key == "logit_scale":
            continue
        name = key.removeprefix("visual.")
        for theirs, ours in (
            ("transformer.resblocks", "blocks"),
            ("attn.in_proj_", "attention.in_projection."),
            ("attn.out_proj", "attention.out_projection"),
            ("mlp.c_fc", "mlp.fc_in"),
            ("mlp.c_proj", "mlp.fc_out"),
            ("positional_embedding", "position_embedding"),
            ("text_projection", "projection"),
            ("conv1", "stem"),
        ):
            name = name.replace(theirs, ours)
        renamed["projection" if name == "proj" else name] = tensor
    return renamed
