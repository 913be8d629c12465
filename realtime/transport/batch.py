"""Batch: what many WebSockets are sent alike during one turn of the reactor, sent in one go at its end.

It is collected once, not by each of them: what comes beside it takes a WebSocket out, with a copy of
what it was to get, so that each gets all in its order.
"""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger
from zope.interface import implementer

from ..connections import IBatch, IFlushed, IOutlet
from ..native.interface import ISendLoop
from .direct_write import EARLY, idle

_log = Logger()


@implementer(IBatch, IFlushed)
class Batch:
    """Frames, and the WebSockets that get them.

    :ivar over: whether it was sent: nothing can be added any more.
    """

    __slots__ = ("_departed", "_frames", "_riders", "_send", "_size", "_written", "over")

    def __init__(self, send: ISendLoop) -> None:
        self._send = send
        self._frames: list[bytes] = []
        self._size = 0
        self._written = 0
        # WebSockets; those that have left since still stand here, and belong to no batch or another.
        self._riders: list[Any] = []
        self._departed: list[IOutlet] = []
        self.over = False

    # -- IBatch

    def add(self, data: bytes) -> tuple[IOutlet, ...]:
        departed = tuple(self._departed)
        if len(departed) < len(self._riders):
            self._frames.append(data)
            self._size += len(data)
            if self._size > EARLY:
                self.flush()
        return departed

    # -- for the WebSockets

    @property
    def size(self) -> int:
        """Bytes that it holds."""
        return self._size

    def board(self, rider: Any) -> None:
        """A WebSocket gets what is in the batch."""
        self._riders.append(rider)

    def depart(self, outlet: IOutlet) -> list[bytes]:
        """A WebSocket gets what comes from now on by its outlet; what it was to get is given back."""
        self._departed.append(outlet)
        return self._frames.copy()

    # -- IFlushed

    def flush(self) -> int:
        self.over = True
        frames, riders = self._frames, self._riders
        data = frames[0] if len(frames) == 1 else b"".join(frames)
        fds: list[int] = []
        transports: list[Any] = []
        for rider in riders:
            if rider._turn is not self:
                continue
            rider._turn = None
            self._written += 1
            transport = rider.transport
            if idle(transport):
                fds.append(transport.fileno())
                transports.append(transport)
            else:
                _write(transport, data)
        for index, taken in self._send(fds, data):
            # The transport meets an error itself, and then tells its protocol.
            _write(transports[index], data[max(taken, 0) :])
        return self._written


def _write(transport: Any, data: bytes) -> None:
    try:
        transport.write(data)
    except Exception:
        # One broken transport must not cost the others their turn.
        _log.failure("a transport failed")
