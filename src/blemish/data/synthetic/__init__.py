"""Pictures of defects made from nothing or from good images: materials, objects, light, typed defects with exact masks."""

from blemish.data.synthetic.dataset import RenderedSample, rendered
from blemish.data.synthetic.defects import DEFECTS
from blemish.data.synthetic.kept import drawn
from blemish.data.synthetic.render import (
    NORMAL,
    RENDERER_VERSION,
    RENDERER_VERSIONS,
    SyntheticSample,
    defect_types,
    render,
)
from blemish.data.synthetic.scenery import MATERIALS

__all__ = [
    "DEFECTS",
    "MATERIALS",
    "NORMAL",
    "RENDERER_VERSION",
    "RENDERER_VERSIONS",
    "RenderedSample",
    "SyntheticSample",
    "defect_types",
    "drawn",
    "render",
    "rendered",
]
