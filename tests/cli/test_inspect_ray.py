"""`blemish inspect --ray`: what does not go together, and what is not there, in one line, before anything is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from blemish import cli
from blemish.cli.options import with_address
from blemish.errors import UsageError
from blemish.scale.cluster import check_answers


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert cli.main(list(words)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1, captured.err
    return captured.err


@pytest.mark.parametrize("options", [["--watch"], ["--keep-maps"], ["--json"], ["--workers", "2"]])
def test_options_of_one_machine_are_refused(capsys: pytest.CaptureFixture[str], options: list[str]) -> None:
    assert "--ray goes without" in refused(capsys, "inspect", "parts", "--ray", *options)


@pytest.mark.parametrize("options", [["--column", "path"], ["--pictures", "all"]])
def test_options_of_a_cluster_are_refused_without_one(capsys: pytest.CaptureFixture[str], options: list[str]) -> None:
    assert "give --ray, too" in refused(capsys, "inspect", "parts", *options)


def test_a_suite_and_a_single_training_are_not_spread(capsys: pytest.CaptureFixture[str]) -> None:
    assert "leave --ray away" in refused(capsys, "evaluate", "--suite", "faprompt", "--ray")
    assert "give --vary" in refused(capsys, "train", "faprompt", "--data", "x", "--out", "y", "--ray")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["parts", "--ray"], ["parts", "--ray", "local"]),
        (["--ray", "-q", "parts"], ["--ray", "local", "-q", "parts"]),
        (["--ray", "auto", "parts"], ["--ray", "auto", "parts"]),
        (["--ray=head:6379"], ["--ray=head:6379"]),
    ],
)
def test_the_address_may_be_left_out(words: list[str], expected: list[str]) -> None:
    assert with_address(words) == expected


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("127.0.0.1:9", "no Ray cluster answers there"),
        ("ray://127.0.0.1:9", "no Ray cluster answers there"),
        ("nowhere.invalid:6379", "no Ray cluster answers there"),
        ("host:port", "is no address"),
        (":6379", "is no address"),
    ],
)
def test_an_address_where_no_cluster_is_is_said_at_once(address: str, why: str) -> None:
    with pytest.raises(UsageError, match=f"--ray {address}: {why}"):
        check_answers(address)


def test_without_ray_the_line_that_installs_it_is_printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert 'pip install "blemish[ray]"' in refused(capsys, "inspect", str(tmp_path), "--ray")


def test_results_do_not_go_to_an_address(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra ray is not installed")
    said = refused(capsys, "inspect", str(tmp_path), "--ray", "--out", "s3://bucket/run")
    assert "a folder that every machine sees" in said


def test_peers_are_named_or_there_are_none(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra ray is not installed")
    assert "name the peers" in refused(capsys, "inspect", str(tmp_path), "--ray", "--peers", "auto")


@pytest.mark.slow
def test_a_start_that_fails_leaves_nothing_behind(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra ray is not installed")
    assert "holds no images" in refused(capsys, "inspect", str(tmp_path), "--ray", "--out", str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
