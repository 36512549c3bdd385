"""What happens to a batch on any machine: the same as in one process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from blemish.config import Config
from blemish.errors import ImageError, UsageError
from blemish.images import Learned, save
from blemish.inspection.inspector import Inspector
from blemish.inspection.load import load
from blemish.inspection.loader import LoadedImage
from blemish.runs.header import header_of
from blemish.runs.packing import unpack
from blemish.runs.records import error_record, record_of
from blemish.runs.shards import ShardFolder, Summary
from blemish.runs.tables import read_parts
from blemish.runs.work import WorkOrder
from blemish.scale.cluster import check_same, node_facts
from blemish.scale.manifest import write_manifest
from blemish.scale.sources import list_sources
from blemish.scale.stages import Loading, ScoringActor, Unit, learn_unit, load_unit, table_of
from fakes import THRESHOLDS, darkness_inspector
from plugged import plug_in

CONFIG = Config().with_settings(defects="scratch, stain", batch_size=4, engine="darkness")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    numbers = np.random.default_rng(0)
    for number in range(9):
        pixels = numbers.integers(20, 256, (6, 8), dtype=np.uint8).repeat(10, 0).repeat(10, 1)
        save(pixels, tmp_path / "images" / f"{number}.png")
    for number, most in ((3, 900), (4, 5000)):
        Image.fromarray((numbers.random((60, 80)) * most).astype(np.uint16)).save(tmp_path / "images" / f"{number}.png")
    (tmp_path / "images" / "5.png").write_text("text")
    return tmp_path / "images"


@pytest.fixture
def inspector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Inspector:
    plug_in(tmp_path, monkeypatch)
    return load(CONFIG)


def loading_of(images: Path, inspector: Inspector, **options: Any) -> Loading:
    manifest = write_manifest(list_sources([str(images)]), images.parent)
    defaults: dict[str, Any] = {"value_range": None, "max_megapixels": 200.0, "batch_size": 4, "with_pictures": False}
    return Loading(manifest=manifest, preprocess=inspector.engine.input, **{**defaults, **options})


@pytest.mark.parametrize("with_pictures", [False, True])
def test_batches_come_through_as_they_were(images: Path, inspector: Inspector, with_pictures: bool) -> None:
    learned = Learned(bits=((None, 14),))
    loading = loading_of(images, inspector, with_pictures=with_pictures, learned=learned)
    rows = list(load_unit(loading, Unit(0, 0, 9)))
    assert [row["first"] for row in rows] == [0, 4, 8]
    packed = unpack(rows[1]["payload"])
    batch, digests = packed.images, packed.digests
    assert packed.names[0] == "00000000/0004-4"
    error = batch[1]
    assert isinstance(error, ImageError) and error.source.endswith("5.png")
    deep = batch[0]
    assert isinstance(deep, LoadedImage)
    assert (deep.size_px, deep.picture.value_range) == ((80, 60), (0, 2**14 - 1))
    assert bool(deep.picture.pixels.any()) == with_pictures
    assert [len(digest or "") for digest in digests] == [32, 32, 32, 32]


def test_the_value_range_is_learned_in_pieces(images: Path, inspector: Inspector) -> None:
    loading = loading_of(images, inspector)
    pieces = [learn_unit(loading, Unit(0, first, first + 1)) for first in range(9)]
    learned = Learned()
    for piece in pieces:
        learned = learned.merged(piece)
    paths = [images / f"{number}.png" for number in range(9)]
    assert learned == inspector.plan_batches(paths).learned
    assert pieces[0] == Learned()


def test_an_actor_makes_the_records_of_one_process(images: Path, inspector: Inspector, tmp_path: Path) -> None:
    learned = inspector.plan_batches([images / f"{number}.png" for number in range(9)]).learned
    loading = loading_of(images, inspector, learned=learned)
    order = WorkOrder(config=CONFIG.to_dict(), model=inspector.model.to_dict())
    actor = ScoringActor(order, thresholds=inspector.thresholds)
    folder = ShardFolder(tmp_path)
    import pyarrow

    tables = [actor.rows(**row) for row in load_unit(loading, Unit(0, 0, 9))]
    actor.close()
    folder.land(0, pyarrow.concat_tables(tables).drop_columns(["shard", "row", "refused"]))
    expected = [
        error_record(outcome, thresholds=inspector.thresholds, model=inspector.model)
        if isinstance(outcome, ImageError)
        else record_of(outcome.inspection)
        for outcome in inspector.stream([images / f"{number}.png" for number in range(9)])
    ]
    assert list(read_parts(folder.path)) == expected
    assert folder.landed() == {0}


@pytest.mark.slow
def test_an_image_that_ends_processes_costs_no_other_image(images: Path, inspector: Inspector) -> None:
    save(np.zeros((60, 80), np.uint8), images / "2.png")
    loading = loading_of(images, inspector)
    order = WorkOrder(config=CONFIG.with_settings(engine="ending").to_dict(), model=inspector.model.to_dict())
    actor = ScoringActor(order, thresholds=inspector.thresholds)
    table = actor.rows(**next(load_unit(loading, Unit(0, 0, 4))))
    actor.close()
    assert table["refused"].null_count == 4
    assert table["error"].to_pylist() == [
        None,
        None,
        "the process that inspected it ended 2 times (killed by SIGKILL)",
        None,
    ]


def test_a_machine_with_another_model_refuses_and_says_where(images: Path, inspector: Inspector) -> None:
    other = {**inspector.model.to_dict(), "fingerprint": "ffffffffffffffff"}
    actor = ScoringActor(WorkOrder(config=CONFIG.to_dict(), model=other), thresholds=THRESHOLDS, where="node7")
    row = next(load_unit(loading_of(images, inspector), Unit(0, 0, 4)))
    refused = actor.rows(**row)["refused"].to_pylist()
    actor.close()
    assert len(refused) == 1
    assert refused[0].startswith("node7: a worker has loaded another model")


def test_a_machine_without_the_model_refuses_and_says_where(images: Path, inspector: Inspector) -> None:
    config = CONFIG.with_settings(backbone="not-here")
    order = WorkOrder(config=config.to_dict(), model=inspector.model.to_dict())
    actor = ScoringActor(order, thresholds=THRESHOLDS, where="node7")
    row = next(load_unit(loading_of(images, inspector), Unit(0, 0, 4)))
    refused = actor.rows(**row)["refused"].to_pylist()
    actor.close()
    assert refused[0].startswith("node7: unknown backbone 'not-here'")


def test_versions_that_differ_are_named_with_their_machines() -> None:
    here = node_facts()
    check_same(here, {"10.0.0.1": here})
    with pytest.raises(UsageError, match=r"torch 1\.0, not .* on 10\.0\.0\.2, 10\.0\.0\.3"):
        check_same(here, {"10.0.0.1": here, "10.0.0.2": {**here, "torch": "1.0"}, "10.0.0.3": {**here, "torch": "1.0"}})


def test_a_summary_counts_what_records_say() -> None:
    inspector = darkness_inspector()
    outcomes = inspector.stream([np.full((20, 30), grey, np.uint8) for grey in (250, 90, 90, 150)])
    records = [record_of(outcome.inspection) for outcome in outcomes if not isinstance(outcome, ImageError)]
    records.append(
        error_record(ImageError("bad.png", "is empty"), thresholds=inspector.thresholds, model=inspector.model)
    )
    records[1]["error"] = "its pictures cannot be written (x)"
    from blemish.runs.counts import RunCounts

    expected, summary = RunCounts(), Summary()
    for record in records:
        expected.add(record)
    for some in (records[:2], records[2:]):
        summary.add(table_of(some, [None] * len(some), shard=0, first=0))
    told = summary.to_dict()
    assert told.pop("top_types") == dict(expected.top_types)
    assert told == expected.to_dict()
    looks = [{**record, "statistics": {"brightness": 0.5}} for record in records[:4]]
    summary.add(table_of(looks, [None] * 4, shard=0, first=0))
    assert [seen.statistics for seen in summary.seen] == [{"brightness": 0.5}] * 4
    assert summary.seen[0].size_px == (30, 20)


def test_a_header_takes_a_summary() -> None:
    inspector, summary = darkness_inspector(), Summary()
    assert header_of(inspector).to_dict(summary, duration_s=1.0)["counts"]["ng"] == 0
