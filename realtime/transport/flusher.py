"""Flusher: what a turn of the reactor had for each socket leaves in one write at the turn's end.

A write of Twisted's transport waits for epoll to say that the socket is writable: two system calls
and the reactor's call chain for each receiver of each message. A socket whose transport holds
nothing is written to directly instead; only what it does not take is left to the transport.
"""

from __future__ import annotations

from collections.abc import Callable
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

    :param flushed: called with how many were flushed in a turn.
    """

    def __init__(
        self, clock: IReactorTime, flushed: Callable[[int], object] = lambda sockets: None
    ) -> None:
        self._clock = clock
        self._flushed = flushed
        self._dirty: list[IFlushed] = []

    def add(self, flushed: IFlushed) -> None:
        if not self._dirty:
            self._clock.callLater(0, self._flush)
        self._dirty.append(flushed)

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, []
        for flushed in dirty:
            try:
                flushed.flush()
            except Exception:
                # One broken transport must not cost the others their turn.
                _log.failure("a transport failed")
        self._flushed(len(dirty))


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
