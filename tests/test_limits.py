"""Rate limits count over any window, per connection and per user."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from realtime import limits
from realtime.connections import Connection
from realtime.errors import RateLimited
from realtime.limits import Buckets, RateLimit
from realtime.messages import Handshake, Identity
from realtime.wire.socketio import SocketIOSession

from .generated import unhurried
from .outlets import MemoryOutlet


def connection(user: str = "", address: str = "::1") -> Connection:
    made = Connection(SocketIOSession(1000), MemoryOutlet(), Handshake(address), 0.0)
    if user:
        made.identity = Identity(user, frozenset(), (), 0.0)
    return made


class RateLimitTests(SynchronousTestCase):
    """`RateLimit`."""

    def taken(self, limit: RateLimit, connection: Connection, now: float, tries: int) -> int:
        count = 0
        for _ in range(tries):
            try:
                limit.take(connection, now)
            except RateLimited:
                continue
            count += 1
        return count

    def test_burst_then_even(self) -> None:
        """All messages of a window may come at once; then one for each part of it that passes."""
        limit, client = RateLimit(10, 60.0), connection("alice")
        self.assertEqual(self.taken(limit, client, 1000.0, 20), 10)
        self.assertEqual(self.taken(limit, client, 1005.9, 5), 0)
        self.assertEqual(self.taken(limit, client, 1006.0, 5), 1)
        self.assertEqual(self.taken(limit, client, 2000.0, 20), 10)

    def test_retry_after(self) -> None:
        """A refusal says how long to wait, and that is enough."""
        limit, client = RateLimit(3, 60.0), connection("alice")
        self.taken(limit, client, 0.0, 3)
        error = self.assertRaises(RateLimited, limit.take, client, 5.0)
        self.assertAlmostEqual(error.retry_after, 15.0)
        limit.take(client, 20.0)

    def test_shared_by_a_user(self) -> None:
        """The connections of a user share one limit; those of others do not."""
        limit = RateLimit(10, 60.0)
        tabs = [connection("alice") for _ in range(3)]
        self.assertEqual(sum(self.taken(limit, tab, 0.0, 9) for tab in tabs), 10)
        self.assertEqual(self.taken(limit, connection("bob"), 0.0, 20), 10)

    def test_reconnecting_does_not_help(self) -> None:
        """A new connection of the same user starts where the last one was."""
        limit = RateLimit(10, 60.0)
        self.taken(limit, connection("alice"), 0.0, 10)
        self.assertEqual(self.taken(limit, connection("alice"), 0.0, 1), 0)

    def test_without_user(self) -> None:
        """A connection without a user has its own limit."""
        limit = RateLimit(10, 60.0)
        first, second = connection(), connection()
        self.assertEqual(self.taken(limit, first, 0.0, 20), 10)
        self.assertEqual(self.taken(limit, second, 0.0, 20), 10)

    def test_sweep(self) -> None:
        """Users whose buckets are empty are forgotten, and nothing is forgiven by it."""
        limit = RateLimit(10, 60.0)
        self.taken(limit, connection("alice"), 0.0, 10)
        limit.sweep(59.0)
        self.assertEqual(len(limit), 1)
        limit.sweep(60.0)
        self.assertEqual(len(limit), 0)

    @unhurried
    @given(
        st.integers(1, 20),
        st.lists(st.floats(0, 30, allow_nan=False), max_size=80),
    )
    def test_never_more_than_the_limit(self, messages: int, pauses: list[float]) -> None:
        """In no window are more than twice the messages let through, and the first ones always are."""
        limit, client = RateLimit(messages, 60.0), connection("alice")
        now, taken = 0.0, []
        for pause in pauses:
            now += pause
            if self.taken(limit, client, now, 1):
                taken.append(now)
        for start in taken:
            within = sum(start <= time < start + 60.0 for time in taken)
            self.assertLessEqual(within, 2 * messages)
        self.assertGreaterEqual(len(taken), min(messages, len(pauses)))


class MoreLimitsTests(SynchronousTestCase):
    """Limits of addresses and of events, and limits that only count."""

    def setUp(self) -> None:
        self.scopes: list[str] = []

    def rate_limited(self, scope: str) -> None:
        self.scopes.append(scope)

    def limit(self, **options: Any) -> RateLimit:
        made = RateLimit(10, 60.0, **options)
        made.counts = self
        return made

    def refused(self, limit: RateLimit, client: Connection, now: float = 0.0, event: str = "") -> float:
        error = self.assertRaises(RateLimited, limit.take, client, now, event)
        assert error.retry_after is not None
        return error.retry_after

    def test_address(self) -> None:
        """All who come from one address share a limit, who comes from another does not."""
        limit = self.limit(address_messages=15)
        for user in ("a", "b", "c"):
            for _ in range(5):
                limit.take(connection(user), 0.0)
        self.assertAlmostEqual(self.refused(limit, connection("d")), 4.0)
        limit.take(connection("d", "192.0.2.7"), 0.0)
        limit.take(connection("d", "2001:db8::1"), 0.0)
        self.assertEqual(self.scopes, ["address"])

    def test_event(self) -> None:
        """An event may have a limit of its own, of a user on all connections."""
        limit = self.limit()
        limit.limit_events({"room:join": (2, 10.0)})
        for _ in range(2):
            limit.take(connection("a"), 0.0, "room:join")
        self.assertAlmostEqual(self.refused(limit, connection("a"), event="room:join"), 5.0)
        limit.take(connection("a"), 0.0, "room:message")
        limit.take(connection("b"), 0.0, "room:join")
        # The same limits again forgive nothing; others begin anew.
        limit.limit_events({"room:join": (2, 10.0)})
        self.refused(limit, connection("a"), event="room:join")
        limit.limit_events({"room:join": (3, 10.0)})
        limit.take(connection("a"), 0.0, "room:join")
        self.assertEqual(self.scopes, ["event", "event"])

    def test_scopes(self) -> None:
        limit = self.limit()
        nobody, tabs = connection(), [connection("a"), connection("a")]
        for _ in range(10):
            limit.take(nobody, 0.0)
            limit.take(tabs[0], 0.0)
        self.refused(limit, nobody)
        self.refused(limit, tabs[1])
        self.assertEqual(self.scopes, ["connection", "user"])

    def test_dry_run(self) -> None:
        """What would be refused is counted, and let through."""
        limit = self.limit(dry_run=True)
        client = connection("a")
        for _ in range(25):
            limit.take(client, 0.0)
        self.assertEqual(self.scopes, ["connection"] * 15)

    def test_buckets_are_bounded(self) -> None:
        self.patch(limits, "MAX_BUCKETS", 3)
        buckets = Buckets(1, 10.0)
        for key in "abc":
            self.assertEqual(buckets.take(key, 0.0), 0.0)
        self.assertEqual(buckets.take("a", 5.0), 5.0)
        buckets.take("d", 10.0)
        self.assertEqual(len(buckets), 1)
