"""`blemish evaluate`: a table, files and a page; one clear line for whatever cannot be measured."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from test_train import write_mvtec

import probe
from blemish import cli
from blemish import models as store
from blemish.backbones.model import Clip
from blemish.cli.evaluate import repeated
from blemish.errors import UnknownNameError
from blemish.training import loop, recipe_of

SUITE = """
title = "A protocol"
method = "probe"
backbone = "tiny"
metrics = ["image_auroc", "pixel_auroc", "aupro_200_steps", "typed_auroc"]
epochs = 1
[train]
one = "trained-on"
two = "not-there"
[[tests]]
data = "things"
trained_on = "one"
[[tests]]
data = "absent"
trained_on = "one"
[[tests]]
data = "things"
trained_on = "two"
note = "the other way round"
"""


@pytest.fixture(autouse=True)
def tiny_backbone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The backbone "tiny", the methods "probe" and "inside", an empty store, and an empty folder to stand in."""

    def load_backbone(name: str) -> Clip:
        if name != "tiny":
            raise UnknownNameError("backbone", name, ("tiny",))
        return probe.tiny_clip()

    def card(name: str) -> dict[str, Any]:
        load_backbone(name)
        return {}

    monkeypatch.setattr(store, "load_backbone", load_backbone)
    monkeypatch.setattr(store, "card", card)
    monkeypatch.setattr(loop, "plot_losses", lambda _: None)
    monkeypatch.setenv("BLEMISH_HOME", str(tmp_path / "home"))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    probe.register()


def prompts(*seeds: int, method: str = "probe") -> list[str]:
    """Prompts of one epoch for each seed."""
    write_mvtec(Path("trained-on"), seed=5)
    places = []
    for seed in seeds:
        out = f"trained-{method}-{seed}"
        options = [
            "--backbone",
            "tiny",
            "--data",
            "trained-on",
            "--out",
            out,
            "--epochs",
            "1",
            "--seed",
            str(seed),
            "-q",
        ]
        assert cli.main(["train", method, *options]) == 0
        places.append(f"{out}/epoch-01")
    return places


def evaluate(*arguments: str) -> int:
    return cli.main(["evaluate", *arguments, "--rounds", "3"])


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line on stderr of an evaluation that is refused."""
    capsys.readouterr()
    assert evaluate(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("blemish: ")
    assert captured.err.count("\n") == 1
    return captured.err


def test_two_checkpoints_on_two_sets_give_a_table_files_and_a_page(capsys: pytest.CaptureFixture[str]) -> None:
    write_mvtec(Path("root/things"))
    write_mvtec(Path("root/others"), seed=3)
    places = prompts(1, 2)
    arguments = ["probe", "--data", "things", "others", "--data-root", "root", "--backbone", "tiny"]
    arguments += ["--prompts", *places, "--legacy", "--cache", "float32", "--out", "out", "--markdown", "page.md"]
    assert evaluate(*arguments) == 0
    shown = capsys.readouterr().out
    assert re.search(r"things +probe \(2 checkpoints\) +4 / 4 +\d+\.\d ± \d+\.\d", shown)
    assert "command: blemish" in shown  # what follows is of the process: nothing under xdist
    told = json.loads(Path("out/results.json").read_text(encoding="utf-8"))
    assert told["schema"] == "blemish.evaluation/1"
    assert [group["checkpoints"] for group in told["groups"]] == [2, 2]
    assert len(told["evaluations"]) == 4
    assert {one["model"]["prompts"] for one in told["evaluations"]} == set(places)
    assert {one["model"]["trained_on"] for one in told["evaluations"]} == {"trained-on"}
    with Path("out/results.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["scope"] for row in rows} == {"mean", "product", "type", "size"}
    mean = next(row for row in rows if row["scope"] == "mean")
    value = told["evaluations"][0]["report"]["mean"]["values"]["image_auroc"]["value"]
    assert float(mean["image_auroc"]) == pytest.approx(value, abs=1e-6)
    page = Path("out/report.html").read_text(encoding="utf-8")
    assert page.count("<svg") == page.count("</svg>") == 4 * 6
    assert "data:image/jpeg;base64," in page
    assert not re.search(r"(?:src|href)=\"?(?:https?:|//|file:)", page)
    markdown = Path("page.md").read_text(encoding="utf-8")
    assert "## things: probe on tiny, prompts epoch-01" in markdown
    assert str(Path.cwd()) not in markdown
    assert len(list(Path("out/runs").iterdir())) == 4
    encoded = probe.Probe.encoded
    assert evaluate(*arguments) == 0
    assert "measured before: 8 of 8 images" in capsys.readouterr().out
    assert probe.Probe.encoded == encoded + 0  # neither counts nor pictures need the tower again


def test_what_cannot_be_measured_is_refused_in_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (places,) = prompts(1)
    ok = ["--data", "trained-on", "--backbone", "tiny"]
    assert "name what to measure on: --data" in refused(capsys, "probe")
    assert "unknown method 'prob'; did you mean 'probe'?" in refused(capsys, "prob", *ok, "--prompts", places)
    assert "prompts of the method 'probe', not of inside" in refused(capsys, "inside", *ok, "--prompts", places)
    assert "needs trained prompts" in refused(capsys, "probe", *ok)
    assert "is not there" in refused(capsys, "probe", "--data", "mvtec", "--data-root", str(tmp_path / "empty"))
    assert "neither a path nor a data set" in refused(capsys, "probe", "--data", "nowhere")
    assert "unknown backbone" in refused(
        capsys, "probe", "--data", "trained-on", "--backbone", "huge", "--prompts", places
    )
    assert "goes with --suite" in refused(capsys, "probe", *ok, "--prompts-for", "mvtec=there")
    assert "unknown suite" in refused(capsys, "--suite", "fapromp")
    Path("full").mkdir()
    Path("full/notes.txt").write_text("mine", encoding="utf-8")
    assert "holds no evaluation" in refused(capsys, "probe", *ok, "--prompts", places, "--out", "full")
    assert "lies in (0, 1]" in refused(capsys, "probe", *ok, "--prompts", places, "--limit", "0")


def test_unreadable_images_end_with_3_and_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    write_mvtec(Path("things"))
    (place,) = prompts(1)
    Path("things/test/good/000.png").write_bytes(b"no picture")
    assert evaluate("--data", "things", "--backbone", "tiny", "--prompts", place) == 3
    captured = capsys.readouterr()
    assert "unreadable: " in captured.err
    assert "1 of 8 images cannot be read" in captured.out


def test_a_suite_runs_what_is_there_and_leaves_gaps(capsys: pytest.CaptureFixture[str]) -> None:
    write_mvtec(Path("root/things"))
    write_mvtec(Path("root/trained-on"), seed=5)
    Path("own.toml").write_text(SUITE, encoding="utf-8")
    arguments = ["--suite", "own.toml", "--data-root", "root", "--out", "out", "--markdown", "page.md"]
    assert evaluate(*arguments) == 0
    shown = capsys.readouterr().out
    assert "A protocol: data sets found: things; 1 not found" in shown
    assert "epoch 1/1" in shown  # trained first
    assert "prompts trained on two: none were given, and not-there is not there to train on" in shown
    rows = [line for line in shown.splitlines() if re.match(r" *(things|absent) ", line)]
    assert re.search(r"things +one +\d+\.\d", rows[0])
    assert re.search(r"absent +one +– +– +–", rows[1])
    assert re.search(r"things +two +– +– +–", rows[2])
    told = json.loads(Path("out/results.json").read_text(encoding="utf-8"))
    assert told["evaluations"][0]["settings"]["size"] == "model"
    assert "not found: absent" in Path("page.md").read_text(encoding="utf-8")
    given = prompts(1)[0]
    assert evaluate(*arguments[:-4], "--out", "with", "--prompts-for", f"one={given}", f"two={given}") == 0
    shown = capsys.readouterr().out
    assert "epoch 1/1" not in shown
    assert len(re.findall(r"things +(?:one|two) +\d+\.\d", shown)) == 2


def test_a_suite_trains_and_tests_several_methods_each_by_its_own_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    write_mvtec(Path("root/things"))
    write_mvtec(Path("root/trained-on"), seed=5)
    Path("own.toml").write_text(
        SUITE.replace("metrics", 'methods = ["ensemble", "probe", "inside"]\nmetrics'), encoding="utf-8"
    )
    arguments = ["--suite", "own.toml", "--data-root", "root", "--out", "out"]
    given = prompts(1)[0]
    assert evaluate("all", *arguments, "--prompts-for", f"one={given}") == 0
    shown = capsys.readouterr().out
    rows = [line for line in shown.splitlines() if re.match(r" *things ", line)]
    assert re.search(r"data set +method +trained on", shown)
    assert re.search(r"things +ensemble +none +\d+\.\d", rows[0])  # once, though two rows have this data set
    assert re.search(r"things +probe +one +\d+\.\d", rows[1])
    assert re.search(r"things +inside +one +\d+\.\d", rows[2])
    assert re.search(r"things +probe +two +–", rows[3])
    assert "prompts of inside trained on two: none were given" in shown
    assert sorted(place.name for place in Path("out/training").iterdir()) == ["inside-one"]  # probe's were given
    trained = json.loads(Path("out/training/inside-one/state.json").read_text(encoding="utf-8"))
    assert trained["recipe"] == json.loads(json.dumps(asdict(recipe_of("inside"))))
    assert "prompts of the method 'probe', not of inside" in refused(
        capsys, "inside", *arguments[:-1], "other", "--prompts-for", f"one={given}"
    )
    assert "unknown method 'prob'; did you mean 'probe'?" in refused(capsys, "prob", *arguments[:-1], "other")


def test_a_suite_without_any_data_or_with_mistakes_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    Path("root").mkdir()
    Path("own.toml").write_text(SUITE, encoding="utf-8")
    assert "none of the data sets" in refused(capsys, "--suite", "own.toml", "--data-root", "root")
    assert "unknown training set 'three'" in refused(
        capsys, "--suite", "own.toml", "--data-root", "root", "--prompts-for", "three=there"
    )
    Path("wrong.toml").write_text(SUITE.replace("epochs", "epoch"), encoding="utf-8")
    assert "did you mean 'epochs'?" in refused(capsys, "--suite", "wrong.toml")
    Path("wrong.toml").write_text(SUITE.replace('trained_on = "two"', 'trained_on = "tow"'), encoding="utf-8")
    assert "did you mean 'two'?" in refused(capsys, "--suite", "wrong.toml")


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (["probe", "--data", "a", "b", "--out", "x"], ["probe", "--data", "a", "--data", "b", "--out", "x"]),
        (["--data", "a", "--prompts", "b", "c"], ["--data", "a", "--prompts", "b", "--prompts", "c"]),
        (["one", "two", "--typed", "--data", "a"], ["one", "two", "--typed", "--data", "a"]),
    ],
)
def test_lists_end_at_the_next_option(given: list[str], meant: Any) -> None:
    assert repeated(given) == meant
