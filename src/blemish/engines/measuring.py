"""What `blemish engines` lists: every engine for a model, with its speed on this machine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from blemish.config import SAME_SCORES, ModelConfig
from blemish.engines import ENGINES
from blemish.engines.comparing import EXACT, compared, probe_images
from blemish.engines.graphs import ImageSide
from blemish.engines.sessions import LIBRARIES, require
from blemish.engines.torch import in_half, use_threads
from blemish.errors import MissingExtraError, ModelError, UsageError
from blemish.io.codec import to_dict
from blemish.methods.base import Method
from blemish.models.load import load_method

__all__ = ["EngineLine", "measure_engines"]


@dataclass(frozen=True)
class EngineLine:
    """One engine, for one model."""

    name: str
    version: str  # of its library, "" where it is not installed
    images_per_s: float | None = None  # the image side of the model; None where it did not run
    deviation: float | None = None  # bound of the error of scores and maps beside torch, 0..1
    remark: str = ""

    @property
    def state(self) -> str:
        """In words."""
        if self.images_per_s is None:
            return self.remark
        exact = "" if self.deviation is None else f", scores within {self.deviation:.0e} of torch's"
        return f"{self.version:<10} {self.images_per_s:6.1f} images/s{exact}{self.remark and '; '}{self.remark}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return to_dict(self, keep_none=True)


def measure_engines(config: ModelConfig, *, input_px: int | None = None) -> list[EngineLine]:
    """Every engine with its speed here, torch first; the model is loaded once, and each engine measured anew beside torch."""
    use_threads(config.threads)
    chosen = replace(config, engine="torch")
    method = load_method(
        chosen.backbone,
        method=chosen.method,
        prompts=chosen.prompts,
        options=chosen.options,
        force=chosen.force,
        input_px=input_px,
    ).method.eval()
    images = torch.from_numpy(probe_images(method))
    lines: list[EngineLine] = []
    torch_seconds: list[float] = []

    def measured(other: Method) -> tuple[float, float, str]:
        found = compared(method, other, images)
        torch_seconds.append(found.torch_seconds)
        return 1 / found.seconds, found.deviation, _remark(found.deviation)

    half = [EngineLine("torch, half", torch.__version__, *measured(in_half(method, torch.bfloat16)))]
    for name, library in LIBRARIES.items():
        try:
            require(name)
        except (MissingExtraError, UsageError) as error:
            lines.append(EngineLine(name, "", remark=f"not installed: {error}"))
            continue
        try:
            lines.append(
                EngineLine(name, library.version, *measured(ImageSide(method, name, threads=config.threads).method))
            )
            if library.half:
                side = ImageSide(method, name, threads=config.threads, precision="half")
                half.append(EngineLine(f"{name}, half", library.version, *measured(side.method)))
        except (UsageError, ModelError) as error:
            lines.append(EngineLine(name, library.version, remark=f"cannot run this model: {error}"))
    own = EngineLine("torch", torch.__version__, 1 / min(torch_seconds), 0.0)
    others = [EngineLine(name, "", remark="of a plug-in: not measured") for name in ENGINES.plugins]
    return [own, *lines, *half, *others]


def _remark(deviation: float) -> str:
    if deviation <= EXACT:
        return ""
    return "torch's thresholds hold" if deviation <= SAME_SCORES else "torch's thresholds do not hold: calibrate again"
