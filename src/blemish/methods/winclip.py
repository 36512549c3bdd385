"""WinCLIP: every small window of an image goes through CLIP alone and is compared with words; WinCLIP+ adds good images.

Jeong, Zou, Kim, Zhang, Ravichandran, Dabeer: "WinCLIP: Zero-/Few-Shot Anomaly Classification and Segmentation", CVPR 2023,
arXiv 2303.14814. Nothing is trained, and the authors released no code. docs/winclip.md reads the paper beside this file and says
in what the three public implementations differ; every such difference is an option of `WinCLIPConfig`.

B batch, N patches of a grid h x w, D joint width, T defect types, K reference images, n windows of one scale.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from blemish.backbones import fast
from blemish.backbones.model import Clip
from blemish.backbones.tokenizer import tokenize
from blemish.backbones.windows import embed_windows, mean_over_windows, window_patches
from blemish.errors import UsageError
from blemish.language import Vocabulary
from blemish.methods.base import Features, Method, Scores, Texts
from blemish.methods.good_references import GoodReferences, remember
from blemish.methods.naming import share_out, type_directions
from blemish.methods.patches import reference_maps
from blemish.methods.products import Underscores, product_words
from blemish.methods.text_cache import TextCache

__all__ = ["RELEASES", "WinCLIP", "WinCLIPConfig", "WinCLIPTexts", "phrases"]

PATCHES = 0  # the level of the patch features; the windows of each scale follow
State = Literal["normal", "abnormal"]
TYPING_SHARE = 0.005  # of the most anomalous patches, whose types stand for the image's

# How the public implementations set the options. Accurate-WinCLIP adds the two maps where we average them, which ranks alike.
RELEASES: Mapping[str, Mapping[str, Any]] = {
    "anomalib": {"templates": "anomalib", "full_stop": True},
    "Accurate-WinCLIP": {"templates": "anomalib", "full_stop": True, "patch_tokens": "raw"},
    "caoyunkang": {
        "temperature": 0.01,
        "whole_image": False,
        "windows": "normality",
        "few_shot": "windows",
        "image_score": "map",
    },
}


@dataclass(frozen=True, kw_only=True)
class WinCLIPConfig:
    """Options of WinCLIP; the defaults follow the paper, and anomalib where the paper is silent."""

    object_name: str = ""  # the product in the prompts; "" for the data set's word, and "object" where there is none
    underscores: Underscores = "keep"  # of that word: as every implementation has it, or as "blank"
    templates: Literal["paper", "anomalib"] = "paper"  # 22, or 21 of which one stands twice
    full_stop: bool = False  # at the end of every prompt (anomalib, Accurate-WinCLIP)
    text_mean: Literal["raw", "normalised"] = "raw"  # whether texts get length 1 before their mean; all three: raw
    temperature: float = 0.07  # of the softmax over normal and abnormal; CLIP's own, and caoyunkang's, is 0.01

    scales: tuple[int, ...] = (2, 3)  # sides of the windows, in patches
    whole_image: bool = True  # as one more scale of the map
    windows: Literal["anomaly", "normality"] = "anomaly"  # harmonic mean of which probability; caoyunkang: normality
    image_score: Literal["cls", "map"] = "cls"  # the global feature's probability, or the map's maximum (caoyunkang)

    patch_tokens: Literal["normed", "raw"] = "normed"  # after or before the last layer norm (Accurate-WinCLIP)
    # "paper": windows and patches, the mean with the zero-shot map. "windows": these alone, each scale a plain mean, combined
    # with the zero-shot map by a harmonic mean (caoyunkang).
    few_shot: Literal["paper", "windows"] = "paper"

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise UsageError(f"temperature is above 0, not {self.temperature}")
        if not self.scales or min(self.scales) < 1 or len(set(self.scales)) < len(self.scales):
            raise UsageError(f"scales are different sides of windows in patches, as [2, 3], not {list(self.scales)}")


@dataclass(frozen=True)
class WinCLIPTexts(Texts):
    """The directions that windows are compared with, each of length 1."""

    states: Tensor  # [2, D]: normal, abnormal
    defects: Tensor  # [T, D]


class WinCLIP(Method):
    """Zero-shot: the anomaly probability of each window, spread over its patches. Few-shot: also its distance to good images.

    Features: the global feature [B, D]; as levels the patches [B, N, W] of the last block and, scale by scale, the windows
    [B, n, D]; all of length 1.
    """

    name = "winclip"
    config_type = WinCLIPConfig
    scores_depend_on_vocabulary = False
    has_own_memory = True

    def __init__(self, backbone: Clip, config: WinCLIPConfig | None = None) -> None:
        super().__init__(backbone, config or WinCLIPConfig())
        self.config: WinCLIPConfig
        side = backbone.config.preprocess.size // backbone.config.vision.patch_px
        for scale in self.config.scales:
            window_patches((side, side), scale)  # refuses a scale that the grid has no window of
        self.memory: GoodReferences | None = None

    def remarks(self) -> tuple[str, ...]:
        if self.backbone.image.trunk is None:
            return ()
        return (
            f"the patches of {self.backbone.config.name} come from a convolutional network that sees beyond a window, so windows "
            "are not independent of what lies around them, as WinCLIP has it (docs/winclip.md)",
        )

    def for_product(self, name: str) -> WinCLIP:
        if self.config.object_name:
            return self
        return self._with(replace(self.config, object_name=name), self.memory)

    def with_references(self, batches: Iterable[Tensor]) -> WinCLIP:
        with torch.inference_mode():
            size, method = self.backbone.config.preprocess.size, self.name
            memory = remember(batches, lambda batch: self.encode(batch).levels, size_px=size, method=method)
        return self._with(self.config, memory)

    def _with(self, config: WinCLIPConfig, memory: GoodReferences | None) -> WinCLIP:
        other = WinCLIP(self.backbone, config)
        other.memory = memory
        other.good_references = memory.identity if memory else ""
        return other

    def compute_texts(self, vocabulary: Vocabulary, cache: TextCache) -> WinCLIPTexts:
        key = self.text_key()
        states: tuple[State, ...] = ("normal", "abnormal")

        def encode_states(states: Sequence[State]) -> Tensor:
            return torch.stack([F.normalize(self.state_direction(state), dim=-1) for state in states])

        return WinCLIPTexts(
            vocabulary,
            states=cache.features(states, encode_states, decided_by=key),
            defects=type_directions(self.backbone, vocabulary, object_name=self.product, cache=cache, decided_by=key),
        )

    @property
    def product(self) -> str:
        """The product's name as the prompts have it."""
        return product_words(self.config.object_name, underscores=self.config.underscores)

    def state_direction(self, state: State) -> Tensor:
        """The mean direction [D] of all phrasings of a state, not normalised."""
        texts = [text.replace("{}", self.product) for text in phrases(state, self.config)]
        text = self.backbone.text
        encoded = text.encode(torch.from_numpy(tokenize(texts)).to(text.projection.device))
        return (F.normalize(encoded, dim=-1) if self.config.text_mean == "normalised" else encoded).mean(0)

    def frozen_key(self) -> str:
        return f"winclip {self.config.scales} {self.config.patch_tokens}"

    def encode(self, images: Tensor, *, compare: bool = False) -> Features:
        tower, shape = self.backbone.image, self.backbone.config
        embedding = tower.embed(images)
        seen = fast.image_features(tower, embedding, levels=shape.levels if compare else ())
        patches = seen.tokens[:, 1:]
        if self.config.patch_tokens == "normed":
            patches = tower.last_norm(patches)
        windows = [embed_windows(tower, embedding, side=scale) for scale in self.config.scales]
        return Features(
            global_feature=F.normalize(tower.project(seen.tokens[:, 0]), dim=-1),
            levels=tuple(F.normalize(level, dim=-1) for level in (patches, *windows)),
            grid=seen.grid,
            reference_maps=reference_maps(seen, shape.levels) if compare else (),
        )

    def score(self, features: Features, texts: Texts) -> Scores:
        assert isinstance(texts, WinCLIPTexts)
        image_score, grid_map = self.zero_shot(features, texts)
        if self.memory is not None:
            distances = self.distance_map(features)
            if self.config.few_shot == "paper":
                grid_map = (grid_map + distances) / 2
                image_score = (image_score + distances.amax((1, 2))) / 2
            else:
                grid_map = 2 / (1 / grid_map + 1 / distances)
        size = [side * self.backbone.config.vision.patch_px for side in features.grid]
        anomaly_map = F.interpolate(grid_map[:, None], size, mode="bilinear", align_corners=False)[:, 0]
        if self.config.image_score == "map":
            image_score = anomaly_map.amax((1, 2))
        type_scores, typed = share_out(
            grid_map.flatten(1),
            self._embedded_patches(features),
            types=texts.defects,
            temperature=self.config.temperature,
            image_score=image_score,
            top=max(1, round(TYPING_SHARE * features.grid[0] * features.grid[1])),
        )
        return Scores(
            image_score=image_score,
            anomaly_map=anomaly_map,
            types=texts.types,
            type_scores=type_scores,
            type_maps=typed.reshape(*typed.shape[:2], *features.grid),
        )

    def zero_shot(self, features: Features, texts: WinCLIPTexts) -> tuple[Tensor, Tensor]:
        """The anomaly probability of the image [B], and its map [B, h, w] on the patch grid, from words alone.

        The harmonic mean over the windows that cover a patch, then over the scales (section 4.2 of the paper).
        """
        anomaly = self.config.windows == "anomaly"
        image_score = self.probability(features.global_feature, texts.states)
        maps = [
            self.window_map(probability if anomaly else 1 - probability, scale, features.grid)
            for scale, windows in zip(self.config.scales, features.levels[1:], strict=True)
            for probability in (self.probability(windows, texts.states),)
        ]
        if self.config.whole_image:
            image = image_score if anomaly else 1 - image_score
            maps.append(image[:, None, None].expand_as(maps[0]))
        combined = 1 / torch.stack([1 / one for one in maps]).mean(0)
        return image_score, combined if anomaly else 1 - combined

    def distance_map(self, features: Features) -> Tensor:
        """How far each patch is from the good images, [B, h, w] in 0..1: (1 - largest cosine) / 2, a mean over all levels."""
        assert self.memory is not None
        halves = [self.memory.distances(level, each) / 2 for level, each in enumerate(features.levels)]
        harmonic = self.config.few_shot == "paper"
        maps = [
            self.window_map(windows, scale, features.grid, harmonic=harmonic)
            for scale, windows in zip(self.config.scales, halves[1:], strict=True)
        ]
        if self.config.few_shot == "paper":
            maps.append(halves[PATCHES].reshape_as(maps[0]))
        return torch.stack(maps).mean(0)

    def probability(self, embeddings: Tensor, states: Tensor) -> Tensor:
        """The abnormal one [...] of two probabilities: the softmax of the cosines of embeddings [..., D] / temperature."""
        return (embeddings @ (states[1] - states[0]) / self.config.temperature).sigmoid()

    def window_map(self, values: Tensor, scale: int, grid: tuple[int, int], *, harmonic: bool = True) -> Tensor:
        """Values of windows [B, n] as a map [B, h, w]."""
        return mean_over_windows(values, grid, side=scale, harmonic=harmonic)

    def _embedded_patches(self, features: Features) -> Tensor:
        """A joint embedding of each patch, [B, N, D] of length 1: the mean of the smallest windows that cover it."""
        scale = min(self.config.scales)
        windows = features.levels[1 + self.config.scales.index(scale)]  # [B, n, D]
        mean = mean_over_windows(windows.transpose(1, 2).flatten(0, 1), features.grid, side=scale)  # [B * D, h, w]
        return F.normalize(mean.reshape(len(windows), -1, features.grid[0] * features.grid[1]).transpose(1, 2), dim=-1)


def phrases(state: State, config: WinCLIPConfig) -> list[str]:
    """Every phrasing of a state, with {} where the product's name goes."""
    data, stop = _data(), "." if config.full_stop else ""
    return [
        template.replace("{}", text) + stop for text in data[state] for template in data["templates"][config.templates]
    ]


@cache
def _data() -> dict[str, Any]:
    return tomllib.loads((resources.files(__package__) / "winclip.toml").read_text(encoding="utf-8"))
