"""The long training learns from a bundle and from pairs that others draw, and each side leaves out what it must not see."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).parents[2]))

from recipes.embedded.config import BACKBONE, abreast
from recipes.long import bundle as bundles
from recipes.long.__main__ import losses, train
from recipes.long.assemble import assembled, mixed
from recipes.long.batches import BatchSources, Views
from recipes.long.bundle import Bundle, Entry
from recipes.long.device_views import blobs, cut, defaced, grids, relit, windows
from recipes.long.losses import Targets, Weights, above
from recipes.long.producing import points_on, read_shard, write_shard
from recipes.long.recipe import LongRecipe
from recipes.long.towers import Side, groups_of
from recipes.real.pairs import SIZE_PX, Pair, render_pair

from blemish.backbones.model import Clip
from blemish.errors import UsageError

SOURCES = ("visa-capsules", "visa-macaroni1")


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def pair(seed: int) -> Pair:
    rng = np.random.default_rng(seed)
    good = rng.integers(90, 160, (SIZE_PX, SIZE_PX, 3), np.uint8)
    mask = np.zeros((SIZE_PX, SIZE_PX), bool)
    mask[200:280, 100:220] = True
    bad = good.copy()
    bad[mask] = 250
    return Pair(good, bad, mask, "stain", "plate", 3.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bundle of two annotated sources, three good and three defective images each."""
    out = tmp_path / "bundle"
    out.mkdir()
    parts = bundles._Parts(out, 4_000)  # so small that it takes several archives
    rng = np.random.default_rng(0)
    for source in SOURCES:
        for number in range(3):
            image = Image.fromarray(rng.integers(0, 255, (60, 80, 3), np.uint8))
            mask = Image.new("1", (80, 60))
            mask.paste(1, (10, 10, 30, 30))
            mask.save(tmp_path / "mask.png")
            names = f"{source}-{number}.webp", f"{source}-{number}.png"
            parts.add(Entry(f"good-{names[0]}", "good", source, source), [(f"good-{names[0]}", bundles._webp(image))])
            files = [(names[0], bundles._webp(image)), (names[1], (tmp_path / "mask.png").read_bytes())]
            parts.add(Entry(names[0], "bad", source, source, mask=names[1]), files)
    parts.close()
    return out


def start() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    clip = Clip(abreast(2))
    for parameter in clip.image.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    words = torch.nn.functional.normalize(torch.randn(23, 128), dim=-1)
    state = {f"image.{name}": value for name, value in clip.image.state_dict().items()}
    return state | {"texts": words, "variants": words[None].clone()}


def filled(folder: Path, tmp_path: Path, recipe: LongRecipe) -> BatchSources:
    pairs = tmp_path / "pairs"
    pairs.mkdir()
    for kind in ("renders", "photos"):
        write_shard([pair(0), pair(1)], pairs / f"{kind}-000-00000.npy", np.random.default_rng(0))
    sources = BatchSources(Bundle(folder), pairs, recipe, torch.device("cpu"))
    while sources.refill(8, wait=True):
        pass
    return sources


def test_a_bundle_of_several_archives_gives_back_images_and_masks(folder: Path) -> None:
    assert len(list(folder.glob("part-*.zip"))) > 1
    bundle = Bundle(folder)
    bad = [entry for entry in bundle.entries if entry.role == "bad"]
    assert len(bundle.entries) == 12 and len(bad) == 6
    assert bundle.image(bad[0]).shape == (60, 80, 3)
    assert bundle.mask(bad[0]).sum() == 400
    with pytest.raises(UsageError, match="no mask"):
        bundle.mask(next(entry for entry in bundle.entries if entry.role == "good"))


def test_an_empty_folder_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no bundle"):
        Bundle(tmp_path)


def test_shards_keep_pairs_and_places_on_their_defects(tmp_path: Path) -> None:
    made = pair(0)
    write_shard([made], tmp_path / "renders-0.npy", np.random.default_rng(0))
    images, masks, types, points = read_shard(tmp_path / "renders-0.npy")
    assert np.array_equal(images[0, 1], made.bad)
    assert np.array_equal(np.unpackbits(masks[0], count=SIZE_PX**2).reshape(SIZE_PX, SIZE_PX).astype(bool), made.mask)
    x, y = (points[0] * SIZE_PX).astype(int).T
    assert made.mask[y, x].all() and types[0] > 0
    assert np.array_equal(points_on(np.zeros((4, 4), bool), np.random.default_rng(0))[0], [0.5, 0.5])


def test_views_hold_the_point_they_are_laid_around_and_cut_image_and_mask_alike() -> None:
    picture = torch.zeros(8, 1, 3, 64, 64, dtype=torch.uint8)
    mask = torch.zeros(8, 64, 64, dtype=torch.uint8)
    picture[..., 40:56, 8:20], mask[:, 40:56, 8:20] = 255, 255
    points = torch.tensor([[14 / 64, 48 / 64]]).expand(8, 2)
    parts = windows(points, generator())
    assert (parts[:, :2] <= points).all() and (parts[:, :2] + parts[:, 2:] >= points).all()
    assert (parts >= 0).all() and (parts[:, :2] + parts[:, 2:] <= 1 + 1e-6).all()
    views, marked = cut(picture, mask, grids(parts, 64, generator()))
    assert views.shape == (8, 1, 3, 32, 32) and marked.any((1, 2)).all()
    bright = views[:, 0, 0] > 0.5
    assert (bright == marked).float().mean() > 0.95


def test_light_and_colour_are_those_of_the_group() -> None:
    views = torch.full((16, 2, 3, 8, 8), 0.5)
    lit = relit(views, generator())
    assert (lit[:, 0].mean((1, 2, 3)) - lit[:, 1].mean((1, 2, 3))).abs().max() < 0.03  # noise is each one's own
    assert lit.mean((1, 2, 3, 4)).std() > 0.05


def test_a_defaced_view_differs_inside_its_mask_alone() -> None:
    views = torch.nn.functional.interpolate(torch.rand(32, 3, 8, 8, generator=generator()), (64, 64), mode="bilinear")
    changed, masks = defaced(views, generator(), np.random.default_rng(0))
    difference = (changed - views).abs().mean(1)
    assert masks.any((1, 2)).float().mean() > 0.3
    near = torch.nn.functional.max_pool2d(blobs(32, 64, generator(), views.device)[:, None].float(), 5, 1, 2)[:, 0] > 0
    assert difference[~masks.any((1, 2))].max() == 0
    assert difference[~near].max() == 0


def test_each_side_learns_from_what_it_may_see_alone(folder: Path, tmp_path: Path) -> None:
    recipe = LongRecipe(pixels=16 * 64 * 64, sides_px=(64,), places=8)
    sources = filled(folder, tmp_path, recipe)
    views = sources.draw(recipe, np.random.default_rng(0), generator())
    side = Side.parse("frozen:0:-visa-capsules")
    assert not side.sees("visa-capsules") and side.sees("visa-macaroni1")
    assert Side.parse("thawed:1:renders").sees("renders") and not Side.parse("thawed:1:renders").sees("photos")
    (group,) = groups_of([side], start(), torch.device("cpu"))
    hidden = views.sources == sources.names.index("visa-capsules")
    seen = [torch.nonzero(~hidden)[:, 0]]
    texts = start()["texts"]

    def loss(of: Views) -> float:
        with torch.no_grad():
            return float(losses(group, of, seen=seen, texts=texts, level=1, weights=Weights())[0])

    other = torch.where(hidden[:, None, None, None], 1 - views.images, views.images)
    assert hidden.any() and loss(replace(views, images=other)) == loss(views)
    assert loss(replace(views, images=1 - views.images)) != loss(views)
    with pytest.raises(argparse.ArgumentTypeError, match="is no side"):
        Side.parse("molten:0")


def test_a_side_of_unknown_sources_or_unknown_weights_is_refused() -> None:
    with pytest.raises(UsageError, match="visa-capsule"):
        Side.parse("frozen:0:-visa-capsule").check(SOURCES)
    Side.parse("frozen:0:-visa-capsules").check(SOURCES)
    with pytest.raises(UsageError, match="side 5 is not in the weights"):
        groups_of([Side.parse("frozen:5")], start(), torch.device("cpu"))


def test_a_thawed_trunk_learns_nothing_from_hidden_images(folder: Path, tmp_path: Path) -> None:
    recipe = LongRecipe(pixels=16 * 64 * 64, sides_px=(64,), places=8)
    views = filled(folder, tmp_path, recipe).draw(recipe, np.random.default_rng(0), generator())
    (group,) = groups_of([Side.parse("thawed:0")], start(), torch.device("cpu"))
    group.tower.detached = torch.ones_like(views.sources, dtype=torch.bool)  # type: ignore[attr-defined]
    rows = [torch.arange(len(views.types))]
    total = losses(group, views, seen=rows, texts=start()["texts"], level=1, weights=Weights())[0]
    torch.autograd.backward(total)
    grads = {name: p.grad for name, p in group.tower.named_parameters() if p.grad is not None}
    assert any("blocks.0.attention" in name for name in grads)
    assert not any(".trunk." in name and bool(grad.abs().max() > 0) for name, grad in grads.items())


def test_a_training_lowers_its_loss_and_its_sides_make_backbones(folder: Path, tmp_path: Path) -> None:
    recipe = LongRecipe(pixels=12 * 64 * 64, sides_px=(64,), places=8, steps=8, warm_up=1, rate=3e-3)
    sources = filled(folder, tmp_path, recipe)
    begin = start()
    groups = groups_of([Side.parse("frozen:0"), Side.parse("thawed:1")], begin, torch.device("cpu"))
    out = tmp_path / "out"
    out.mkdir()
    train(sources, groups, (begin["texts"], begin["variants"]), recipe, out)
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert sum(lines[-1]["losses"]) < sum(lines[0]["losses"])
    assert json.loads((out / "summary.json").read_text())["steps"] == 8
    before = Clip(abreast(2))
    before.image.load_state_dict({n.removeprefix("image."): v for n, v in begin.items() if n.startswith("image.")})
    frozen, thawed = load_file(out / "frozen-100.safetensors"), load_file(out / "thawed-100.safetensors")
    one, two = assembled(before, frozen, [0]), assembled(before, thawed, [0])
    trunk = "stem.trunk.stem.convolution.weight"
    assert one.config == BACKBONE
    assert torch.equal(one.image.state_dict()[trunk], before.image.state_dict()[f"members.0.{trunk}"])
    assert not torch.equal(two.image.state_dict()[trunk], before.image.state_dict()[f"members.0.{trunk}"])
    with pytest.raises(UsageError, match="no side 3"):
        assembled(before, frozen, [3])


def test_above_compares_defective_with_good_images_alone() -> None:
    scores, bad = torch.tensor([3.0, 1.0, -2.0]), torch.tensor([True, False, False])
    expected = torch.nn.functional.softplus(torch.tensor([-2.0, -5.0])).mean()
    assert torch.isclose(above(scores, bad), expected)
    assert above(scores, torch.zeros(3, dtype=torch.bool)) == 0


def test_targets_forget_types_of_defects_too_small_for_a_patch() -> None:
    masks = torch.zeros(2, 16, 16, dtype=torch.bool)
    masks[0, :8, :8] = True
    targets = Targets.of(masks, torch.tensor([4, 4]))
    assert targets.types.tolist() == [4, 0] and targets.anomalous[0].any()


def test_a_mean_lies_between_what_a_side_began_as_and_what_it_learned() -> None:
    before = Clip(abreast(2))
    for number, parameter in enumerate(before.image.parameters()):
        torch.nn.init.constant_(parameter, number)
    names = ["members.0.blocks.0.ln_1.weight", "members.0.stem.trunk.stem.convolution.weight"]
    state = before.image.state_dict()
    learned = {name: state[name] + 2 for name in state if name in names or name == next(iter(state))}
    same = mixed(before, learned, [1], 0.0)
    half = mixed(before, learned, [1], 0.5)
    ln = "members.0.blocks.0.ln_1.weight"
    assert torch.equal(same[ln], state["members.1.blocks.0.ln_1.weight"])  # this side began as the second
    assert torch.equal(half[ln], (learned[ln] + same[ln]) / 2)
    trunk = [name for name in learned if ".trunk." in name]
    assert all(torch.equal(same[name], state[name]) for name in trunk)


@pytest.mark.slow
def test_the_script_for_a_machine_with_a_gpu_runs_on_a_processor(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    folder.mkdir()
    parts = bundles._Parts(folder, 10_000_000)
    for number in range(2):
        made = render_pair(70_000_000 + number)
        assert made is not None
        entry = Entry(f"photo-{number}.webp", "photo", "own", "plate")
        parts.add(entry, [(entry.name, bundles._webp(Image.fromarray(made.good)))])
    parts.close()
    save_file(start(), folder / bundles.START)
    command = ["sh", "recipes/gpu.sh", str(folder), str(tmp_path / "out"), "240", "--side", "frozen:0", "--steps", "2"]
    options = ["--fill", "1", "--places", "64", "--pixels", "20000", "--sides-px", "64", "--device", "cpu"]
    # SHARDS: so few that drawing waits for the training
    environment = {**os.environ, "PYTHON": sys.executable, "PROCESSES": "1", "SHARDS": "4", "TMPDIR": str(tmp_path)}
    repository = Path(__file__).parents[2]
    done = subprocess.run(
        [*command, *options], cwd=repository, env=environment, capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["steps"] == 2 and min(summary["pairs"].values()) >= 16
    assert (tmp_path / "out" / "frozen-100.safetensors").is_file()
