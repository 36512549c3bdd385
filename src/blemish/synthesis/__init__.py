"""Pictures of defects made from nothing or from good images: materials, objects, light, typed defects with exact masks."""

from blemish.synthesis.dataset import HELD_OUT_SEEDS, RenderedSample, open_rendered, rendered
from blemish.synthesis.in_memory import drawn
from blemish.synthesis.render import NORMAL, RENDERER_VERSION, SyntheticSample, defect_types, render
from blemish.synthesis.scenery import MATERIALS
from blemish.synthesis.series import render_series

__all__ = [
    "HELD_OUT_SEEDS",
    "MATERIALS",
    "NORMAL",
    "RENDERER_VERSION",
    "RenderedSample",
    "SyntheticSample",
    "defect_types",
    "drawn",
    "open_rendered",
    "render",
    "render_series",
    "rendered",
]
