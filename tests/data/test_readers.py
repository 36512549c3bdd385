"""Each reader finds the right images, masks, types, split and level in a miniature of what it reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from blemish.data import FileSample, entry, known_sets, open_data, type_mask
from blemish.data.entries import parse_entry
from blemish.data.layouts.coco import fill_polygon, unpack_counts
from blemish.errors import MissingExtraError, UsageError
from miniatures import (
    BLOB,
    LIST,
    LISTED,
    OFFICIAL,
    OWN,
    SIZE,
    Miniature,
    found_in,
    image,
    kvasir_split,
    listed_files,
    mask,
    packed,
)


def built(miniature: Miniature, root: Path) -> Path:
    root.mkdir(parents=True)
    miniature.build(root)
    return root


def test_every_known_set_has_a_miniature() -> None:
    assert {known.name for known in known_sets()} == set(OFFICIAL)


@pytest.mark.parametrize("name", OFFICIAL)
def test_a_set_is_found_by_its_name_below_the_data_root(name: str, tmp_path: Path) -> None:
    miniature = OFFICIAL[name]
    built(miniature, tmp_path / (miniature.folder or entry(name).folders[0]))
    dataset = open_data(name, root=tmp_path)
    assert (dataset.name, dataset.level) == (name, miniature.level)
    assert found_in(dataset) == miniature.found
    assert dataset.variant
    assert dataset.licence
    said = "\n".join(dataset.notes)
    assert all(note in said for note in miniature.notes)
    for sample in dataset.samples:
        picture, mask = sample.picture(), sample.mask()
        assert (mask is not None) == sample.has_mask
        if mask is not None:
            assert mask.shape == (picture.height_px, picture.width_px)
            assert mask.any() == sample.anomalous
        if mask is not None and sample.anomalous and miniature.mask_px is not None:
            assert mask.sum() == pytest.approx(miniature.mask_px, abs=2)  # JPEG masks bleed
    assert len({sample.name for sample in dataset.samples}) == len(dataset.samples)


@pytest.mark.parametrize("name", [name for name in OFFICIAL if not entry(name).reading_of])
def test_a_set_is_recognised_by_its_folder(name: str, tmp_path: Path) -> None:
    miniature = OFFICIAL[name]
    dataset = open_data(built(miniature, tmp_path / (miniature.folder or "download")))
    assert dataset.name == name
    assert found_in(dataset) == miniature.found


def test_the_data_root_may_be_the_set_itself(tmp_path: Path) -> None:
    assert found_in(open_data("mvtec", root=built(OFFICIAL["mvtec"], tmp_path / "x"))) == OFFICIAL["mvtec"].found


def test_the_data_root_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built(OFFICIAL["btad"], tmp_path / "BTAD")
    monkeypatch.setenv("BLEMISH_DATA", str(tmp_path))
    assert found_in(open_data("btad")) == OFFICIAL["btad"].found


def test_one_product_of_a_known_set_keeps_its_types(tmp_path: Path) -> None:
    dataset = open_data(built(OFFICIAL["mvtec"], tmp_path / "x") / "screw")
    assert (dataset.name, dataset.types) == ("mvtec", ("bent",))


def test_a_known_product_with_other_folders_is_ones_own(tmp_path: Path) -> None:
    root = built(OFFICIAL["mvtec"], tmp_path / "mine")
    for folder in ("test", "ground_truth"):
        (root / "bottle" / folder / "broken_large").rename(root / "bottle" / folder / "lip_gone")
    assert open_data(root / "bottle").types == ("lip gone",)


def test_kvasir_is_read_in_its_other_layout(tmp_path: Path) -> None:
    kvasir_split(tmp_path / "kvasir_seg")
    assert found_in(open_data("kvasir", root=tmp_path)) == {("colon", "test", "polyp", "polyp"): (6, 6)}
    assert open_data(tmp_path / "kvasir_seg").name == "kvasir"


def test_a_copy_in_the_layout_of_mvtec_is_read_under_its_name(tmp_path: Path) -> None:
    root = built(OFFICIAL["dtd-synthetic"], tmp_path / "HeadCT_anomaly_detection")
    (root / "Woven_001").rename(root / "brain")
    dataset = open_data("headct", root=tmp_path)
    assert (dataset.name, dataset.level, len(dataset.samples)) == ("headct", "image", 3)
    assert "copy" in dataset.variant


def test_real_iad_says_list_and_resolution_beside_every_number(tmp_path: Path) -> None:
    built(OFFICIAL["real-iad"], tmp_path / "Real-IAD")
    assert open_data("real-iad", root=tmp_path).variant.endswith("realiad_jsons; resolution 256")
    assert open_data("real-iad-single-view", root=tmp_path).variant.endswith("realiad_jsons_sv; resolution 256")


def test_isic_is_read_as_the_challenge_gives_it(tmp_path: Path) -> None:
    image(tmp_path / "isic/ISBI2016_ISIC_Part1_Test_Data/ISIC_0000003.jpg")
    mask(tmp_path / "isic/ISBI2016_ISIC_Part1_Test_GroundTruth/ISIC_0000003_Segmentation.png")
    assert found_in(open_data("isic", root=tmp_path)) == {("skin", "test", "lesion", "lesion"): (1, 1)}


def test_names_are_those_that_were_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = built(OWN["mvtec-like"], tmp_path / "store")
    (tmp_path / "cups").symlink_to(root / "jug", target_is_directory=True)
    assert open_data(tmp_path / "cups").products == ("cups",)
    monkeypatch.chdir(root / "jug")
    assert (open_data(".").name, open_data("test/..").products) == ("jug", ("jug",))


def test_elpv_comes_straight_from_its_package(tmp_path: Path) -> None:
    pytest.importorskip("elpv_dataset")
    dataset = open_data("elpv", root=tmp_path)
    normal = [sample for sample in dataset.samples if not sample.anomalous]
    assert (len(normal), len(dataset.samples) - len(normal)) == (1508, 715)
    assert sum(sample.split == "test" for sample in normal) == 377
    assert sum(sample.folder == "mono" for sample in normal) == 588


@pytest.mark.parametrize("name", OWN)
def test_ones_own_data_is_recognised(name: str, tmp_path: Path) -> None:
    miniature = OWN[name]
    dataset = open_data(built(miniature, tmp_path / "x"))
    assert (dataset.name, dataset.level) == ("x", miniature.level)
    assert found_in(dataset) == miniature.found
    assert all(any(note in line for line in dataset.notes) for note in miniature.notes)
    for sample in dataset.samples:
        mask = sample.mask()
        if sample.anomalous and mask is not None:
            expected = np.zeros_like(mask)
            expected[BLOB] = True
            assert np.array_equal(mask, expected)


def test_a_list_may_be_parquet_and_named_itself(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    listed_files(tmp_path)
    parquet.write_table(pyarrow.Table.from_pylist(list(LIST)), tmp_path / "list.parquet")
    assert found_in(open_data(tmp_path / "list.parquet")) == LISTED


def test_without_pyarrow_a_parquet_list_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    (tmp_path / "list.parquet").write_bytes(b"PAR1")
    with pytest.raises(MissingExtraError, match=r"blemish\[parquet\]"):
        open_data(tmp_path / "list.parquet")


def test_a_list_needs_no_more_than_images(tmp_path: Path) -> None:
    listed_files(tmp_path)
    (tmp_path / "mine.csv").write_text("image;mask\npictures/1.png;\npictures/3.png;m/3.png\n", encoding="utf-8")
    dataset = open_data(tmp_path / "mine.csv")
    assert [sample.anomalous for sample in dataset.samples] == [False, True]


def test_rendered_samples_have_a_name(tmp_path: Path) -> None:
    dataset = open_data("synthetic:3@60_000_000")
    assert [sample.name for sample in dataset.samples] == [f"seed-{60_000_000 + number:09}" for number in range(3)]
    assert all(sample.split == "test" for sample in dataset.samples)
    with pytest.raises(UsageError, match="synthetic:COUNT@SEED"):
        open_data("synthetic:many")


def test_ids_of_visa_become_types_by_name(tmp_path: Path) -> None:
    dataset = open_data(built(OFFICIAL["visa"], tmp_path / "VisA"))
    several = next(sample for sample in dataset.samples if "," in sample.folder)
    found = type_mask(several)
    assert found is not None
    assert (found.of("damage").sum(), found.of("spot").sum()) == (12, 12)
    assert found.types[4] == "spot"


def test_every_sample_has_a_type_mask_of_its_one_type(tmp_path: Path) -> None:
    dataset = open_data(built(OFFICIAL["mvtec"], tmp_path / "x"))
    found = type_mask(next(sample for sample in dataset.samples if sample.anomalous))
    assert found is not None
    assert found.of("broken").sum() == BLOB_SIZE
    rendered = type_mask(open_data("synthetic:1").samples[0])
    assert rendered is not None
    assert np.array_equal(rendered.ids > 0, open_data("synthetic:1").samples[0].mask())


BLOB_SIZE = (BLOB[0].stop - BLOB[0].start) * (BLOB[1].stop - BLOB[1].start)


def test_the_split_by_seed_depends_on_names_alone(tmp_path: Path) -> None:
    first = open_data(built(OFFICIAL["aitex"], tmp_path / "a" / "AITEX"))
    second = open_data(built(OFFICIAL["aitex"], tmp_path / "b" / "AITEX"))
    assert [(sample.name, sample.split) for sample in first.samples] == [
        (sample.name, sample.split) for sample in second.samples
    ]


def test_parts_of_one_image_differ_in_name_digest_and_pixels(tmp_path: Path) -> None:
    parts = open_data(built(OFFICIAL["sdd"], tmp_path / "KSDD")).samples
    assert len({part.digest() for part in parts}) == len(parts) == 6
    assert {part.picture().pixels.shape for part in parts} == {(12, 16, 3)}


def test_equal_bytes_have_equal_digests(tmp_path: Path) -> None:
    root = built(OWN["flat"], tmp_path / "x")
    (root / "c.png").write_bytes((root / "a.png").read_bytes())
    by_name = {sample.name: sample.digest() for sample in open_data(root).samples}
    assert by_name["a.png"] == by_name["c.png"] != by_name["b.jpg"]


def test_types_are_words_and_never_ids() -> None:
    assert entry("visa").knowledge["pcb4"]["dirt"] == ""
    assert entry("real-iad").knowledge["switch"] == {"HS": "scratch", "QS": "missing", "ZW": "contamination"}
    assert len(set(entry("mvtec").types.values())) == 20
    assert len({name for name in entry("visa").types.values() if name}) == 18
    products = {known.name: len(known.knowledge) for known in known_sets() if known.knowledge}
    assert (products["mvtec"], products["visa"], products["mpdd"]) == (15, 12, 6)
    assert (products["real-iad"], products["mad-sim"], products["mad-real"]) == (30, 20, 10)
    for known in known_sets():
        for words in (known.words or known.products).values():
            assert not known.words or set(words) <= set(known.types), known.name


def test_a_table_with_a_wrong_key_or_level_is_refused() -> None:
    with pytest.raises(UsageError, match="data set x: unknown key of Entry 'licens'; did you mean 'licence'"):
        parse_entry("x", {"title": "X", "layout": "mvtec", "level": "image", "licens": "MIT"})
    with pytest.raises(UsageError, match=r"data set x: unknown Entry\.level 'both'"):
        parse_entry("x", {"title": "X", "layout": "mvtec", "level": "both"})


def test_counts_of_the_tables_add_up_to_the_published_ones() -> None:
    def total(name: str, *, train: bool = False) -> int:
        held = entry(name).products.values()
        return sum(count for counts in held for word, count in counts.items() if (word == "train") == train)

    assert (total("mvtec", train=True), total("mvtec")) == (3629, 1725)
    assert (total("visa", train=True), total("visa"), total("visa-single-type")) == (8659, 2162, 1878)
    assert (total("mpdd", train=True), total("mpdd"), total("btad")) == (888, 458, 741)
    assert (total("mad-sim", train=True), total("mad-sim"), total("mad-real")) == (4200, 5589, 271)
    assert (total("magnetic-tile"), total("dagm"), total("aitex-whole")) == (1344, 16100, 247)


def test_polygons_cover_the_pixels_whose_centre_is_inside() -> None:
    square = fill_polygon((2, 3, 8, 3, 8, 7, 2, 7), SIZE)
    assert square.sum() == BLOB_SIZE
    assert square[BLOB].all()
    hourglass = fill_polygon((0, 0, 16, 12, 16, 0, 0, 12), SIZE)  # crosses itself
    y, x = np.mgrid[:12, :16] + 0.5
    left, right = x * 12 / 16, 12 - x * 12 / 16
    assert np.array_equal(hourglass, (np.minimum(left, right) < y) & (y < np.maximum(left, right)))
    assert not fill_polygon((-5, -5, -1, -5, -1, -1), SIZE).any()


@pytest.mark.parametrize("runs", [[0, 5], [3, 4, 5, 6, 7], [1000, 1, 1, 100_000, 2, 3]])
def test_compressed_run_lengths_come_back(runs: list[int]) -> None:
    assert unpack_counts(packed(runs)) == tuple(runs)


def test_where_nothing_is_known_the_error_says_what_was_expected_and_found(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"expected a list.*found nothing"):
        open_data(tmp_path)
    (tmp_path / "reports").mkdir()
    with pytest.raises(UsageError, match="found reports"):
        open_data(tmp_path)
    with pytest.raises(UsageError, match=r"MVTec AD is not there: expected .*mvtec_anomaly_detection.*found reports"):
        open_data("mvtec", root=tmp_path)
    with pytest.raises(UsageError, match="did you mean 'kvasir'"):
        open_data("kvaser")
    with pytest.raises(UsageError, match="no such folder"):
        open_data("mvtec", root=tmp_path / "nowhere")


def test_a_set_that_lies_there_twice_must_be_named(tmp_path: Path) -> None:
    built(OFFICIAL["mpdd"], tmp_path / "MPDD")
    built(OFFICIAL["mpdd"], tmp_path / "mpdd_second").rename(tmp_path / "mpdd")
    if len(list(tmp_path.iterdir())) < 2:
        pytest.skip("this file system does not tell upper from lower case")
    built(OFFICIAL["mvtec"], tmp_path / "mvtec_ad")
    built(OFFICIAL["mvtec"], tmp_path / "mvtecad")
    with pytest.raises(UsageError, match=r"lies there more than once.*mvtec_ad.*mvtecad"):
        open_data("mvtec", root=tmp_path)


def test_a_name_is_not_given_to_whatever_lies_in_the_data_root(tmp_path: Path) -> None:
    mine = built(OFFICIAL["mvtec"], tmp_path / "x") / "screw"
    mine.rename(tmp_path / "screw")
    built(OFFICIAL["magnetic-tile"], tmp_path / "tiles")
    for name in ("mvtec", "headct", "colondb", "lag"):
        with pytest.raises(UsageError, match="is not there"):
            open_data(name, root=tmp_path)


def test_what_several_sets_fit_must_be_named(tmp_path: Path) -> None:
    root = built(OFFICIAL["br35h"], tmp_path / "brain_tumor_dataset")
    with pytest.raises(UsageError, match="could be br35h or brainmri: say which"):
        open_data(root)
    assert open_data("br35h", root=root).name == "br35h"


def test_samples_of_files_are_samples(tmp_path: Path) -> None:
    dataset = open_data(built(OWN["flat"], tmp_path / "x"))
    assert all(isinstance(sample, FileSample) for sample in dataset.samples)
    assert dataset.of(split="train").samples == ()
