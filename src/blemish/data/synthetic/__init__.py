"""Pictures of defects made from nothing or from good images: materials, objects, light, typed defects with exact masks."""

from blemish.data.synthetic.dataset import RenderedSample, rendered
from blemish.data.synthetic.kept import drawn
from blemish.data.synthetic.render import NORMAL, RENDERER_VERSION, SyntheticSample, defect_types, render
from blemish.data.synthetic.scenery import MATERIALS
from blemish.data.synthetic.series import render_series

__all__ = [
    "MATERIALS",
    "NORMAL",
    "RENDERER_VERSION",
    "RenderedSample",
    "SyntheticSample",
    "defect_types",
    "drawn",
    "render",
    "render_series",
    "rendered",
]
