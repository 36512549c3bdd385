"""The store of models: names, places and imports."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from blemish import models as store
from blemish.backbones import catalog as catalog_module
from blemish.backbones.weights import save_backbone
from blemish.errors import ModelError, OutputError, UnknownNameError, UsageError
from blemish.models import paths as places
from checkpoint_files import (
    write_huggingface,
    write_open_clip,
    write_torchscript,
)
from models.tiny_store import (
    CLIP,
    assert_computes_the_same,
    new_home,
    using_tiny_catalog,
    write_catalog,
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return new_home(tmp_path, monkeypatch)


@pytest.fixture
def tiny_catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with using_tiny_catalog(tmp_path, monkeypatch) as path:
        yield path


# places


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {"XDG_DATA_HOME": "/data"}, "/data/blemish"),
        ("linux", {"XDG_DATA_HOME": "not/absolute"}, "~/.local/share/blemish"),
        ("linux", {}, "~/.local/share/blemish"),
        ("darwin", {}, "~/Library/Application Support/blemish"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/blemish"),
        ("win32", {}, "~/AppData/Local/blemish"),
        ("linux", {"BLEMISH_HOME": "~/models"}, "~/models"),
    ],
)
def test_where_models_live(
    monkeypatch: pytest.MonkeyPatch, platform: str, variables: dict[str, str], expected: str
) -> None:
    for name in ("BLEMISH_HOME", "XDG_DATA_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(places.sys, "platform", platform)
    assert store.home() == Path(expected).expanduser()


# names


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'ViT-L-14-336'"):
        store.load_backbone("vit-l-14-335")


def test_a_known_backbone_that_is_absent_says_how_to_get_it() -> None:
    with pytest.raises(ModelError, match="blemish models pull ViT-B-32, or blemish models import PATH"):
        store.load_backbone("ViT-B-32")


@pytest.mark.parametrize("path", ["missing/folder", "model.pt", "long" * 2000])
def test_what_looks_like_a_path_is_reported_as_one(path: str) -> None:
    with pytest.raises(ModelError, match="no such file or folder"):
        store.card(path)


def test_the_package_without_its_model_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blemish.models.lookup.package_models", lambda: tmp_path)
    with pytest.raises(ModelError, match="embedded"):
        store.load_backbone("embedded")
    assert store.list_models()[0].state == "missing"


def test_the_embedded_model_is_found_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blemish.models.lookup.package_models", lambda: tmp_path)
    save_backbone(CLIP, tmp_path / "embedded", dtype=torch.float16)
    (tmp_path / "embedded" / "card.json").write_text('{"thresholds": {}}', encoding="utf-8")
    clip = store.load_backbone("embedded")
    assert_computes_the_same(clip)
    assert not any(parameter.requires_grad for parameter in clip.parameters())
    assert not clip.training
    assert store.card("embedded") == {"thresholds": {}}
    assert store.info("embedded")["state"] == "in the package"


def test_a_path_works_without_an_import(tmp_path: Path) -> None:
    path = write_huggingface(CLIP, tmp_path / "folder")
    assert_computes_the_same(store.load_backbone(path.parent))
    assert_computes_the_same(store.load_backbone(str(path)))
    assert store.card(path) == {}
    assert store.info(path)["format"] == "Hugging Face safetensors"


# taking files in


def test_an_imported_backbone_is_found_by_its_name_without_its_file(tmp_path: Path, home: Path) -> None:
    write_torchscript(CLIP, tmp_path / "ViT-tiny.pt")
    imported = store.import_model(tmp_path / "ViT-tiny.pt")
    (tmp_path / "ViT-tiny.pt").unlink()
    assert (imported.name, imported.kind) == ("ViT-tiny", "backbone")
    assert imported.place == home / "models" / "ViT-tiny"
    clip = store.load_backbone("ViT-tiny")
    assert_computes_the_same(clip)
    assert clip.config.name == "ViT-tiny"
    assert load_file(imported.place / "model.safetensors")["image.stem.weight"].dtype == torch.float32
    listed = store.list_models()[-1]
    assert (listed.name, listed.state, listed.kind) == ("ViT-tiny", "installed", "backbone")
    found = store.info("ViT-tiny")
    assert found["imported_from"]["file"] == "ViT-tiny.pt"
    assert found["imported_from"]["format"] == "OpenAI torchscript"
    assert found["vision"]["width"] == 128


def test_assumptions_are_told(tmp_path: Path) -> None:
    imported = store.import_model(write_open_clip(CLIP, tmp_path / "some-clip"))
    assert imported.name == "some-clip"
    assert any("QuickGELU" in note for note in imported.notes)


def test_importing_the_same_twice_is_nothing_new_and_another_needs_overwrite(tmp_path: Path) -> None:
    path = write_huggingface(CLIP, tmp_path / "a")
    store.import_model(path, name="mine")
    assert store.import_model(path, name="mine").notes == ("it was there already",)
    other = write_open_clip(CLIP, tmp_path / "b")
    with pytest.raises(UsageError, match="taken"):
        store.import_model(other, name="mine")
    store.import_model(other, name="mine", overwrite=True)
    assert store.info("mine")["imported_from"]["file"] == "open_clip_model.safetensors"
    assert [entry.name for entry in (store.home() / "models").iterdir()] == ["mine"]


def test_a_card_comes_along(tmp_path: Path) -> None:
    save_backbone(CLIP, tmp_path / "own")
    (tmp_path / "own" / "card.json").write_text('{"thresholds": {"ensemble": {"image": 0.7}}}', encoding="utf-8")
    assert store.import_model(tmp_path / "own").name == "tiny"  # as its configuration says
    assert store.card("tiny")["thresholds"]["ensemble"]["image"] == 0.7


@pytest.mark.parametrize("name", ["a/b", "..", "", "con", ".hidden", "a b"])
def test_names_that_no_file_system_wants(tmp_path: Path, name: str) -> None:
    path = write_huggingface(CLIP, tmp_path / "a")
    with pytest.raises(UsageError, match="--name"):
        store.import_model(path, name=name)


@pytest.mark.parametrize("name", ["ViT-B-32", "embedded"])
def test_the_names_of_known_models_are_kept_for_them(tmp_path: Path, name: str) -> None:
    path = write_huggingface(CLIP, tmp_path / "a")
    with pytest.raises((ModelError, UsageError), match=r"another|ViT-B-32, with joint_width 512, found 24"):
        store.import_model(path, name=name)


def test_a_known_model_takes_the_catalogs_settings(tmp_path: Path, tiny_catalog: Path) -> None:
    path = write_huggingface(CLIP, tmp_path / "clip-tiny")  # called as in its repository
    imported = store.import_model(path)
    assert imported.name == "tiny"
    assert "the catalog has no checksum" in imported.notes[-1]
    assert store.load_backbone("tiny").config.preprocess.size == 32


def test_a_known_checksum_is_recognised_under_any_file_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_catalog: Path
) -> None:
    write_torchscript(CLIP, tmp_path / "downloaded (1).pt")
    sha256 = hashlib.sha256((tmp_path / "downloaded (1).pt").read_bytes()).hexdigest()
    write_catalog(tmp_path, sha256={"tiny.pt": sha256})
    catalog_module.catalog.cache_clear()
    imported = store.import_model(tmp_path / "downloaded (1).pt")
    assert imported.name == "tiny"
    assert imported.notes == ("recognised as OpenAI torchscript, a tiny model by its checksum",)
    store.remove(tuple(file for model in store.stored_models() for file in model.files))
    write_torchscript(CLIP, tmp_path / "tiny.pt", half=False)
    assert "the published tiny.pt differs" in store.import_model(tmp_path / "tiny.pt").notes[-1]


def test_a_wrong_file_leaves_nothing(tmp_path: Path, home: Path) -> None:
    (tmp_path / "notes.pt").write_text("no model", encoding="utf-8")
    with pytest.raises(ModelError, match="a text file"):
        store.import_model(tmp_path / "notes.pt")
    assert not home.exists()


def test_a_home_that_cannot_be_written_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("BLEMISH_HOME", str(tmp_path / "file"))
    with pytest.raises(OutputError, match="BLEMISH_HOME"):
        store.import_model(write_huggingface(CLIP, tmp_path / "a"))


def test_the_remains_of_a_killed_import_are_leftovers(tmp_path: Path, home: Path) -> None:
    imported = store.import_model(write_huggingface(CLIP, tmp_path / "a"), name="mine")
    shutil.copytree(imported.place, imported.place.with_name(".mine.0123.tmp"))
    assert [model.name for model in store.stored_models()] == ["mine"]
    assert [leftover.what for leftover in store.leftovers()] == ["broken imports"]
