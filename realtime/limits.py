"""Rate limits: how often a connection and a user may send, computed from `now` alone."""

from __future__ import annotations

from .connections import Connection
from .errors import RateLimited


class RateLimit:
    """A bucket of `messages` for each: they may be spent at once, and come back evenly over `window`.

    That is GCRA, the leaky bucket as a meter: one number is the whole state of a bucket, its
    theoretical arrival time (TAT), at which it would be full of allowance again.

    :param window: seconds.
    """

    def __init__(self, messages: int, window: float) -> None:
        self._interval = window / messages
        self._window = window
        self._users: dict[str, float] = {}

    def take(self, connection: Connection, now: float) -> None:
        """Count one message of a connection, and of its user.

        :raises RateLimited: with the seconds until there is room for one; nothing is counted.
        """
        own = max(connection.tat, now) + self._interval
        user = connection.user
        shared = max(self._users.get(user, 0.0), now) + self._interval if user else now
        excess = max(own, shared) - now - self._window
        # What sums of floats are off by must not refuse the last message that fits.
        if excess > 1e-6:
            raise RateLimited(retry_after=excess)
        connection.tat = own
        if user:
            self._users[user] = shared

    def sweep(self, now: float) -> None:
        """Forget the users whose buckets are empty."""
        self._users = {user: tat for user, tat in self._users.items() if tat > now}

    def __len__(self) -> int:
        return len(self._users)
