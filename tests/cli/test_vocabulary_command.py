"""`blemish vocabulary`: what it prints of the built-in types and of files."""

from __future__ import annotations

from pathlib import Path

import pytest

from blemish import cli
from blemish.language import general, load_vocabulary

PARTS = """
[types.scratch]
synonyms = ["scrape"]
sentence = "a thin bright line"

[types."loose screw"]

[products.bottle]
types = ["scratch"]
"""


def run(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> str:
    assert cli.main(["vocabulary", *map(str, arguments)]) == code
    captured = capsys.readouterr()
    return captured.err if code == 2 else captured.out


def test_show_prints_a_file_that_can_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "own.toml"
    path.write_text(run(capsys, "show"), encoding="utf-8")
    assert load_vocabulary(path) == general()
    printed = run(capsys, "check", path)
    assert f"fit for use, {len(general().types)} types" in printed
    assert printed.count("  sentence: ") == len(general().types)


def test_check_shows_what_each_type_becomes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "parts.toml"
    path.write_text(PARTS, encoding="utf-8")
    printed = run(capsys, "check", path)
    assert "loose screw (2 tokens)" in printed
    assert "synonyms: scrape (2)" in printed
    assert "sentence: a thin bright line (4)" in printed
    assert '"[W1][W2][W3][W4][W5] loose screw anomaly object"' in printed
    assert "product bottle: scratch" in printed
    assert printed.endswith("fit for use, 2 types\n")
    of_bottle = run(capsys, "check", path, "--product", "bottle")
    assert "loose screw (" not in of_bottle
    assert of_bottle.endswith("fit for use, 1 type\n")


def test_check_tells_all_problems_and_says_so_in_its_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "parts.toml"
    path.write_text("[types.'скол']\n[types.hole]\nsynonims = []\n[types.Hole]\n", encoding="utf-8")
    printed = run(capsys, "check", path, code=1)
    assert "error: type 'hole': unknown key 'synonims'; did you mean 'synonyms'?" in printed
    assert "error: the defect type 'Hole' is named twice" in printed
    assert "warning: 'скол' has letters that CLIP has hardly seen" in printed
    assert "2 errors; it cannot be used" in printed


def test_a_long_list_is_cut_short(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "parts.toml"
    path.write_text("".join(f"[types.'kind {number}']\n" for number in range(200)), encoding="utf-8")
    printed = run(capsys, "check", path)
    assert "warning: 200 defect types compete" in printed
    assert "… and 175 more" in printed


def test_a_missing_file_and_an_unknown_product_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "parts.toml"
    assert run(capsys, "check", path, code=2).count("\n") == 1
    path.write_text(PARTS, encoding="utf-8")
    assert "did you mean 'bottle'" in run(capsys, "check", path, "--product", "botle", code=2)
