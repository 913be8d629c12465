"""Limits: how often a connection, a user and an address may send, computed from `now` alone.

Each bucket is GCRA, the leaky bucket as a meter: one number is the whole state of it, its theoretical
arrival time (TAT), at which it would be full of allowance again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal, Protocol

from .addresses import block_of
from .connections import Connection
from .errors import RateLimited

#: Buckets of one kind, at most; then those that are empty are forgotten, and if none is, all are.
MAX_BUCKETS: Final = 200_000

#: What sums of floats are off by must not refuse the last message that fits.
_ROUNDING: Final = 1e-6

#: Whose bucket was empty.
Scope = Literal["connection", "user", "address", "event"]


class Buckets:
    """A bucket for each key: `messages` may be spent at once, and come back evenly over `window`.

    :param window: seconds.
    """

    def __init__(self, messages: int, window: float) -> None:
        self.interval = window / messages
        self.window = window
        self.tats: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self.tats)

    def after(self, key: str, now: float) -> float:
        """The bucket's TAT after one more; too much, if that is over `now` by more than `window`."""
        return max(self.tats.get(key, 0.0), now) + self.interval

    def set(self, key: str, tat: float, now: float) -> None:
        """Let the bucket's TAT be this."""
        if len(self.tats) >= MAX_BUCKETS and key not in self.tats:
            self.sweep(now)
            if len(self.tats) >= MAX_BUCKETS:
                self.tats.clear()
        self.tats[key] = tat

    def take(self, key: str, now: float) -> float:
        """Spend one; the seconds until there is room for it, 0 if it was spent."""
        tat = self.after(key, now)
        excess = tat - now - self.window
        if excess > _ROUNDING:
            return excess
        self.set(key, tat, now)
        return 0.0

    def sweep(self, now: float) -> None:
        """Forget the buckets that are full of allowance."""
        self.tats = {key: tat for key, tat in self.tats.items() if tat > now}


class ICounts(Protocol):
    """Where refusals are counted."""

    def rate_limited(self, scope: str) -> None:
        """A bucket was empty; `scope` is a `Scope`."""


class NoCounts:
    """Counts nothing."""

    def rate_limited(self, scope: str) -> None:
        """Not counted."""


class RateLimit:
    """What one connection, one user on all connections, and one address may send.

    :param messages: of a connection and of a user, over `window`.
    :param window: seconds.
    :param address_messages: of an address, over `window`; 0 for any number.
    :param dry_run: whether what is too much is only counted.
    :ivar counts: where refusals are counted.
    :ivar spent: what users have spent since `settle` was last called, in seconds; None where nobody
        asks.
    """

    def __init__(
        self,
        messages: int,
        window: float,
        *,
        address_messages: int = 0,
        dry_run: bool = False,
    ) -> None:
        self._interval = window / messages
        self._window = window
        self._users = Buckets(messages, window)
        self._addresses = Buckets(address_messages, window) if address_messages else None
        self._events: dict[str, Buckets] = {}
        self._dry_run = dry_run
        self.counts: ICounts = NoCounts()
        self.spent: dict[str, float] | None = None

    def limit_events(self, limits: Mapping[str, tuple[int, float]]) -> None:
        """Limit single events of a user: so many over so many seconds. In place of those before."""
        self._events = {
            event: self._kept(event, messages, window) for event, (messages, window) in limits.items()
        }

    def _kept(self, event: str, messages: int, window: float) -> Buckets:
        """What was spent stays spent where a limit has not changed."""
        buckets = self._events.get(event)
        made = Buckets(messages, window)
        same = buckets is not None and (buckets.interval, buckets.window) == (made.interval, window)
        return buckets if buckets is not None and same else made

    def take(self, connection: Connection, now: float, event: str = "") -> None:
        """Count one message of a connection, of its user, and of its address.

        :raises RateLimited: with the seconds until there is room for one; nothing is counted.
        """
        user = connection.user
        own = max(connection.tat, now) + self._interval
        shared = self._users.after(user, now) if user else now
        excess = max(own, shared) - now - self._window
        scope: Scope = "connection" if own >= shared else "user"
        addresses, events = self._addresses, self._events.get(event)
        if addresses is not None:
            address = block_of(connection.handshake.address)
            per_address = addresses.after(address, now)
            if per_address - now - addresses.window > excess:
                excess, scope = per_address - now - addresses.window, "address"
        if events is not None:
            per_event = events.after(user, now)
            if per_event - now - events.window > excess:
                excess, scope = per_event - now - events.window, "event"
        if excess > _ROUNDING:
            self.counts.rate_limited(scope)
            if not self._dry_run:
                raise RateLimited(retry_after=excess)
            return
        connection.tat = own
        if user:
            self._users.set(user, shared, now)
            if self.spent is not None:
                self.spent[user] = self.spent.get(user, 0.0) + self._interval
        if addresses is not None:
            addresses.set(address, per_address, now)
        if events is not None:
            events.set(user, per_event, now)

    def settle(self, debts: Mapping[str, float], now: float) -> None:
        """Learn what users have spent on all nodes: seconds of their window, by user.

        What they have spent here since the question was asked is in `spent`, and comes on top.
        """
        spent = self.spent or {}
        for user, debt in debts.items():
            self._users.set(user, now + debt + spent.get(user, 0.0), now)

    def active(self, now: float) -> Iterable[str]:
        """The users who have spent something that has not come back yet."""
        return [user for user, tat in self._users.tats.items() if tat > now]

    @property
    def window(self) -> float:
        """Seconds over which messages are counted."""
        return self._window

    def sweep(self, now: float) -> None:
        """Forget the buckets that are full of allowance."""
        for buckets in (self._users, self._addresses, *self._events.values()):
            if buckets is not None:
                buckets.sweep(now)

    def __len__(self) -> int:
        return len(self._users)
