"""What the card says of the images that taught a further trained model."""

from __future__ import annotations

import json
from pathlib import Path

from recipes.real.card import further, sources_of

from blemish.models.paths import package_models


def test_a_long_training_is_named_with_its_length_and_sources() -> None:
    words = further({"views": 7000, "steps": 40, "sources": {"visa-capsules": {"good": 6, "bad": 1}}})
    assert words.startswith("7000 views in 40 steps") and "visa-capsules (6 good, 1 defective)" in words


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
    assert "visa-capsules" in card["trained_on"]
    named = {source["name"] for source in card["further_training"]["sources"]}
    assert {"groceries", "clothes", "ball-screws"} <= named
    assert not {"cookies", "fabric-stains"} & named  # they judge
    assert all(source["licence"] for source in card["further_training"]["sources"])
