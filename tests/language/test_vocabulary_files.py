"""Vocabulary files: what they say, and what is said of bad ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from blemish.errors import ModelError, UnknownNameError, UsageError
from blemish.language import (
    DefectType,
    general,
    general_text,
    load_vocabulary,
    parse_defects,
    problems_of,
    read_vocabulary_file,
)
from blemish.language.checks import MOST_TOKENS, MOST_TYPES

PARTS = """
[types.scratch]
synonyms = ["scrape", "scuff   mark"]
sentence = "A thin bright line on the surface."

["types"."loose screw"]

[types.hole]
sentence = "the rim of a hole"

[products.bottle]
types = ["hole", "scratch"]

[products.bottle.sentences]
scratch = "a white line on the glass"

[products.board]
"""


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "parts.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def said(folder: Path, text: str | bytes, *, severity: str = "error") -> list[str]:
    problems = read_vocabulary_file(written(folder, text)).problems
    return [problem.text for problem in problems if problem.severity == severity]


def test_a_file_gives_types_with_synonyms_and_sentences(tmp_path: Path) -> None:
    vocabulary = load_vocabulary(written(tmp_path, PARTS))
    assert vocabulary.names == ("scratch", "loose screw", "hole")
    assert vocabulary.types[0] == DefectType("scratch", ("scrape", "scuff mark"), "A thin bright line on the surface.")
    assert vocabulary.types[0].wordings == ("scratch", "scrape", "scuff mark", "thin bright line on the surface")
    assert vocabulary.types[1].wordings == ("loose screw",)


def test_a_product_has_its_own_choice_order_and_sentences(tmp_path: Path) -> None:
    path = written(tmp_path, PARTS)
    hole, scratch = load_vocabulary(path, product="bottle").types
    assert hole == DefectType("hole", (), "the rim of a hole")
    assert (scratch.synonyms, scratch.sentence) == (("scrape", "scuff mark"), "a white line on the glass")
    assert load_vocabulary(str(path), product="board") == load_vocabulary(path)
    with pytest.raises(UnknownNameError, match=r"product of parts\.toml 'botle'; did you mean 'bottle'"):
        load_vocabulary(path, product="botle")


def test_the_built_in_vocabulary_is_a_file_to_begin_with(tmp_path: Path) -> None:
    assert load_vocabulary(written(tmp_path, general_text())) == general()
    assert problems_of(general().types) == []


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    assert load_vocabulary(written(tmp_path, b"\xef\xbb\xbf[types.scratch]\n")).names == ("scratch",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[types.scratch\n", r"is no TOML: .*line 1"),
        ("[types.scratch]\n\n[types.scratch]\n", r"is no TOML: .*line 3"),
        ("[types.scratch]\n[types.loose screw]\n", r"line 2.*names with spaces or other letters stand in quotes"),
        ("[types.скол]\n", r"line 1.*names with spaces or other letters stand in quotes"),
        ("", "there is no defect type"),
        ("[types]\n", "there is no defect type"),
        ("[types.'']\n", "needs a name"),
        ("[types.scratch]\nsynonyms = ['']\n", "a synonym of 'scratch' is empty"),
        ("[types.scratch]\n[types.Scratch]\n", "'Scratch' is named twice"),
        (
            "[types.scratch]\n[types.scrape]\nsynonyms = ['Scratch']\n",
            "stands for two defect types, 'scratch' and 'scrape'",
        ),
        ("[types.scratch]\nsynonyms = ['scratch']\n", "'scratch' has the word 'scratch' twice"),
        ("[types.scratch]\nsynonims = []\n", "did you mean 'synonyms'"),
        ("[type.scratch]\n", "unknown key 'type'; did you mean 'types'"),
        ("types = ['scratch']\n", r"types must be a table.*write \[types\.NAME\]"),
        ("[types]\nscratch = 'scrape'\n", "type 'scratch' must be a table"),
        ("[types.scratch]\nsynonyms = 'scrape'\n", "must be a list of texts"),
        ("[types.scratch]\nsentence = 3\n", "must be a text, not 3"),
        ("[types.scratch]\n[products.bottle]\ntypes = ['scrach']\n", "did you mean 'scratch'"),
        ("[types.scratch]\n[products.bottle]\ntypes = ['scratch', 'scratch']\n", "product 'bottle': .* named twice"),
        ("[types.scratch]\n[products.bottle]\ntypes = []\n", "product 'bottle': there is no defect type"),
        (
            "[types.scratch]\n[types.hole]\n[products.bottle]\ntypes = ['hole']\nsentences = { scratch = 'x' }\n",
            "product 'bottle' has a sentence for 'scratch', which is not among its types",
        ),
        (f"[types.'{'very ' * 299}long']\n", rf"has 300 tokens, and {MOST_TOKENS} fit into a prompt"),
        (f"[types.scratch]\nsentence = '{'long ' * 300}'\n", "has 300 tokens"),
        ("".join(f"[types.'kind {n}']\n" for n in range(MOST_TYPES + 1)), "1001 defect types are too many"),
    ],
)
def test_what_is_wrong_is_said_in_words(tmp_path: Path, text: str, message: str) -> None:
    problems = said(tmp_path, text)
    assert len(problems) == 1
    with pytest.raises(ModelError, match=rf"parts\.toml: .*{message}"):
        load_vocabulary(tmp_path / "parts.toml")


def test_all_errors_are_found_at_once_and_the_first_names_the_rest(tmp_path: Path) -> None:
    text = "[types.scratch]\nsynonims = []\n[types.hole]\nsentence = 1\n[colour]\n"
    assert len(said(tmp_path, text)) == 3
    with pytest.raises(ModelError, match=r"; 2 more \(see blemish vocabulary check"):
        load_vocabulary(tmp_path / "parts.toml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[types.'скол на краю']\n", "hardly seen"),
        ("[types.scratch]\nsynonyms = ['划痕']\n", "hardly seen"),
        ("[types.good]\n", "is no defect"),
        ("".join(f"[types.'kind {n}']\n" for n in range(200)), "200 defect types compete"),
    ],
)
def test_what_is_doubtful_is_said_and_works(tmp_path: Path, text: str, message: str) -> None:
    assert any(message in warning for warning in said(tmp_path, text, severity="warning"))
    assert load_vocabulary(tmp_path / "parts.toml").types


def test_letters_with_accents_are_latin(tmp_path: Path) -> None:
    assert said(tmp_path, "[types.'défaut']\n[types.'Ölfleck']\n", severity="warning") == []


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nope\.toml: cannot be read"):
        load_vocabulary(tmp_path / "nope.toml")
    with pytest.raises(ModelError, match="cannot be read"):
        load_vocabulary(tmp_path)
    with pytest.raises(ModelError, match="no text in UTF-8"):
        load_vocabulary(written(tmp_path, "[types.'Ölfleck']\n".encode("latin-1")))


# names on the command line


@pytest.mark.parametrize(
    ("defects", "message"),
    [
        ("scratch,, hole", "must not be empty"),
        ("warped pin, Warped pin", "'Warped pin' is named twice"),
        ("deep " * 300, f"has 300 tokens, and {MOST_TOKENS} fit"),
        ([f"kind {number}" for number in range(MOST_TYPES + 1)], "too many"),
    ],
)
def test_bad_defect_lists_are_refused_in_words(defects: str | list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_defects(defects)


def test_a_synonym_that_is_asked_for_by_name_stands_for_itself() -> None:
    stain, spot = parse_defects("stain, Spot").types
    assert "spot" not in stain.synonyms
    assert spot == DefectType("Spot")
    assert len(stain.synonyms) > 3


def test_names_in_other_scripts_and_200_of_them_work() -> None:
    assert parse_defects("скол, 划痕").names == ("скол", "划痕")
    assert len(parse_defects([f"kind {number}" for number in range(200)]).types) == 200
