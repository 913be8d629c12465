"""Tests for realtime.wire.wamp_history; tests/test_wamp.py asks for histories by it."""

from __future__ import annotations

from datetime import UTC, datetime

from twisted.trial.unittest import SynchronousTestCase

from realtime.errors import InvalidMessage
from realtime.wire.wamp_history import Page, choose, read


class ReadTests(SynchronousTestCase):
    def test_arguments(self) -> None:
        """By place and by name; a name wins over nothing, a place over a name."""
        for listed, named, page in [
            (b"[7]", b"{}", Page(subscription=7)),
            (b"[7,3]", b"{}", Page(subscription=7, limit=3)),
            (b"[]", b'{"subscription":7,"reverse":true}', Page(subscription=7, reverse=True)),
            (
                b"[7]",
                b'{"from_time":"2026-11-25T01:00:00Z"}',
                Page(subscription=7, from_time=datetime(2026, 11, 25, 1, tzinfo=UTC)),
            ),
        ]:
            self.assertEqual(read(listed, named), page)

    def test_wrong(self) -> None:
        for listed, named in [
            (b"[]", b"{}"),
            (b"{}", b"{}"),
            (b"[7]", b"[]"),
            (b"[-1]", b"{}"),
            (b"[1.5]", b"{}"),
            (b"[7,0]", b"{}"),
            (b"[7,1001]", b"{}"),
            (b"[7,1,2]", b"{}"),
            (b"[7]", b'{"x":1}'),
            (b"[7]", b'{"reverse":"yes"}'),
            (b"[7]", b'{"after_time":"2026-11-25T01:00:00"}'),
        ]:
            self.assertRaises(InvalidMessage, read, listed, named)


class ChooseTests(SynchronousTestCase):
    def test_nothing(self) -> None:
        self.assertEqual(choose([], Page(subscription=1, limit=5, reverse=True)), [])
