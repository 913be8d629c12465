"""A Socket.IO server with what the public protocol suite expects of one, on our layers alone.

``python -m tests.conformance.socketio PORT`` serves at ``/socket.io/``. It sends ``auth`` with the
handshake's auth to whoever connects to ``/`` or ``/custom``; on ``/``, ``message`` is answered by
``message-back`` with the same arguments, and ``message-with-ack`` is acknowledged with its arguments.
"""

from __future__ import annotations

import secrets
import sys
from typing import Final

import msgspec
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from realtime.connections import IOutlet, IReceiver
from realtime.errors import Close, ProtocolError
from realtime.wire.socketio_namespaces import Asked, Emitted, Namespaces, Unknown
from realtime.wire.socketio_packets import ACK, CONNECT, EVENT, encode

from .serve import MAX_PAYLOAD, serve

NAMESPACES: Final = frozenset({"/", "/custom"})

#: Seconds until a client must be connected to some namespace.
CONNECT_TIMEOUT: Final = 1.0

#: Seconds between the answer to CONNECT and ``auth``. The suite takes one message at a time, and the
#: `ws` of Node hands out at once all that arrives together: in one segment, it would miss the second.
AUTH_DELAY: Final = 0.02


@implementer(IReceiver)
class Client:
    """The server's side of one client."""

    def __init__(self, outlet: IOutlet, clock: IReactorTime) -> None:
        self._outlet = outlet
        self._clock = clock
        self._namespaces = Namespaces(NAMESPACES, MAX_PAYLOAD)
        self._timeout = clock.callLater(CONNECT_TIMEOUT, outlet.close, Close.CONNECT_TIMEOUT)

    def received(self, data: str | bytes) -> None:
        """See `IReceiver`."""
        try:
            arrival = self._namespaces.receive(data)
        except ProtocolError:
            self._outlet.close(Close.PROTOCOL_ERROR)
            return
        if isinstance(arrival, Asked):
            self._connect(arrival)
        elif isinstance(arrival, Unknown):
            self._outlet.write(arrival.answer)
        elif isinstance(arrival, Emitted) and arrival.namespace == "/":
            self._answer(arrival)

    def closed(self, reason: str) -> None:
        """See `IReceiver`."""
        for namespace in self._namespaces.connected:
            self._namespaces.remove(namespace)
        if self._timeout.active():
            self._timeout.cancel()

    def _connect(self, asked: Asked) -> None:
        self._namespaces.accept(asked.namespace)
        if self._timeout.active():
            self._timeout.cancel()
        answer = msgspec.json.encode({"sid": secrets.token_urlsafe(15)})
        self._outlet.write(encode(CONNECT, asked.namespace, answer))
        self._clock.callLater(AUTH_DELAY, self._greet, asked)

    def _greet(self, asked: Asked) -> None:
        if asked.namespace in self._namespaces.connected:
            self._outlet.write(encode(EVENT, asked.namespace, _array(b'"auth"', asked.auth)))

    def _answer(self, event: Emitted) -> None:
        arguments = [bytes(argument) for argument in event.arguments]
        if event.name == "message":
            payload = _array(b'"message-back"', *arguments)
            self._outlet.write(encode(EVENT, "/", payload, None, event.attachments))
        elif event.name == "message-with-ack" and event.ack is not None:
            self._outlet.write(encode(ACK, "/", _array(*arguments), event.ack, event.attachments))


def _array(*values: bytes) -> bytes:
    return b"[%b]" % b",".join(values)


if __name__ == "__main__":
    from twisted.internet import reactor

    serve(int(sys.argv[1]), "/socket.io", lambda socket: Client(socket, reactor))
