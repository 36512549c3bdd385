"""`blemish models` and `blemish cache`: what they print, and one line for whatever goes wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import blemish
from blemish import cli
from blemish import models as store
from blemish.errors import ModelError, UsageError
from checkpoint_files import huggingface_state, tiny_clip, write_huggingface, write_open_clip, write_torchscript

CLIP = tiny_clip()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BLEMISH_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the command prints when it succeeds."""
    assert cli.main([*arguments]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def failure(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line on stderr of a command that fails."""
    assert cli.main([*arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("blemish: ")
    return captured.err


def test_list_shows_known_models_and_where_they_live(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    lines = run(capsys, "models", "list").splitlines()
    assert lines[0].startswith("embedded")
    shipped = [line for line in lines[:-1] if "/" in line.split()[0]]  # behind their backbones
    assert all("prompts" in line and "in the package" in line for line in shipped)
    assert [line.split("/")[0] for line in shipped] == ["embedded", "embedded", "ViT-L-14-336", "ViT-L-14-336"]
    known = [line for line in lines[1:-1] if line not in shipped]
    assert [line.split()[0] for line in known] == [
        "ViT-B-32",
        "ViT-B-16",
        "ViT-L-14",
        "ViT-L-14-336",
        "ViT-B-16-plus-240",
    ]
    assert all("not pulled" in line for line in known)
    assert lines[-1] == f"models live in {home}"


def test_import_list_info_and_use_by_the_printed_name(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    write_torchscript(CLIP, tmp_path / "my-clip.pt")
    out = run(capsys, "models", "import", "my-clip.pt")
    assert "recognised as OpenAI torchscript" in out
    assert "backbone my-clip: use it with --backbone my-clip" in out
    rows = json.loads(run(capsys, "models", "list", "--json"))
    assert (rows[-1]["name"], rows[-1]["state"]) == ("my-clip", "installed")
    out = run(capsys, "models", "info", "my-clip")
    assert "file: my-clip.pt" in out
    assert "levels: 1, 2, 3" in out
    assert json.loads(run(capsys, "models", "info", "my-clip", "--json"))["joint_width"] == 24
    assert store.load_backbone("my-clip").config.name == "my-clip"


def test_import_with_a_name_and_over_another(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    write_huggingface(CLIP, tmp_path / "a")
    write_open_clip(CLIP, tmp_path / "b")
    assert "backbone mine" in run(capsys, "models", "import", "a", "--name", "mine")
    assert "it was there already" in run(capsys, "models", "import", "a", "--name", "mine")
    assert "--overwrite" in failure(capsys, "models", "import", "b", "--name", "mine")
    assert "assumed" in run(capsys, "models", "import", "b", "--name", "mine", "--overwrite")


def test_import_of_prompts_says_what_they_are_and_how_to_use_them(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    anomaly_clip = {"ctx_pos": torch.zeros(1, 1, 12, 8), "ctx_neg": torch.zeros(1, 1, 12, 8)}
    torch.save({"prompt_learner": anomaly_clip}, tmp_path / "trained.pth")
    out = run(capsys, "models", "import", "trained.pth")
    assert "AnomalyCLIP prompts" in out
    assert "prompts trained" in out
    assert "--prompts trained" in out
    assert "--backbone" not in out
    assert "context_tokens: 12" in run(capsys, "models", "info", "trained")


def test_import_of_aprilgans_adapters_says_what_they_are_and_what_does_not_fit(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    config = store.load_backbone("embedded").config
    width, joint = config.vision.width, config.joint_width

    def save(name: str, **changes: torch.Tensor | None) -> None:
        state: dict[str, torch.Tensor | None] = {}
        for number in range(len(config.levels)):
            state |= {f"fc.{number}.weight": torch.zeros(joint, width), f"fc.{number}.bias": torch.zeros(joint)}
        state |= {key.replace("_", "."): value for key, value in changes.items()}
        kept = {key: value for key, value in state.items() if value is not None}
        torch.save({"trainable_linearlayer": kept}, tmp_path / name)

    save("visa_pretrained.pth")
    out = run(capsys, "models", "import", "visa_pretrained.pth")
    assert f"APRIL-GAN's adapters of {len(config.levels)} levels, from width {width} to {joint}" in out
    assert "activation: gelu" in run(capsys, "models", "info", "visa_pretrained")
    assert blemish.load(prompts="visa_pretrained").model.method == "aprilgan"
    with pytest.raises(ModelError, match="trained with activation 'gelu', not 'quick_gelu'"):
        blemish.load(prompts="visa_pretrained", options={"activation": "quick_gelu"})
    with pytest.raises(UsageError, match="prompts of the method 'aprilgan', not of 'multiads'"):
        blemish.load(prompts="visa_pretrained", method="multiads")

    save("half.pth", fc_1_bias=None)
    assert "lacks trainable_linearlayer.fc.1.bias" in failure(capsys, "models", "import", "half.pth")
    save("wide.pth", fc_0_weight=torch.zeros(joint, width + 8))
    run(capsys, "models", "import", "wide.pth")
    with pytest.raises(ModelError, match=rf"adapters\.0\.weight is \[{joint}, {width + 8}\] in the checkpoint"):
        blemish.load(prompts="wide")


def test_as_decides(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    torch.save({"words": torch.zeros(4, 8)}, tmp_path / "ctx.pt")
    assert "--as" in failure(capsys, "models", "import", "ctx.pt")
    assert "expected trained prompts" in failure(capsys, "models", "import", "ctx.pt", "--as", "prompts")
    assert "backbone" in failure(capsys, "models", "import", "ctx.pt", "--as", "nothing")


def test_wrong_files_are_one_line_each(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "notes.safetensors").write_text("no model at all", encoding="utf-8")
    assert "a text file" in failure(capsys, "models", "import", "notes.safetensors")
    assert "no such file" in failure(capsys, "models", "import", "absent.pt")
    path = write_huggingface(CLIP, tmp_path / "a")
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    message = failure(capsys, "models", "import", str(path))
    assert f"expected {len(whole)} bytes, found {len(whole) - 10}" in message
    save_file(huggingface_state(CLIP) | {"visual_projection.weight": torch.zeros(24, 127)}, path)
    assert "expected shape [128, 24], found [127, 24]" in failure(capsys, "models", "import", str(path))


def test_inspect_names_an_absent_backbone_and_a_wrong_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (8, 8)).save(tmp_path / "part.png")
    message = failure(capsys, "inspect", "part.png", "--backbone", "ViT-L-14-336", "--json")
    assert "blemish models pull ViT-L-14-336" in message
    assert "did you mean 'ViT-B-32'" in failure(capsys, "inspect", "part.png", "--backbone", "vit-b32", "--json")
    assert "a PNG image" in failure(capsys, "inspect", "part.png", "--backbone", "part.png", "--json")


def test_pull_of_an_unknown_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean 'ViT-L-14'" in failure(capsys, "models", "pull", "ViT-L14")


def test_pull_from_a_hub_that_is_down(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"  # nobody listens, and nobody else gets the port
        assert "cannot be reached" in failure(capsys, "models", "pull", "ViT-B-32", "--endpoint", address)


def test_info_of_a_model_that_is_not_here(capsys: pytest.CaptureFixture[str]) -> None:
    out = run(capsys, "models", "info", "ViT-L-14-336")
    assert "state: not pulled" in out
    assert "size: 518" in out
    assert "value_value_depth: 19" in out


def test_cache_shows_and_clears(capsys: pytest.CaptureFixture[str], home: Path, tmp_path: Path) -> None:
    assert "0.0 MB  in all" in run(capsys, "cache")
    run(capsys, "models", "import", str(write_huggingface(CLIP, tmp_path / "a")), "--name", "mine")
    part = home / "pulls" / "ViT-B-32" / "model.safetensors.0000.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(bytes(2_000_000))
    out = run(capsys, "cache")
    assert str(home) in out
    assert "2.0 MB  unfinished pulls" in out
    assert "backbone mine" in out

    assert "say --yes" in failure(capsys, "cache", "clear")  # nobody is there to answer
    assert part.exists()
    assert "deleted 1 files (2.0 MB)" in run(capsys, "cache", "clear", "--yes")
    assert "nothing to clear but models" in run(capsys, "cache", "clear", "--yes")
    assert [model.name for model in store.stored_models()] == ["mine"]
    run(capsys, "cache", "clear", "--models", "--yes")
    assert store.stored_models() == []
    assert not [path for path in home.rglob("*") if path.is_file()]


def test_stored_weights_are_the_files_own(capsys: pytest.CaptureFixture[str], home: Path, tmp_path: Path) -> None:
    run(capsys, "models", "import", str(write_huggingface(CLIP, tmp_path / "a")), "--name", "mine")
    stored = load_file(home / "models" / "mine" / "model.safetensors")
    assert all(torch.equal(tensor, stored[name]) for name, tensor in CLIP.state_dict().items())
