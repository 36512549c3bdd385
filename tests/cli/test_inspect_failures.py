"""What `inspect` does where something is wrong: usage, files, folders and disks, one clear line each, and the exit codes."""

from __future__ import annotations

import json
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from blemish import cli
from blemish.engines import ENGINES
from blemish.inspection import load as loading
from cli.inspecting import lines, one_line, write_parts
from fakes import DarknessEngine, use_darkness


@pytest.fixture(autouse=True)
def without_a_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The fake engine; the current folder is a new one."""
    use_darkness(monkeypatch)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    return write_parts(tmp_path / "parts")


# exit codes


@pytest.mark.parametrize(
    ("fail_on", "names", "code"),
    [
        (None, ["sub/ng.jpg"], 0),
        ("ng", ["ok.png", "sub/review.png"], 0),
        ("ng", ["ok.png", "sub/ng.jpg"], 4),
        ("review", ["sub/review.png"], 4),
        ("review", ["ok.png"], 0),
        ("ng", ["sub/ng.jpg", "bad.png"], 3),
    ],
)
def test_exit_codes(parts: Path, fail_on: str | None, names: list[str], code: int) -> None:
    (parts / "bad.png").write_text("text")
    options = [] if fail_on is None else ["--fail-on", fail_on]
    assert cli.main(["inspect", *(str(parts / name) for name in names), "-q", *options]) == code


# bad input: one clear line each


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.png"], "missing.png: no such file or folder"),
        (["nothing/*.png"], "the pattern matches no image"),
        ([], "no images were named"),
        (["PARTS", "--backbone", "embeded"], "unknown backbone 'embeded'; did you mean 'embedded'?"),
        (["PARTS", "--range", "5"], "--range takes two numbers"),
        (["PARTS", "--range", "9:1"], "the lower one first"),
        (["PARTS", "--range", "1%:x%"], "--range takes two numbers or percentiles"),
        (["PARTS", "--range", "1%:200%"], "must be two numbers or percentiles"),
        (["PARTS", "--threshold", "7"], "the image threshold must be in 0..1"),
        (["PARTS", "--threshold", "much"], "valid"),
        (["PARTS", "--fail-on", "everything"], "ng"),
        (["PARTS", "--batch-size", "0"], "batch size must be at least 1"),
        (["PARTS", "--max-megapixels", "0"], "must be above 0"),
        (["PARTS", "--nonsense"], "No such option"),
    ],
)
def test_bad_usage_is_one_line_and_exit_2(
    parts: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(parts) if argument == "PARTS" else argument for argument in arguments]
    assert cli.main(["inspect", *arguments]) == 2
    line = one_line(capsys)
    assert line.startswith("blemish: ")
    assert message in line
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--engine", "torhc"], "unknown engine 'torhc'; did you mean 'torch'?"),
        (["--device", "toaster"], "cannot be used here; try --device cpu"),
    ],
)
def test_an_engine_or_a_device_that_is_not_here_is_refused(
    parts: Path,
    options: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(loading, "ENGINES", ENGINES)  # the real ones; no weights are read
    assert cli.main(["inspect", str(parts), *options]) == 2
    assert message in one_line(capsys)


def test_an_empty_folder_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert cli.main(["inspect", str(tmp_path / "empty")]) == 2
    assert f"{tmp_path / 'empty'}: the folder holds no images" in one_line(capsys)


def streamed_bomb(path: Path) -> Path:
    """A true 30000 x 30000 PNG of 1 bit, which is small on disk."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    packer, row = zlib.compressobj(1), b"\0" * (1 + 30000 // 8)
    data = b"".join(packer.compress(row) for _ in range(30000)) + packer.flush()
    header = struct.pack(">IIBBBBB", 30000, 30000, 1, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b""))
    return path


def test_bad_files_among_good_ones_are_one_line_each_and_the_others_done(
    parts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = (parts / "sub" / "ng.jpg").read_bytes()
    (parts / "corrupt.jpg").write_bytes(whole[: len(whole) // 2])
    (parts / "empty.png").touch()
    (parts / "text.png").write_text("this is text")
    streamed_bomb(parts / "bomb.png")
    Image.new("L", (1, 1), 255).save(parts / "one-pixel.png")
    assert cli.main(["inspect", str(parts), "--out", "out", "--quiet"]) == 3
    captured = capsys.readouterr()
    messages = captured.err.splitlines()
    assert len(messages) == 4
    assert "bomb.png: 30000 x 30000 pixels are 900 megapixels, above the limit of 200" in messages[0]
    assert "corrupt.jpg: cannot be decoded" in messages[1]
    assert "empty.png: the file is empty" in messages[2]
    assert "text.png: is not a JPEG, PNG, TIFF, BMP, WebP, GIF" in messages[3]
    records = lines(Path("out/results.jsonl").read_text(encoding="utf-8"))
    good = [Path(record["source"]).name for record in records if record["error"] is None]
    assert good == ["ok.png", "one-pixel.png", "ng.jpg", "review.png"]
    bad = [f"unreadable: {record['source']}: {record['error']}" for record in records if record["verdict"] is None]
    assert bad == messages


def test_the_limit_of_megapixels_is_an_option(parts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["inspect", str(parts / "ok.png"), "--max-megapixels", "0.001", "-q"]) == 3
    assert "above the limit of 0.001" in one_line(capsys)


def test_only_unreadable_files_still_give_a_complete_run(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    assert cli.main(["inspect", str(tmp_path / "a.png"), "--out", "out"]) == 3
    assert json.loads(Path("out/run.json").read_text(encoding="utf-8"))["status"] == "finished"


def test_output_below_a_file_is_refused_in_one_line(parts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").touch()
    for out in ("file", "file/out"):
        assert cli.main(["inspect", str(parts), "--out", out]) == 2
        assert "--out" in one_line(capsys)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write into read-only folders")
def test_a_read_only_output_folder_is_refused_in_one_line(parts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    locked = Path("locked")
    locked.mkdir(mode=0o500)
    assert cli.main(["inspect", str(parts), "--out", str(locked)]) == 2
    assert "locked: cannot be written (permission denied)" in one_line(capsys)


def test_a_system_that_refuses_to_write_is_one_line(
    parts: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(self: Path, *args: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "touch", refuse)
    assert cli.main(["inspect", str(parts), "--out", "locked"]) == 2
    assert "locked: cannot be written (permission denied)" in one_line(capsys)


def test_a_disk_that_fills_up_is_one_line(
    parts: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(self: Image.Image, *args: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", refuse)
    assert cli.main(["inspect", str(parts)]) == 2
    assert "no space left on device" in one_line(capsys)


def test_an_image_without_pictures_is_one_line_and_the_others_done(
    parts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (parts / "ok.png").rename(parts / f"{'n' * 250}.png")  # with its new suffix, a name too long for the system
    (parts / f"{'n' * 250}.jpg").write_bytes((parts / f"{'n' * 250}.png").read_bytes())
    assert cli.main(["inspect", str(parts), "--out", "out", "-q"]) == 3
    messages = capsys.readouterr().err.splitlines()
    assert len(messages) == 2
    assert all(line.startswith("not drawn: ") and "too long" in line for line in messages)
    assert len(list(Path("out/overlays").rglob("*.jpg"))) == 2
    run = json.loads(Path("out/run.json").read_text(encoding="utf-8"))
    assert (run["status"], len(run["unwritten"])) == ("finished", 2)


def test_an_error_in_the_middle_leaves_a_run_that_says_failed(parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DarknessEngine, "score", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(["inspect", str(parts), "--out", "out"])
    assert json.loads(Path("out/run.json").read_text(encoding="utf-8"))["status"] == "failed"


# interruption


def test_an_interrupted_run_keeps_what_is_done_and_says_so(
    parts: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    score = DarknessEngine.score
    seen: list[int] = []

    def interrupted(self: DarknessEngine, features: Any, texts: Any) -> Any:
        seen.append(1)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return score(self, features, texts)

    monkeypatch.setattr(DarknessEngine, "score", interrupted)
    assert cli.main(["inspect", str(parts), "--batch-size", "1", "--out", "out"]) == 130
    assert capsys.readouterr().err.strip() == "blemish: interrupted"
    run = json.loads(Path("out/run.json").read_text(encoding="utf-8"))
    assert run["status"] == "interrupted"
    assert run["counts"]["ok"] == 1
