"""Weights: every published form of one model loads to the same outputs, and what is no model is one clear line."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel

from blemish.backbones.catalog import catalog, entry_of_file
from blemish.backbones.config import BackboneConfig, default_deep_text_blocks, default_levels, default_value_value_depth
from blemish.backbones.model import Clip
from blemish.backbones.weights import load_backbone, read_state, read_weights, save_backbone
from blemish.errors import ModelError
from checkpoint_files import (
    huggingface_state,
    openai_state,
    outputs,
    tiny_clip,
    tiny_config,
    write_huggingface,
    write_open_clip,
    write_torchscript,
)

CLIP = tiny_clip()
EXPECTED = outputs(CLIP)


def assert_same_outputs(path: Path) -> Clip:
    clip = load_backbone(path)
    for ours, expected in zip(outputs(clip), EXPECTED, strict=True):
        assert torch.equal(ours, expected)
    return clip


def failure(path: Path, read: Callable[[Path], Any] = load_backbone) -> str:
    """The message of the ModelError: one line that names the file."""
    with pytest.raises(ModelError) as caught:
        read(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


@pytest.fixture
def own(tmp_path: Path) -> Path:
    save_backbone(CLIP, tmp_path / "own")
    return tmp_path / "own" / "model.safetensors"


# one model, every form


@pytest.mark.parametrize("half", [True, False], ids=["float16", "float32"])
def test_openai_scripted_archive(tmp_path: Path, half: bool) -> None:
    write_torchscript(CLIP, tmp_path / "ViT-tiny.pt", half=half)
    clip = assert_same_outputs(tmp_path / "ViT-tiny.pt")
    assert clip.config.name == "ViT-tiny"
    assert {parameter.dtype for parameter in clip.parameters()} == {torch.float32}
    assert not read_weights(tmp_path / "ViT-tiny.pt").assumptions


def test_openai_traced_archive(tmp_path: Path) -> None:
    write_torchscript(CLIP, tmp_path / "model.pt", trace=True)
    assert_same_outputs(tmp_path / "model.pt")


def test_archive_code_is_never_run(tmp_path: Path) -> None:
    write_torchscript(CLIP, tmp_path / "model.pt")
    rewrite(tmp_path / "model.pt", lambda name, data: b"not even code" if "/code/" in name else data)
    assert_same_outputs(tmp_path / "model.pt")


def test_open_clip_safetensors_and_bin(tmp_path: Path) -> None:
    config = {"model_cfg": {"vision_cfg": {"width": 128}, "text_cfg": {"heads": 1}, "quick_gelu": True}}
    assert_same_outputs(write_open_clip(CLIP, tmp_path / "a", config=config))
    torch.save(openai_state(CLIP), tmp_path / "open_clip_pytorch_model.bin")
    assert_same_outputs(tmp_path / "open_clip_pytorch_model.bin")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before PyTorch 1.6"])
def test_state_dicts_of_trainers(tmp_path: Path, zipped: bool) -> None:
    state = {f"module.{name}": tensor for name, tensor in openai_state(CLIP).items()}
    checkpoint = {"epoch": 3, "state_dict": state, "optimizer": {"lr": 0.1}}
    torch.save(checkpoint, tmp_path / "epoch_3.pt", _use_new_zipfile_serialization=zipped)
    assert_same_outputs(tmp_path / "epoch_3.pt")


def test_hugging_face_safetensors_and_bin(tmp_path: Path) -> None:
    assert_same_outputs(write_huggingface(CLIP, tmp_path / "clip-tiny"))
    assert load_backbone(tmp_path / "clip-tiny").config.name == "clip-tiny"
    torch.save(huggingface_state(CLIP), tmp_path / "pytorch_model.bin")
    assert_same_outputs(tmp_path / "pytorch_model.bin")


def test_what_transformers_saves_computes_what_transformers_computes(tmp_path: Path) -> None:
    tower = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_act": "gelu", "projection_dim": 24}
    vision = {"hidden_size": 48, "intermediate_size": 96, "image_size": 16, "patch_size": 4}
    text = {"hidden_size": 32, "intermediate_size": 64, "vocab_size": 40, "eos_token_id": 39, "bos_token_id": 38}
    torch.manual_seed(0)
    reference = CLIPModel(CLIPConfig(text_config=text | tower, vision_config=vision | tower, projection_dim=24)).eval()
    reference.save_pretrained(tmp_path)
    clip = load_backbone(tmp_path)
    assert (clip.config.vision.heads, clip.config.text.heads) == (4, 4)
    assert clip.config.vision.activation == "gelu"
    images, ids = torch.randn(2, 3, 16, 16), torch.tensor([[38, 4, 9, 39]])
    with torch.inference_mode():
        joint = reference.visual_projection(reference.vision_model(images).pooler_output)
        torch.testing.assert_close(clip.image.project(clip.image(images).tokens[:, 0]), joint)
        torch.testing.assert_close(
            clip.text.encode(ids), reference.text_projection(reference.text_model(ids).pooler_output)
        )


@pytest.mark.parametrize("dtype", [None, torch.float16, torch.bfloat16])
def test_our_own_form_comes_back(tmp_path: Path, dtype: torch.dtype | None) -> None:
    save_backbone(CLIP, tmp_path, dtype=dtype)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    stored = {tensor.dtype for tensor in load_file(tmp_path / "model.safetensors").values()}
    assert stored == {dtype or torch.float32}
    clip = load_backbone(tmp_path)
    assert clip.config == CLIP.config
    assert not clip.training
    if dtype != torch.bfloat16:
        assert_same_outputs(tmp_path)


def test_a_frozen_trunk_stays_frozen_and_the_rest_trainable(tmp_path: Path) -> None:
    vision = {"image_size": 16, "width": 16, "depth": 1, "heads": 1, "patch_size": 8, "position_grid": 2}
    config = tiny_config(vision=vision | {"stem": "efficientnet-lite0"})
    save_backbone(Clip(config), tmp_path, dtype=torch.float16)
    parameters = dict(load_backbone(tmp_path).named_parameters())
    frozen = {name for name, parameter in parameters.items() if not parameter.requires_grad}
    assert frozen == {name for name in parameters if name.startswith("image.stem.trunk.")}


def test_parameters_that_share_memory_are_written_apart(tmp_path: Path) -> None:
    state = openai_state(CLIP)
    state["visual.ln_post.bias"] = state["visual.ln_pre.bias"]
    torch.save(state, tmp_path / "tied.pt")
    clip = load_backbone(tmp_path / "tied.pt")
    save_backbone(clip, tmp_path / "out")
    assert torch.equal(load_file(tmp_path / "out" / "model.safetensors")["image.ln_post.bias"], clip.image.ln_pre.bias)


def test_read_state_gives_our_names_as_stored(tmp_path: Path) -> None:
    write_torchscript(CLIP, tmp_path / "model.pt")
    state = read_state(tmp_path / "model.pt")
    assert set(state) == set(CLIP.state_dict())
    assert state["image.stem.weight"].dtype == torch.float16
    assert state["image.ln_pre.weight"].dtype == torch.float32


# what the weights cannot show


def test_open_clip_without_quick_gelu_has_gelu(tmp_path: Path) -> None:
    config = {
        "model_cfg": {"vision_cfg": {"width": 128, "head_width": 32}, "text_cfg": {"heads": 4}},
        "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
    }
    found = load_backbone(write_open_clip(CLIP, tmp_path, config=config)).config
    assert (found.vision.activation, found.text.activation) == ("gelu", "gelu")
    assert (found.vision.heads, found.text.heads) == (4, 4)
    assert found.preprocess.mean == (0.5, 0.5, 0.5)


def test_what_nothing_says_is_assumed_and_reported(tmp_path: Path) -> None:
    weights = read_weights(write_open_clip(CLIP, tmp_path))
    assert weights.assumptions == ("heads = width / 64", "QuickGELU")
    assert weights.config.vision == tiny_config().vision
    assert weights.config.text == tiny_config().text


def test_a_config_of_another_model_beside_it_is_reported(tmp_path: Path) -> None:
    path = write_huggingface(CLIP, tmp_path, config={"vision_config": {"hidden_act": "relu"}, "text_config": {}})
    assert "hidden_act" in failure_in(path)
    (tmp_path / "config.json").write_text("{broken", encoding="utf-8")
    assert "JSON" in failure_in(path)


def failure_in(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load_backbone(path)
    assert str(path.parent) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_unknown_key_in_our_config_names_the_nearest(own: Path) -> None:
    data = json.loads((own.parent / "config.json").read_text(encoding="utf-8"))
    (own.parent / "config.json").write_text(json.dumps(data | {"levls": [1]}), encoding="utf-8")
    assert "'levels'" in failure_in(own)


# what is no model


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "PNG")
    return buffer.getvalue()


WRONG_FILES = {
    "a text file": b"defect list\nscratch, dent\n" * 3,
    "a web page": b"<!DOCTYPE html><html>404</html>",
    "Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 123\n",
    "a PNG image": png(),
    "an empty file": b"",
    "an unknown kind": bytes(range(255, 128, -1)) * 4,
}


@pytest.mark.parametrize("kind", WRONG_FILES)
def test_a_file_that_is_no_model_says_what_it_is(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(WRONG_FILES[kind])
    message = failure(path)
    assert "expected a model file" in message
    assert kind in message


def test_another_network(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(3, 4).state_dict(), tmp_path / "linear.pt")
    assert "expected CLIP weights" in failure(tmp_path / "linear.pt")
    save_file({"visual.layer1.0.conv1.weight": torch.zeros(1)}, tmp_path / "RN50.safetensors")
    assert "ResNet" in failure(tmp_path / "RN50.safetensors")


def test_a_zip_or_a_missing_file(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr("a.txt", "a")
    assert "zip archive" in failure(tmp_path / "photos.zip")
    assert "no such file" in failure(tmp_path / "absent.pt")


def test_a_folder_needs_one_model_file(tmp_path: Path) -> None:
    assert "found none" in failure(tmp_path)
    for name in ("a.pt", "b.pt"):
        (tmp_path / name).touch()
    assert "'a.pt' and 1 more" in failure(tmp_path)


@pytest.mark.parametrize("kept", [4, 200, 0.5, 0.999])
def test_a_truncated_safetensors(own: Path, kept: float) -> None:
    whole = own.read_bytes()
    own.write_bytes(whole[: kept if isinstance(kept, int) else int(kept * len(whole))])
    message = failure(own)
    assert "expected" in message
    assert "found" in message
    if isinstance(kept, float):
        assert f"expected {len(whole)} bytes, found {own.stat().st_size}" in message


@pytest.mark.parametrize("scripted", [True, False], ids=["TorchScript", "state dict"])
@pytest.mark.parametrize("share", [0.1, 0.9])
def test_a_truncated_archive(tmp_path: Path, scripted: bool, share: float) -> None:
    path = tmp_path / "model.pt"
    if scripted:
        write_torchscript(CLIP, path)
    else:
        torch.save(openai_state(CLIP), path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    assert "cut short" in failure(path)


def test_a_damaged_archive_is_found_by_its_checksum(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    write_torchscript(CLIP, path)
    with zipfile.ZipFile(path) as archive:
        member = max(archive.infolist(), key=lambda info: info.file_size)
    data = bytearray(path.read_bytes())
    data[member.header_offset + 2000] ^= 1
    path.write_bytes(data)
    assert "CRC" in failure(path)


def changed(state: dict[str, torch.Tensor], name: str, tensor: torch.Tensor | None) -> dict[str, torch.Tensor]:
    state = {key: value for key, value in state.items() if key != name}
    return state if tensor is None else state | {name: tensor}


@pytest.mark.parametrize(
    ("name", "tensor", "words"),
    [
        ("image.blocks.1.mlp.fc_in.weight", torch.zeros(512, 127), "expected shape [512, 128], found [512, 127]"),
        ("text.position_embedding", torch.zeros(11, 64), "expected shape [10, 64], found [11, 64]"),
        ("image.blocks.2.ln_1.bias", None, "'image.blocks.2.ln_1.bias'"),
        ("image.ln_post.weight", torch.zeros(128, dtype=torch.int32), "torch.int32"),
        ("decoder.weight", torch.zeros(1), "found also 'decoder.weight'"),
    ],
)
def test_wrong_parameters(own: Path, name: str, tensor: torch.Tensor | None, words: str) -> None:
    save_file(changed(load_file(own), name, tensor), own)
    message = failure(own)
    assert words in message
    assert "expected" in message


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("visual.positional_embedding", torch.zeros(16, 128)),
        ("visual.conv1.weight", torch.zeros(128, 3, 4)),
        ("visual.proj", None),
        ("visual.transformer.resblocks.0.mlp.c_fc.weight", None),
        ("text_projection", torch.zeros(64, 25)),
        ("token_embedding.weight", torch.zeros(40, 0)),
    ],
)
def test_wrong_parameters_where_the_shape_is_inferred(tmp_path: Path, name: str, tensor: torch.Tensor | None) -> None:
    path = tmp_path / "model.pt"
    torch.save(changed(openai_state(CLIP), name, tensor), path)
    message = failure(path)
    assert "expected" in message
    assert "found" in message


def test_the_weights_must_fit_a_given_configuration(own: Path) -> None:
    with pytest.raises(ModelError, match="expected shape"):
        load_backbone(own, config=tiny_config(joint_width=25))


# nothing in a file is run


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def rewrite(path: Path, change: Callable[[str, bytes], bytes]) -> None:
    """Puts an archive together again with other content."""
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: change(info.filename, archive.read(info)) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


@pytest.mark.parametrize("protocol", [1, 2, 3, 4, 5])
def test_a_malicious_archive_is_refused_by_name(tmp_path: Path, protocol: int) -> None:
    path, mark = tmp_path / "model.pt", tmp_path / "was-here"
    write_torchscript(CLIP, path)
    evil = pickle.dumps({"visual.class_embedding": Evil(mark)}, protocol=protocol)
    rewrite(path, lambda name, data: evil if name.endswith("data.pkl") else data)
    assert "mkdir" in failure(path)
    assert not mark.exists()


def test_a_malicious_state_dict_is_refused_by_name(tmp_path: Path) -> None:
    path, mark = tmp_path / "model.pt", tmp_path / "was-here"
    torch.save({"visual.class_embedding": Evil(mark)}, path)
    assert "mkdir" in failure(path)
    assert not mark.exists()


def test_a_pickled_model_is_refused(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "whole.pt")
    assert "torch.nn.modules.linear.Linear" in failure(tmp_path / "whole.pt")


def test_no_damage_to_a_module_description_gets_past_its_reader(tmp_path: Path) -> None:
    """Whatever bytes are changed, it is read or refused; nothing else happens."""
    path = tmp_path / "model.pt"
    write_torchscript(CLIP, path)
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    name = next(name for name in members if name.endswith("/data.pkl"))
    dice = random.Random(0)
    for _ in range(150):
        damaged = bytearray(members[name])
        for _ in range(dice.randint(1, 3)):
            damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        with zipfile.ZipFile(path, "w") as archive:
            for key, data in (members | {name: bytes(damaged)}).items():
                archive.writestr(key, data)
        try:
            read_state(path)
        except ModelError as error:
            assert "\n" not in str(error)


# the catalog


def test_the_catalog_follows_the_rules_and_fits_its_patches() -> None:
    assert list(catalog()) == ["ViT-B-32", "ViT-B-16", "ViT-L-14", "ViT-L-14-336", "ViT-B-16-plus-240"]
    for name, entry in catalog().items():
        config: BackboneConfig = entry.config
        assert config.name == name
        assert config.value_value_depth == default_value_value_depth(config.vision.depth)
        assert config.deep_text_blocks == default_deep_text_blocks(config.text.depth)
        assert config.levels == default_levels(config.vision.depth)
        assert config.vision.patch_size is not None
        assert config.preprocess.size % config.vision.patch_size == 0
        assert config.vision.image_size == config.vision.position_grid * config.vision.patch_size
        openai = name != "ViT-B-16-plus-240"
        assert (config.licence == "MIT") is openai
        assert (entry.hub_files[0] == "model.safetensors") is openai


def test_a_known_checksum_names_its_backbone() -> None:
    known = entry_of_file("3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02")
    assert known is not None
    assert known.name == "ViT-L-14-336"
    assert known.config.preprocess.size == 518
    assert entry_of_file("0" * 64) is None
