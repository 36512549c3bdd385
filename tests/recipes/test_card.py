"""What the card says of the images that taught a further trained model."""

from __future__ import annotations

import json
from pathlib import Path

from recipes.real.card import further, sources_of

from blemish.models.paths import package_models


def test_each_fine_tuning_is_named_with_its_length_and_product() -> None:
    words = further([{"steps": 500, "products": ["macaroni1"]}, {"steps": 30, "products": ["capsules"]}])
    assert words.startswith("500 steps with VisA macaroni1, 30 steps with VisA capsules; each with DeepPCB")


def test_sources_keep_what_a_licence_asks_for(tmp_path: Path) -> None:
    source = {
        "name": "tools",
        "repository": "a/b",
        "commit": "0f",
        "licence": "MIT",
        "credit": "A",
        "images": 3,
        "pattern": "x",
    }
    (tmp_path / "sources.json").write_text(json.dumps([source]))
    assert sources_of(tmp_path) == [{key: value for key, value in source.items() if key != "pattern"}]


def test_the_card_that_ships_names_what_taught_it() -> None:
    card = json.loads((package_models() / "embedded" / "card.json").read_text(encoding="utf-8"))
    assert "VisA capsules" in card["trained_on"]
    named = {source["name"] for source in card["fine_tuned"]["sources"]}
    assert {"groceries", "clothes"} <= named
    assert all(source["licence"] for source in card["fine_tuned"]["sources"])
