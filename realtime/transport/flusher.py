"""Flusher: what a turn of the reactor had for each socket leaves in one write at the turn's end."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from ..connections import IFlushed, IFlusher
from ..native.interface import ISendLoop
from ..native.pure import send_to_all
from .batch import Batch

_log = Logger()


@implementer(IFlusher)
class Flusher:
    """Ends each turn by flushing who has something to say.

    :param interval: seconds from one flush to the next at least: what comes alone leaves with its turn,
        what comes in quick succession leaves together.
    :param send: sends what many get alike.
    :param flushed: called with how many sockets were written to in a turn.
    """

    def __init__(
        self,
        clock: IReactorTime,
        interval: float = 0.0,
        *,
        send: ISendLoop = send_to_all,
        flushed: Callable[[int], object] = lambda sockets: None,
    ) -> None:
        self._clock = clock
        self._interval = interval
        self._next = 0.0
        self._send = send
        self._flushed = flushed
        self._dirty: list[IFlushed] = []

    def add(self, flushed: IFlushed) -> None:
        if not self._dirty:
            wait = max(0.0, self._next - self._clock.seconds()) if self._interval else 0
            self._clock.callLater(wait, self._flush)
        self._dirty.append(flushed)

    def batch(self) -> Batch:
        """See `IFlusher`."""
        batch = Batch(self._send)
        self.add(batch)
        return batch

    def _flush(self) -> None:
        if self._interval:
            self._next = self._clock.seconds() + self._interval
        dirty, self._dirty = self._dirty, []
        sockets = 0
        for flushed in dirty:
            try:
                sockets += flushed.flush()
            except Exception:
                # One broken transport must not cost the others their turn.
                _log.failure("a transport failed")
        self._flushed(sockets)
