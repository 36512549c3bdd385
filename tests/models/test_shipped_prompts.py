"""Crane's prompts, which ship for ViT-L/14@336: what they are, that they are used by default, and what they score."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from blemish import models as store
from blemish.backbones.catalog import catalog
from blemish.backbones.layers import Block
from blemish.backbones.model import Clip
from blemish.backbones.text import TextTower
from blemish.backbones.tokenizer import tokenize
from blemish.engines.torch import TorchEngine
from blemish.errors import ModelError
from blemish.methods import build
from blemish.methods.anomalyclip import AnomalyCLIP
from blemish.models.load import load_method
from blemish.models.prompts import find_prompts, read_prompts, shipped_prompts
from checkpoint_files import tiny_clip

BACKBONE = "ViT-L-14-336"
SETS = {"anomalyclip": "MVTec AD", "anomalyclip-visa": "VisA"}
X, OBJECT, DAMAGED, FULL_STOP, START, END = 343, 14115, 13568, 269, 49406, 49407
INPUT_PX = 224
TEMPERATURE, SIGMA_PX, PATCH_PX = 0.07, 4, 14
DUAL_BLOCKS, DEEP_BLOCKS = range(6, 25), range(2, 10)  # 1-based


def folder_of(name: str) -> Path:
    folder = shipped_prompts(BACKBONE, name)
    assert folder is not None
    return folder


@pytest.fixture
def shapes_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real backbone without numbers, in place of the stored one."""

    def load(name: str) -> Clip:
        with torch.device("meta"):
            return Clip(catalog()[name].config)

    monkeypatch.setattr(store, "load_backbone", load)
    monkeypatch.setattr(store, "card", lambda _: {})
    monkeypatch.setattr(Clip, "fingerprint", lambda _: "")


@pytest.mark.parametrize("name", SETS)
def test_the_card_says_whose_they_are_and_what_they_are_worth(name: str) -> None:
    found = read_prompts(folder_of(name))
    card = found.card
    assert (found.method, found.backbone) == ("anomalyclip", BACKBONE)
    assert card["data"]["name"] == SETS[name]
    assert card["licence"].startswith("MIT, Copyright (c) 2024 Alireza Salehi")
    assert "MIT License" in (folder_of(name) / "LICENSE").read_text(encoding="utf-8")
    assert len(card["source"]["sha256"]) == 64
    assert "not zero-shot" in card["note"]
    assert "calibrate" in card["thresholds_from"]
    assert sum(part.numel() for part in found.state.values()) == 43_008
    written = (folder_of(name) / "prompts.safetensors").read_bytes()
    assert hashlib.sha256(written).hexdigest() == card["sha256"]


def test_the_two_sets_are_not_the_same() -> None:
    first, second = (read_prompts(folder_of(name)).state["normal_context"] for name in SETS)
    assert not torch.allclose(first, second, atol=1e-2)


def test_prompts_that_are_not_what_the_card_describes_are_refused(tmp_path: Path) -> None:
    folder = shutil.copytree(folder_of("anomalyclip"), tmp_path / "copy")
    shutil.copyfile(folder_of("anomalyclip-visa") / "prompts.safetensors", folder / "prompts.safetensors")
    with pytest.raises(ModelError, match=r"prompts\.safetensors: not the file that its card\.json describes"):
        read_prompts(folder)


def test_they_are_listed_and_found_by_name() -> None:
    listed = {model.name: model for model in store.list_models()}
    for name in SETS:
        model = listed[f"{BACKBONE}/{name}"]
        assert (model.kind, model.state, model.licence) == ("prompts", "in the package", "MIT")
        assert "Crane" in model.origin
        assert find_prompts(f"{BACKBONE}/{name}") == folder_of(name)
    assert store.info(f"{BACKBONE}/anomalyclip")["card"]["data"]["name"] == "MVTec AD"


@pytest.mark.usefixtures("shapes_only")
def test_a_trained_published_method_is_used_where_none_is_named() -> None:
    loaded = load_method(BACKBONE)
    assert isinstance(loaded.method, AnomalyCLIP)
    assert loaded.prompts == "shipped"
    assert loaded.thresholds == {"image": 0.5, "pixel": 0.5}
    assert loaded.notes == ()
    first, second = loaded.remarks
    assert "trained on MVTec AD: results on that data set are not zero-shot" in first
    assert second.startswith("the thresholds that come with these prompts are the scores' own scale")
    tiny = build("coop", tiny_clip())
    engine = TorchEngine(tiny, backbone="tiny", remarks=loaded.remarks).for_product("screw")
    assert engine.method is not tiny
    assert engine.remarks == (first, second)
    other = load_method(BACKBONE, prompts=f"{BACKBONE}/anomalyclip-visa")
    assert isinstance(other.method, AnomalyCLIP)
    assert load_method(BACKBONE, method="ensemble").method.name == "ensemble"


@pytest.mark.usefixtures("shapes_only")
def test_their_options_hold_unless_only_scores_change() -> None:
    assert load_method(BACKBONE, options={"smoothing": 0.0}).method.config.smoothing == 0
    with pytest.raises(ModelError, match="trained with context_tokens 12, not 11"):
        load_method(BACKBONE, options={"context_tokens": 11})


@pytest.mark.usefixtures("shapes_only")
def test_they_do_not_fit_another_backbone() -> None:
    with pytest.raises(
        ModelError, match=r"normal_context is \[12, 768\] in the checkpoint, but \[12, 512\] on this backbone"
    ):
        load_method("ViT-B-16", prompts=f"{BACKBONE}/anomalyclip")


# AnomalyCLIP's formulas, written plainly


@pytest.fixture(scope="module")
def backbone() -> Iterator[Clip]:
    """ViT-L/14@336 with random numbers of the size of trained ones: 1.7 GB."""
    torch.manual_seed(0)
    clip = Clip(catalog()[BACKBONE].config).at_input(INPUT_PX)
    torch.nn.init.normal_(clip.text.token_embedding.weight, std=0.3)
    yield clip


def attention(block: Block, queries: Tensor, keys: Tensor, values: Tensor, *, causal: bool = False) -> Tensor:
    """Head by head with the whole softmax matrix, of [N, W]."""
    heads, size = block.attention.heads, queries.shape[-1] // block.attention.heads
    mixed = []
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        scores = queries[:, part] @ keys[:, part].T / size**0.5
        if causal:
            scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), -torch.inf)
        mixed.append(scores.softmax(-1) @ values[:, part])
    return block.attention.out_projection(torch.cat(mixed, dim=-1))


def text_feature(tower: TextTower, ids: list[int], context: Tensor, deep: Tensor) -> Tensor:
    """The last blocks' vector at the end of text, projected: all 77 positions, learned tokens over positions 1 to 4."""
    padded = torch.tensor(ids + [0] * (77 - len(ids)))
    x = tower.token_embedding(padded).clone()
    x[1 : 1 + len(context)] = context
    x = x + tower.position_embedding
    for number, block in enumerate(tower.blocks, start=1):
        if number in DEEP_BLOCKS:
            x[1 : 1 + deep.shape[1]] = deep[number - DEEP_BLOCKS[0]].half().float()
        queries, keys, values = block.attention.in_projection(block.ln_1(x)).chunk(3, dim=-1)
        x = x + attention(block, queries, keys, values, causal=True)
        x = x + block.mlp(block.ln_2(x))
    return tower.ln_final(x[ids.index(END)]) @ tower.projection


def image_features(clip: Clip, image: Tensor) -> tuple[Tensor, Tensor]:
    """CLS of the ordinary path [D], without the last norm, and the patches of the value-value path [N, D]."""
    tower = clip.image
    side = image.shape[-1] // PATCH_PX
    patches = tower.stem(image[None])[0].flatten(1).T
    grid = tower.position_embedding[1:].reshape(1, 24, 24, -1).permute(0, 3, 1, 2)
    positions = interpolate(grid, (side, side), mode="bilinear", align_corners=False)[0].flatten(1).T
    x = torch.cat([tower.class_embedding[None] + tower.position_embedding[:1], patches + positions])
    x = v = tower.ln_pre(x)
    for number, block in enumerate(tower.blocks, start=1):
        queries, keys, values = block.attention.in_projection(block.ln_1(x)).chunk(3, dim=-1)
        value_value = attention(block, values, values, values) if number in DUAL_BLOCKS else None
        x = x + attention(block, queries, keys, values)
        x = x + block.mlp(block.ln_2(x))
        v = x if value_value is None else v + value_value
    return x[0] @ tower.projection, tower.ln_post(v[1:]) @ tower.projection


@pytest.mark.slow
def test_they_score_what_anomalyclip_s_formulas_give(backbone: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "load_backbone", lambda _: backbone)
    monkeypatch.setattr(store, "card", lambda _: {})
    method = load_method(BACKBONE, input_px=INPUT_PX).method
    image = torch.randn(3, INPUT_PX, INPUT_PX, generator=torch.Generator().manual_seed(1))
    state = read_prompts(folder_of("anomalyclip")).state
    ids = [[START, *[X] * 12, OBJECT, FULL_STOP, END], [START, *[X] * 12, DAMAGED, OBJECT, FULL_STOP, END]]
    with torch.inference_mode():
        scores = method.score(method.encode(image[None]), method.encode_texts())
        template = method.template()
        assert [row[row > 0].tolist() for row in template.ids] == ids
        contexts = (state["normal_context"], state["abnormal_context"])
        texts = torch.stack(
            [
                text_feature(backbone.text, tokens, context, state["deep_tokens"])
                for tokens, context in zip(ids, contexts, strict=True)
            ]
        )
        texts = normalize(texts, dim=-1)
        cls, patches = image_features(backbone, image)
        expected = (normalize(cls, dim=-1) @ texts.T / TEMPERATURE).softmax(-1)[1]
        side = INPUT_PX // PATCH_PX
        abnormal = (normalize(patches, dim=-1) @ texts.T / TEMPERATURE).softmax(-1)[:, 1].reshape(1, 1, side, side)
        enlarged = interpolate(abnormal, (INPUT_PX, INPUT_PX), mode="bilinear", align_corners=False)[0, 0]
    assert float(scores.image_score[0]) == pytest.approx(float(expected), abs=2e-5)
    smooth = torch.from_numpy(gaussian_filter(enlarged.numpy(), SIGMA_PX))
    assert torch.allclose(scores.anomaly_map[0], smooth, atol=2e-5)
    assert float(smooth.max() - smooth.min()) > 1e-3  # the comparison says something


def test_the_released_files_hold_the_same_numbers_and_token_ids() -> None:
    """The published files themselves, where the reference values lie beside the project."""
    golden = Path(os.environ.get("BLEMISH_GOLDEN") or Path(__file__).parents[3] / "shared" / "golden")
    for name in SETS:
        card = json.loads((folder_of(name) / "card.json").read_text(encoding="utf-8"))
        found = list(golden.rglob(card["source"]["file"]))
        if not found:
            pytest.skip(f"no {card['source']['file']} in {golden} (set BLEMISH_GOLDEN)")
        published = torch.load(found[0], map_location="cpu", weights_only=True)["prompt_learner"]
        parts = read_prompts(folder_of(name)).state
        assert torch.equal(published["ctx_pos"][0, 0], parts["normal_context"])
        assert torch.equal(published["ctx_neg"][0, 0], parts["abnormal_context"])
        for index, matrix in enumerate(parts["deep_tokens"]):
            assert torch.equal(published[f"compound_prompts_text.{index}"], matrix)
        ids = torch.from_numpy(tokenize(["X " * 12 + f"{words}." for words in ("object", "damaged object")]))
        recorded = torch.cat([published[f"tokenized_prompts_{state}"][0] for state in ("pos", "neg")])
        assert torch.equal(ids, recorded.long())
