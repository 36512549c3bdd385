"""`blemish synthesize`: from good images, or nothing, to a data set that our own commands read; the same bytes for a seed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import probe
from blemish import cli
from blemish import models as store
from blemish.data import open_data
from blemish.data.checking import check
from blemish.images import read, save
from blemish.language import general, read_vocabulary_file
from blemish.synthesis import RENDERER_VERSION
from blemish.synthesis.damage import KINDS
from blemish.training import loop


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """Six good photos of a striped surface, 90 x 70 px."""
    folder = tmp_path / "panel" / "train" / "good"
    x = np.arange(90)[None, :, None]
    for number in range(6):
        noise = np.random.default_rng(number).normal(0, 4, (70, 90, 3))
        save((130 + 40 * np.sin(x / 6) + noise).clip(0, 255).astype(np.uint8), folder / f"part{number}.png")
    return folder


def run(*arguments: object, code: int = 0) -> None:
    assert cli.main(["synthesize", *(str(word) for word in arguments)]) == code


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def manifest(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]


def test_good_images_become_a_set_that_the_checker_finds_clean(good: Path, tmp_path: Path) -> None:
    out = tmp_path / "ds"
    run(good, "--out", out, "--defects", "scratch, missing part", "--count", 8, "--workers", 1, "--quiet")
    found = check(out)
    assert found.is_clean
    counts = {(row.split, row.defect_type): row.images for row in found.rows}
    assert counts == {
        ("train", "normal"): 3,
        ("test", "normal"): 3,
        ("test", "scratch"): 4,
        ("test", "missing part"): 4,
    }
    assert found.reading.dataset.level == "image+pixel"
    assert {row.product for row in found.rows} == {"panel"}  # "good" and "train" name nothing
    known = {kind.name: kind for kind in general().types}
    assert read_vocabulary_file(out / "vocabulary.toml").types == (known["scratch"], known["missing part"])


def test_the_manifest_says_of_each_picture_where_it_came_from_and_what_changed(good: Path, tmp_path: Path) -> None:
    out = tmp_path / "ds"
    run(good, "--out", out, "--per-image", 2, "--contrast", "0.1:0.2", "--workers", 1, "--quiet")
    records = manifest(out)
    assert sorted(record["index"] for record in records) == list(range(12))
    for record in records:
        pixels = read(out / record["image"]).as_bytes().astype(float)
        source = read(good / record["source"]).as_bytes().astype(float)
        change = np.abs(pixels - source)
        if not record["type"]:
            assert record["mask"] is None
            assert not change.any()
            continue
        mask = read(out / record["mask"]).as_bytes()[..., 0] > 0
        assert not change[~mask].any()
        assert mask.sum() == record["area_px"]
        assert 0.09 <= record["contrast"] <= 0.22
        assert change.mean(-1)[mask].mean() / 255 == pytest.approx(record["contrast"], rel=0.1, abs=0.003)
        assert record["type"] in record["caption"]
        assert record["renderer"] == RENDERER_VERSION
    assert sum(bool(record["type"]) for record in records) == 6


def test_any_number_of_workers_writes_the_same_bytes(tmp_path: Path) -> None:
    for workers in (1, 2):
        run("--procedural", 20, "--size", 64, "--seed", 5, "--workers", workers, "--out", tmp_path / str(workers), "-q")
    one, two = files(tmp_path / "1"), files(tmp_path / "2")
    assert one == two
    run("--procedural", 20, "--size", 64, "--seed", 6, "--workers", 1, "--out", tmp_path / "other", "-q")
    assert files(tmp_path / "other") != one


def test_a_set_from_nothing_has_good_pictures_and_every_type(tmp_path: Path) -> None:
    out = tmp_path / "ds"
    run("--procedural", 60, "--size", 64, "--workers", 1, "--out", out, "-q")
    dataset = open_data(out)
    assert len(dataset.samples) == 60
    assert sum(not sample.anomalous for sample in dataset.samples) == 24
    assert sum(sample.split == "train" for sample in dataset.samples) == 12
    assert set(dataset.types) <= set(KINDS)
    assert len(dataset.types) >= 15
    assert len({record["caption"] for record in manifest(out)}) > 30


def test_what_was_stopped_goes_on_and_ends_with_the_same_bytes(
    good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = (good, "--count", 10, "--workers", 1, "--benign")
    run(*arguments, "--out", tmp_path / "whole")
    run(*arguments, "--out", tmp_path / "torn")
    lines = (tmp_path / "torn/manifest.jsonl").read_bytes()
    (tmp_path / "torn/manifest.jsonl").write_bytes(lines[: len(lines) // 2])
    (tmp_path / "torn" / manifest(tmp_path / "whole")[-1]["image"]).unlink()
    capsys.readouterr()
    run(*arguments, "--out", tmp_path / "torn")
    assert "of them were there already" in capsys.readouterr().out
    assert files(tmp_path / "whole") == files(tmp_path / "torn")


def test_another_set_is_replaced_only_when_told_and_nothing_else_ever(
    good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "ds"
    run(good, "--out", out, "--count", 6, "--workers", 1, "-q")
    (out / "panel/test/good/mine.png").write_bytes(b"mine")
    run(good, "--out", out, "--count", 4, "--workers", 1, "-q", code=2)
    assert "holds another synthetic set (pictures differ); --overwrite replaces it" in capsys.readouterr().err
    run(good, "--out", out, "--count", 4, "--workers", 1, "-q", "--overwrite")
    assert sum(bool(record["type"]) for record in manifest(out)) == 4
    assert len(list((out / "panel/ground_truth").rglob("*.png"))) == 4
    assert (out / "panel/test/good/mine.png").read_bytes() == b"mine"
    outside = tmp_path / "train" / "good" / "00000.png"  # where a manifest that was tampered with points
    outside.parent.mkdir(parents=True)
    outside.write_bytes(b"mine")
    lines = (out / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    lines[0] = json.dumps({**json.loads(lines[0]), "image": "../train/good/00000.png"})
    (out / "manifest.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    run(good, "--out", out, "--count", 3, "--workers", 1, "-q", "--overwrite")
    assert outside.read_bytes() == b"mine"
    run("--procedural", 4, "--out", good, code=2)
    assert "is not empty and holds no synthetic set" in capsys.readouterr().err


def test_variation_is_added_to_good_and_defective_pictures_alike(good: Path, tmp_path: Path) -> None:
    out = tmp_path / "ds"
    run(good, "--out", out, "--count", 5, "--benign", "--workers", 1, "-q")
    records = manifest(out)
    assert sum(not record["type"] and record["split"] == "test" for record in records) == 3 + 5
    assert sum(bool(record["type"]) for record in records) == 5
    assert check(out).is_clean


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--defects", "scrach"], "unknown defect type 'scrach'; did you mean 'scratch'? (known: bend, break"),
        (["--contrast", "0.4:0.1"], "contrast is a range within 0 to 1"),
        (["--contrast", "much"], "--contrast takes LOW:HIGH"),
        (["--count", "0"], "1 to 1,000,000 pictures"),
        (["--count", "3", "--per-image", "2"], "give one of them"),
        (["--procedural", "9"], "one of the two"),
        (["--workers", "0"], "--workers takes a number from 1 on"),
        (["--train-share", "1"], "from 0 to below 1"),
        (["--seed", "-1"], "a number from 0 on"),
        (["--product", "../elsewhere"], "the name of one folder"),
        (["--product", ".."], "the name of one folder"),
        (["--product", ""], "the name of one folder"),
        (["--size", "64"], "--size is for --procedural"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    run(good, "--out", tmp_path / "ds", *arguments, code=2)
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.err.count("\n") == 1
    assert not (tmp_path / "ds").exists()


def test_unusable_images_are_named_and_end_with_3(
    good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (good / "zz.png").write_bytes(b"no image")
    run(good, "--out", tmp_path / "ds", "--count", 2, "--workers", 1, "-q", code=3)
    assert "left out:" in capsys.readouterr().err
    assert check(tmp_path / "ds").is_clean


def test_a_product_of_a_known_set_gets_another_name(good: Path, tmp_path: Path) -> None:
    (tmp_path / "bottle").mkdir()
    good.rename(tmp_path / "bottle" / "good")
    run(tmp_path / "bottle/good", "--out", tmp_path / "ds", "--count", 2, "--defects", "hole", "--workers", 1, "-q")
    assert open_data(tmp_path / "ds").products == ("bottle-synthetic",)


def test_prompts_are_trained_on_it(good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "load_backbone", lambda _: probe.tiny_clip())
    monkeypatch.setattr(loop, "plot_losses", lambda _: None)
    monkeypatch.setenv("BLEMISH_HOME", str(tmp_path / "home"))
    probe.register()
    run(good, "--out", tmp_path / "ds", "--count", 4, "--workers", 1, "-q")
    options = [
        "--backbone",
        "tiny",
        "--data",
        str(tmp_path / "ds"),
        "--out",
        str(tmp_path / "out"),
        "--epochs",
        "1",
        "-q",
    ]
    assert cli.main(["train", "probe", *options]) == 0
    assert list((tmp_path / "out").iterdir())
