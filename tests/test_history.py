"""History as JSON: each message as it was delivered, bounded in bytes."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from realtime.history import binary, fit, messages
from realtime.messages import Audience, Publication


def entry(size: int, **more: bool) -> Publication:
    return Publication("room:message", b'"%s"' % (b"x" * (size - 2)), Audience(), "i", 5, **more)


class HistoryTests(SynchronousTestCase):
    """`messages`, `binary`, `fit`."""

    def test_messages(self) -> None:
        """An array of the payloads; an empty one is an array too."""
        self.assertEqual(json.loads(bytes(messages([]))), [])
        self.assertEqual(json.loads(bytes(messages([entry(3), entry(4)]))), ["x", "xx"])

    def test_binary(self) -> None:
        """One binary message makes the answer binary."""
        self.assertFalse(binary([entry(3)]))
        self.assertTrue(binary([entry(3), entry(3, binary=True)]))

    def test_fit(self) -> None:
        """As many as fit, from the one end or the other, but one at least."""
        entries = [entry(10) for _ in range(5)]
        self.assertEqual(fit(entries, 50, newest=True), entries)
        self.assertEqual(fit(entries, 49, newest=True), entries[1:])
        self.assertEqual(fit(entries, 20, newest=False), entries[:2])
        self.assertEqual(fit(entries, 1, newest=True), entries[-1:])
        self.assertEqual(fit(entries, 1, newest=False), entries[:1])
        self.assertEqual(fit([], 1, newest=True), [])
