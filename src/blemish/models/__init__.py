"""The models of this machine: found by name, imported from files, pulled from a hub. Loading never uses the network."""

from __future__ import annotations

from blemish.models.imports import Imported, import_model, pull
from blemish.models.lookup import Model, card, find, info, list_models, load_backbone, stored_models
from blemish.models.paths import HOME_VARIABLE, Leftover, home, leftovers, remove

__all__ = [
    "HOME_VARIABLE",
    "Imported",
    "Leftover",
    "Model",
    "card",
    "find",
    "home",
    "import_model",
    "info",
    "leftovers",
    "list_models",
    "load_backbone",
    "pull",
    "remove",
    "stored_models",
]
