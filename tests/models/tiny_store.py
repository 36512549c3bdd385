"""A tiny backbone, a catalog that knows it, and a home of its own for the store of models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from blemish.backbones import catalog as catalog_module
from blemish.backbones.model import Clip
from blemish.io.codec import to_dict
from checkpoint_files import (
    huggingface_state,
    outputs,
    tiny_clip,
    tiny_config,
)

CLIP = tiny_clip()
REPOSITORY = "someone/clip-tiny"
FILE = f"{REPOSITORY}/model.safetensors"
WEIGHTS = save(huggingface_state(CLIP))


def new_home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BLEMISH_HOME", str(folder / "home"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return folder / "home"


def write_catalog(folder: Path, *, sha256: dict[str, str]) -> Path:
    """A catalog of one tiny backbone, whose input is larger than its native one."""
    config = to_dict(tiny_config())
    tables = [
        f"[{config.pop('name')}]",
        f'hub_repository = "{REPOSITORY}"',
        'hub_files = ["model.safetensors", "pytorch_model.bin"]',
        f"sha256 = {{ {', '.join(f'{json.dumps(name)} = {json.dumps(value)}' for name, value in sha256.items())} }}",
        "joint_width = 24",
        'source = "a tiny model"',
        'licence = "MIT"',
        "preprocess = { size = 32 }",
    ]
    for part in ("vision", "text"):
        pairs = ", ".join(f"{key} = {json.dumps(value)}" for key, value in config[part].items())
        tables.append(f"{part} = {{ {pairs} }}")
    path = folder / "catalog.toml"
    path.write_text("\n".join(tables) + "\n", encoding="utf-8")
    return path


@contextmanager
def using_tiny_catalog(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The tiny catalog in place of the real one, without checksums."""
    path = write_catalog(folder, sha256={})
    monkeypatch.setattr(catalog_module, "CATALOG_FILE", path)
    catalog_module.catalog.cache_clear()
    yield path
    catalog_module.catalog.cache_clear()


def assert_computes_the_same(clip: Clip) -> None:
    for ours, expected in zip(outputs(clip), outputs(CLIP), strict=True):
        assert torch.equal(ours, expected)
