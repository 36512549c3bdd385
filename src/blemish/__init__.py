"""Zero-shot visual anomaly detection that finds, locates and names defects.

Importing this package is quick: torch comes in with the first name that needs it. OpenMP's threads, which torch computes with,
then sleep while they wait, unless the environment says how they wait (docs/engines.md).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from blemish._version import __version__
from blemish.errors import (
    BlemishError,
    ImageError,
    MissingExtraError,
    ModelError,
    OutputError,
    PluginError,
    UnknownNameError,
    UsageError,
)
from blemish.io.processors import wait_passively

if TYPE_CHECKING:
    from blemish.calibration import Calibration
    from blemish.config import Config
    from blemish.evaluation.command import EvaluationReport, evaluate
    from blemish.exports.formats import export
    from blemish.inspection.inspector import Inspector
    from blemish.inspection.load import load
    from blemish.profiles import ProductProfile
    from blemish.reports.report import WrittenReport, report
    from blemish.results import Inspection, Region, Thresholds, Verdict
    from blemish.runs.calibrate import CalibrationOutcome, add_false_alarms, calibrate
    from blemish.runs.feedback import MissedReport, report_missed, update_profile
    from blemish.runs.learn import LearnedProfile, learn
    from blemish.runs.reading import results_from
    from blemish.runs.rethreshold import Redecided, rethreshold
    from blemish.runs.run import FinishedRun, inspect_folder
    from blemish.serve.client import Client, ServiceError
    from blemish.training import Recipe, Trained, train

wait_passively()

# The module of every name that comes in with its first use.
_LAZY = {
    "blemish.calibration": ("Calibration",),
    "blemish.config": ("Config",),
    "blemish.evaluation.command": ("EvaluationReport", "evaluate"),
    "blemish.exports.formats": ("export",),
    "blemish.inspection.inspector": ("Inspector",),
    "blemish.inspection.load": ("load",),
    "blemish.profiles": ("ProductProfile",),
    "blemish.reports.report": ("WrittenReport", "report"),
    "blemish.results": ("Inspection", "Region", "Thresholds", "Verdict"),
    "blemish.runs.calibrate": ("CalibrationOutcome", "add_false_alarms", "calibrate"),
    "blemish.runs.feedback": ("MissedReport", "report_missed", "update_profile"),
    "blemish.runs.learn": ("LearnedProfile", "learn"),
    "blemish.runs.reading": ("results_from",),
    "blemish.runs.rethreshold": ("Redecided", "rethreshold"),
    "blemish.runs.run": ("FinishedRun", "inspect_folder"),
    "blemish.serve.client": ("Client", "ServiceError"),
    "blemish.training": ("Recipe", "Trained", "train"),
}
_MODULE_OF = {name: module for module, names in _LAZY.items() for name in names}

__all__ = [
    "BlemishError",
    "Calibration",
    "CalibrationOutcome",
    "Client",
    "Config",
    "EvaluationReport",
    "FinishedRun",
    "ImageError",
    "Inspection",
    "Inspector",
    "LearnedProfile",
    "MissedReport",
    "MissingExtraError",
    "ModelError",
    "OutputError",
    "PluginError",
    "ProductProfile",
    "Recipe",
    "Redecided",
    "Region",
    "ServiceError",
    "Thresholds",
    "Trained",
    "UnknownNameError",
    "UsageError",
    "Verdict",
    "WrittenReport",
    "__version__",
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
]


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        return getattr(importlib.import_module(_MODULE_OF[name]), name)
    raise AttributeError(f"module 'blemish' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
