"""Flusher: what a turn of the reactor had for each client leaves in one write at the turn's end.

A write of Twisted's transport waits for epoll to say that the socket is writable: two system calls
and the reactor's call chain for each receiver of each message. A socket whose transport holds
nothing is written to directly instead; only what it does not take is left to the transport.
"""

from __future__ import annotations

from typing import Any, Final

from twisted.internet.interfaces import IReactorTime
from twisted.internet.tcp import Connection
from twisted.logger import Logger
from zope.interface import implementer

from ..connections import IFlushed, IFlusher

#: Bytes of one turn past which a socket is written to before the turn ends.
EARLY: Final = 65536

_log = Logger()


@implementer(IFlusher)
class Flusher:
    """Ends each turn by flushing who has something to say.

    :param interval: seconds from one flush to the next at least: what comes alone leaves with its turn,
        what comes in quick succession leaves together.
    """

    def __init__(self, clock: IReactorTime, interval: float = 0.0) -> None:
        self._clock = clock
        self._interval = interval
        self._next = 0.0
        self._dirty: list[IFlushed] = []

    def add(self, flushed: IFlushed) -> None:
        if not self._dirty:
            wait = max(0.0, self._next - self._clock.seconds()) if self._interval else 0
            self._clock.callLater(wait, self._flush)
        self._dirty.append(flushed)

    def _flush(self) -> None:
        if self._interval:
            self._next = self._clock.seconds() + self._interval
        dirty, self._dirty = self._dirty, []
        for flushed in dirty:
            try:
                flushed.flush()
            except Exception:
                # One broken transport must not cost the others their turn.
                _log.failure("a transport failed")


def idle(transport: Any) -> bool:
    """Whether the transport is a TCP connection without TLS that holds nothing unsent."""
    return (
        isinstance(transport, Connection)
        and not transport.dataBuffer
        and not transport._tempDataBuffer
        and bool(transport.connected)
        and not (transport.disconnecting or transport.TLS)
    )


def write(transport: Any, data: bytes) -> None:
    """Write to the socket itself as far as it takes it now, and leave the rest to the transport."""
    if idle(transport):
        sent = transport.writeSomeData(data)
        if isinstance(sent, int):
            if sent == len(data):
                return
            data = data[sent:]
    # The transport meets an error itself, and then tells its protocol.
    transport.write(data)
