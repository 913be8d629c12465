"""Folding: a text as it looks to a reader, so that words are found however they are spelt.

Compatibility forms, accents, invisible characters and letter case go; letters of other scripts that
look like Latin ones become those (Unicode's table of confusables). Of what comes out every character
knows the place in the text that it came from.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

import msgspec
from confusable_homoglyphs import confusables

#: Digits and signs that stand for letters, in words that have letters too.
_LEET: Final = str.maketrans("0134578@$!|+", "oieastbasiit")
_LEET_WORD: Final = re.compile(r"[a-z0-9@$!|+]+")
_LETTER: Final = re.compile(r"[a-z]")
_LEET_SIGN: Final = re.compile(r"[0134578@$!|+]")

#: White space, twice or more.
_GAP: Final = re.compile(r"\s{2,}")

#: The same character three times or more.
_RUN: Final = re.compile(r"(.)\1{2,}")

#: Single letters, each by itself: ``f u c k``, ``f.u.c.k``.
_SPACED: Final = re.compile(r"(?<![^\W_])(?:[^\W_][\s._*~-]{1,3}){2,}[^\W_](?![^\W_])")

#: Letters in boxes and in flags, which Unicode takes for pictures, by their names.
_DRAWN: Final = re.compile(
    r"(?:(?:NEGATIVE|CROSSED NEGATIVE) (?:CIRCLED|SQUARED) LATIN CAPITAL|REGIONAL INDICATOR SYMBOL)"
    r" LETTER ([A-Z])"
)

#: Decompositions of one character, such as of a ligature, are no longer than Unicode's longest.
_LONGEST: Final = 18


class Folded(msgspec.Struct, frozen=True):
    """A text in one form.

    :ivar at: for each of its characters the place in the original; None where they are the same.
    """

    text: str
    at: list[int] | None = None

    def span(self, start: int, end: int) -> tuple[int, int]:
        """The part of the original that a part of this came from."""
        if self.at is None:
            return start, end
        return self.at[start], self.at[end - 1] + 1


@lru_cache(maxsize=32_768)
def _fold(character: str) -> str:
    """What stands for one character; nothing for what can't be seen."""
    parts: list[str] = []
    for part in unicodedata.normalize("NFKD", character)[:_LONGEST]:
        if unicodedata.category(part) in ("Mn", "Me", "Cf", "Cc"):
            continue
        # as it is first: a capital may look like another letter than its small one does
        parts += _looks_like(part) if not part.isascii() else part.lower()
    return "".join(parts) or (" " if character.isspace() else "")


@lru_cache(maxsize=8192)
def _looks_like(character: str) -> str:
    """The Latin letter that a character, or its small letter, looks like; else that small letter."""
    drawn = _DRAWN.fullmatch(unicodedata.name(character, ""))
    if drawn is not None:
        return drawn[1].lower()
    small = character.casefold()
    for shape in (character, small):
        for like in confusables.confusables_data.get(shape, ()):
            letter: str = like["c"]
            if letter.isascii() and letter.isalpha():
                return letter.lower()
    return small


def fold(text: str) -> Folded:
    """The text as it looks."""
    if text.isascii() and text.isprintable():
        return Folded(text.lower())
    folded: list[str] = []
    at: list[int] = []
    for place, character in enumerate(text):
        for part in _fold(character):
            folded.append(part)
            at.append(place)
    return Folded("".join(folded), at)


def forms(text: str) -> Iterator[Folded]:
    """The text as it looks, and as it may be meant: signs for letters, letters drawn out or apart."""
    plain = fold(text)
    yield plain
    if _GAP.search(plain.text):
        plain = _shortened(plain, _GAP, 1)
        yield plain
    read = plain
    if _LEET_SIGN.search(plain.text):
        # Whether there is a letter is asked apart: one expression for both takes the square of the time.
        meant = _LEET_WORD.sub(_meant, plain.text)
        if meant != plain.text:
            read = Folded(meant, plain.at)
            yield read
    if _RUN.search(read.text):
        yield _shortened(read, _RUN, 1)
        yield _shortened(read, _RUN, 2)
    if _SPACED.search(read.text):
        yield _joined(read)


def _meant(word: re.Match[str]) -> str:
    return word[0].translate(_LEET) if _LETTER.search(word[0]) else word[0]


def _kept(folded: Folded, places: list[int]) -> Folded:
    at = folded.at
    text = "".join([folded.text[place] for place in places])
    return Folded(text, places if at is None else [at[place] for place in places])


def _shortened(folded: Folded, runs: re.Pattern[str], length: int) -> Folded:
    """With every run of such characters cut to a length."""
    places: list[int] = []
    last = 0
    for run in runs.finditer(folded.text):
        places += range(last, run.start() + length)
        last = run.end()
    return _kept(folded, [*places, *range(last, len(folded.text))])


def _joined(folded: Folded) -> Folded:
    """With single letters put together."""
    places: list[int] = []
    last = 0
    for spaced in _SPACED.finditer(folded.text):
        places += range(last, spaced.start())
        places += [place for place in range(spaced.start(), spaced.end()) if folded.text[place].isalnum()]
        last = spaced.end()
    return _kept(folded, [*places, *range(last, len(folded.text))])
