"""Published methods by name. Their modules load torch, so they are imported when one is built."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from blemish.errors import UnknownNameError

if TYPE_CHECKING:
    from blemish.clip.model import Clip
    from blemish.methods.base import Method

__all__ = ["METHODS", "build"]

METHODS = {"ensemble": "blemish.methods.ensemble:PromptEnsemble"}


def build(name: str, backbone: Clip) -> Method:
    """The method of this name on a backbone, with its default options; UnknownNameError names the nearest."""
    if name not in METHODS:
        raise UnknownNameError("method", name, METHODS)
    module, _, class_name = METHODS[name].partition(":")
    method: Method = getattr(importlib.import_module(module), class_name)(backbone)
    return method
