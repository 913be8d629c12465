"""Asking the Auth Service about tokens: once each for a while, and not while it is away."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from realtime import introspection as module
from realtime.errors import AuthUnavailable, TokenRevoked
from realtime.fetching import FetchFailed
from realtime.introspection import PAUSE, Introspection


class IntrospectionTests(SynchronousTestCase):
    """`Introspection`."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.asked: list[tuple[str, Deferred[bytes]]] = []
        self.service = self.make(trusting=False)

    def make(self, trusting: bool) -> Introspection:
        return Introspection(self.clock, self.ask, keep=30.0, trusting=trusting)

    def ask(self, token: str) -> Deferred[bytes]:
        self.asked.append((token, Deferred()))
        return self.asked[-1][1]

    def check(self, token: str = "t") -> list[Any]:
        found: list[Any] = []
        Deferred.fromCoroutine(self.service.check(token)).addBoth(found.append)
        return found

    def test_active(self) -> None:
        """An answer is good for a while, and then asked for again."""
        first, second = self.check(), self.check()
        self.assertEqual([token for token, _ in self.asked], ["t"])
        self.asked[0][1].callback(b'{"active":true,"scope":"x"}')
        self.assertEqual((first, second), ([None], [None]))
        self.clock.advance(29.9)
        self.assertEqual(self.check(), [None])
        self.clock.advance(0.1)
        self.assertEqual(self.check(), [])
        self.assertEqual(len(self.asked), 2)

    def test_inactive(self) -> None:
        found = self.check()
        self.asked[0][1].callback(b'{"active":false}')
        found[0].trap(TokenRevoked)
        self.check()[0].trap(TokenRevoked)
        self.assertEqual(len(self.asked), 1)

    def test_down(self) -> None:
        """While it does not answer tokens are refused for now, and it is left alone for a pause."""
        for answer in (FetchFailed("status 500"), b"no JSON", b'{"active":1}', b"[" * 100_000):
            before = len(self.asked)
            found = self.check()
            asked = self.asked[before][1]
            asked.callback(answer) if isinstance(answer, bytes) else asked.errback(answer)
            self.assertEqual(found[0].trap(AuthUnavailable), AuthUnavailable)
            self.check("other")[0].trap(AuthUnavailable)
            self.assertEqual(len(self.asked), before + 1)
            self.clock.advance(PAUSE)

    def test_down_and_trusting(self) -> None:
        """Where that is said, tokens are taken by their signature while it does not answer."""
        self.service = self.make(trusting=True)
        found = self.check()
        self.asked[0][1].errback(FetchFailed("no connection"))
        self.assertEqual((found, self.check("other")), ([None], [None]))

    def test_bounds(self) -> None:
        """So many questions wait at once, and so many answers are kept."""
        self.patch(module, "MAX_ASKED", 2)
        self.patch(module, "MAX_ANSWERS", 2)
        for token in "ab":
            self.assertEqual(self.check(token), [])
        self.check("c")[0].trap(AuthUnavailable)
        for _, asked in self.asked:
            asked.callback(b'{"active":true}')
        self.check("c")
        self.asked[2][1].callback(b'{"active":true}')
        self.assertEqual(self.check("a"), [])
        self.assertEqual(self.check("c"), [None])
