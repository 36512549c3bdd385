"""`blemish data`: what it prints, writes and ends with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from blemish import cli
from blemish.data import known_sets, open_data
from miniatures import OFFICIAL, OWN, aitex, found_in, image, mask


def run(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> str:
    """What the command prints on stdout when it ends with `code`."""
    assert cli.main([str(word) for word in arguments]) == code
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def own(name: str, tmp_path: Path) -> Path:
    root = tmp_path / name
    root.mkdir()
    OWN[name].build(root)
    return root


def test_the_list_names_every_set_with_licence_and_source(capsys: pytest.CaptureFixture[str]) -> None:
    printed = run(capsys, "data", "list")
    for known in known_sets():
        assert f"{known.name}: {known.title}; {known.level}" in printed
        assert known.licence in printed
    listed = json.loads(run(capsys, "data", "list", "--json"))
    assert [row["name"] for row in listed] == [known.name for known in known_sets()]
    assert all(row["licence"] and row["home"] and row["get"] and row["protocol"] for row in listed)


def test_a_clean_folder_is_counted_and_ends_with_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = own("good-bad", tmp_path)
    printed = run(capsys, "data", "check", root)
    assert "level image+pixel" in printed
    assert "good-bad  test   normal   good         1      0" in printed
    assert printed.endswith("no problems\n")
    assert list(root.rglob("*.csv")) == []


def test_problems_are_named_and_end_with_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = own("good-bad", tmp_path)
    mask(root / "ground_truth/bad/1.png", value=0)
    shutil.copy(root / "good/1.png", root / "good/2.png")
    (root / "good/3.png").write_bytes(b"no")
    mask(root / "ground_truth/bad/9.png")
    printed = run(capsys, "data", "check", root, code=3)
    assert "ground_truth/bad/1.png: is an empty mask, and 1.png is anomalous" in printed
    assert "good/2.png: has the same bytes as good/1.png" in printed
    assert "good/3.png: is unreadable" in printed
    assert "ground_truth/bad/9.png: is a mask of no image" in printed
    assert printed.endswith("4 problems\n")
    report = json.loads(run(capsys, "data", "check", root, "--json", code=3))
    assert len(report["problems"]) == 4
    assert all(Path(problem["file"]).exists() for problem in report["problems"])


def test_a_half_unpacked_set_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    OFFICIAL["mvtec"].build(tmp_path)
    printed = run(capsys, "data", "check", tmp_path, code=3)
    assert "mvtec: MVTec AD, level image+pixel" in printed
    assert "not as in the official set: bottle, train: 1 images where the official set has 209" in printed


def test_out_gets_a_sheet_a_list_and_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = own("mvtec-like", tmp_path)
    out = tmp_path / "seen"
    run(capsys, "data", "check", root, "--out", out)
    assert sorted(path.name for path in out.iterdir()) == ["check.json", "contact-sheet.png", "samples.csv"]
    with Image.open(out / "contact-sheet.png") as sheet:
        colours = {colour for _, colour in sheet.convert("RGB").getcolors(1 << 24)}
        assert sheet.width > 800
    assert (230, 20, 120) in colours  # a mask is outlined
    again = open_data(out / "samples.csv")
    assert {key[:2] for key in found_in(again)} == {key[:2] for key in OWN["mvtec-like"].found}
    assert json.loads((out / "check.json").read_text(encoding="utf-8"))["problems"] == []


def test_the_list_marks_parts_of_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    aitex(tmp_path / "AITEX")
    run(capsys, "data", "check", tmp_path, "--as", "aitex", "--out", tmp_path / "seen", code=3)
    lines = (tmp_path / "seen/samples.csv").read_text(encoding="utf-8").splitlines()
    assert sum("0044_019_04.png#" in line for line in lines) == 2


def test_as_decides_between_sets_with_one_layout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    OFFICIAL["colondb"].build(tmp_path)
    assert "colondb: CVC-ColonDB, level pixel" in run(capsys, "data", "check", tmp_path, "--as", "colondb", code=3)
    assert "images and masks in two folders" in run(capsys, "data", "check", tmp_path)


def test_what_cannot_be_recognised_ends_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["data", "check", str(tmp_path)]) == 2
    assert "no known layout: expected" in capsys.readouterr().err
    image(tmp_path / "a.png")
    assert cli.main(["data", "check", str(tmp_path), "--as", "mvtecc"]) == 2
    assert "unknown data set 'mvtecc'; did you mean 'mvtec'" in capsys.readouterr().err
    assert cli.main(["data", "check", str(tmp_path / "none")]) == 2
    assert "neither a path nor a data set's name" in capsys.readouterr().err


def test_a_file_that_is_no_list_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["data", "check", str(image(tmp_path / "a.png"))]) == 2
    assert "found a file" in capsys.readouterr().err


def test_quick_opens_no_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = own("flat", tmp_path)
    (root / "a.png").write_bytes(b"no")
    assert "nobody said" in run(capsys, "data", "check", root, "--quick")
    run(capsys, "data", "check", root, code=3)
