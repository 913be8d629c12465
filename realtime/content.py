"""Content: what in a text is not wanted: words of lists, and the operator's own words and patterns.

Words of many languages come from glin-profanity's lists. They, and the operator's, are looked for in
every form of a text (`folding`), as whole words; patterns in the text as it is. Words are found by the
automaton of Aho and Corasick, patterns by RE2: the time of both is linear in the text, whatever the
words and patterns, so that no text can make them backtrack.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

import ahocorasick
import re2
from zope.interface import Interface, implementer

from .config_file import ContentRule
from .folding import fold, forms
from .settings import ConfigError

#: Bytes that a compiled pattern may take; one that is past them is refused at the start.
_MEMORY: Final = 1024 * 1024

#: Parts of one text that are told, at most: the last of them is all the rest of the text.
MAX_FOUND: Final = 100

#: Scripts that put no spaces between words.
_UNSPACED: Final = re.compile("[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")


class IContentFilter(Interface):
    """Looks for what is not wanted."""

    def find(text: str) -> list[tuple[int, int]]:
        """The parts of the text that are not wanted: start and end, in order, apart from each other."""


@implementer(IContentFilter)
class NoFilter:
    """Finds nothing."""

    def find(self, text: str) -> list[tuple[int, int]]:
        return []


@implementer(IContentFilter)
class WordFilter:
    """Finds the words and patterns of a configuration.

    :raises ConfigError: a language is not known, or a pattern can't be used.
    """

    def __init__(self, rule: ContentRule) -> None:
        words = {*_listed(rule.languages), *rule.words}
        self._allowed = {fold(word).text for word in rule.allow}
        self._words = _automaton(words)
        self._patterns = [_pattern(pattern) for pattern in rule.patterns]

    def find(self, text: str) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = []
        if self._words is not None:
            for form in forms(text):
                for start, end in _words(self._words, form.text):
                    if form.text[start:end] not in self._allowed:
                        found.append(form.span(start, end))
        for pattern in self._patterns:
            found += _some(pattern, text)
        return _apart(found)


def content_filter(rule: ContentRule) -> Any:
    """The `IContentFilter` that a configuration asks for.

    :raises ConfigError: it asks for one that finds nothing, or see `WordFilter`.
    """
    if rule.languages or rule.words or rule.patterns:
        return WordFilter(rule)
    if rule.mode != "off":
        raise ConfigError(f"content.mode: {rule.mode!a} needs languages, words or patterns to look for")
    return NoFilter()


def _listed(languages: Iterable[str]) -> Iterable[str]:
    """The words of the lists that come along."""
    if not languages:
        return
    # It takes its time, and most do without.
    from glin_profanity.data.dictionary import DictionaryLoader

    loader = DictionaryLoader()
    for language in languages:
        if language not in loader.LANGUAGE_FILES:
            known = ", ".join(sorted(loader.LANGUAGE_FILES))
            raise ConfigError(f"content.languages: {language[:64]!a} is not known; accepted are {known}")
        yield from loader.get_words(language)


def _automaton(words: Iterable[str]) -> Any:
    """The words in the form in which texts are looked at; None if there are none.

    Each with whether it has to end where a word ends, and whether it has to begin where one begins.
    """
    automaton = ahocorasick.Automaton()
    for word in sorted(words):
        folded = fold(word.removesuffix("*")).text.strip()
        if folded:
            spaced = _UNSPACED.search(folded) is None
            automaton.add_word(folded, (len(folded), spaced, spaced and not word.endswith("*")))
    if not len(automaton):
        return None
    automaton.make_automaton()
    return automaton


def _words(automaton: Any, text: str) -> Iterator[tuple[int, int]]:
    """Where words stand by themselves in a folded text."""
    found = 0
    for last, (length, begins, ends) in automaton.iter(text):
        start, end = last + 1 - length, last + 1
        if begins and start > 0 and text[start - 1].isalnum():
            continue
        if ends and end < len(text) and text[end].isalnum():
            continue
        if begins and not ends:
            while end < len(text) and text[end].isalnum():
                end += 1
        found += 1
        if found == MAX_FOUND:
            yield start, len(text)
            return
        yield start, end


def _pattern(pattern: str) -> Any:
    compiled = _compile(f"(?i){pattern}")
    if compiled.search("") is not None:
        raise ConfigError(f"content.patterns: {pattern!a} matches nothing at all, and so every text")
    return compiled


def _compile(pattern: str) -> Any:
    options = re2.Options()
    options.max_mem = _MEMORY
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        text = error.args[0] if error.args else ""
        told = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
        raise ConfigError(f"content.patterns: {pattern[4:68]!a} can't be used: {told[:100]}") from None


def _some(pattern: Any, text: str) -> Iterator[tuple[int, int]]:
    for number, match in enumerate(pattern.finditer(text), 1):
        if number == MAX_FOUND:
            yield match.start(), len(text)
            return
        yield match.span()


def _apart(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """In order, those that overlap put together."""
    apart: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if apart and start <= apart[-1][1]:
            apart[-1] = (apart[-1][0], max(end, apart[-1][1]))
        elif end > start:
            apart.append((start, end))
    return apart
