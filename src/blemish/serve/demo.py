"""`blemish serve --demo`: a line with a simulated camera, whose parts are rendered."""

from __future__ import annotations

from dataclasses import replace

from blemish.serve.line import LineConfig, SourceConfig

__all__ = ["with_demo"]

DATA = "blemish-demo-data"
INTERVAL_S = 2.0


def with_demo(line: LineConfig) -> LineConfig:
    """The configuration with a simulated line besides what it has, and a data folder of its own where it names none."""
    serve = line.serve if line.serve.data != type(line.serve).data else replace(line.serve, data=DATA)
    camera = SourceConfig(name="demo line", kind="simulated", interval_s=INTERVAL_S)
    others = tuple(source for source in line.sources if source.name != camera.name)
    return replace(line, serve=serve, sources=(*others, camera))
