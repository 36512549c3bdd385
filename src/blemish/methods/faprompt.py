"""FAPrompt: fine-grained abnormality prompts on a frozen CLIP.

Zhu, Ong, Shen, Pang: "Fine-grained Abnormality Prompt Learning for Zero-shot Anomaly Detection", ICCV 2025, arXiv 2410.10289.
docs/faprompt.md reads the paper beside this file, and lists where the released code differs from it. Every such difference is
an option of `FAPromptConfig`.

The numbers of the equations are ours, for the steps below; docs/faprompt.md says where each is in the paper.

symbol   shape          here                 what it is
V        [E, W]         normal_tokens        normal tokens, shared by all prompts
A^k      [K, E', W]     abnormal_tokens      own tokens of abnormality prompt k
ψ                       psi                  the network of the prior
τ                       temperature          of every softmax

(1) normal prompt: [V_1] … [V_E] [object] [.]
(2) abnormality prompt k: [V_1] … [V_E] [A^k_1] … [A^k_E'] [damaged] [object] [.]
(3) in the text blocks 2 to 9 learnable tokens replace the first positions after the start of text
(4) states: the normal embedding, and the mean of the K abnormality embeddings, each at unit length
(5) p_s at a patch, stage s = 1, 2: softmax over the two states of cosine / τ, the abnormal one
(6) prior: ψ(the M patch features of highest p_1), added to every A^k_j; with it stage 2 encodes (2) again for each image
(7) anomaly map: (p_1 + p_2) / 2, enlarged and smoothed
(8) image score: half softmax over stage 2's states of cosine(CLS, ·) / τ, half (2 max p_1 + max p_2) / 3
(9) loss: focal + dice of both states for p_1, half of that for p_2; cross-entropy of CLS and focal of (8); 0.1 Σ |cos| over pairs
    of (2); Σ over normal images of the mean square of the prior

B batch, N patches, D joint width, W text width; K abnormality prompts, E normal and E' abnormal tokens, M selected patches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blemish.backbones import fast
from blemish.backbones.layers import BeforeBlock
from blemish.backbones.model import Clip
from blemish.backbones.tokenizer import END, tokenize
from blemish.errors import ModelError, UsageError
from blemish.language import Vocabulary
from blemish.methods.base import Features, Losses, Method, Release, Scores, Targets, Texts
from blemish.methods.losses import dice, focal, focal_with_logits, orthogonality
from blemish.methods.naming import share_out, type_directions
from blemish.methods.patches import value_value_features
from blemish.methods.smoothing import smooth_enlarge
from blemish.methods.text_cache import TextCache
from blemish.methods.tokens import overwriting_tokens

__all__ = ["FAPrompt", "FAPromptConfig"]

INITIAL_STD = 0.02  # of all learnable tokens
RELEASED_PATCHES = 10  # M is a number in the authors' code; a checkpoint only tells M times D
ANOMALYCLIP = {"prior": False, "share_normal_tokens": False, "image_score": "cls", "smoothing": 4 / 14}


@dataclass(frozen=True, kw_only=True)
class FAPromptConfig:
    """Options of FAPrompt; the defaults are the paper's, and the released code's where the paper is silent."""

    # of the compound abnormality prompts (CAP), (1) to (4) say
    abnormality_prompts: int = 10  # K, from 1
    normal_tokens: int = 5  # E, from 1
    abnormal_tokens: int = 2  # E', from 1; 1 in the first upload of the code
    share_normal_tokens: bool = True  # the abnormality prompts begin with V; false: with their own tokens (AnomalyCLIP)
    deep_tokens: int = 4  # tokens of (3) in each block, 0 for none
    deep_blocks: tuple[int, int] | None = (
        None  # first and last text block of (3), 1-based; None: the backbone's, 2 to 9 of 12
    )
    round_deep_tokens: bool = False  # to float16, as the release does
    object_name: str = "object"  # what stands for the product
    abnormal_word: str = "damaged"  # what stands before it in (2)

    # of the data-dependent abnormality prior (DAP), (6) says
    prior: bool = True  # whether there is one
    patches: int = 10  # M, from 1
    selection: Literal["paper", "released"] = "paper"  # the most abnormal patches, or the first of the top row (a slip)
    hidden_share: float = 1 / 16  # above 0, width of ψ's hidden layer as a share of its input

    # of the scores, (5), (7) and (8) say
    temperature: float = 0.07  # τ, above 0
    smoothing: float = 10 / 14  # the Gaussian's sigma in patches, from 0: 10 px of patches of 14 px
    image_score: Literal["released", "figure", "cls"] = "released"  # (8); half CLS, half the map's maximum; CLS alone
    levels: Literal["last", "backbone"] = "last"  # (5) at the last level, or the mean over all of the backbone's
    cls_norm: bool = False  # CLS passes the tower's last layer norm, which the release leaves out
    position_interpolation: Literal["bilinear", "bicubic", "bicubic-antialias"] = "bilinear"  # of the image positions

    # of the losses, (9) says
    image_loss: Literal["released", "probability"] = "released"  # (8) passes another sigmoid, or its logit is taken
    image_cross_entropy: bool = True  # the CLS loss, absent from the first upload
    second_stage: float = 0.5  # weight
    orthogonality: float = 0.1  # weight
    prior_weight: float = 1.0  # weight
    prior_reduction: Literal["sum", "mean"] = "sum"  # over the normal images of a batch

    def __post_init__(self) -> None:
        for name in ("abnormality_prompts", "normal_tokens", "abnormal_tokens", "patches"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.deep_tokens < 0 or self.smoothing < 0 or min(self.temperature, self.hidden_share) <= 0:
            raise UsageError("deep_tokens and smoothing must not be negative; temperature and hidden_share are above 0")


@dataclass(frozen=True)
class FAPromptTexts(Texts):
    """What no image changes."""

    normal: Tensor  # [1, D], the normal prompt, not normalised
    states: Tensor  # [2, D], the first stage's directions of normal and abnormal
    defects: Tensor  # [T, D], the directions of the types


@dataclass(frozen=True)
class Stages:
    """What both stages give for a batch, before it becomes a score or a loss."""

    states1: Tensor  # [2, D], the normal and the abnormal direction of stage 1
    states2: Tensor  # [B, 2, D], those of stage 2
    abnormal1: Tensor  # [B, N], 0..1, p_1 of the patches
    abnormal2: Tensor  # [B, N], 0..1, p_2 of the patches
    image_logits: Tensor  # [B, 2], of CLS with stage 2
    embeddings: Tensor  # [K, D], the first stage's abnormality prompts before they are averaged
    priors: Tensor | None  # [B, W], None without a prior


class FAPrompt(Method):
    """One normal prompt, K abnormality prompts that share its tokens, and a prior that each image's own patches set.

    Stage 1 scores the patches of an image with the prompts as learned; the M most abnormal patches pass through ψ and become a
    prior that is added to the abnormal tokens; stage 2 encodes the prompts again, per image, and scores once more.
    """

    name = "faprompt"
    config_type = FAPromptConfig
    scoring_options = frozenset({"smoothing", "image_score", "temperature"})
    scores_depend_on_vocabulary = False

    def __init__(self, backbone: Clip, config: FAPromptConfig | None = None) -> None:
        super().__init__(backbone, config or FAPromptConfig())
        self.config: FAPromptConfig
        config = self.config
        width, joint = backbone.config.text.width, backbone.config.joint_width
        first, last = config.deep_blocks or backbone.config.deep_text_blocks
        if not 1 <= first <= last <= backbone.config.text.depth:
            raise UsageError(f"deep_blocks {[first, last]} are outside 1..{backbone.config.text.depth}")
        self.first_deep_block = first
        self.normal_tokens = _tokens(config.normal_tokens, width)  # V
        self.abnormal_tokens = _tokens(config.abnormality_prompts, config.abnormal_tokens, width)  # A
        self.deep_tokens = _tokens(last - first + 1, config.deep_tokens, width) if config.deep_tokens else None
        self.psi = PriorNetwork(config.patches * joint, width, config.hidden_share) if config.prior else None
        self.register_buffer("normal_words", self._words(f"{config.object_name}."), persistent=False)  # [n, W]
        self.register_buffer(
            "abnormal_words", self._words(f"{config.abnormal_word} {config.object_name}."), persistent=False
        )
        self.register_buffer("start", backbone.text.embed(torch.from_numpy(tokenize([""])[:, :1]))[0], persistent=False)
        self.normal_words: Tensor
        self.abnormal_words: Tensor
        self.start: Tensor

    @classmethod
    def from_release(cls, state: Mapping[str, Tensor]) -> Release | None:
        """Trained parts of FAPrompt or AnomalyCLIP under the names of the authors' classes.

        Three kinds of file are in circulation: FAPrompt's (five shared tokens, ten prompts of two own tokens), its first
        upload's (one own token each, trained without the CLS loss) and AnomalyCLIP's (one prompt a state, no prior), which
        many later methods use. Frozen buffers and the projections that the authors' code never uses are left behind.
        """
        state = {name.removeprefix("prompt_learner."): tensor for name, tensor in state.items()}
        if "ctx_pos" not in state or "ctx_neg" not in state:
            return None
        normal, abnormal = state["ctx_pos"].float(), state["ctx_neg"].float()  # [1, 1, E, W], [1, K, E', W]
        if normal.ndim != 4 or abnormal.ndim != 4 or normal.shape[:2] != (1, 1) or abnormal.shape[0] != 1:
            shapes = f"{list(normal.shape)} and {list(abnormal.shape)}"
            raise ModelError(
                f"expected ctx_pos [1, 1, tokens, width] and ctx_neg [1, prompts, tokens, width], found {shapes}"
            )
        depth = sum(name.startswith("compound_prompts_text.") for name in state)
        deep = [state[f"compound_prompts_text.{index}"].float() for index in range(depth)]
        parts = {"normal_tokens": normal[0, 0], "abnormal_tokens": abnormal[0]}
        options: dict[str, Any] = {
            "abnormality_prompts": abnormal.shape[1],
            "normal_tokens": normal.shape[2],
            "abnormal_tokens": abnormal.shape[2],
            "deep_tokens": len(deep[0]) if deep else 0,
            "round_deep_tokens": True,
            "selection": "released",
        }
        if deep:
            parts["deep_tokens"] = torch.stack(deep)
            options["deep_blocks"] = (2, 1 + len(deep))
        tower = f"for a text tower of width {normal.shape[3]}"
        if "patch_meta_net.linear1.weight" not in state:
            return Release(f"AnomalyCLIP prompts {tower}", options | ANOMALYCLIP, parts)
        hidden, inputs = state["patch_meta_net.linear1.weight"].shape
        if inputs % RELEASED_PATCHES:
            raise ModelError(f"expected a prior of {RELEASED_PATCHES} patches, found {inputs} inputs")
        first_upload = abnormal.shape[2] == 1
        options |= {
            "patches": RELEASED_PATCHES,
            "hidden_share": hidden / inputs,
            "image_cross_entropy": not first_upload,
        }
        for ours, theirs in (("hidden", "linear1"), ("out", "linear2")):
            for part in ("weight", "bias"):
                parts[f"psi.{ours}.{part}"] = state[f"patch_meta_net.{theirs}.{part}"].float()
        kind = "of the first upload (one abnormal token)" if first_upload else f"({abnormal.shape[2]} abnormal tokens)"
        return Release(f"FAPrompt prompts {kind} {tower}", options, parts)

    def frozen_key(self) -> str:
        config = self.config
        return f"faprompt {config.levels} {config.cls_norm} {config.position_interpolation}"

    def encode(self, images: Tensor, *, compare: bool = False) -> Features:
        config = self.config
        return value_value_features(
            self.backbone,
            images,
            all_levels=config.levels == "backbone",
            cls_norm=config.cls_norm,
            interpolation=config.position_interpolation,
            compare=compare,
        )

    # text side

    def embed_normal(self, copies: int = 1) -> Tensor:
        """(1): the normal prompt in the joint space [copies, D], not normalised."""
        return self._encode(self.normal_tokens, self.normal_words.expand(copies, -1, -1))

    def embed_abnormal(self, priors: Tensor | None = None) -> Tensor:
        """(2): the abnormality prompts [K, D], or with priors [B, W] those of (6), [B, K, D], not normalised."""
        own: Tensor = self.abnormal_tokens  # [K, E', W]
        if priors is not None:
            own = own + priors[:, None, None]  # [B, K, E', W]
        words = self.abnormal_words.expand(*own.shape[:-2], -1, -1)
        prompts = torch.cat([own, words], dim=-2).flatten(0, -3)  # [(B) K, E' + n, W]
        shared = self.normal_tokens if self.config.share_normal_tokens else self.normal_tokens[:0]
        return self._encode(shared, prompts).reshape(*own.shape[:-2], -1)

    def prior(self, patches: Tensor, abnormal: Tensor) -> Tensor | None:
        """(6): the prior [B, W] from normalised patches [B, N, D] and their first-stage probabilities [B, N]."""
        if self.psi is None:
            return None
        m = self.config.patches
        if patches.shape[1] < m:
            raise UsageError(
                f"the prior takes {m} patches, the image has {patches.shape[1]}; choose a smaller `patches`"
            )
        if self.config.selection == "released":
            selected = patches[:, :m]
        else:
            best = abnormal.topk(m, dim=1).indices  # [B, M], the most abnormal first
            selected = patches.gather(1, best[..., None].expand(-1, -1, patches.shape[2]))
        return self.psi(selected.flatten(1))  # [B, M, D] -> [B, W]

    # both stages

    def stages(self, features: Features, texts: FAPromptTexts | None = None) -> Stages:
        """Both stages of a batch; the first one's texts are those that are given, else they are computed with gradients."""
        if texts is not None:
            normal, embeddings, states1 = texts.normal, texts.normal[:0], texts.states
        else:
            normal, embeddings = self.embed_normal(), self.embed_abnormal()
            states1 = _directions(normal, embeddings.mean(0, keepdim=True))[0]
        abnormal1 = self._abnormal(features.levels, states1)
        priors = self.prior(features.levels[-1], abnormal1)
        if priors is None:
            states2, abnormal2 = states1.expand(abnormal1.shape[0], -1, -1), abnormal1
        else:
            abnormal = self.embed_abnormal(priors).mean(1)  # [B, K, D] -> [B, D]
            if self._rounds_gradients:  # image by image, as the release encodes it again for each
                normal = self.embed_normal(len(abnormal))
            states2 = _directions(normal.expand_as(abnormal), abnormal)  # [B, 2, D]
            abnormal2 = self._abnormal(features.levels, states2)
        image_logits = torch.einsum("bd,bsd->bs", features.global_feature, states2) / self.config.temperature
        return Stages(states1, states2, abnormal1, abnormal2, image_logits, embeddings, priors)

    def image_score(self, stages: Stages) -> Tensor:
        """(8): the image score [B] in 0..1."""
        cls = stages.image_logits.softmax(-1)[:, 1]
        if self.config.image_score == "cls":
            return cls
        if self.config.image_score == "figure":
            return (cls + ((stages.abnormal1 + stages.abnormal2) / 2).amax(1)) / 2
        return (cls + (2 * stages.abnormal1.amax(1) + stages.abnormal2.amax(1)) / 3) / 2

    def compute_texts(self, vocabulary: Vocabulary, cache: TextCache) -> FAPromptTexts:
        key = self.text_key()

        def encode_states(states: Sequence[str]) -> Tensor:
            return torch.stack(
                [(self.embed_normal() if state == "normal" else self.embed_abnormal()).mean(0) for state in states]
            )

        normal, abnormal = cache.features(["normal", "abnormal"], encode_states, decided_by=key)[:, None]
        return FAPromptTexts(
            vocabulary,
            normal=normal,
            states=_directions(normal, abnormal)[0],
            defects=type_directions(
                self.backbone, vocabulary, object_name=self.config.object_name, cache=cache, decided_by=key
            ),
        )

    def score(self, features: Features, texts: Texts) -> Scores:
        assert isinstance(texts, FAPromptTexts)
        stages = self.stages(features, texts)
        image_score, abnormal = self.image_score(stages), (stages.abnormal1 + stages.abnormal2) / 2
        type_scores, typed = share_out(
            abnormal,
            features.levels[-1],
            types=texts.defects,
            temperature=self.config.temperature,
            image_score=image_score,
            top=min(self.config.patches, abnormal.shape[1]),
        )
        return Scores(
            image_score=image_score,
            anomaly_map=smooth_enlarge(
                abnormal.reshape(-1, *features.grid),
                cell_px=self.backbone.config.vision.patch_px,
                sigma_cells=self.config.smoothing,
            ),
            types=texts.types,
            type_scores=type_scores,
            type_maps=typed.reshape(*typed.shape[:2], *features.grid),
        )

    def loss(
        self, features: Features, targets: Targets, vocabulary: Vocabulary, *, cache: TextCache | None = None
    ) -> Losses:
        """(9): pixel focal and dice of both stages, two image losses, orthogonality and prior."""
        del vocabulary, cache  # its prompts know normal and abnormal only
        config, stages = self.config, self.stages(features)
        terms = self._pixel_terms(stages.abnormal1, features.grid, targets, stage=1)
        pixel = sum(terms.values(), torch.zeros(()))
        if stages.priors is not None:
            second = self._pixel_terms(stages.abnormal2, features.grid, targets, stage=2)
            pixel = pixel + config.second_stage * sum(second.values())
            terms |= second
        total = pixel
        if config.image_cross_entropy:
            terms["image_cross_entropy"] = F.cross_entropy(stages.image_logits, targets.label.long())
            total = total + terms["image_cross_entropy"]
        score = self.image_score(stages)
        logits = score if config.image_loss == "released" else torch.logit(score, eps=1e-6)
        terms["image_focal"] = focal_with_logits(logits, targets.label)
        terms["orthogonality"] = orthogonality(stages.embeddings)
        total = total + terms["image_focal"] + config.orthogonality * terms["orthogonality"]
        if stages.priors is not None:
            size = stages.priors.square().mean(1)[targets.label == 0]  # the normal images of the batch
            terms["prior"] = size.sum() if config.prior_reduction == "sum" or not len(size) else size.mean()
            total = total + config.prior_weight * terms["prior"]
        return Losses(total, terms)

    def _pixel_terms(
        self, patches: Tensor, grid: tuple[int, int], targets: Targets, *, stage: int
    ) -> dict[str, Tensor]:
        """Focal and both dice terms of one stage's map over the images that have a mask."""
        mask = targets.mask
        if targets.has_mask is not None:
            patches, mask = patches[targets.has_mask], mask[targets.has_mask]
        if not len(mask):
            return {
                name: patches.sum() * 0 for name in (f"focal{stage}", f"dice{stage}_abnormal", f"dice{stage}_normal")
            }
        abnormal = F.interpolate(patches.reshape(-1, 1, *grid), mask.shape[-2:], mode="bilinear")  # [B, 1, S, S]
        both = torch.cat([1 - abnormal, abnormal], dim=1)
        return {
            f"focal{stage}": focal(both, mask > 0.5),
            f"dice{stage}_abnormal": dice(both[:, 1], mask),
            f"dice{stage}_normal": dice(both[:, 0], 1 - mask),
        }

    def _abnormal(self, levels: tuple[Tensor, ...], texts: Tensor) -> Tensor:
        """(5): the abnormal probability [B, N] of patches with texts [2, D] or [B, 2, D], a mean over the levels.

        A softmax over two is a sigmoid of the difference: one product with one vector instead of two.
        """
        difference = (texts[..., 1, :] - texts[..., 0, :]) / self.config.temperature  # [D] or [B, D]
        pattern = "bnd,bd->bn" if difference.ndim == 2 else "bnd,d->bn"
        by_level = [torch.einsum(pattern, patches, difference).sigmoid() for patches in levels]
        return by_level[0] if len(by_level) == 1 else torch.stack(by_level).mean(0)

    def _encode(self, shared: Tensor, prompts: Tensor) -> Tensor:
        """The joint vectors [P, D] of start of text, shared tokens [s, W] and prompts [P, n, W], read at their ends."""
        tower, start = self.backbone.text, torch.cat([self.start, shared])  # [1 + s, W]
        if self._rounds_gradients or len(start) < 1 + self.config.deep_tokens:
            prompts = torch.cat([start.expand(prompts.shape[0], -1, -1), prompts], dim=1)  # [P, 1 + s + n, W]
            end = torch.full((prompts.shape[0],), prompts.shape[1] - 1, device=prompts.device)
            return fast.text_features(tower, prompts, pool_at=end, before_block=self.before_block())
        return fast.shared_start_features(tower, start, prompts, before_block=self.before_block())

    def before_block(self) -> BeforeBlock | None:
        """(3): the deep tokens in place of positions 1 to n of their blocks."""
        tokens, rounded = cast("Tensor | None", self.deep_tokens), self.config.round_deep_tokens
        return overwriting_tokens(tokens, first=self.first_deep_block - 1, round_to_half=rounded)

    @property
    def _rounds_gradients(self) -> bool:
        """The release rounds the gradient of each prompt by itself, so what prompts share must not be computed once."""
        return self.config.round_deep_tokens and torch.is_grad_enabled()

    def _words(self, text: str) -> Tensor:
        """The frozen embeddings [n, W] of a text with the end of text behind it."""
        ids = tokenize([text])[0]
        end = int((ids == END).argmax())
        return self.backbone.text.embed(torch.from_numpy(ids[None, 1 : end + 1]))[0].detach()


class PriorNetwork(nn.Module):
    """ψ: two linear layers with a ReLU between, from M patch features to one prior."""

    def __init__(self, width: int, out: int, hidden_share: float) -> None:
        super().__init__()
        hidden = max(1, round(width * hidden_share))
        self.hidden = nn.Linear(width, hidden)
        self.out = nn.Linear(hidden, out)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.hidden(x).relu())


def _tokens(*shape: int) -> nn.Parameter:
    return nn.Parameter(INITIAL_STD * torch.randn(*shape))


def _directions(normal: Tensor, abnormal: Tensor) -> Tensor:
    """(4): embeddings [B, D] and [B, D] as unit directions [B, 2, D], the normal one first."""
    return F.normalize(torch.stack([normal, abnormal], dim=1), dim=-1)
