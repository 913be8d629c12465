"""What is not wanted is found however it is spelt, and innocent words are let be; in bounded time."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from realtime.config_file import ContentRule
from realtime.content import MAX_FOUND, IContentFilter, NoFilter, WordFilter, content_filter
from realtime.settings import ConfigError

from .generated import unhurried

LISTS = WordFilter(ContentRule(languages=("english", "german", "chinese")))


class ContentTests(SynchronousTestCase):
    def found(self, filter: WordFilter, text: str) -> list[str]:
        return [text[start:end] for start, end in filter.find(text)]

    def test_interface(self) -> None:
        for made in (NoFilter(), LISTS):
            self.assertTrue(verifyObject(IContentFilter, made))

    def test_lists(self) -> None:
        """Words of the lists that come along, in the spellings that people try."""
        for text, found in (
            ("what the fuck is", ["fuck"]),
            ("FUCK! shit?", ["FUCK", "shit"]),
            ("fück ｆｕｃｋ 𝓯𝓾𝓬𝓴", ["fück", "ｆｕｃｋ", "𝓯𝓾𝓬𝓴"]),
            ("ѕһіt", ["ѕһіt"]),
            ("f\u200bu\u200bck", ["f\u200bu\u200bck"]),
            ("f u c k and F.U.C.K", ["f u c k", "F.U.C.K"]),
            ("sh1t $h!t", ["sh1t", "$h!t"]),
            ("fuuuuuuck", ["fuuuuuuck"]),
            ("操你妈了", ["操你妈"]),
        ):
            self.assertEqual(self.found(LISTS, text), found, text)

    def test_innocent(self) -> None:
        """Words that only hold one of the list, and numbers."""
        for text in (
            "Scunthorpe and the class of assassins",
            "Hello, two tickets for row 455 at 5:55 please",
            "Analysis of the Shitake... no, shiitake mushrooms",
            "привет, 你好, こんにちは",
            "",
        ):
            self.assertEqual(self.found(LISTS, text), [], text)

    def test_own_words(self) -> None:
        """The operator's words; one that ends in a star is the beginning of words."""
        own = WordFilter(ContentRule(words=("Tickettout", "scam*", "two words")))
        for text, found in (
            ("TICKETTOUT here", ["TICKETTOUT"]),
            ("tickettouts", []),
            ("a scammer, scam", ["scammer", "scam"]),
            ("escam", []),
            ("two words", ["two words"]),
            ("tw0  words, two \n\t words", ["tw0  words", "two \n\t words"]),
            ("🆃🅸🅲🅺🅴🆃🆃🅾🆄🆃 🇸🇨🇦🇲", ["🆃🅸🅲🅺🅴🆃🆃🅾🆄🆃", "🇸🇨🇦🇲"]),
        ):
            self.assertEqual(self.found(own, text), found, text)

    def test_allowed(self) -> None:
        own = WordFilter(ContentRule(words=("hell", "damn"), allow=("Hell",)))
        self.assertEqual(self.found(own, "hell, damn"), ["damn"])

    def test_patterns(self) -> None:
        """The operator's patterns, in the text as it is, whatever the case."""
        own = WordFilter(ContentRule(patterns=(r"\b\d{4}[ -]?\d{4}[ -]?\d{4}[ -]?\d{4}\b", "buy +now")))
        text = "my card 1234 5678-1234 5678, BUY  NOW"
        self.assertEqual(self.found(own, text), ["1234 5678-1234 5678", "BUY  NOW"])

    def test_faults(self) -> None:
        for rule, told in (
            (ContentRule(languages=("klingon",)), "content.languages"),
            (ContentRule(patterns=("(",)), "content.patterns"),
            (ContentRule(patterns=(r"(a)\1",)), "content.patterns"),
            (ContentRule(patterns=("x*",)), "content.patterns"),
            (ContentRule(patterns=("((a{1000}){1000}){1000}",)), "content.patterns"),
            (ContentRule(mode="reject"), "content.mode"),
        ):
            self.assertIn(told, str(self.assertRaises(ConfigError, content_filter, rule)))
        self.assertIsInstance(content_filter(ContentRule()), NoFilter)

    def test_full_of_it(self) -> None:
        """A text that is full of unwanted words is found to its end."""
        text = "fuck " * 2000
        spans = LISTS.find(text)
        self.assertLessEqual(len(spans), MAX_FOUND)
        self.assertEqual(spans[-1][1], len(text))
        digits = WordFilter(ContentRule(patterns=("[0-9]",)))
        self.assertEqual(digits.find("1 " * 500)[-1][1], 1000)

    def test_time_is_bounded(self) -> None:
        """The longest text of the worst kind, with a pattern that makes others backtrack, takes ms."""
        own = WordFilter(
            ContentRule(languages=("english",), patterns=("(a+)+$", "(a|aa)+b", "([a-z]+)*x{3}"))
        )
        for text in (
            "a" * 9999 + "!",
            "f " * 5000,
            "1a" * 5000,
            "1" * 10_000,
            " " * 10_000,
            "ѕ1-" * 3333,
            "ѕ" * 10_000,
            "\u0301" * 10_000,
            "ﷺ" * 10_000,
        ):
            began = time.process_time()
            own.find(text)
            self.assertLess(time.process_time() - began, 0.2, text[:4])

    @unhurried
    @given(st.text(max_size=200))
    def test_any_text(self, text: str) -> None:
        """Whatever the text, spans lie in it, in order and apart."""
        last = 0
        for start, end in LISTS.find(text):
            self.assertTrue(last <= start < end <= len(text))
            last = end
