from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blemish.backbones.tokenizer import END, START, Tokenizer, default_tokenizer, tokenize
from blemish.errors import ModelError, UsageError

HARD = json.loads(Path(__file__).with_name("tokens.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer()


@pytest.mark.parametrize("entry", HARD, ids=[entry["text"][:20].encode("ascii", "replace").decode() for entry in HARD])
def test_hard_strings_have_the_ids_of_the_reference(tokenizer: Tokenizer, entry: dict[str, object]) -> None:
    assert tokenizer.encode(str(entry["text"])) == entry["ids"]


def test_vocabulary_has_clip_size_and_special_ids(tokenizer: Tokenizer) -> None:
    assert len(tokenizer) == 49408
    assert tokenizer.encode("<start_of_text><end_of_text>") == [START, END]


def test_rows_are_start_text_end_and_zeros() -> None:
    ids = tokenize(["X flawless object", ""])
    assert ids.shape == (2, 77)
    assert ids.dtype == np.int64
    assert ids[0, :6].tolist() == [START, 343, 15531, 14115, END, 0]
    assert ids[1, :3].tolist() == [START, END, 0]
    assert not ids[0, 5:].any()


def test_decoding_gives_the_words_back(tokenizer: Tokenizer) -> None:
    assert tokenizer.decode(tokenizer.encode("A Scratch on café glass")) == "a scratch on café glass "


def test_three_hundred_words_are_an_error_that_says_how_many_fit() -> None:
    with pytest.raises(UsageError, match=r"text of 300 tokens is too long, at most 75 fit; .*truncation: 'word word"):
        tokenize(["word " * 300])


def test_truncation_keeps_the_end_of_text() -> None:
    (row,) = tokenize(["word " * 300], truncate=True)
    assert row[0] == START
    assert row[-1] == END
    assert (row[1:-1] == row[1]).all()


def test_the_longest_text_that_fits_is_not_cut() -> None:
    (row,) = tokenize(["word " * 75])
    assert row[-1] == END
    with pytest.raises(UsageError):
        tokenize(["word " * 76])


def test_one_text_instead_of_a_list_is_refused() -> None:
    with pytest.raises(UsageError, match="sequence of texts"):
        tokenize("scratch")


def test_a_damaged_vocabulary_names_its_file(tmp_path: Path) -> None:
    for number, content in enumerate((b"no gzip", gzip.compress(b"one\n"), gzip.compress(b"a b\n" * 99)[:-9])):
        path = tmp_path / f"merges{number}.gz"
        path.write_bytes(content)
        with pytest.raises(ModelError, match=path.name):
            Tokenizer(path)


@given(st.text(max_size=80))
def test_any_text_has_ids_of_the_vocabulary(text: str) -> None:
    ids = tokenize([text], context_length=400)
    assert ids.min() >= 0
    assert ids.max() <= END


@given(st.text(alphabet=st.characters(codec="ascii", categories=("Ll", "Nd", "Zs")), max_size=60))
def test_plain_words_survive_encoding_and_decoding(text: str) -> None:
    tokenizer = default_tokenizer()
    decoded = tokenizer.decode(tokenizer.encode(text))
    assert decoded.replace(" ", "") == text.replace(" ", "")
