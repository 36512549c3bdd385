"""Defect names as users write them."""

from __future__ import annotations

import pytest

from blemish.errors import UsageError
from blemish.language import DefectType, Vocabulary, general, parse_defects
from blemish.synthesis import defect_types


def test_built_in_types_are_the_ones_that_are_rendered_each_with_words_and_a_sentence() -> None:
    assert general().names == defect_types()
    assert all(defect.synonyms and defect.sentence for defect in general().types)


def test_names_are_split_trimmed_and_keep_their_order() -> None:
    assert parse_defects(" scratch,  loose   screw ,hole").names == ("scratch", "loose screw", "hole")


def test_a_built_in_name_brings_its_words_and_a_new_one_stands_alone() -> None:
    known, new = parse_defects(["Scratch", "warped pin"]).types
    assert "scuff" in known.synonyms
    assert known.sentence.startswith("a straight")
    assert new == DefectType("warped pin")


@pytest.mark.parametrize("defects", ["", "scratch,,hole", "scratch, scratch", "Scratch, scratch", []])
def test_empty_and_repeated_names_are_refused(defects: str | list[str]) -> None:
    with pytest.raises(UsageError):
        parse_defects(defects)


def test_a_vocabulary_is_not_empty() -> None:
    with pytest.raises(UsageError, match="at least one"):
        Vocabulary(())
