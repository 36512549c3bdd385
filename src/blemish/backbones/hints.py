"""What the configuration files of other projects say about a model file beside them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blemish.backbones.config import Activation
from blemish.backbones.state_names import Naming
from blemish.errors import ModelError

__all__ = ["OWN_CONFIG", "Hints", "read_hints"]

OWN_CONFIG = "config.json"  # ours and Hugging Face's
OPEN_CLIP_CONFIG = "open_clip_config.json"
PREPROCESSOR_CONFIG = "preprocessor_config.json"
OPEN_CLIP_HEAD_WIDTH = 64
HUGGINGFACE_HEADS = (12, 8)  # vision and text, where Hugging Face's CLIP configuration does not say
EPSILON = 1e-5  # of every layer norm


@dataclass(frozen=True)
class Hints:
    """What weights cannot show; None where no configuration says it."""

    vision_heads: int | None = None
    text_heads: int | None = None
    activation: Activation | None = None
    mean: list[float] | None = None
    std: list[float] | None = None


def read_hints(path: Path, naming: Naming) -> Hints:
    """What the configurations beside the model file `path` say; that of the naming's own project counts first."""
    huggingface = _read(path.parent / OWN_CONFIG)
    open_clip = _read(path.parent / OPEN_CLIP_CONFIG)
    images = _read(path.parent / PREPROCESSOR_CONFIG)
    found: list[Callable[[], Hints | None]] = [
        lambda: _of_open_clip(open_clip),
        lambda: _of_huggingface(huggingface, images),
    ]
    for look in found if naming == "openai" else reversed(found):
        try:
            hints = look()
        except ModelError as error:
            raise ModelError(f"{path.parent}: {error}") from error
        except (TypeError, ValueError, AttributeError, KeyError, ZeroDivisionError) as error:
            raise ModelError(f"{path.parent}: the configuration beside {path.name} is damaged ({error})") from error
        if hints is not None:
            return hints
    return Hints()


def _of_open_clip(data: Mapping[str, Any]) -> Hints | None:
    model = data.get("model_cfg", data)
    if not isinstance(model, Mapping) or "vision_cfg" not in model:
        return None
    vision, text = model["vision_cfg"], model.get("text_cfg", {})
    preprocess = data.get("preprocess_cfg", {})
    head_width = int(vision.get("head_width", OPEN_CLIP_HEAD_WIDTH))
    return Hints(
        vision_heads=int(vision["width"]) // head_width if "width" in vision else None,
        text_heads=int(text["heads"]) if "heads" in text else None,
        activation="quick_gelu" if model.get("quick_gelu") else "gelu",
        mean=_triple(preprocess.get("mean")),
        std=_triple(preprocess.get("std")),
    )


def _of_huggingface(data: Mapping[str, Any], images: Mapping[str, Any]) -> Hints | None:
    if "vision_config" not in data:
        return None
    vision, text = data["vision_config"] or {}, data.get("text_config") or {}
    activations = {part.get("hidden_act", "quick_gelu") for part in (vision, text)}
    if len(activations) > 1 or not activations <= {"quick_gelu", "gelu"}:
        raise ModelError(f"expected hidden_act quick_gelu or gelu, found {', '.join(activations)}")
    for part in (vision, text):
        if float(part.get("layer_norm_eps", EPSILON)) != EPSILON:
            raise ModelError(f"expected layer_norm_eps {EPSILON}, found {part['layer_norm_eps']}")
    return Hints(
        vision_heads=int(vision.get("num_attention_heads", HUGGINGFACE_HEADS[0])),
        text_heads=int(text.get("num_attention_heads", HUGGINGFACE_HEADS[1])),
        activation="gelu" if activations == {"gelu"} else "quick_gelu",
        mean=_triple(images.get("image_mean")),
        std=_triple(images.get("image_std")),
    )


def _triple(values: Any) -> list[float] | None:
    return [float(value) for value in values] if values else None


def _read(path: Path) -> Mapping[str, Any]:
    """The JSON object in a file; nothing where there is no such file."""
    if not path.is_file():
        return {}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: expected a configuration in JSON, found something else ({error})") from error
    return data if isinstance(data, Mapping) else {}
