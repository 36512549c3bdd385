"""Peers from names to scores: who they are, what is refused, and that calibrations and runs hold for the same ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import blemish
from blemish import cli
from blemish.errors import UsageError
from blemish.images import save
from blemish.inspection.references import MOST_REFERENCES, find_references
from blemish.methods.referenced import LEAST_PEERS, REFERENCED_THRESHOLDS
from blemish.metrics import auroc
from blemish.results import Verdict
from blemish.synthesis import render_series

SEED, PIECES, DEFECTIVE = 51_000_111, 12, 4
MIDDLE_PX = 224  # quicker than the 320 px that are the default
SMALL_PX = 128  # input of the model where no score is looked at


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a rendered series, the defective pieces last."""
    folder = tmp_path_factory.mktemp("product")
    for number, piece in enumerate(render_series(SEED, pieces=PIECES, defective=DEFECTIVE)):
        save(piece.image, folder / f"{number:02}.png")
    return folder


def images(count: int) -> list[NDArray[np.uint8]]:
    return [np.full((8, 8, 3), number % 250, np.uint8) for number in range(count)]


def test_few_peers_are_all_taken_and_many_drawn_by_the_same_lot() -> None:
    assert len(find_references(images(LEAST_PEERS))) == LEAST_PEERS
    many = images(3 * MOST_REFERENCES)
    drawn = find_references(many)
    assert len(drawn) == MOST_REFERENCES
    assert all(one is other for one, other in zip(drawn, find_references(many), strict=True))
    assert len({id(one) for one in drawn}) == MOST_REFERENCES
    assert any(
        one is many[-1 - number] for number in range(MOST_REFERENCES) for one in drawn
    )  # not simply the first ones


def test_a_folder_means_the_images_in_it(series: Path) -> None:
    assert [Path(str(one)).name for one in find_references(series)] == [f"{number:02}.png" for number in range(PIECES)]
    assert len(find_references(str(series / "0*.png"))) == 10


def test_the_images_of_a_folder_judge_each_other(series: Path) -> None:
    paths = sorted(series.glob("*.png"))
    alone = blemish.load(input_px=MIDDLE_PX).inspect(paths)
    together = blemish.load(peers=series, input_px=MIDDLE_PX).inspect(paths)
    good, bad = together[: PIECES - DEFECTIVE], together[PIECES - DEFECTIVE :]
    assert {one.verdict for one in good} == {Verdict.OK}  # the words alone take two of them for defective
    assert sum(one.verdict is Verdict.NG and len(one.regions) > 0 for one in bad) >= DEFECTIVE - 1
    assert {one.model.method for one in together} == {"ensemble+peers"}
    assert [one.types for one in together] == [one.types for one in alone]


@pytest.mark.parametrize("compared", ["peers", "references"])
def test_beside_other_images_their_own_thresholds_are_used(series: Path, compared: str) -> None:
    found = blemish.load(**{compared: series}, input_px=SMALL_PX).thresholds
    assert {"image": found.image, "review": found.review, "pixel": found.pixel} == REFERENCED_THRESHOLDS
    assert found.calibration == "uncalibrated"


def test_good_references_fill_the_memory_of_a_method_that_has_one(series: Path) -> None:
    good = sorted(series.glob("*.png"))[:2]
    alone, compared = blemish.load(method="winclip"), blemish.load(method="winclip", references=good)
    assert (alone.setup.references, compared.setup.peers) == ("", "")
    assert compared.setup.references.startswith("2 good images (")
    assert alone.model.fingerprint == compared.model.fingerprint
    own, other = (compared.inspect(path).image_score for path in (good[0], series / f"{PIECES - 1:02}.png"))
    assert own == pytest.approx(alone.inspect(good[0]).image_score / 2, abs=1e-3)  # its distance to itself is 0
    assert other > alone.inspect(series / f"{PIECES - 1:02}.png").image_score / 2 + 1e-3
    config = blemish.Config().with_settings(method="winclip", references=str(good[0]))
    assert blemish.load(config).setup.references.startswith("1 good images (")


def test_good_references_that_do_not_suit_are_refused(series: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="references are at least one good image of the product, not an empty list"):
        blemish.load(method="winclip", references=[])
    with pytest.raises(UsageError, match="unlabelled peers or with good references: leave one of them out"):
        blemish.load(method="winclip", references=images(1), peers=images(5))
    with pytest.raises(UsageError, match="references are compared with whole images, not with tiles"):
        blemish.load(method="winclip", references=images(1), tiles="auto")
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(UsageError, match=r"give at least one \(.*broken\.png"):
        blemish.load(method="winclip", references=tmp_path)


def test_any_methods_words_are_read_beside_good_references(series: Path) -> None:
    paths = sorted(series.glob("*.png"))
    good, bad = paths[: PIECES - DEFECTIVE], paths[PIECES - DEFECTIVE :]
    inspector = blemish.load(references=good[1:], input_px=MIDDLE_PX)
    assert inspector.setup.references.startswith(f"{len(good) - 1} good images (")
    assert inspector.model.method == "ensemble+references"
    scores = [one.image_score for one in inspector.inspect([*good, *bad])]
    assert float(auroc(scores, [False] * len(good) + [True] * len(bad))) > 0.9
    one = inspector.inspect(bad[0])
    assert one.reasons is not None
    assert str(one.reasons).startswith("words ")
    assert one.to_dict()["reasons"] == one.reasons.to_dict()
    assert blemish.load().inspect(bad[0]).to_dict().get("reasons") is None


def test_calibration_refuses_good_images_that_are_in_the_memory(series: Path) -> None:
    with pytest.raises(UsageError, match=r"2 of the good images, .*00\.png the first, are among the references"):
        blemish.calibrate(series, method="winclip", references=str(series / "0[01].png"))


def test_what_cannot_be_compared_is_refused(series: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least 5 images of the same product, not 4"):
        blemish.load(peers=images(4))
    with pytest.raises(UsageError, match="no such file or folder"):
        blemish.load(peers=tmp_path / "nowhere")
    with pytest.raises(UsageError, match="compared with whole images, not with tiles"):
        blemish.load(peers=series, tiles="auto")
    for one in (np.zeros((64, 64, 3), np.uint8), b"bytes", np.zeros((9, 8, 8, 3), np.uint8)):
        with pytest.raises(UsageError, match="a folder, a pattern or a list of images, not"):
            blemish.load(peers=one)  # type: ignore[arg-type]
    for number in range(6):
        (tmp_path / f"{number}.png").write_bytes(b"no image")
    with pytest.raises(UsageError, match=r"at least 5 of their like, not with 0 \(.*0.png"):
        blemish.load(peers=tmp_path)


def test_an_unreadable_peer_is_left_out(series: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    inspector = blemish.load(peers=[*sorted(series.glob("*.png"))[:6], tmp_path / "broken.png"], input_px=SMALL_PX)
    assert inspector.setup.peers.startswith("6 images (")


def test_deep_images_are_read_on_the_value_range_of_their_peers() -> None:
    rng = np.random.default_rng(0)
    peers = [rng.integers(0, 4000, (32, 32), np.uint16) for _ in range(6)]
    inspector = blemish.load(peers=peers, input_px=SMALL_PX)
    assert inspector.value_range == (0, 4095)
    assert inspector.inspect(np.full((32, 32), 100, np.uint16)).value_range == (0, 4095)
    assert blemish.load(peers=peers, value_range=(0, 8000), input_px=SMALL_PX).value_range == (0, 8000)
    clipped = blemish.load(peers=peers, value_range=("1%", "99%"), input_px=SMALL_PX)
    low, high = clipped.value_range or (0, 0)
    assert 0 <= low < 100
    assert 3800 < high < 4000


def test_a_calibration_holds_for_the_same_peers_only(
    series: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = tmp_path / "good"
    for number, piece in enumerate(render_series(SEED, pieces=27, defective=0)[PIECES:]):
        save(piece.image, good / f"{number:02}.png")
    file, out = tmp_path / "calibration.json", tmp_path / "out"
    rule = ["--max-false-rejects", "10%", "--review", "off", "--input-px", str(SMALL_PX), "--quiet"]
    assert cli.main(["calibrate", str(good), "--peers", str(series), "--out", str(file), *rule]) == 0
    assert json.loads(file.read_text())["setup"]["peers"].startswith("12 images (")
    inspect = ["inspect", str(series), "--calibration", str(file), "--quiet"]
    assert cli.main([*inspect, "--peers", str(series), "--out", str(out)]) == 0
    run = json.loads((out / "run.json").read_text())
    assert run["setup"]["peers"] == json.loads(file.read_text())["setup"]["peers"]
    assert run["thresholds"]["calibration"] == "calibrated"
    assert cli.main(["calibrate", str(good), "--peers", str(good), "--out", str(tmp_path / "other.json"), *rule]) == 2
    assert "15 of the good images" in capsys.readouterr().err
    for other in ([], ["--peers", str(good)]):
        assert cli.main([*inspect, *other, "--out", str(tmp_path / "other")]) == 2
        assert "the calibration" in capsys.readouterr().err


def test_a_run_is_resumed_with_the_same_peers_only(
    series: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["inspect", str(series), "--input-px", str(SMALL_PX), "--out", str(tmp_path / "run"), "--quiet"]
    assert cli.main([*call, "--peers", str(series)]) == 0
    assert cli.main([*call, "--peers", str(series), "--resume"]) == 0
    assert cli.main([*call, "--peers", "off", "--resume"]) == 2
    assert "peers 12 images" in capsys.readouterr().err


def test_without_peers_a_setup_is_that_of_versions_that_knew_none() -> None:
    assert "peers" not in blemish.load().setup.to_dict()


def test_references_that_are_not_taken_are_named(series: Path, tmp_path: Path) -> None:
    folder = tmp_path / "good"
    folder.mkdir()
    for name in ("00.png", "01.png"):
        (folder / name).write_bytes((series / name).read_bytes())
    (folder / "broken.png").write_bytes(b"no image")
    (folder / "clip.mp4").write_bytes(b"")
    notes = blemish.load(references=folder, input_px=SMALL_PX).notes
    assert notes[0] == "references: left out: 1 file (.mp4 1)"
    assert notes[1].startswith("references: unreadable: ")
    assert "broken.png" in notes[1]
    assert len(notes) == 2
