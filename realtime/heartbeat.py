"""Heartbeat: when to ping which peer, and which peer is gone; for every protocol."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

from twisted.internet.interfaces import IReactorTime

from .deadlines import STOOD_STILL, Deadlines

K = TypeVar("K", bound=Hashable)

#: Seconds for a pong after which a peer may be gone: the slowest line answers sooner.
PATIENCE: Final = 5.0


class Heartbeat(Generic[K]):
    """Pings each peer `interval` after it was last known to live; it is dead `timeout` after the ping.

    The times are counted from when each was due, not from when the reactor came to it, so that a
    peer that polls exactly `interval` + `timeout` after its handshake finds its session gone.

    :param interval: seconds between a pong (or the start) and the next ping.
    :param timeout: seconds that a peer has for its pong.
    :param ping: sends a ping to the peer.
    :param dead: the peer sent no pong in time; its heartbeat has ended.
    """

    def __init__(
        self,
        clock: IReactorTime,
        interval: float,
        timeout: float,
        ping: Callable[[K], None],
        dead: Callable[[K], None],
    ) -> None:
        self._clock = clock
        self._patience = min(PATIENCE, timeout / 2)
        self._ping = ping
        self._dead = dead
        self._resting: Deadlines[K] = Deadlines(clock, interval, self._rested)
        self._waiting: Deadlines[K] = Deadlines(clock, timeout, self._missed)
        self._heard: set[K] = set()

    def __len__(self) -> int:
        return len(self._resting) + len(self._waiting)

    def start(self, key: K) -> None:
        """Begin with a peer that has just been heard."""
        self._resting.start(key)

    def stop(self, key: K) -> None:
        """The peer needs no heartbeat any more."""
        self._resting.cancel(key)
        self._waiting.cancel(key)
        self._heard.discard(key)

    def owes_pong(self, key: K) -> bool:
        """Whether the peer was pinged and has not answered."""
        return key in self._waiting

    def silent(self, key: K) -> bool:
        """Whether the peer owes a pong for longer than one that lives takes for it."""
        return key in self._waiting and self._waiting.age(key) >= self._patience

    def debtor(self) -> K | None:
        """The peer that has been `silent` the longest; None if none is."""
        first = self._waiting.first()
        return first if first is not None and self.silent(first) else None

    def pong(self, key: K) -> None:
        """The peer answered. A pong that was not asked for changes nothing."""
        if key in self._waiting:
            self._waiting.cancel(key)
            self._heard.discard(key)
            self._resting.start(key)

    def heard(self, key: K) -> None:
        """The peer sent something else: once after each ping, that gives it `timeout` anew.

        A long upload may stand before its pong; a peer that sends and never answers is still found.
        """
        if key in self._waiting and key not in self._heard:
            self._heard.add(key)
            self._waiting.start(key)

    def check(self, key: K) -> None:
        """Let what is due for this peer happen now, before the reactor comes to it."""
        if self._resting.overdue(key):
            self._resting.expire(key)
        if self._waiting.overdue(key):
            self._waiting.expire(key)

    def _rested(self, key: K) -> None:
        self._waiting.start(key, self._since(self._resting.expired_at))
        self._ping(key)

    def _missed(self, key: K) -> None:
        self._heard.discard(key)
        self._dead(key)

    def _since(self, due: float) -> float:
        now = self._clock.seconds()
        return due if now - due < STOOD_STILL else now
