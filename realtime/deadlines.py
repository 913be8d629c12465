"""Deadlines: many entries with one duration, one timer of the reactor for all of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

K = TypeVar("K", bound=Hashable)

#: Rounding of the clock; a deadline this near is taken as reached.
_TICK: Final = 1e-6

#: A timer this late (seconds) means that the whole process stood still.
STOOD_STILL: Final = 0.1


class Deadlines(Generic[K]):
    """Calls `expired` with each key that was not cancelled within `seconds`.

    Since all entries share one duration, the order of their deadlines is the order in which they
    were started: starting, cancelling and expiring cost the same however many there are.

    After the process stood still (stopped, or blocked), what the peers sent in the meantime is read
    before anything expires.

    :param seconds: how long an entry may take.
    :param expired: called with the key, whose entry is gone by then. An exception is logged and
        hinders no other entry.
    :ivar expired_at: the time (on the clock) at which the entry told of last was due.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, seconds: float, expired: Callable[[K], None]) -> None:
        self.seconds = seconds
        self.expired_at = 0.0
        self._clock = clock
        self._expired = expired
        self._due: OrderedDict[K, float] = OrderedDict()
        self._call: IDelayedCall | None = None
        self._excused = False
        self._expiring = False

    def __len__(self) -> int:
        return len(self._due)

    def age(self, key: K) -> float:
        """Seconds since the key's entry was started; 0 if it has none."""
        due = self._due.get(key)
        return 0.0 if due is None else self._clock.seconds() - (due - self.seconds)

    def first(self) -> K | None:
        """The key whose deadline is the nearest; None if there is none."""
        return next(iter(self._due), None)

    def __contains__(self, key: K) -> bool:
        return key in self._due

    def start(self, key: K, since: float | None = None) -> None:
        """Give the key `seconds` from now, or from `since` (on the clock); a running entry starts anew."""
        self._due[key] = (self._clock.seconds() if since is None else since) + self.seconds
        self._due.move_to_end(key)
        self._arm()

    def cancel(self, key: K) -> None:
        """The key needs no deadline any more; does nothing if it has none."""
        if self._due.pop(key, None) is not None and not self._due:
            self._disarm()

    def overdue(self, key: K) -> bool:
        """Whether the key's deadline has passed, although the reactor has not come to say so."""
        due = self._due.get(key)
        return due is not None and due <= self._clock.seconds() + _TICK

    def expire(self, key: K) -> None:
        """End the key's entry as if its time were up; does nothing if it has none."""
        due = self._due.pop(key, None)
        if due is not None:
            self._tell(key, due)
            if not self._due:
                self._disarm()

    def _arm(self) -> None:
        if self._call is None and not self._expiring and self._due:
            due = next(iter(self._due.values()))
            self._call = self._clock.callLater(max(0.0, due - self._clock.seconds()), self._wake)

    def _disarm(self) -> None:
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _wake(self) -> None:
        self._call = None
        now = self._clock.seconds()
        if self._due and now - next(iter(self._due.values())) > STOOD_STILL and not self._excused:
            self._excused = True
            self._call = self._clock.callLater(0, self._wake)
            return
        self._excused = False
        self._expiring = True
        try:
            while self._due:
                key, due = next(iter(self._due.items()))
                if due > now + _TICK:
                    break
                del self._due[key]
                self._tell(key, due)
        finally:
            self._expiring = False
            self._arm()

    def _tell(self, key: K, due: float) -> None:
        self.expired_at = due
        try:
            self._expired(key)
        except Exception:
            self._log.failure("a deadline's handler failed")
