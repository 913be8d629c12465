"""Writing to a socket itself.

A write of Twisted's transport waits for epoll to say that the socket is writable: two system calls
and the reactor's call chain for each receiver of each message. A socket whose transport holds
nothing is written to directly instead; only what it does not take is left to the transport.
"""

from __future__ import annotations

from typing import Any, Final

from twisted.internet.tcp import Connection

#: Bytes of one turn past which a socket is written to before the turn ends.
EARLY: Final = 65536


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
