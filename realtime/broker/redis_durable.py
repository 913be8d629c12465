"""`DurableConnection`: replies are given once replicas have what the commands wrote.

Group commit: the commands of one reactor turn are followed by one WAIT. While that is on its way those
of later turns gather for the next.
"""

from __future__ import annotations

from typing import Any, Final

from twisted.internet.interfaces import IDelayedCall

from ..errors import BrokerUnavailable
from .redis_protocol import RETRY_AFTER, Pending, RedisConnection

#: How long WAIT waits, as a part of the time-out: two of them, one after the other, end before it.
_PATIENCE: Final = 0.3


class _Wait(Pending):
    """A WAIT."""


class DurableConnection(RedisConnection):
    """A connection for commands whose effects must outlive the primary.

    A command whose effects too few replicas have in time fails with `BrokerUnavailable`, although the
    primary has run it.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._replicas = 0
        # replies that have come and are not given yet
        self._held: list[tuple[Pending, Any]] = []
        self._due: IDelayedCall | None = None
        self._waiting = False
        self._unwaited = False

    def hold(self, replicas: int) -> None:
        """From now on give no reply before so many replicas have what was written."""
        self._replicas = replicas

    def send(self, pending: Pending) -> None:
        super().send(pending)
        if self._replicas and not self.lost:
            self._unwaited = True
            if self._due is None and not self._waiting:
                self._due = self._clock.callLater(0, self._wait)

    def _wait(self) -> None:
        self._due = None
        self._waiting, self._unwaited = True, False
        wait = _Wait()
        wait.args = ("WAIT", self._replicas, int(self.timeout * _PATIENCE * 1000))
        wait.addCallbacks(self._waited, self._waited)
        super().send(wait)

    def _waited(self, replicas: Any) -> None:
        # Redis answers in order: what is held was run before this WAIT.
        held, self._held = self._held, []
        self._waiting = False
        good = isinstance(replicas, int) and replicas >= self._replicas
        if self._unwaited and not self.lost:
            self._wait()
        for pending, reply in held:
            if good:
                pending.callback(reply)
            else:
                pending.errback(BrokerUnavailable(retry_after=RETRY_AFTER))

    def _settle(self, pending: Pending, reply: Any) -> None:
        if self._replicas and not isinstance(reply, Exception) and not isinstance(pending, _Wait):
            self._held.append((pending, reply))
        else:
            super()._settle(pending, reply)

    def _end(self, why: str) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None
        super()._end(why)
        held, self._held = self._held, []
        for pending, _ in held:
            pending.errback(BrokerUnavailable(retry_after=RETRY_AFTER))
