"""`blemish train`: from images in a folder to prompts, and one clear line for whatever cannot be trained on."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import probe
from blemish import cli
from blemish import models as store
from blemish.backbones.model import Clip
from blemish.data.samples import DataSet
from blemish.errors import UnknownNameError, UsageError
from blemish.images import save
from blemish.io.parsing import parse_options
from blemish.models.prompts import read_prompts
from blemish.training import loop
from blemish.training.run import choose_split


@pytest.fixture(autouse=True)
def tiny_backbone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The backbone "tiny", the methods "probe" and "inside", an empty store, and an empty folder to stand in."""

    def load_backbone(name: str) -> Clip:
        if name != "tiny":
            raise UnknownNameError("backbone", name, ("tiny",))
        return probe.tiny_clip()

    monkeypatch.setattr(store, "load_backbone", load_backbone)
    monkeypatch.setattr(loop, "plot_losses", lambda _: None)
    monkeypatch.setenv("BLEMISH_HOME", str(tmp_path / "home"))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    probe.register()


def write_mvtec(root: Path, *, good: int = 4, bad: int = 4, seed: int = 0, masks: bool = True) -> None:
    """A folder in the layout of MVTec AD."""
    made = probe.samples(2 * max(good, bad), seed=seed)
    normal, anomalous = made[::2][:good], made[1::2][:bad]
    for number, sample in enumerate(normal):
        save(sample.image, root / "test" / "good" / f"{number:03d}.png")
        save(sample.image // 2, root / "train" / "good" / f"{number:03d}.png")
    for number, sample in enumerate(anomalous):
        save(sample.image, root / "test" / "spot" / f"{number:03d}.png")
        if masks and sample.truth is not None:
            grey = np.repeat(sample.truth[..., None], 3, 2).astype(np.uint8) * np.uint8(255)
            save(grey, root / "ground_truth" / "spot" / f"{number:03d}_mask.png")


def train(*arguments: str, method: str = "probe", data: str = "things", out: str = "out") -> int:
    options = ["--backbone", "tiny", "--data", data, "--out", out, "--epochs", "2", "--batch-size", "3", *arguments]
    return cli.main(["train", method, *options])


def failure(capsys: pytest.CaptureFixture[str], *arguments: str, **names: str) -> str:
    """The one line on stderr of a training that is refused."""
    assert train(*arguments, **names) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("blemish: ")
    return captured.err


def test_a_folder_of_images_becomes_prompts_and_the_same_command_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    write_mvtec(Path("things"))
    write_mvtec(Path("others"), seed=9)
    assert train("--held-out", "others", "--set", "noise=0.0", "--set", "weight=2") == 0
    captured = capsys.readouterr()
    assert "4 normal and 4 anomalous images, 4 of them with a mask" in captured.out
    assert re.search(r"features to cache: 16 images x 0\.00 MB = 0\.00 GB in .*features", captured.out)
    assert re.search(
        r"epoch 2/2, loss \d\.\d{4}, image auroc [01]\.\d{4}, pixel auroc [01]\.\d{4}, \d+ s", captured.out
    )
    assert captured.out.rstrip().endswith("prompts of every epoch: out, the last ones: out/epoch-02")
    prompts = read_prompts(Path("out/epoch-02"))
    assert prompts.options == {"noise": 0.0, "weight": 2.0}
    assert prompts.card["data"]["split"] == "test"
    assert prompts.card["thresholds"].keys() == {"image", "review", "pixel"}
    lines = Path("out/log.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["kind"] for line in lines] == ["step"] * 3 + ["epoch"] + ["step"] * 3 + ["epoch"]

    assert train("--held-out", "others", "--set", "noise=0.0", "--set", "weight=2") == 0
    assert "out: finished before, at step 6 of 6" in capsys.readouterr().out
    assert "recipe.rate was 0.001, not 0.01" in failure(
        capsys, "--held-out", "others", "--set", "noise=0.0", "--set", "weight=2", "--rate", "0.01"
    )
    assert train("--rate", "0.01", "--overwrite", "--quiet") == 0
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


@pytest.mark.parametrize(
    ("make", "words"),
    [
        ({"bad": 0}, "all 4 images are normal"),
        ({"good": 0}, "all 4 images are anomalous; it takes normal ones, too"),
        ({"masks": False}, "none of 4 anomalous images has a mask"),
    ],
)
def test_unfit_data_is_refused(capsys: pytest.CaptureFixture[str], make: dict[str, Any], words: str) -> None:
    write_mvtec(Path("things"), **make)
    assert words in failure(capsys)
    assert not Path("out").exists()


def test_bad_images_and_masks_are_named_or_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    write_mvtec(Path("things"), good=5, bad=5)
    damaged = Path("things/test/good/001.png")
    damaged.write_bytes(damaged.read_bytes()[:200])
    save(np.zeros((8, 9, 3), np.uint8), Path("things/ground_truth/spot/002_mask.png"))
    line = failure(capsys)
    assert "2 of 10 images of things cannot be used" in line
    assert "001.png" in line
    assert re.search(r"002_mask\.png: .*9 x 8 px.*48 x 40", line)
    assert train("--skip-unreadable") == 0
    out = capsys.readouterr().out
    assert "4 normal and 4 anomalous" in out
    assert out.count("left out: ") == 2


def test_what_cannot_be_trained_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    write_mvtec(Path("things"))
    assert "needs no training" in failure(capsys, method="ensemble")
    assert "unknown method 'porbe'; did you mean 'probe'" in failure(capsys, method="porbe")
    assert "did you mean 'weight'" in failure(capsys, "--set", "wieght=1")
    assert "ProbeConfig.weight must be of type float" in failure(capsys, "--set", "weight=much")
    assert "unknown backbone 'tny'" in failure(capsys, "--backbone", "tny")
    assert "device 'warp' cannot be used" in failure(capsys, "--device", "warp")
    assert "fp16 trains on a GPU only" in failure(capsys, "--precision", "fp16")
    assert "nowhere" in failure(capsys, data="nowhere")
    assert "has no images in its train split" in failure(capsys, "--split", "train", data="synthetic:4@50000000")
    assert "--log-every takes a number" in failure(capsys, "--log-every", "0")
    assert not Path("out").exists()
    Path("out").mkdir()
    Path("out/mine.txt").write_text("mine", encoding="utf-8")
    assert "out: is not empty and holds no training" in failure(capsys, "--overwrite")


def test_a_loss_that_is_no_number_is_an_exit_code_of_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_mvtec(Path("things"))

    def no_number(self: probe.Probe, places: torch.Tensor) -> torch.Tensor:
        return places.sum(-1) * self.bias / 0.0

    monkeypatch.setattr(probe.Probe, "_logits", no_number)
    line = failure(capsys)
    assert re.search(r"step 1 \(epoch 1, batch 1\): the loss \(.*total\) is nan; its images: \S+\.png, \S+\.png", line)


def test_cached_features_are_shown_and_cleared(capsys: pytest.CaptureFixture[str]) -> None:
    write_mvtec(Path("things"))
    assert train() == 0
    capsys.readouterr()
    assert cli.main(["cache"]) == 0
    assert "features of 8 images (tiny at 32 px, probe, float16)" in capsys.readouterr().out
    assert cli.main(["cache", "clear", "--yes"]) == 0
    assert "deleted 9 files" in capsys.readouterr().out  # the features and what they are of
    assert cli.main(["cache"]) == 0
    assert "features of" not in capsys.readouterr().out


def test_settings_are_toml_values_and_bare_words() -> None:
    given = ["a=3", "b = 0.5", "c=true", "d=[2, 9]", 'e="two words"', "f=paper", "g=1/16", "h=x=y"]
    assert parse_options(given) == {
        "a": 3,
        "b": 0.5,
        "c": True,
        "d": [2, 9],
        "e": "two words",
        "f": "paper",
        "g": "1/16",
        "h": "x=y",
    }
    for wrong in (["patches"], ["=3"], ["a=1", "a=2"]):
        with pytest.raises(UsageError, match="--set"):
            parse_options(wrong)


def test_help_names_the_options_and_imports_nothing_heavy() -> None:
    ask = "from blemish.cli import main; import sys; main(['train', '--help']); print(*sys.modules)"
    plain = {**os.environ, "TYPER_USE_RICH": "0"}  # whatever the terminal's width and colours are said to be
    done = subprocess.run(
        [sys.executable, "-c", ask], capture_output=True, text=True, check=True, timeout=120, env=plain
    )
    assert all(name in done.stdout for name in ("--data", "--held-out", "--overwrite", "--set", "--cache-dtype"))
    assert not {"torch", "numpy", "scipy", "PIL", "matplotlib"} & set(done.stdout.splitlines()[-1].split())


def test_the_test_split_is_taken_where_there_is_one() -> None:
    both = DataSet("both", (*probe.samples(2), *probe.samples(4, split="test")), "image+pixel")
    only_train = DataSet("train", tuple(probe.samples(3)), "image+pixel")
    assert len(choose_split(both, None).samples) == 4
    assert len(choose_split(both, "train").samples) == 2
    assert len(choose_split(both, "all").samples) == 6
    assert len(choose_split(only_train, None).samples) == 3
    with pytest.raises(UsageError, match="train has no images in its test split"):
        choose_split(only_train, "test")
