"""Pulls from the authors' own archives, served on loopback: checked, resumed, and the second source after the hub."""

from __future__ import annotations

import hashlib
import json
import socket
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from blemish import models as store
from blemish.backbones import catalog as catalog_module
from blemish.backbones.catalog import catalog
from blemish.errors import ModelError
from blemish.io.codec import to_dict
from blemish.models import archives
from blemish.models import imports as imports_module
from checkpoint_files import outputs, tiny_clip, tiny_config, write_torchscript
from hub_server import Hub, running_hub

CLIP = tiny_clip()


def torchscript() -> bytes:
    """An archive as OpenAI publishes its models."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "tiny.pt")
        write_torchscript(CLIP, path, half=False)
        return path.read_bytes()


WEIGHTS = torchscript()
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()
FILE = "tiny.pt"
PATH = f"clip/models/{SHA256}/{FILE}"
REPOSITORY = "someone/clip-tiny"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BLEMISH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(archives, "CHUNK", 2**16)
    return tmp_path / "home"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A server of archives, and a catalog of one tiny backbone that knows its address."""
    with running_hub() as running:
        running.files[PATH] = WEIGHTS
        write_catalog(tmp_path / "catalog.toml", archive=f"{running.address}/{PATH}")
        monkeypatch.setattr(catalog_module, "CATALOG_FILE", tmp_path / "catalog.toml")
        catalog_module.catalog.cache_clear()
        yield running
    catalog_module.catalog.cache_clear()


def write_catalog(path: Path, *, archive: str) -> None:
    config = to_dict(tiny_config())
    name = config.pop("name")
    lines = [
        f'[{name}]\nhub_repository = "{REPOSITORY}"\nhub_files = ["model.safetensors"]\njoint_width = 24',
        f'source = "a tiny model"\nlicence = "MIT"\nsha256 = {{ "{FILE}" = "{SHA256}" }}\narchive = "{archive}"',
    ]
    for part in ("vision", "text"):
        pairs = ", ".join(f"{key} = {json.dumps(value)}" for key, value in config[part].items())
        lines.append(f"{part} = {{ {pairs} }}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def one_line(error: BaseException) -> str:
    assert "\n" not in str(error)
    return str(error)


def test_openai_s_addresses_carry_the_checksum_that_the_catalog_has() -> None:
    addresses = {entry.name: entry.archive for entry in catalog().values() if "OpenAI" in entry.config.source}
    assert addresses.keys() >= {"ViT-B-32", "ViT-B-16", "ViT-L-14", "ViT-L-14-336"}
    for name, address in addresses.items():
        *_, checksum, file = address.split("/")
        assert address.startswith("https://")
        assert catalog()[name].sha256[file] == checksum


def test_an_archive_is_fetched_checked_and_used(server: Hub, home: Path) -> None:
    imported = store.pull("tiny", source="archive")
    assert imported.notes == (f"{FILE}: sha256 {SHA256}, as the catalog says",)
    clip = store.load_backbone("tiny")
    for ours, expected in zip(outputs(clip), outputs(CLIP), strict=True):
        assert torch.equal(ours, expected)
    record = store.info("tiny")["imported_from"]
    assert (record["file"], record["sha256"], record["address"]) == (FILE, SHA256, f"{server.address}/{PATH}")
    assert list((home / "pulls" / "tiny").glob("*")) == []


def test_another_server_with_the_same_paths(server: Hub) -> None:
    with running_hub() as mirror:
        mirror.files[f"mirror/{PATH}"] = WEIGHTS
        store.pull("tiny", source="archive", endpoint=f"{mirror.address}/mirror/")
    assert server.requests == []


def test_a_broken_connection_is_taken_up_again(server: Hub) -> None:
    half = len(WEIGHTS) // 2
    server.break_after = [half]
    store.pull("tiny", source="archive")
    assert server.sent == [half, len(WEIGHTS) - half]


def test_a_broken_pull_goes_on_with_the_next_one(server: Hub) -> None:
    half = len(WEIGHTS) // 2
    server.break_after, server.down_after_break = [half], True
    with pytest.raises(ModelError, match=r"broke off at .*answers with 503.*the same command goes on") as caught:
        store.pull("tiny", source="archive")
    one_line(caught.value)
    server.broken = False
    imported = store.pull("tiny", source="archive")
    assert server.sent == [half, len(WEIGHTS) - half]
    assert imported.notes[-1].startswith("went on from")


def test_a_server_that_sends_everything_anew_is_understood(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    half = len(WEIGHTS) // 2
    server.break_after, server.ignores_ranges = [half], True
    store.pull("tiny", source="archive")
    assert server.sent == [half, len(WEIGHTS)]


def test_a_file_with_another_checksum_is_not_kept(server: Hub, home: Path) -> None:
    server.files[PATH] = WEIGHTS[:-1] + b"?"
    with pytest.raises(ModelError, match=f"wrong checksum: expected sha256 {SHA256}.*nothing was kept") as caught:
        store.pull("tiny", source="archive")
    one_line(caught.value)
    assert [file.name for file in (home / "pulls" / "tiny").glob("*.part*")] == []


def test_without_the_hub_s_library_the_archive_is_taken(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    imported = store.pull("tiny")
    assert "took the authors' archive instead" in imported.notes[0]
    assert server.sent == [len(WEIGHTS)]


@pytest.mark.parametrize("hub_is", ["empty", "down"])
def test_where_the_hub_has_nothing_the_archive_is_taken(
    server: Hub, monkeypatch: pytest.MonkeyPatch, hub_is: str
) -> None:
    from huggingface_hub import close_session

    with socket.socket() as free, running_hub() as empty:
        free.bind(("127.0.0.1", 0))
        address = empty.address if hub_is == "empty" else f"http://127.0.0.1:{free.getsockname()[1]}"
        monkeypatch.setattr(imports_module, "download", partial(_download_from, address))
        imported = store.pull("tiny")
        with pytest.raises(ModelError, match="hub"):
            store.pull("tiny", source="hub", overwrite=True)
        close_session()
    assert "took the authors' archive instead" in imported.notes[0]


def _download_from(address: str, entry: object, folder: Path, *, endpoint: str | None, progress: bool) -> object:
    from blemish.models.hub import download

    assert endpoint is None
    return download(entry, folder, endpoint=address, progress=progress)  # type: ignore[arg-type]


def test_with_both_sources_down_one_line_names_both(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    server.files.clear()
    with pytest.raises(ModelError, match=r"huggingface-hub.*from its authors' archive: .*answers with 404") as caught:
        store.pull("tiny")
    one_line(caught.value)


def test_a_backbone_without_an_archive_says_so(server: Hub, tmp_path: Path) -> None:
    write_catalog(tmp_path / "catalog.toml", archive="")
    catalog_module.catalog.cache_clear()
    with pytest.raises(ModelError, match="publish no archive that the catalog knows; pull it from the hub"):
        store.pull("tiny", source="archive")
    assert server.requests == []


def test_clearing_finds_an_unfinished_archive(server: Hub) -> None:
    server.break_after, server.down_after_break = [1000], True
    with pytest.raises(ModelError, match="broke off"):
        store.pull("tiny", source="archive")
    (unfinished,) = store.leftovers()
    assert {file.suffix for file in unfinished.files} >= {".part"}
