"""Published methods by name. Their modules load torch, so they are imported when one is built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from blemish.plugins import Registry

if TYPE_CHECKING:
    from blemish.backbones.model import Clip
    from blemish.methods.base import Method

__all__ = ["METHODS", "build", "method_class"]

_OWN = {
    "adaclip": "blemish.methods.adaclip:AdaCLIP",
    "anomalyclip": "blemish.methods.anomalyclip:AnomalyCLIP",
    "aprilgan": "blemish.methods.aprilgan:AprilGAN",
    "cocoop": "blemish.methods.cocoop:CoCoOp",
    "coop": "blemish.methods.coop:CoOp",
    "dapo": "blemish.methods.dapo:DAPO",
    "ensemble": "blemish.methods.ensemble:PromptEnsemble",
    "faprompt": "blemish.methods.faprompt:FAPrompt",
    "multiads": "blemish.methods.multiads:MultiADS",
    "winclip": "blemish.methods.winclip:WinCLIP",
}
METHODS = Registry("blemish.methods", "method", _OWN)  # a name stands for a subclass of `Method`


def build(name: str, backbone: Clip, options: Mapping[str, Any] | None = None) -> Method:
    """The method of this name on a backbone; options that are not given are the method's defaults.

    UnknownNameError names the nearest method or option; UsageError says what is wrong with a value.
    """
    method = method_class(name)
    built: Method = method(backbone, method.config_from(options or {}))
    return built


def method_class(name: str) -> Any:
    """The class of the method of this name; UnknownNameError names the nearest."""
    return METHODS[name]
