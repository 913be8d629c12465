"""Values: the text of a sequence, the channel of an audience, the payload of a publication."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from realtime.messages import EVERYONE, Audience, Position, Publication, Sequence


class SequenceTests(SynchronousTestCase):
    """`Sequence`."""

    @given(st.from_regex(r"[0-9a-f]{1,32}", fullmatch=True), st.integers(0, 10**6), st.integers(0, 2**53))
    def test_round_trip(self, epoch: str, generation: int, number: int) -> None:
        """What it says of itself it reads back."""
        sequence = Sequence(epoch, generation, number)
        self.assertEqual(Sequence.parse(str(sequence)), sequence)

    @given(st.text(max_size=120))
    def test_rubbish(self, text: str) -> None:
        """Any other text is None, never an error."""
        parsed = Sequence.parse(text)
        if parsed is not None:
            self.assertLessEqual(len(text), 96)

    def test_refused(self) -> None:
        """Signs, spaces, other digits and missing parts are not read."""
        for text in ("", "a.1", "a:1", "a.1:", "a.:1", ".1:1", "a.-1:1", "a.1:+1", "a.1: 1", "a.1:٣"):
            self.assertIsNone(Sequence.parse(text), text)


class AudienceTests(SynchronousTestCase):
    """`Audience`."""

    def test_channel(self) -> None:
        """One target has its own channel; everyone and unions share one."""
        self.assertEqual(Audience(users=frozenset(("alice",))).channel, "user:alice")
        self.assertEqual(Audience(rooms=frozenset(("event:1",))).channel, "event:1")
        for audience in (
            Audience(everyone=True),
            Audience(everyone=True, users=frozenset("a")),
            Audience(users=frozenset("ab")),
            Audience(users=frozenset("a"), rooms=frozenset("b")),
            Audience(),
        ):
            self.assertEqual(audience.channel, EVERYONE)


class PayloadTests(SynchronousTestCase):
    """`Publication.payload`."""

    def payload(self, data: bytes, *splice: str, position: Position | None = None) -> object:
        publication = Publication("e", data, Audience(), "i", 5, splice=splice, position=position)
        return json.loads(publication.payload())

    def test_splice(self) -> None:
        """The named fields are added, and only those; the offset where there is one."""
        self.assertEqual(self.payload(b'{"a":1}'), {"a": 1})
        place = Position(7, "x")
        self.assertEqual(
            self.payload(b'{"a":1}', "id", "timestamp", "offset", position=place),
            {"a": 1, "id": "i", "timestamp": 5, "offset": 7},
        )
        self.assertEqual(self.payload(b"{}", "id", "offset"), {"id": "i"})
        self.assertEqual(self.payload(b'{"a":1}', "offset"), {"a": 1})
        self.assertEqual(self.payload(b"{}", "offset"), {})
