"""Evaluation: methods on data sets, resumable, with tables, files and pages, and the protocols of papers."""

from blemish.evaluation.candidates import Candidate, Choice, choose, load_candidate
from blemish.evaluation.finding import find_data
from blemish.evaluation.outcome import Evaluation, Group, Spread, evaluate_candidate, grouped
from blemish.evaluation.published import Published, published
from blemish.evaluation.session import Session, open_session
from blemish.evaluation.settings import EvaluationSettings
from blemish.evaluation.suites import Suite, load_suite, run_suite, suite_names
from blemish.evaluation.tables import Provenance, Table, overview

__all__ = [
    "Candidate",
    "Choice",
    "Evaluation",
    "EvaluationSettings",
    "Group",
    "Provenance",
    "Published",
    "Session",
    "Spread",
    "Suite",
    "Table",
    "choose",
    "evaluate_candidate",
    "find_data",
    "grouped",
    "load_candidate",
    "load_suite",
    "open_session",
    "overview",
    "published",
    "run_suite",
    "suite_names",
]
