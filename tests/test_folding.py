"""A text as it looks: in every form the place of each character in the original is known."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from realtime.folding import fold, forms

from .generated import unhurried


class FoldTests(SynchronousTestCase):
    def test_looks(self) -> None:
        for text, looks in (
            ("Hello World", "hello world"),
            ("ｆｕｌｌ ｗｉｄｔｈ", "full width"),
            ("𝓯𝓪𝓷𝓬𝔂 𝕿𝖊𝖝𝖙 ⓣⓔⓧⓣ", "fancy text text"),
            ("Fü̈ňnÿ", "funny"),
            ("zero\u200bwidth\u00adsoft\u202ebidi\ufeff", "zerowidthsoftbidi"),
            ("ѕрасе", "space"),  # Cyrillic
            ("ΗΟΤ", "hot"),  # Greek
            ("ﬁne ﬂuﬀ", "fine fluff"),
            ("STRASSE straße", "strasse strasse"),
            ("two\nlines\tend\x00", "two lines end"),
            ("你好 こんにちは ИЖ", "你好 こんにちは иж"),
        ):
            self.assertEqual(fold(text).text, looks)

    def test_forms(self) -> None:
        """Signs for letters, letters drawn out, letters apart."""
        for text, form in (
            ("sh1t", "shit"),
            ("$h!t", "shit"),
            ("@pp13", "appie"),
            ("fuuuuun", "fun"),
            ("sweeeet", "sweet"),
            ("b a d", "bad"),
            ("b.a-d word", "bad word"),
            ("so b _ a _ d is", "so bad is"),
        ):
            self.assertIn(form, [found.text for found in forms(text)], text)

    def test_numbers_are_no_words(self) -> None:
        """What has no letter in it stands for itself."""
        self.assertEqual([found.text for found in forms("455 0.5 $1 13:37")], ["455 0.5 $1 13:37"])

    def test_words_stay_apart(self) -> None:
        """Only letters by themselves are put together."""
        for text in ("as so on", "I am a b", "if u c king"):
            self.assertFalse({"assoon", "ifuck", "amab"} & {found.text for found in forms(text)})

    def test_spans(self) -> None:
        """A part of a form is found in the original."""
        text = "x f\u200b.ü.𝓬.k y"
        found = [form for form in forms(text) if "fuck" in form.text]
        start = found[0].text.index("fuck")
        first, last = found[0].span(start, start + 4)
        self.assertEqual(text[first:last], "f\u200b.ü.𝓬.k")

    @unhurried
    @given(st.text(max_size=300))
    def test_any_text(self, text: str) -> None:
        """Whatever the text, every place of every form lies in it, in order."""
        for form in forms(text):
            if form.at is None:
                self.assertEqual(len(form.text), len(text))
                continue
            self.assertEqual(len(form.at), len(form.text))
            self.assertEqual(form.at, sorted(form.at))
            self.assertTrue(all(0 <= place < len(text) for place in form.at))
