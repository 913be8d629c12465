"""Neighbours: the other workers of this node, to whom a request of one of their sessions is handed.

A session of Engine.IO is held by the worker that began it, and its id says which (`sid_prefix`). The kernel
gives a client's next connection to any of them. One that gets a request for another

- passes the socket itself on, where this is its first request and there is no TLS: from then on it is the
  other's, as if it had been from the start;
- else forwards requests of long-polling, one by one, and connects a WebSocket through.

So a balancer in front of the node has to keep a client at the node, not at a worker. Every worker listens
on a Unix socket ``{prefix}.peer`` in a directory that only this user may enter. What is sent there begins
with a line of JSON: whom it is of, and how many bytes come with a socket that is passed.
"""

from __future__ import annotations

import os
import re
import socket
from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IFileDescriptorReceiver
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.tcp import Connection
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from .local import Answer, exchange, reach

#: Bytes that may go with a socket: they have to fit what the kernel holds of a Unix socket at once.
MAX_GIVEN: Final = 65536

#: Bytes of the line that comes first.
_MAX_LINE: Final = 1024

_SID: Final = re.compile(rb"(?:^|&)sid=([0-9]{1,4}x[0-9a-f]{1,8})\.[^&]*")

_log = Logger()


class _Line(msgspec.Struct):
    """What comes first.

    :ivar address: of the client, as far as its worker knows.
    :ivar given: bytes that come with a socket; None where what follows is the client's own connection.
    """

    address: str
    given: int | None = None


_LINE: Final = msgspec.json.Decoder(_Line)


class Neighbours:
    """The workers of a node, as one of them sees them.

    :param reactor: IReactorSocket.
    :param directory: where their sockets are.
    :param prefix: this worker's own.
    """

    def __init__(self, reactor: Any, directory: str, prefix: str) -> None:
        self.prefix = prefix
        self._reactor = reactor
        self._directory = directory

    @property
    def sid_prefix(self) -> str:
        """What the ids of this worker's sessions begin with."""
        return f"{self.prefix}."

    def owner(self, query: bytes) -> str | None:
        """The socket of the worker whose session a query names; None if that is this one, or nobody's."""
        found = _SID.findall(query)
        if not found:
            return None
        prefix = found[-1].decode()
        return None if prefix == self.prefix else self.socket(prefix)

    def socket(self, prefix: str) -> str:
        """Where a worker listens for the others."""
        return os.path.join(self._directory, f"{prefix}.peer")

    def give(self, path: str, transport: Any, address: str, data: bytes) -> bool:
        """Pass a client's socket on, and what was read of it; False if that can't be, and it stays ours."""
        if not isinstance(transport, Connection) or transport.TLS or len(data) > MAX_GIVEN:
            return False
        sent = _line(address, len(data)) + data
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as way:
                way.setblocking(False)
                way.connect(path)
                if socket.send_fds(way, [sent], [transport.fileno()]) != len(sent):
                    return False
        except OSError:
            return False
        # ours is closed only: a shutdown would end the connection for the other, too
        transport._shouldShutdown = False
        transport.loseConnection()
        return True

    def forward(self, path: str, address: str, sent: bytes) -> Deferred[Answer]:
        """Send a request on; its answer. It fails with `local.NoAnswer`."""
        return exchange(self._reactor, path, _line(address) + sent)

    def connect(self, path: str, near: Any, address: str, data: bytes) -> Pipe | None:
        """Connect a client through to another worker; None if nobody is there."""
        pipe = Pipe(near, _line(address) + data)
        return pipe if reach(self._reactor, path, pipe) else None

    def receiver(self, doors: Any) -> Factory:
        """What listens for the others.

        :param doors: the `DoorFactory` of the clients' port.
        """
        return _Receivers(self._reactor, doors)


def _line(address: str, given: int | None = None) -> bytes:
    return msgspec.json.encode(_Line(address, given)) + b"\n"


class Pipe(Protocol):
    """The far end of a client's connection that goes through this process.

    :param near: the client's transport.
    """

    def __init__(self, near: Any, first: bytes) -> None:
        self._near = near
        self._first = first

    def connectionMade(self) -> None:
        far: Any = self.transport
        far.write(self._first)
        self._first = b""
        far.registerProducer(self._near, True)
        self._near.registerProducer(far, True)

    def near_received(self, data: bytes) -> None:
        """The client has sent something."""
        far: Any = self.transport
        far.write(data)

    def near_lost(self, reason: Failure = connectionDone) -> None:
        """The client has gone."""
        far: Any = self.transport
        far.unregisterProducer()
        far.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        self._near.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._near.unregisterProducer()
        self._near.loseConnection()


class _Adopted(Factory):
    """Makes the door of a socket that was passed, and keeps it."""

    noisy = False

    def __init__(self, doors: Any) -> None:
        self._doors = doors
        self.door: Any = None

    def buildProtocol(self, addr: Any) -> Any:
        self.door = self._doors.buildProtocol(addr)
        return self.door


class _Receivers(Factory):
    noisy = False

    def __init__(self, reactor: Any, doors: Any) -> None:
        self.reactor = reactor
        self.doors = doors

    def buildProtocol(self, addr: Any) -> Protocol:
        made = _Receiver()
        made.factory = self
        return made


@implementer(IFileDescriptorReceiver)
class _Receiver(Protocol):
    """One connection of a neighbour."""

    factory: Any

    def __init__(self) -> None:
        self._data = b""
        self._line: _Line | None = None
        self._descriptor: int | None = None

    def fileDescriptorReceived(self, descriptor: int) -> None:
        """A socket was passed."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = descriptor

    def dataReceived(self, data: bytes) -> None:
        self._data += data
        if self._line is None and not self._begin():
            return
        line = self._line
        assert line is not None
        if line.given is None:
            self._carry_on(line)
        elif len(self._data) >= line.given:
            self._adopt(line)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._forget()

    def _begin(self) -> bool:
        head, end, rest = self._data.partition(b"\n")
        transport: Any = self.transport
        if not end:
            if len(self._data) > _MAX_LINE:
                transport.abortConnection()
            return False
        try:
            self._line = _LINE.decode(head)
        except msgspec.MsgspecError:
            _log.error("a neighbour says what can't be understood")
            transport.abortConnection()
            return False
        self._data = rest
        return True

    def _carry_on(self, line: _Line) -> None:
        """This connection is the client's own, from here on."""
        transport: Any = self.transport
        door = self.factory.doors.buildProtocol(transport.getPeer())
        if door is None:
            transport.abortConnection()
            return
        transport.protocol = door
        door.makeConnection(transport)
        door.handed(line.address, through=True)
        if self._data:
            door.dataReceived(self._data)

    def _adopt(self, line: _Line) -> None:
        """The socket that was passed is ours, from here on."""
        transport: Any = self.transport
        transport.loseConnection()
        if self._descriptor is None:
            return
        adopted = _Adopted(self.factory.doors)
        try:
            with socket.socket(fileno=os.dup(self._descriptor)) as looked_at:
                family = looked_at.family
            self.factory.reactor.adoptStreamConnection(self._descriptor, family, adopted)
        except OSError:
            return  # the client has gone meanwhile
        finally:
            self._forget()
        if adopted.door is not None:
            adopted.door.handed(line.address)
            adopted.door.dataReceived(self._data)

    def _forget(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
