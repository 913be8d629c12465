"""Signals: what one node writes the others read, and what they can't read they pass over."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from realtime.broker.interface import Preferences
from realtime.signals import Crowded, Ended, Preferred, Removed, decode, encode

SIGNALS = (
    Ended("alice", ("c1", "c2"), "kicked"),
    Ended("alice", (), "logout"),
    Preferred("Zoë", Preferences(frozenset(("ticket:sold",)), frozenset(("event:7", "lobby")))),
    Preferred("bob", Preferences()),
    Crowded("carol"),
    Ended("alice", ("c1",), "kicked", "you were asked to go"),
    Removed("alice", "lobby", ("c1",), "spam", "event:7"),
)


class SignalTests(SynchronousTestCase):
    """`encode` and `decode`."""

    def test_round(self) -> None:
        """Each comes out as it went in, under a name of its own."""
        for signal in SIGNALS:
            name, data = encode(signal)
            self.assertEqual(decode(name, data), signal)
        self.assertEqual(
            {encode(signal)[0] for signal in SIGNALS}, {"ended", "preferred", "crowded", "removed"}
        )

    def test_on_the_wire(self) -> None:
        """Nodes of another version read the same bytes."""
        self.assertEqual(
            encode(SIGNALS[0]), ("ended", b'{"user":"alice","connections":["c1","c2"],"reason":"kicked"}')
        )
        self.assertEqual(encode(SIGNALS[4]), ("crowded", b'{"user":"carol"}'))
        self.assertEqual(
            encode(SIGNALS[3]),
            ("preferred", b'{"user":"bob","preferences":{"muted_events":[],"muted_rooms":[]}}'),
        )

    def test_of_a_later_version(self) -> None:
        """Fields that are new are passed over; names that are new are nothing."""
        self.assertEqual(decode("crowded", b'{"user":"carol","since":5}'), SIGNALS[4])
        self.assertIsNone(decode("reloaded", b"{}"))

    def test_unreadable(self) -> None:
        """What lacks a field, has another type or is no JSON is nothing."""
        for name, data in (
            ("ended", b'{"user":"alice","connections":["c1"]}'),
            ("ended", b'{"user":"alice","connections":"c1","reason":"kicked"}'),
            ("crowded", b'{"user":7}'),
            ("crowded", b"[]"),
            ("crowded", b""),
            ("crowded", b"\xff{"),
            ("", b""),
        ):
            self.assertIsNone(decode(name, data), (name, data))

    @given(st.sampled_from(["ended", "preferred", "crowded", "x"]), st.binary(max_size=80))
    def test_any_bytes(self, name: str, data: bytes) -> None:
        """Nothing that comes raises."""
        decode(name, data)
