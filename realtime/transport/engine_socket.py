"""EngineSocket: one Engine.IO session, whatever carries it."""

from __future__ import annotations

import enum
import secrets
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from twisted.logger import Logger
from zope.interface import Attribute, Interface, implementer

from ..connections import IBatch, IOutlet, IReceiver
from ..errors import Close
from ..heartbeat import Heartbeat
from ..messages import Handshake
from ..wire.engineio import CLOSE, NOOP, Packet, Type, decode
from ..wire.session import Frame
from .backlog import Backlog, weight

#: Random bytes of a session id.
_SID_BYTES: Final = 18

_log = Logger()


class ICarrier(Interface):
    """What carries a session: long-polling or a WebSocket."""

    name = Attribute("str. 'polling' or 'websocket'.")
    ready = Attribute("bool. Whether `send` may be called now.")
    held = Attribute("bool. Whether it takes nothing from the client.")
    leaving = Attribute("bool. Whether what waits leaves at the end of this turn.")
    batches = Attribute(
        "bool. Whether all it is given waits for the end of the turn, and so is never `ready`."
    )

    def send(frame: Frame) -> None:
        """Send a frame at once."""

    def attach(batch: IBatch) -> bool:
        """Send what is added to a batch; False if it has to be sent one by one."""

    def detach(batch: IBatch) -> None:
        """Send no more of what is added to a batch."""

    def stir() -> None:
        """There is something to say: more waits, or a probe was answered."""

    def finish(close: Close) -> None:
        """Close after what waits, then tell the session that it has `finished`."""

    def drop(close: Close | None, last: Frame) -> None:
        """The session is over, or carried by another from now on.

        :param close: what a WebSocket is told; None for a normal end.
        :param last: what a poll that waits is answered with.
        """

    def hold() -> None:
        """Take nothing from the client."""

    def release() -> None:
        """Take messages again."""


class ICounters(Protocol):
    """Where an `EngineServer` counts."""

    def handshake_refused(self, code: str) -> None:
        """A session was refused."""

    def slow_consumer(self) -> None:
        """A session is closed because its client does not read."""

    def conflated(self, event: str) -> None:
        """An event that waited has given way to a newer one."""

    def unread(self) -> None:
        """A client is not read, since it does not take its answers."""


class NoCounters:
    """Counts nothing."""

    def handshake_refused(self, code: str) -> None:
        """Not counted."""

    def slow_consumer(self) -> None:
        """Not counted."""

    def conflated(self, event: str) -> None:
        """Not counted."""

    def unread(self) -> None:
        """Not counted."""


class IServer(Protocol):
    """What a session needs of its server."""

    heartbeat: Heartbeat[EngineSocket]
    max_queue_bytes: int
    counters: ICounters

    @property
    def sid_prefix(self) -> str:
        """What session ids begin with."""

    def ended(self, socket: EngineSocket) -> None:
        """The session is over."""


@implementer(IReceiver)
class _Nobody:
    """Receives nothing: a session whose receiver is not there yet, or could not be made."""

    def received(self, data: str | bytes) -> None:
        """Dropped."""

    def closed(self, reason: str) -> None:
        """Dropped."""


_NOBODY: Final = _Nobody()


#: Why a client is not read: the application wants it so; it does not take the answers to what it sends.
_ASKED: Final = 1
_ANSWERS: Final = 2


class _State(enum.Enum):
    OPEN = enum.auto()
    CLOSING = enum.auto()  # closed by us; what was written before still leaves
    CLOSED = enum.auto()


@implementer(IOutlet)
class EngineSocket:
    """One Engine.IO session.

    Text that is written is a whole packet (``4…``); attachments are binary messages. The receiver
    gets the text of messages without the ``4``, or bytes.

    :ivar sid: the session's secret id.
    :ivar handshake: what the request told that opened it.
    :ivar direct: the `IDirectSession` that a WebSocket carries without Engine.IO; None for Engine.IO's
        own. (No class of its own: all sockets of a fan-out are of one, which CPython is quick with.)
    """

    __slots__ = (
        *("_backlog", "_carrier", "_closing", "_holds", "_probe", "_receiver", "_state"),
        *("direct", "handshake", "server", "sid"),
    )

    def __init__(self, server: IServer, handshake: Handshake, direct: Any = None) -> None:
        self.server = server
        self.direct = direct
        self.sid = server.sid_prefix + secrets.token_urlsafe(_SID_BYTES)
        self.handshake = handshake
        self._receiver: Any = _NOBODY
        self._carrier: Any = None
        self._probe: Any = None
        self._backlog: Backlog | None = None
        self._closing: Close | None = None
        self._holds = 0
        self._state = _State.OPEN

    # -- IOutlet

    @property
    def transport(self) -> str:
        """What carries the session now: ``polling`` or ``websocket``."""
        name: str = self._carrier.name
        return name

    @property
    def buffered(self) -> int:
        """Bytes that wait for the transport, without replays."""
        return 0 if self._backlog is None else self._backlog.size

    @property
    def behind(self) -> bool:
        """Whether something waits that the client does not take now."""
        carrier = self._carrier
        return not carrier.leaving and (self._backlog is not None or not (carrier.ready or carrier.batches))

    @property
    def owes_pong(self) -> bool:
        """Whether the client was pinged and has not answered for a while: it may be gone."""
        return self.server.heartbeat.silent(self)

    def write(self, frame: Frame) -> None:
        """Send a frame; does nothing once closed.

        Over long-polling it leaves at the end of the reactor's turn, with all else of that turn.
        """
        if self._state is not _State.OPEN:
            return
        if self._backlog is None and self._carrier.ready:
            self._carrier.send(frame)
            return
        backlog = self._waiting()
        newest = frame.newest
        if newest is None:
            backlog.add(frame)
        elif backlog.renew(frame, newest.key):
            self.server.counters.conflated(newest.event)
        # One large frame by itself says nothing of how fast the client reads.
        if backlog.size > self.server.max_queue_bytes and backlog.size > weight(frame):
            self.server.counters.slow_consumer()
            self.close(Close.SLOW_CONSUMER)
        else:
            self._carrier.stir()

    def attach(self, batch: IBatch) -> bool:
        """See `IOutlet`: only with nothing before it."""
        carrier = self._carrier
        if self._state is not _State.OPEN or self._backlog is not None or not carrier.ready:
            return False
        attached: bool = carrier.attach(batch)
        return attached

    def detach(self, batch: IBatch) -> None:
        """See `IOutlet`."""
        self._carrier.detach(batch)

    def replay(self, frames: Iterable[Frame]) -> None:
        """Send frames as the transport takes them; they are drawn one by one, and not counted."""
        if self._state is _State.OPEN:
            self._waiting().replay(frames)
            self._carrier.stir()

    def when_taken(self, taken: Callable[[], object]) -> None:
        """See `IOutlet`."""
        if self._state is not _State.OPEN:
            return
        if self._backlog is None:
            taken()
        else:
            self._backlog.mark(taken)

    def close(self, close: Close) -> None:
        """End the session after what was written. The receiver hears of it later, not from here."""
        if self._state is not _State.OPEN:
            return
        if self.direct is not None and close is not Close.SLOW_CONSUMER:
            last = self.direct.farewell(close)
            if last is not None:
                self.write(last)
        self._state = _State.CLOSING
        self._closing = close
        self.server.heartbeat.stop(self)
        if close is Close.SLOW_CONSUMER:
            self._backlog = None
        self._carrier.finish(close)

    def pause_reading(self) -> None:
        """Take nothing more from the client until `resume_reading`."""
        self._hold(_ASKED)

    def resume_reading(self) -> None:
        """Read on, unless the client does not take its answers."""
        self._release(_ASKED)

    # -- for the carriers

    @property
    def carrier(self) -> Any:
        """What carries the session now."""
        return self._carrier

    @property
    def closing(self) -> Close | None:
        """Why the service closed the session, if it did."""
        return self._closing

    @property
    def gone(self) -> bool:
        """Whether the session has ended."""
        return self._state is _State.CLOSED

    @property
    def waits(self) -> bool:
        """Whether frames wait for the transport."""
        return self._backlog is not None

    @property
    def probing(self) -> bool:
        """Whether a WebSocket is about to take over."""
        return self._probe is not None and self._probe.answered

    def take(self) -> Frame | None:
        """The next frame that waits; None if none does."""
        if self._backlog is None:
            return None
        try:
            frame = self._backlog.take()
        except Exception:
            _log.failure("a replay failed")
            self._backlog = None
            self.close(Close.INTERNAL)
            return None
        if frame is None:
            self._backlog = None
            self._release(_ANSWERS)
        return frame

    @property
    def replaying(self) -> bool:
        """Whether the next frame that waits belongs to a replay."""
        return self._backlog is not None and self._backlog.replaying

    def text(self, text: str) -> None:
        """An encoded packet of the client.

        :raises ProtocolError: it is none.
        """
        if text[:1] == "4" and not self.server.heartbeat.owes_pong(self):
            self.message(text[1:])
        else:
            self.packet(decode(text))

    def packet(self, packet: Packet) -> None:
        """A packet of the client, in order."""
        if self._state is not _State.OPEN:
            return
        if packet.type is Type.PONG:
            self.server.heartbeat.pong(self)
            return
        self.server.heartbeat.heard(self)
        if packet.type is Type.MESSAGE:
            self.message(packet.data)
        elif packet.type is Type.CLOSE:
            self.end("transport_close", last=NOOP)
        elif packet.type is Type.PING:
            self.end("transport_error", Close.PROTOCOL_ERROR)

    def message(self, data: str | bytes) -> None:
        """A message of the client."""
        if self._state is not _State.OPEN:
            return
        try:
            self._receiver.received(data)
        except Exception:
            _log.failure("a receiver failed")
            self.close(Close.INTERNAL)
        if self._backlog is not None and not self._holds & _ANSWERS and self._clogged():
            self.server.counters.unread()
            self._hold(_ANSWERS)

    def end(self, reason: str, close: Close | None = None, *, last: Frame = CLOSE) -> None:
        """The session is over, now.

        :param reason: what the receiver is told.
        :param close: what a WebSocket is told; None for a normal end.
        :param last: what a poll that waits is answered with.
        """
        if self._state is _State.CLOSED:
            return
        self._state = _State.CLOSED
        self._backlog = None
        self.server.ended(self)
        if self._probe is not None:
            self._probe.cancel()
        self._carrier.drop(close, last)
        receiver, self._receiver = self._receiver, _NOBODY
        try:
            receiver.closed(reason)
        except Exception:
            _log.failure("a receiver failed")

    def finished(self) -> None:
        """What was written before `close` has left, or can't leave any more."""
        if self._closing is not None:
            self.end(self._closing.reason, self._closing)

    def lost(self, reason: str) -> None:
        """The transport is gone; if the service had closed the session, that is the reason."""
        if self._closing is None:
            self.end(reason)
        else:
            self.finished()

    # -- opening and upgrading

    def carry(self, carrier: Any) -> None:
        """What carries the session from its beginning."""
        self._carrier = carrier

    def begin(self, receiver: Callable[[EngineSocket], Any]) -> None:
        """The client knows its session: from here on it is the receiver's."""
        try:
            self._receiver = receiver(self)
        except Exception:
            _log.failure("a receiver could not be made")
            self.close(Close.INTERNAL)

    def probe(self, probe: Any) -> bool:
        """A WebSocket asks to take over; False if there is, or is about to be, one already."""
        if self._probe is not None or self._state is _State.CLOSED or self.transport != "polling":
            return False
        self._probe = probe
        return True

    def probed(self) -> None:
        """The WebSocket works: let no poll wait any longer."""
        self._carrier.stir()

    def stay(self) -> None:
        """The WebSocket does not take over."""
        self._probe = None

    def upgrade(self, carrier: Any) -> None:
        """The WebSocket takes over; what waits leaves by it."""
        polling, self._carrier, self._probe = self._carrier, carrier, None
        if polling.held:
            carrier.hold()
        polling.drop(None, NOOP)
        if self._closing is not None:
            carrier.finish(self._closing)
        else:
            carrier.stir()

    def _clogged(self) -> bool:
        """Whether the client sends, and does not take what it is answered.

        A poll ends with the answers of one turn, and the next is on its way: that some wait says nothing.
        """
        if self._state is not _State.OPEN or self._carrier.leaving:
            return False
        return self.transport != "polling" or self.buffered > self.server.max_queue_bytes // 4

    def _hold(self, why: int) -> None:
        if not self._holds:
            self._carrier.hold()
        self._holds |= why

    def _release(self, why: int) -> None:
        if self._holds & why:
            self._holds &= ~why
            if not self._holds:
                self._carrier.release()

    def _waiting(self) -> Backlog:
        if self._backlog is None:
            self._backlog = Backlog()
        return self._backlog
