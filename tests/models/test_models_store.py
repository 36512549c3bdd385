"""The store: names, places, imports, and pulls from a small hub on loopback."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from blemish import models as store
from blemish.backbones import catalog as catalog_module
from blemish.backbones.model import Clip
from blemish.backbones.weights import save_backbone
from blemish.errors import MissingExtraError, ModelError, OutputError, UnknownNameError, UsageError
from blemish.io.codec import to_dict
from blemish.models import paths as places
from blemish.models import transfer as transfer_module
from blemish.models.prompts import find_prompts, read_prompts
from checkpoint_files import (
    huggingface_state,
    outputs,
    tiny_clip,
    tiny_config,
    write_huggingface,
    write_open_clip,
    write_torchscript,
)
from hub_server import Hub, running_hub

CLIP = tiny_clip()
REPOSITORY = "someone/clip-tiny"
FILE = f"{REPOSITORY}/model.safetensors"
WEIGHTS = save(huggingface_state(CLIP))
CHUNK = 2**16  # bytes that the client writes at once; 10 MB in earnest


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BLEMISH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "home"


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


@pytest.fixture
def tiny_catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    path = write_catalog(tmp_path, sha256={})
    monkeypatch.setattr(catalog_module, "CATALOG_FILE", path)
    catalog_module.catalog.cache_clear()
    yield path
    catalog_module.catalog.cache_clear()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    from huggingface_hub import close_session, constants

    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", CHUNK)
    with running_hub() as running:
        running.files[FILE] = WEIGHTS
        yield running
        close_session()


def assert_computes_the_same(clip: Clip) -> None:
    for ours, expected in zip(outputs(clip), outputs(CLIP), strict=True):
        assert torch.equal(ours, expected)


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


# prompts


def prompts(own_tokens: int = 2) -> dict[str, dict[str, Tensor]]:
    """FAPrompt's trained parts for a text tower of width 8, with what the authors' code saves beside them."""
    deep = (
        torch.arange(2 * 4 * 8).reshape(2, 8, 4).float().transpose(1, 2)
    )  # views of one memory, as trainers save them
    return {
        "prompt_learner": {
            "ctx_pos": torch.ones(1, 1, 5, 8),
            "ctx_neg": torch.ones(1, 10, own_tokens, 8),
            "compound_prompts_text.0": deep[0],
            "compound_prompts_text.1": deep[1],
            "compound_prompt_projections.0.weight": torch.ones(3, 8),
            "token_prefix_pos": torch.ones(1, 1, 1, 8),
            "patch_meta_net.linear1.weight": torch.ones(5, 80),
            "patch_meta_net.linear1.bias": torch.ones(5),
            "patch_meta_net.linear2.weight": torch.ones(8, 5),
            "patch_meta_net.linear2.bias": torch.ones(8),
        }
    }


@pytest.mark.parametrize(("own_tokens", "called"), [(2, "2 abnormal tokens"), (1, "first upload")])
def test_official_prompts_become_ours(tmp_path: Path, home: Path, own_tokens: int, called: str) -> None:
    torch.save(prompts(own_tokens), tmp_path / "trained.pth")
    imported = store.import_model(tmp_path / "trained.pth")
    assert (imported.name, imported.kind) == ("trained", "prompts")
    assert called in imported.notes[0]
    assert "--prompts trained" in imported.notes[-1]
    found = read_prompts(find_prompts("trained"))
    assert found.method == "faprompt"
    assert found.options["selection"] == "released"
    assert found.options["deep_blocks"] == [2, 3]
    assert found.options["image_cross_entropy"] is (own_tokens > 1)
    assert {name: list(part.shape) for name, part in found.state.items()} == {
        "normal_tokens": [5, 8],
        "abnormal_tokens": [10, own_tokens, 8],
        "deep_tokens": [2, 4, 8],
        "psi.hidden.weight": [5, 80],
        "psi.hidden.bias": [5],
        "psi.out.weight": [8, 5],
        "psi.out.bias": [8],
    }
    assert torch.equal(found.state["deep_tokens"][1], prompts()["prompt_learner"]["compound_prompts_text.1"])
    assert store.info("trained")["tensors"]["normal_tokens"] == [5, 8]
    with pytest.raises(UsageError, match="prompts, not a backbone"):
        store.load_backbone("trained")
    again = store.import_model(home / "prompts" / "trained" / "prompts.safetensors", name="copy")
    assert "written by Blemish" in again.notes[0]
    assert read_prompts(find_prompts("copy")).options == found.options


def test_a_file_that_is_no_prompts_says_what_was_expected_and_found(tmp_path: Path) -> None:
    torch.save({"prompt_learner": {"ctx_pos": torch.ones(12, 8)}}, tmp_path / "half.pth")
    with pytest.raises(ModelError, match=r"expected trained prompts .*faprompt.* found .*ctx_pos \[12, 8\]"):
        store.import_model(tmp_path / "half.pth")
    odd = prompts()
    odd["prompt_learner"]["ctx_pos"] = torch.ones(5, 8)
    torch.save(odd, tmp_path / "odd.pth")
    with pytest.raises(ModelError, match=r"odd.pth: expected ctx_pos \[1, 1, tokens, width\]"):
        store.import_model(tmp_path / "odd.pth")


def test_real_prompts_of_crane(tmp_path: Path) -> None:
    golden = Path(os.environ.get("BLEMISH_GOLDEN") or Path(__file__).parents[3] / "shared" / "golden")
    path = golden / "crane" / "prompts_trained_on_mvtec.pth"
    if not path.is_file():
        pytest.skip(f"no {path} (set BLEMISH_GOLDEN)")
    assert "AnomalyCLIP" in store.import_model(path).notes[0]
    assert store.info("prompts_trained_on_mvtec")["tensors"]["abnormal_context"] == [12, 768]
    assert store.info("prompts_trained_on_mvtec")["card"]["method"] == "anomalyclip"


def test_where_a_file_holds_both_the_user_decides(tmp_path: Path) -> None:
    torch.save({**huggingface_state(CLIP), **prompts()}, tmp_path / "both.pth")
    with pytest.raises(UsageError, match="--as"):
        store.import_model(tmp_path / "both.pth")
    assert_computes_the_same(store.load_backbone(store.import_model(tmp_path / "both.pth", kind="backbone").name))


def test_where_a_file_holds_neither_the_user_may_decide(tmp_path: Path) -> None:
    torch.save({"context": torch.ones(4, 8)}, tmp_path / "ctx.pth")
    with pytest.raises(ModelError, match="neither"):
        store.import_model(tmp_path / "ctx.pth")
    with pytest.raises(ModelError, match="expected trained prompts"):
        store.import_model(tmp_path / "ctx.pth", kind="prompts")
    with pytest.raises(ModelError, match="expected CLIP weights"):
        store.import_model(tmp_path / "ctx.pth", kind="backbone")


# pulls


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


def test_the_remains_of_a_killed_import_are_leftovers(tmp_path: Path, home: Path) -> None:
    imported = store.import_model(write_huggingface(CLIP, tmp_path / "a"), name="mine")
    shutil.copytree(imported.place, imported.place.with_name(".mine.0123.tmp"))
    assert [model.name for model in store.stored_models()] == ["mine"]
    assert [leftover.what for leftover in store.leftovers()] == ["broken imports"]
