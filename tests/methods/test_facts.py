"""The table of methods: whole, and true where it can be counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from blemish import cli
from blemish.backbones.catalog import catalog
from blemish.backbones.model import Clip
from blemish.methods import METHODS, build
from blemish.methods.facts import method_facts

DOCS = Path(__file__).parents[2] / "docs"
FACTS = {method.name: method for method in method_facts()}


@pytest.mark.parametrize("name", sorted(METHODS.own))
def test_every_method_of_ours_says_all_of_it(name: str) -> None:
    facts = FACTS[name]
    assert all((facts.title, facts.paper, facts.needs, facts.weights))
    assert facts.numbers is not None
    assert (DOCS / facts.docs).is_file()
    assert bool(facts.trained_on) == bool(facts.numbers)


@pytest.mark.parametrize("name", sorted(METHODS.own))
def test_the_numbers_are_those_of_the_method_on_the_papers_backbone(name: str) -> None:
    with torch.device("meta"):
        clip = Clip(catalog()["ViT-L-14-336"].config)
        clip.text.token_embedding = torch.nn.Embedding(49408, 768, device="cpu")
        clip.text.position_embedding = torch.nn.Parameter(torch.zeros(77, 768, device="cpu"))
        method = build(name, clip)
    assert sum(part.numel() for part in method.trained_parts().values()) == FACTS[name].numbers


def test_the_command_prints_a_block_for_each_method_or_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["methods"]) == 0
    lines = capsys.readouterr().out.splitlines()
    first = lines.index("anomalyclip: AnomalyCLIP; Zhou et al., ICLR 2024, arXiv 2310.18961")
    assert lines[first + 2] == "    trained: 43,008 numbers; test split of MVTec AD or VisA, with masks"
    assert lines[first + 4] == "    page:    docs/anomalyclip.md"
    assert cli.main(["methods", "--json"]) == 0
    assert {row["name"] for row in json.loads(capsys.readouterr().out)} == set(METHODS)
