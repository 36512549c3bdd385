"""Real images with annotated defects are laid out as MVTec AD is, whatever the form of their annotations."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parent))

from recipes.real.annotated import ALLOWED, AnnotatedSource, annotated_sources
from recipes.real_images import Record, pixel_digest, with_defects
from test_real_images import encoded, picture, snapshot

from blemish.errors import UsageError

SOURCE = AnnotatedSource(
    "nuts", "a/b", "CC-BY-SA-4.0", "LICENSE", "A. B.", "nut", r"img/(?P<id>\d+)\.png", "mask", ("mask/{id}.png",)
)


def marks(side: int = 240) -> np.ndarray:
    mask = np.zeros((side, side), np.uint8)
    mask[20:40, 30:60] = 255
    return mask


def laid_out(
    tmp_path: Path, source: AnnotatedSource, files: dict[str, bytes], refused: frozenset[str] = frozenset()
) -> list[Record]:
    found = snapshot(tmp_path, "a/b", {"LICENSE": b"x", "img/1.png": encoded(picture(1)), **files})
    return list(with_defects(source, found, tmp_path / "out", refused, set()))


def truth(tmp_path: Path, number: int = 0) -> np.ndarray:
    return np.asarray(Image.open(tmp_path / f"out/defects/nuts/ground_truth/bad/{number:04d}_mask.png")) > 127


def test_images_without_marks_are_good_and_half_of_them_are_for_training(tmp_path: Path) -> None:
    files = {f"img/{n}.png": encoded(picture(n)) for n in (2, 3, 4)}
    files |= {"mask/1.png": encoded(marks()), "mask/2.png": encoded(np.zeros((240, 240), np.uint8))}
    found = laid_out(tmp_path, SOURCE, files)
    assert sorted(Path(record.file).parent.as_posix() for record in found) == [
        "defects/nuts/test/bad",
        "defects/nuts/test/good",
        "defects/nuts/train/good",
        "defects/nuts/train/good",
    ]
    assert truth(tmp_path).sum() == 20 * 30
    assert {(record.role, record.licence, record.credit) for record in found} == {
        ("annotated", "CC-BY-SA-4.0", "A. B.")
    }


def test_polygons_boxes_and_red_pixels_mark_defects(tmp_path: Path) -> None:
    outline = {"shapes": [{"label": "x", "points": [[30, 20], [59, 20], [59, 39], [30, 39]]}]}
    red = np.zeros((240, 240, 3), np.uint8)
    red[:, :, 1] = 200
    red[20:40, 30:60] = (255, 0, 0)
    box = b"0 0.1875 0.125 0.121 0.079\n"
    for form, name, content in (
        ("labelme", "mask/1.json", json.dumps(outline).encode()),
        ("red", "mask/1.png", encoded(red)),
        ("yolo", "mask/1.txt", box),
    ):
        source = replace(SOURCE, form=form, annotations=(name.replace("1", "{id}"),))
        (record,) = laid_out(tmp_path / form, source, {name: content})
        assert "/bad/" in record.file
        marked = truth(tmp_path / form)
        assert marked.sum() == pytest.approx(600, rel=0.05)
        assert marked[20:40, 30:60].mean() > 0.95


def test_flags_of_the_name_say_which_boxes_are_defective(tmp_path: Path) -> None:
    source = replace(
        SOURCE,
        pattern=r"img/\d+_(?P<flags>[01]+)\.png",
        form="flags",
        annotations=(),
        boxes=((0, 0, 19, 19), (50, 0, 69, 9)),
    )
    files = {"img/2_11.png": encoded(picture(2)), "img/3_10.png": encoded(picture(3))}
    assert ["/bad/" in record.file for record in laid_out(tmp_path, source, files)] == [False, True]
    assert np.argwhere(truth(tmp_path)).max(0).tolist() == [9, 69]


def test_tiles_give_good_parts_of_defective_images(tmp_path: Path) -> None:
    found = laid_out(tmp_path, replace(SOURCE, tiles=2), {"mask/1.png": encoded(marks())})
    assert sorted(Path(record.file).parent.name for record in found) == ["bad", "good", "good", "good"]
    assert truth(tmp_path).shape == (120, 120)


def test_large_images_are_made_smaller_and_thin_marks_stay(tmp_path: Path) -> None:
    line = np.zeros((300, 2048), np.uint8)
    line[150, :1000] = 255
    pixels = np.random.default_rng(5).integers(0, 255, (300, 2048, 3), np.uint8)
    (record,) = laid_out(tmp_path, SOURCE, {"img/1.png": encoded(pixels), "mask/1.png": encoded(line)})
    with Image.open(tmp_path / "out" / record.file) as stored:
        assert stored.size == (1024, 150)
    assert truth(tmp_path).sum() == 500


def test_copies_marks_too_small_to_see_and_more_than_wanted_are_left_out(tmp_path: Path) -> None:
    dot = np.zeros((240, 240), np.uint8)
    dot[5, 5] = 255
    files = {"img/2.png": encoded(picture(1)), "img/3.png": encoded(picture(3)), "mask/3.png": encoded(dot)}
    files |= {"img/4.png": encoded(picture(4)), "img/5.png": encoded(picture(5))}
    found = laid_out(tmp_path, replace(SOURCE, most=2), files)
    assert len(found) == 2
    assert pixel_digest(picture(3)) not in {record.digest for record in found}


def test_measured_images_and_a_missing_licence_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"a/b: img/1\.png: an image of a set that only measures"):
        laid_out(tmp_path / "measured", SOURCE, {}, frozenset({pixel_digest(picture(1))}))
    with pytest.raises(UsageError, match="TERMS, which states the licence, is not there"):
        laid_out(tmp_path / "terms", replace(SOURCE, licence_file="TERMS"), {})


def test_every_listed_source_is_permissive_or_share_alike() -> None:
    listed = annotated_sources()
    assert listed
    assert all(source.licence in ALLOWED and source.credit for source in listed)
    assert not any("NC" in licence or "ND" in licence for licence in ALLOWED)


def test_a_licence_that_is_not_allowed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recipes.real.annotated.ALLOWED", ("MIT",))
    with pytest.raises(UsageError, match=r"ball-screws has the licence CC-BY-SA-4\.0"):
        annotated_sources()
