"""Python has what the command line has: the public names, and each function as its command."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import blemish
from blemish import cli
from blemish.images import save
from fakes import use_darkness

FUNCTIONS = (
    "add_false_alarms",
    "calibrate",
    "evaluate",
    "export",
    "inspect_folder",
    "learn",
    "load",
    "report",
    "report_missed",
    "results_from",
    "rethreshold",
    "train",
    "update_profile",
)
TYPES = (
    "Calibration",
    "CalibrationOutcome",
    "Client",
    "Config",
    "EvaluationReport",
    "FinishedRun",
    "Inspection",
    "Inspector",
    "LearnedProfile",
    "MissedReport",
    "ProductProfile",
    "Recipe",
    "Redecided",
    "Region",
    "Thresholds",
    "Trained",
    "Verdict",
    "WrittenReport",
)
ERRORS = (
    "BlemishError",
    "ImageError",
    "MissingExtraError",
    "ModelError",
    "OutputError",
    "PluginError",
    "ServiceError",
    "UnknownNameError",
    "UsageError",
)


@pytest.fixture(autouse=True)
def in_a_folder_with_parts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The fake engine; a clean part, a scratched one and a file that is no image."""
    use_darkness(monkeypatch)
    monkeypatch.chdir(tmp_path)
    bad = np.full((60, 80, 3), 255, np.uint8)
    bad[10:40, 10:40] = 0
    save(bad, Path("parts/bad.png"))
    save(np.full((60, 80, 3), 250, np.uint8), Path("parts/good.png"))


def records(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(out, "results.jsonl").read_text(encoding="utf-8").splitlines()]


def test_the_public_names() -> None:
    assert sorted(blemish.__all__) == sorted([*FUNCTIONS, *TYPES, *ERRORS, "__version__"])
    for name in blemish.__all__:
        assert getattr(blemish, name) is not None
    assert set(dir(blemish)) == set(blemish.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        blemish.nonsense  # noqa: B018


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_says_how_it_is_called(name: str) -> None:
    function = getattr(blemish, name)
    for section in ("Args:", "Returns:", "Raises:"):
        assert section in function.__doc__, f"{name} lacks {section}"
    assert "Example:" in function.__doc__ or name == "add_false_alarms"
    positional = [p for p in inspect.signature(function).parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert len(positional) <= 2


def test_help_of_load_lists_every_setting() -> None:
    from blemish.config import settings

    assert list(inspect.signature(blemish.load).parameters) == ["config", *settings()]


def test_inspect_folder_is_the_command() -> None:
    seen: list[Any] = []
    Path("parts/text.png").write_text("no image")
    run = blemish.inspect_folder("parts", out="a", threshold=0.5, on_record=seen.append)
    assert cli.main(["inspect", "parts", "--out", "b", "--threshold", "0.5", "-q"]) == 3
    assert records("a") == records("b") == seen
    assert run.path == Path("a")
    assert (run.counts.verdicts["ng"], run.counts.verdicts["ok"]) == (1, 1)
    assert [error.source for error in run.counts.unreadable] == ["parts/text.png"]
    assert blemish.inspect_folder("parts", out="a", threshold=0.5, resume=True).resumed == 3


def test_without_files_only_records_come() -> None:
    seen: list[Any] = []
    run = blemish.inspect_folder(["parts/bad.png"], write_files=False, on_record=seen.append)
    assert run.path is None
    assert [record["verdict"] for record in seen] == ["ng"]
    assert [path.name for path in Path().iterdir()] == ["parts"]


def test_a_run_is_read_back_as_the_inspections_that_it_was() -> None:
    Path("parts/text.png").write_text("no image")
    blemish.inspect_folder("parts", out="run", keep_maps=True, mm_per_px=0.1)
    inspector = blemish.load(mm_per_px=0.1)
    direct = inspector.inspect(["parts/bad.png", "parts/good.png"])
    found = list(blemish.results_from("run"))
    for inspection, expected in zip(found, direct, strict=True):
        assert inspection.to_dict() == expected.to_dict()
        np.testing.assert_array_equal(inspection.anomaly_map, expected.anomaly_map)
        np.testing.assert_array_equal(inspection.mask(), expected.mask())
        assert inspection.top_type == expected.top_type
    with_errors = list(blemish.results_from("run", on_error="record"))
    assert [type(item).__name__ for item in with_errors] == ["Inspection", "Inspection", "ImageError"]
    with pytest.raises(blemish.ImageError, match=r"text\.png"):
        list(blemish.results_from("run", on_error="raise"))


def test_without_kept_maps_an_inspection_says_that_it_has_none() -> None:
    blemish.inspect_folder("parts", out="run")
    first, _second = blemish.results_from("run")
    assert len(first.regions) == 1
    with pytest.raises(blemish.UsageError, match="the run kept no maps"):
        first.map_at_original()


def test_calibrate_and_false_alarms_are_the_command(tmp_path: Path) -> None:
    for number in range(20):
        save(np.full((8, 8, 3), 255 - number, np.uint8), Path("good") / f"{number:02}.png")
    outcome = blemish.calibrate("good", max_false_rejects=0.05, review=None, out="a.json")
    options = ["--max-false-rejects", "5%", "--review", "off", "-q"]
    assert cli.main(["calibrate", "good", *options, "--out", "b.json"]) == 0
    a, b = (json.loads(Path(name).read_text(encoding="utf-8")) for name in ("a.json", "b.json"))
    assert (a["id"], a["promise"]) == (b["id"], b["promise"])
    assert outcome.calibration.n_good == 20
    with pytest.raises(blemish.UsageError, match="is there already"):
        blemish.calibrate("good", max_false_rejects=0.05, review=None, out="a.json")
    Path("alarms.txt").write_text("parts/good.png\n")
    moved = blemish.add_false_alarms("alarms.txt", "a.json", out="c.json")
    assert moved.before is not None
    assert moved.calibration.n_good == 21
    assert Path("c.json").is_file()
    run = blemish.inspect_folder("parts", out="run", calibration="a.json")
    assert run.thresholds.calibration == "calibrated"


def test_rethreshold_report_and_export_are_the_commands() -> None:
    for out in ("a", "b"):
        blemish.inspect_folder("parts", out=out, keep_maps=True)
    done = blemish.rethreshold("a", threshold=0.01, pixel_threshold=0.3)
    assert done.verdicts == {"ng": 2}
    assert cli.main(["rethreshold", "b", "--threshold", "0.01", "--pixel-threshold", "0.3", "-q"]) == 0
    assert records("a") == records("b")
    page = blemish.report("a", sheet="sheet.jpg")
    assert (page.path, page.images, page.sheet) == (Path("a/report.html"), 2, Path("sheet.jpg"))
    assert cli.main(["report", "b", "-q"]) == 0  # as the README has it
    assert Path("b/report.html").is_file()
    assert blemish.report("a").path == page.path  # its own page is replaced
    assert blemish.export("a", "coco", out="coco.json", options={"rle": True}) == 2
    assert cli.main(["export", "b", "--format", "coco", "--rle", "--out", "other.json", "-q"]) == 0
    a, b = (json.loads(Path(name).read_text(encoding="utf-8")) for name in ("coco.json", "other.json"))
    assert a["annotations"] == b["annotations"]


def test_a_configuration_serves_every_function() -> None:
    config = blemish.Config().with_settings(defects="dent, burr", threshold=0.01)
    assert blemish.load(config).types == ("dent", "burr")
    assert blemish.load(config, threshold=0.9).thresholds.image == 0.9
    run = blemish.inspect_folder("parts", out="run", config=config)
    assert run.counts.verdicts["ng"] == 2
    with pytest.raises(blemish.UsageError, match="the backbone is given twice"):
        blemish.load("embedded", backbone="embedded")
