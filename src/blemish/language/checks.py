"""What can be wrong with the words of a vocabulary."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from blemish.language.names import DefectType, clashes

__all__ = ["MOST_TOKENS", "MOST_TYPES", "Problem", "problems_of", "tokens_of"]

MOST_TOKENS = (
    60  # of a name, synonym or sentence: CLIP reads 77, and every method's prompt needs some of them around it
)
MOST_TYPES = 1000  # each costs a map of every image
MANY_TYPES = 100
SHOWN_LETTERS = 40
NORMAL_WORDS = frozenset({"normal", "good", "ok", "okay", "none", "no defect", "without defect", "flawless", "nothing"})


@dataclass(frozen=True)
class Problem:
    """One thing to say about a vocabulary: an "error" makes it unusable, a "warning" is worth knowing."""

    severity: Literal["error", "warning"]
    text: str


def problems_of(types: Sequence[DefectType]) -> list[Problem]:
    """Everything that is wrong or doubtful with these types, errors first."""
    errors, warnings = list(clashes(types)), []
    if not types:
        errors.append("there is no defect type")
    if len(types) > MOST_TYPES:
        errors.append(f"{len(types)} defect types are too many: at most {MOST_TYPES} can be told apart at once")
    elif len(types) > MANY_TYPES:
        warnings.append(
            f"{len(types)} defect types compete for every place: names that mean the same share its probability, and each "
            "name takes its time before the first image"
        )
    for defect in types:
        if defect.name.lower() in NORMAL_WORDS:
            warnings.append(f"{defect.name!r} is no defect; what is normal needs no name")
        for wording in defect.wordings:
            count = tokens_of(wording)
            if count > MOST_TOKENS:
                errors.append(
                    f"{shortened(wording)!r} has {count} tokens, and {MOST_TOKENS} fit into a prompt; shorten it"
                )
            elif odd := foreign_letters(wording):
                warnings.append(
                    f"{shortened(wording)!r} has letters that CLIP has hardly seen ({odd}): it works, but English says more"
                )
    return [Problem("error", text) for text in errors] + [Problem("warning", text) for text in warnings]


def tokens_of(text: str) -> int:
    """How many of CLIP's tokens a text takes."""
    from blemish.backbones.tokenizer import default_tokenizer

    return len(default_tokenizer().encode(text))


def foreign_letters(text: str) -> str:
    """The first few letters of other scripts than the Latin one; "" where there are none."""
    odd = [letter for letter in text if letter.isalpha() and not unicodedata.name(letter, "").startswith("LATIN")]
    return "".join(dict.fromkeys(odd))[:6]


def shortened(text: str) -> str:
    return text if len(text) <= SHOWN_LETTERS else text[: SHOWN_LETTERS - 1].rstrip() + "…"
