"""CLIP's byte-pair tokenizer, id for id that of open_clip's `SimpleTokenizer`."""

from __future__ import annotations

import gzip
import html
import itertools
import zlib
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blemish.errors import ModelError, UsageError

__all__ = ["END", "START", "Tokenizer", "default_tokenizer", "tokenize"]

MERGES = Path(__file__).with_name("bpe_merges.txt.gz")
START = 49406
END = 49407
START_TEXT, END_TEXT = "<start_of_text>", "<end_of_text>"
WORDS = rf"{START_TEXT}|{END_TEXT}|'s|'t|'re|'ve|'m|'ll|'d|[\p{{L}}]+|[\p{{N}}]|[^\s\p{{L}}\p{{N}}]+"
WORD_END = "</w>"
CACHED_WORDS = 65536


def tokenize(texts: Sequence[str], *, context_length: int = 77, truncate: bool = False) -> npt.NDArray[np.int64]:
    """Token ids [P, context_length] of texts: start, the text, end, zeros.

    A text that does not fit is an error, or with `truncate` loses its tail; the end stays.
    """
    if isinstance(texts, str):
        raise UsageError("tokenize takes a sequence of texts, not one text")
    tokenizer = default_tokenizer()
    ids = np.zeros((len(texts), context_length), dtype=np.int64)
    for row, text in zip(ids, texts, strict=True):
        tokens = [START, *tokenizer.encode(text), END]
        if len(tokens) > context_length:
            if not truncate:
                shown = text if len(text) <= 60 else text[:57] + "..."
                raise UsageError(
                    f"text of {len(tokens) - 2} tokens is too long, at most {context_length - 2} fit; "
                    f"shorten it or allow truncation: {shown!r}"
                )
            tokens = [*tokens[: context_length - 1], END]
        row[: len(tokens)] = tokens
    return ids


@cache
def default_tokenizer() -> Tokenizer:
    """The tokenizer on the vocabulary that ships with the package; read once."""
    return Tokenizer()


class Tokenizer:
    """Byte-pair encoding with the merges of a file: one pair a line, the first merges first."""

    def __init__(self, merges: str | Path = MERGES) -> None:
        import regex  # type: ignore[import-untyped]

        pairs = _read_merges(Path(merges))
        letters = list(_byte_letters().values())
        vocabulary = [
            *letters,
            *(letter + WORD_END for letter in letters),
            *(first + second for first, second in pairs),
            START_TEXT,
            END_TEXT,
        ]
        self._ids = {token: index for index, token in enumerate(vocabulary)}
        self._tokens = vocabulary
        self._ranks = {pair: rank for rank, pair in enumerate(pairs)}
        self._letters = _byte_letters()
        self._bytes = {letter: byte for byte, letter in self._letters.items()}
        self._words: Any = regex.compile(WORDS, regex.IGNORECASE)
        self._known: dict[str, list[int]] = {text: [self._ids[text]] for text in (START_TEXT, END_TEXT)}

    def __len__(self) -> int:
        return len(self._tokens)

    def encode(self, text: str) -> list[int]:
        """The ids of a text without start and end."""
        return [token for word in self._words.findall(clean(text)) for token in self._encode_word(word)]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids, lower case, a space after each word; bytes that are no UTF-8 become U+FFFD."""
        letters = "".join(self._tokens[index] for index in ids)
        raw = bytearray(self._bytes[letter] for letter in letters)
        return raw.decode("utf-8", errors="replace").replace(WORD_END, " ")

    def _encode_word(self, word: str) -> list[int]:
        known = self._known.get(word)
        if known is None:
            letters = [self._letters[byte] for byte in word.encode("utf-8")]
            letters[-1] += WORD_END
            known = [self._ids[token] for token in self._merge(letters)]
            if len(self._known) < CACHED_WORDS:
                self._known[word] = known
        return known

    def _merge(self, tokens: list[str]) -> list[str]:
        """Merges the pair of lowest rank, everywhere and from the left, until no pair is in the table."""
        unranked = len(self._ranks)
        while len(tokens) > 1:
            pairs = itertools.pairwise(tokens)
            best = min(pairs, key=lambda pair: self._ranks.get(pair, unranked))
            if best not in self._ranks:
                break
            merged: list[str] = []
            position = 0
            while position < len(tokens):
                if tuple(tokens[position : position + 2]) == best:
                    merged.append(best[0] + best[1])
                    position += 2
                else:
                    merged.append(tokens[position])
                    position += 1
            tokens = merged
        return tokens


def clean(text: str) -> str:
    """The text as the vocabulary knows it: mojibake repaired, HTML unescaped twice, single spaces, lower case."""
    import ftfy

    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split()).lower()


@cache
def _byte_letters() -> dict[int, str]:
    """A printable letter for each byte, in the vocabulary's order; bytes without one take those from U+0100 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + index) for index, byte in enumerate(others)}


def _read_merges(path: Path) -> list[tuple[str, str]]:
    try:
        lines = gzip.decompress(path.read_bytes()).decode("utf-8").splitlines()
        return [(first, second) for first, second in (line.split(" ") for line in lines)]
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise ModelError(f"{path}: not a gzipped list of byte-pair merges ({error}); reinstall blemish") from error
