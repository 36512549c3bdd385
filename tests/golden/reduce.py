"""Writes the reduced golden copies that this folder holds (9 MB together) from the full sets. Run by hand:

    python tests/golden/reduce.py

DAPO is whole but for the token embeddings that nobody uses; its type maps are kept on every seventh row and column.
FAPrompt is kept from the patch features on: text tower, initial and wide prompts, the first training step, and the test
runs with wide prompts. WinCLIP is kept from the recorded residual stream on, APRIL-GAN from the recorded patch tokens on, with
large maps on every seventh row and column. Of FAPrompt's four training images the reference recorded the patch features of
the first; those of the others (`derived/...`, rounded to 16 significant bits) are what our image tower, which the full set
checks, makes of the recorded images.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from golden_sets import COARSE, FOLDER, HERE, GoldenSet, load

from blemish.backbones.config import PreprocessConfig
from blemish.backbones.preprocess import to_array
from blemish.backbones.tokenizer import tokenize
from blemish.images import read

Arrays = dict[str, np.ndarray[Any, Any]]
IMAGE_TOWER = "clip.visual."
FAPROMPT_VALUES = re.compile(
    r"train/step0/|masks/|tokens/|unit/|enc/n_dual_blocks|test[BC].*/img\d+/(rel|prior|stage[12]_text.*)$|test[BC].*/img2/"
)
WINCLIP_LEFT_OUT = r"image$|reference$|patch_tokens_raw|cao\.window_features|zq\.few|cao\.\w+\.anomaly_map"
WINCLIP_COARSE = r"(zero|few|self)\.anomaly_map"
APRILGAN_LEFT_OUT = r"image$|reference$|positions"
APRILGAN_COARSE = r"probabilities_|few\.(anomaly_)?map$"
FAPROMPT_WEIGHTS = re.compile(r"prompt_(init|wide)/")


def main() -> None:
    for path in sorted(FOLDER.glob("dapo_a.values.safetensors")):
        golden = load(path)
        values = _numpy(golden.values)
        values["type_maps" + COARSE] = values.pop("type_maps")[..., 3::7, 3::7]
        used = np.unique(values["template_tokens"])
        clip = {f"clip.{key}": array for key, array in _numpy(golden.clip).items()}
        _write(golden.name, clip | _numpy(golden.weights), values, used, golden.metadata)
    for path in sorted(FOLDER.glob("faprompt_a.values.npz")):
        golden = load(path)
        values = {key: array for key, array in _numpy(golden.values).items() if FAPROMPT_VALUES.match(key)}
        values |= derived_patch_features(golden)
        table = golden.clip["token_embedding.weight"]
        clip = {f"clip.{key}": array.astype(np.float16) for key, array in _numpy(golden.clip).items()}
        clip = {key: array for key, array in clip.items() if not key.startswith(IMAGE_TOWER)}
        prompts = {key: array for key, array in _numpy(golden.weights).items() if FAPROMPT_WEIGHTS.match(key)}
        _write(golden.name, clip | prompts, values, np.flatnonzero(table.any(dim=1).numpy()), golden.metadata)
    for path in sorted(FOLDER.glob("winclip_a.values.safetensors")):
        write_without(load(path), values=WINCLIP_LEFT_OUT, coarse=WINCLIP_COARSE)
    for path in sorted(FOLDER.glob("aprilgan_a.values.safetensors")):
        write_without(load(path), values=APRILGAN_LEFT_OUT, coarse=APRILGAN_COARSE, weights=IMAGE_TOWER)


def write_without(golden: GoldenSet, *, values: str, coarse: str, weights: str = "(?!)") -> None:
    """Writes a set whose frozen weights are exact in float16 without the values and weights of these names."""
    kept = {key: array for key, array in _numpy(golden.values).items() if not re.match(values, key)}
    for key in [key for key in kept if re.match(coarse, key)]:
        kept[key + COARSE] = kept.pop(key)[..., 3::7, 3::7]
    tokens = [array for key, array in kept.items() if key.startswith("tokens_")]
    tokens.append(tokenize(golden.metadata.get("class_names", [])))  # prompts are recorded for the first of them
    used = np.unique(np.concatenate(tokens, axis=None))
    clip = {f"clip.{key}": array.astype(np.float16) for key, array in _numpy(golden.clip).items()}
    clip = {key: array for key, array in clip.items() if not re.match(weights, key)}
    _write(golden.name, clip | _numpy(golden.weights), kept, used, golden.metadata)


def derived_patch_features(golden: GoldenSet) -> Arrays:
    """The joint patch features of the training images that the reference did not record."""
    tower = golden.image_tower()
    preprocess = PreprocessConfig(size=golden.values["preproc/resized_uint8_img0"].shape[0])
    derived: Arrays = {}
    for index, relative in enumerate(golden.values["train/step0/img_rel"]):
        if f"train/step0/patch_features_norm_img{index}" in golden.values:
            continue
        pixels = golden.values["images/" + str(relative).replace("/", "__")].numpy()
        image = torch.from_numpy(to_array(read(pixels), preprocess))
        depth = int(golden.values["enc/n_dual_blocks"])
        features = tower(image[None], value_value_depth=depth, interpolation="bilinear")
        joint = tower.project(features.value_value)[0]
        key = f"derived/step0/patch_features_norm_img{index}"
        derived[key] = _rounded((joint / joint.norm(dim=-1, keepdim=True)).numpy())
    return derived


def _rounded(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """float32 rounded to 16 significant bits; the last byte is zero."""
    bits = array.astype(np.float32).view(np.uint32)
    return ((bits + 0x80) & np.uint32(0xFFFFFF00)).view(np.float32)


def _write(
    name: str, weights: Arrays, values: Arrays, used_tokens: np.ndarray[Any, Any], metadata: dict[str, Any]
) -> None:
    weights["clip.token_embedding.rows"] = used_tokens.astype(np.int32)
    weights["clip.token_embedding.weight"] = weights["clip.token_embedding.weight"][used_tokens]
    arrays = {f"weights|{key}": array for key, array in weights.items()}
    arrays |= {f"values|{key}": array for key, array in values.items()}
    if metadata:
        arrays["metadata"] = np.array(json.dumps(metadata))
    path = HERE / f"{name}.npz"
    pack(arrays, path)
    print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB")  # noqa: T201


def pack(arrays: Arrays, path: Path) -> None:
    """Writes arrays with the bytes of equal significance side by side, LZMA-compressed; exact."""
    layout = {key: (array.dtype.str, array.shape) for key, array in arrays.items()}
    with zipfile.ZipFile(path, "w", compression=zipfile.ZIP_LZMA) as file:
        _add(file, "layout", np.array(json.dumps(layout)))
        for index, array in enumerate(arrays.values()):
            raw = np.frombuffer(np.ascontiguousarray(array).tobytes(), dtype=np.uint8)
            _add(file, str(index), np.ascontiguousarray(raw.reshape(-1, array.dtype.itemsize).T))


def _add(file: zipfile.ZipFile, name: str, array: np.ndarray[Any, Any]) -> None:
    buffer = io.BytesIO()
    np.save(buffer, array)
    entry = zipfile.ZipInfo(f"{name}.npy")  # a fixed date: the same arrays give the same file
    entry.compress_type = zipfile.ZIP_LZMA
    file.writestr(entry, buffer.getvalue())


def _numpy(tensors: dict[str, Any]) -> Arrays:
    return {key: value.numpy() if isinstance(value, torch.Tensor) else value for key, value in tensors.items()}


if __name__ == "__main__":
    main()
