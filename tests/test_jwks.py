"""The keys of the login service: fetched rarely, kept while they can't be fetched."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from realtime.errors import AuthUnavailable
from realtime.fetching import FetchFailed
from realtime.jwks import PAUSE, Jwks
from realtime.keys import KeyRing, UnknownKey

from .test_keys import PRIVATE, jwk_set, public_jwk, sign

FIRST = jwk_set(public_jwk(PRIVATE["p256"][0], "first"))
SECOND = jwk_set(public_jwk(PRIVATE["p384"][0], "second"))


class JwksTests(SynchronousTestCase):
    """`Jwks`."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.ring = KeyRing()
        self.asked: list[Deferred[bytes]] = []
        self.jwks = Jwks(self.clock, self.ring, self.fetch, every=600.0)
        self.addCleanup(self.jwks.stop)

    def fetch(self) -> Deferred[bytes]:
        self.asked.append(Deferred())
        return self.asked[-1]

    def seek(self) -> list[Any]:
        found: list[Any] = []
        Deferred.fromCoroutine(self.jwks.seek()).addBoth(found.append)
        return found

    def knows(self, name: str, kind: str, algorithm: str) -> bool:
        try:
            self.ring.candidates(sign(PRIVATE[kind][0], algorithm, name), 0.0)
        except UnknownKey:
            return False
        return True

    def test_fetched_at_the_start_and_anew(self) -> None:
        """New keys take the place of the old ones, at the latest after `every`."""
        self.jwks.start()
        self.asked[0].callback(FIRST)
        self.assertTrue(self.knows("first", "p256", "ES256"))
        self.clock.pump([5.0] * 119)
        self.assertEqual(len(self.asked), 1)
        self.clock.advance(5.0)
        self.asked[1].callback(SECOND)
        self.assertTrue(self.knows("second", "p384", "ES384"))
        self.assertFalse(self.knows("first", "p256", "ES256"))
        self.assertEqual(self.jwks.age, 0.0)

    def test_refetched(self) -> None:
        """They are fetched at once where that is wanted, unless a fetch is under way."""
        self.jwks.start()
        self.jwks.refetch()
        self.asked[0].callback(FIRST)
        self.jwks.refetch()
        self.assertEqual(len(self.asked), 2)
        self.asked[1].callback(SECOND)
        self.assertTrue(self.knows("second", "p384", "ES384"))

    def test_failures_keep_the_keys(self) -> None:
        """A fetch that fails, or brings rubbish, changes nothing, and is tried again after a pause."""
        self.jwks.start()
        self.asked[0].callback(FIRST)
        self.clock.pump([5.0] * 120)
        self.asked[1].errback(FetchFailed("status 500"))
        self.clock.pump([5.0] * 5)
        self.assertEqual(len(self.asked), 2)
        self.clock.advance(5.0)
        self.asked[2].callback(b"<html>")
        self.clock.pump([5.0] * 6)
        self.assertEqual(len(self.asked), 4)
        self.assertTrue(self.knows("first", "p256", "ES256"))

    def test_unknown_key(self) -> None:
        """Tokens with unknown keys wait for one fetch; none follows within the pause."""
        self.jwks.start()
        self.asked[0].callback(FIRST)
        self.clock.advance(PAUSE)
        waiting = [self.seek() for _ in range(100)]
        self.assertEqual(len(self.asked), 2)
        self.assertEqual(waiting, [[]] * 100)
        self.asked[1].callback(SECOND)
        self.assertEqual(waiting, [[None]] * 100)
        for _ in range(1000):
            self.assertEqual(self.seek(), [None])
        self.assertEqual(len(self.asked), 2)

    def test_never_fetched(self) -> None:
        """Before any keys are here, tokens are refused for now, not for ever."""
        self.jwks.start()
        waiting = self.seek()
        self.asked[0].errback(FetchFailed("no connection"))
        for found in (waiting[0], self.seek()[0]):
            error = found.trap(AuthUnavailable) and found.value
            self.assertEqual(error.retry_after, PAUSE)
        self.assertEqual(len(self.asked), 1)

    def test_fault_of_ours(self) -> None:
        """Whoever waits is not left waiting by an error of ours, which is logged."""
        self.jwks.start()
        waiting = self.seek()
        self.asked[0].errback(KeyError("bug"))
        self.assertEqual(len(waiting), 1)
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)
