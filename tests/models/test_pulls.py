"""Models from the hub: a whole file with its checksum or nothing, and nothing told about the user."""

from __future__ import annotations

import hashlib
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from blemish import models as store
from blemish.backbones import catalog as catalog_module
from blemish.errors import MissingExtraError, ModelError, UnknownNameError
from blemish.models import transfer as transfer_module
from checkpoint_files import (
    huggingface_state,
    write_huggingface,
)
from hub_server import Hub, running_hub
from models.tiny_store import (
    CLIP,
    FILE,
    REPOSITORY,
    WEIGHTS,
    assert_computes_the_same,
    new_home,
    using_tiny_catalog,
    write_catalog,
)

CHUNK = 2**16  # bytes that the client writes at once; 10 MB in earnest


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return new_home(tmp_path, monkeypatch)


@pytest.fixture
def tiny_catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with using_tiny_catalog(tmp_path, monkeypatch) as path:
        yield path


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    from huggingface_hub import close_session, constants

    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", CHUNK)
    with running_hub() as running:
        running.files[FILE] = WEIGHTS
        yield running
        close_session()


def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def one_line(error: BaseException) -> str:
    assert "\n" not in str(error)
    return str(error)


@pytest.mark.usefixtures("tiny_catalog")
def test_a_pulled_backbone_works_without_network(hub: Hub, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    imported = store.pull("tiny", endpoint=hub.address)
    sha256 = hashlib.sha256(WEIGHTS).hexdigest()
    assert imported.notes == (
        f"model.safetensors: sha256 {sha256}, as the hub states; the catalog holds none for this file",
    )
    no_network(monkeypatch)
    clip = store.load_backbone("tiny")
    assert_computes_the_same(clip)
    assert clip.config.preprocess.size == 32
    found = store.info("tiny")["imported_from"]
    assert (found["repository"], found["revision"], found["sha256"]) == (REPOSITORY, "c" * 40, sha256)
    assert not store.leftovers()
    assert store.pull("tiny", endpoint=hub.address).notes == ("it was there already",)


@pytest.mark.usefixtures("tiny_catalog")
def test_a_pull_tells_the_hub_nothing_about_the_user(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    store.pull("tiny", endpoint=hub.address)
    for _, _, headers in hub.requests:
        assert "authorization" not in headers
        assert headers["user-agent"].startswith("blemish/")
        assert "torch" not in headers["user-agent"]


@pytest.mark.usefixtures("tiny_catalog")
def test_a_broken_connection_is_taken_up_again(hub: Hub) -> None:
    half = 20 * CHUNK
    hub.break_after = [half]
    store.pull("tiny", endpoint=hub.address)
    assert hub.sent == [half, len(WEIGHTS) - half]
    assert_computes_the_same(store.load_backbone("tiny"))


@pytest.mark.usefixtures("tiny_catalog")
def test_a_broken_pull_goes_on_with_the_next_one(hub: Hub, home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    half = 20 * CHUNK
    hub.break_after, hub.down_after_break = [half], True
    with pytest.raises(
        ModelError, match=r"broke off at 1\.3 of 2\.9 MB .*the same command goes on from there"
    ) as caught:
        store.pull("tiny", endpoint=hub.address)
    one_line(caught.value)
    assert [leftover.bytes for leftover in store.leftovers()] == [half]
    hub.broken = False
    imported = store.pull("tiny", endpoint=hub.address)
    assert hub.sent == [half, len(WEIGHTS) - half]
    assert "went on from" in imported.notes[-1]
    assert_computes_the_same(store.load_backbone("tiny"))
    assert not store.leftovers()
    assert capfd.readouterr().err == ""


@pytest.mark.usefixtures("tiny_catalog")
def test_a_part_of_an_older_file_is_not_continued(hub: Hub, home: Path) -> None:
    part = home / "pulls" / "tiny" / "model.safetensors.0000.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"old")
    store.pull("tiny", endpoint=hub.address)
    assert hub.sent == [len(WEIGHTS)]
    assert not part.exists()


@pytest.mark.usefixtures("tiny_catalog")
def test_a_wrong_checksum_keeps_nothing(hub: Hub, home: Path) -> None:
    hub.etags[FILE] = "a" * 64
    with pytest.raises(ModelError, match=f"wrong checksum: expected sha256 {'a' * 64}, found") as caught:
        store.pull("tiny", endpoint=hub.address)
    one_line(caught.value)
    assert not any(file.suffix in (".part", ".safetensors") for file in home.rglob("*"))
    with pytest.raises(ModelError, match="not on this machine"):
        store.load_backbone("tiny")


def test_the_catalogs_checksum_counts_more_than_the_hubs(tmp_path: Path, tiny_catalog: Path, hub: Hub) -> None:
    write_catalog(tmp_path, sha256={"model.safetensors": "b" * 64})
    catalog_module.catalog.cache_clear()
    with pytest.raises(ModelError, match=f"expected sha256 {'b' * 64}, the hub offers"):
        store.pull("tiny", endpoint=hub.address)
    assert hub.sent == []
    write_catalog(tmp_path, sha256={"model.safetensors": hashlib.sha256(WEIGHTS).hexdigest()})
    catalog_module.catalog.cache_clear()
    assert "as the catalog says" in store.pull("tiny", endpoint=hub.address).notes[0]


@pytest.mark.usefixtures("tiny_catalog")
def test_a_file_without_a_stated_checksum_is_not_pulled(hub: Hub) -> None:
    hub.etags[FILE] = "d" * 40  # a git hash, as of small files
    with pytest.raises(ModelError, match="states a sha256"):
        store.pull("tiny", endpoint=hub.address)


@pytest.mark.usefixtures("tiny_catalog")
def test_the_second_file_where_the_first_is_missing(hub: Hub, tmp_path: Path) -> None:
    torch.save(huggingface_state(CLIP), tmp_path / "pytorch_model.bin")
    hub.files = {f"{REPOSITORY}/pytorch_model.bin": (tmp_path / "pytorch_model.bin").read_bytes()}
    store.pull("tiny", endpoint=hub.address)
    assert_computes_the_same(store.load_backbone("tiny"))


@pytest.mark.usefixtures("tiny_catalog")
def test_a_hub_without_the_file_is_one_line(hub: Hub) -> None:
    hub.files.clear()
    with pytest.raises(
        ModelError, match=r"no model.safetensors or pytorch_model.bin in someone/clip-tiny \(404\)"
    ) as e:
        store.pull("tiny", endpoint=hub.address)
    one_line(e.value)


@pytest.mark.usefixtures("tiny_catalog")
def test_a_hub_that_is_down_is_one_line() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"  # nobody listens, and nobody else gets the port
        with pytest.raises(ModelError, match=r"the hub cannot be reached .*blemish models import PATH") as caught:
            store.pull("tiny", endpoint=address)
    one_line(caught.value)


@pytest.mark.usefixtures("tiny_catalog")
def test_a_file_of_another_model_is_not_kept(hub: Hub, home: Path) -> None:
    hub.files[FILE] = save({"weight": torch.zeros(3)})
    with pytest.raises(ModelError, match="expected CLIP weights"):
        store.pull("tiny", endpoint=hub.address)
    assert not store.leftovers()


@pytest.mark.usefixtures("tiny_catalog")
def test_a_killed_pull_that_had_everything_transfers_nothing_again(hub: Hub, home: Path) -> None:
    (home / "pulls" / "tiny").mkdir(parents=True)
    (home / "pulls" / "tiny" / "model.safetensors").write_bytes(WEIGHTS)
    store.pull("tiny", endpoint=hub.address)
    assert hub.sent == []


@pytest.mark.usefixtures("tiny_catalog")
def test_two_pulls_at_once_do_not_mix(hub: Hub, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from filelock import FileLock

    monkeypatch.setattr(transfer_module, "LOCK_TIMEOUT_S", 0.1)
    (home / "pulls" / "tiny").mkdir(parents=True)
    with FileLock(home / "pulls" / "tiny" / ".lock"), pytest.raises(ModelError, match="another pull"):
        store.pull("tiny", endpoint=hub.address)


def test_a_pull_of_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="ViT-L-14"):
        store.pull("ViT-L14")


@pytest.mark.usefixtures("tiny_catalog")
def test_without_the_extra_a_pull_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r'pip install "blemish\[hub\]"'):
        store.pull("tiny")


# the cache


@pytest.mark.usefixtures("tiny_catalog")
def test_clearing_deletes_only_what_blemish_wrote(hub: Hub, home: Path, tmp_path: Path) -> None:
    hub.break_after, hub.down_after_break = [1000], True
    with pytest.raises(ModelError):
        store.pull("tiny", endpoint=hub.address)
    (home / "pulls" / "holiday.jpg").write_bytes(b"mine")
    (home / "models" / "other").mkdir(parents=True)
    (home / "models" / "other" / "model.safetensors").write_bytes(b"not imported")
    store.import_model(write_huggingface(CLIP, tmp_path / "a"), name="mine")
    (home / "models" / "mine" / "notes.txt").write_text("mine too", encoding="utf-8")
    store.remove(tuple(file for leftover in store.leftovers() for file in leftover.files))
    store.remove(tuple(file for model in store.stored_models() for file in model.files))
    left = sorted(file.relative_to(home).as_posix() for file in home.rglob("*") if file.is_file())
    assert left == ["models/mine/notes.txt", "models/other/model.safetensors", "pulls/holiday.jpg"]
