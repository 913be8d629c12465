"""One connection to Redis: commands answered in order, and for subscribers what is published.

Built on txredisapi's protocol. Of that remain the hiredis parser and the named commands
(``connection.xrange(…)``); replies, the queue and time-outs are ours, because the library's own
convert payloads, wait without limit and take a subscriber's acknowledgements for replies.

Whoever makes a connection connects it, greets the server (`redis_link`) and hears of its end.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable, Sequence
from math import inf
from typing import Any, Final

import hiredis
import txredisapi
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from ..errors import BrokerUnavailable

Argument = bytes | str | int | float

#: Commands that may be in flight on one connection.
MAX_IN_FLIGHT: Final = 10_000
#: Bytes that may wait for a server that does not read.
MAX_UNSENT: Final = 16 * 1024 * 1024
#: Seconds after which what a connection could not do may well succeed.
RETRY_AFTER: Final = 1.0
#: Seconds that an idle connection waits before it asks whether the server is there.
IDLE: Final = 1.0
#: Seconds after which a busy connection looks at the server's clock again.
_CLOCK_AGE: Final = 30.0
#: How often the time-out is looked at, as a part of it.
_TICKS: Final = 4
#: A timer this late (seconds) means that the whole process stood still.
_STOOD_STILL: Final = 0.1
#: Milliseconds that sent bytes may go unacknowledged before the kernel gives the connection up.
_TCP_USER_TIMEOUT: Final = 3000

_log: Final = Logger()


class RedisError(Exception):
    """An error that Redis replied.

    :ivar kind: its first word: ``NOSCRIPT``, ``WRONGTYPE``.
    :ivar text: all of it; it may name keys, so that no client may see it.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text
        self.kind = text.partition(" ")[0]


def _nothing(*args: object) -> None:
    pass


class Pending(Deferred[Any]):
    """The answer to come to one command.

    :ivar args: the command.
    :ivar sent: when it was sent, seconds on the reactor's clock.
    """

    args: tuple[Argument, ...] = ()
    sent: float = 0.0


@implementer(IPushProducer)
class RedisConnection(txredisapi.RedisProtocol):  # type: ignore[misc]
    """A connection for commands.

    A connection whose oldest command is not answered within `timeout` is dropped, and all commands in
    flight fail: Redis may have run them or not. While nothing else is asked it asks for the server's
    time, so that a dead one is noticed within `IDLE` + `timeout` x 1.5.

    :param timeout: seconds.
    :ivar on_lost: called once, when the connection has ended, with what was wrong in a word, before
        the commands in flight fail.
    :ivar on_error: is given each error reply and its command before that fails with it; whether it
        has taken over.
    :ivar slow: seconds from which `on_slow` is called with a command and how long its answer took.
    :ivar sent: how many commands it sent.
    :ivar lost: whether it has ended.
    :ivar why: with what it ended, in a word.
    :ivar closed: fires when its transport has ended; never, if it never had one.
    :ivar on_sent: called now and then with how many more commands were sent.
    :ivar clock_ahead: seconds by which the server's wall clock is ahead of `clock`; None until asked.
    :ivar probed: when the server last answered a question that it is asked only to see that it is there;
        None before. A busy connection is asked every `_CLOCK_AGE`.
    :ivar round_trip: how many seconds that answer took; behind a command that waits, that long.
    """

    def __init__(self, clock: IReactorTime, timeout: float) -> None:
        super().__init__(charset=None, convertNumbers=False)
        self._reader = hiredis.Reader(protocolError=hiredis.ProtocolError, replyError=RedisError)
        self.timeout = timeout
        self.sent = 0
        self.lost = False
        self.why = ""
        self.closed: Deferred[None] = Deferred()
        self.on_sent: Callable[[int], None] = _nothing
        self.on_lost: Callable[[str], None] = _nothing
        self.on_slow: Callable[[Pending, float], object] = _nothing
        self.slow = inf
        self.on_error: Callable[[Pending, RedisError], bool] | None = None
        self.clock_ahead: float | None = None
        self.probed: float | None = None
        self.round_trip = 0.0
        self._clock = clock
        self._pending: deque[Pending] = deque()
        self._choked = False
        self._unsent = 0
        self._heard = False
        self._heard_at = 0.0
        self._idle_since = 0.0
        self._clock_read = 0.0
        # how many commands had been sent at each of the last ticks
        self._marks: deque[int] = deque()
        self._told = 0
        self._tick: IDelayedCall | None = None

    # -- commands

    def command(self, *args: Argument) -> Deferred[Any]:
        """Send a command.

        :returns: its reply, raw: bytes, int, None or a list of such, in which errors are values.
        :raises RedisError: (as a failure) the reply is an error.
        :raises BrokerUnavailable: the connection is lost or timed out, or too much is in flight.
        """
        pending = Pending()
        pending.args = args
        self.send(pending)
        return pending

    def send(self, pending: Pending) -> None:
        """Send the command of a `Pending`."""
        if self.lost:
            pending.errback(BrokerUnavailable(retry_after=RETRY_AFTER))
            return
        if len(self._pending) >= MAX_IN_FLIGHT or self._unsent > MAX_UNSENT:
            pending.errback(
                BrokerUnavailable("the message bus can't keep up; try again", retry_after=RETRY_AFTER)
            )
            return
        try:
            packed = hiredis.pack_command(pending.args)  # type: ignore[arg-type]
        except (TypeError, UnicodeError) as bad:
            pending.errback(bad)
            return
        if self._choked:
            self._unsent += len(packed)
        pending.sent = self._clock.seconds()
        self._pending.append(pending)
        self.sent += 1
        self.transport.write(packed)

    def execute_command(self, *args: Argument, **options: object) -> Deferred[Any]:
        """What the library's named commands call."""
        return self.command(*args)

    @property
    def in_flight(self) -> int:
        """How many commands are not answered yet."""
        return len(self._pending)

    def abort(self, why: str = "dropped") -> None:
        """Drop the connection at once; what is in flight fails.

        :param why: for `on_lost`.
        """
        if self.lost:
            return
        if self.transport is not None:
            self.transport.abortConnection()
        self._end(why)

    # -- the transport's side

    def connectionMade(self) -> None:
        if self.lost:
            self.transport.abortConnection()
            return
        self._tune()
        self.transport.registerProducer(self, True)
        self._idle_since = self._clock.seconds()
        self._later(self.timeout / _TICKS)

    def _tune(self) -> None:
        """Send at once, and notice a peer that is gone."""
        # a transport by TLS gives the attributes of that beneath it
        handle = getattr(self.transport, "socket", None)
        if handle is None or handle.family == socket.AF_UNIX:
            return
        handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _TCP_USER_TIMEOUT)

    def dataReceived(self, data: bytes, unpause: bool = False) -> None:
        self._heard = True
        try:
            self._reader.feed(data)
            gets = self._reader.gets
            while (reply := gets()) is not False and not self.lost:
                self._answer(reply)
        except hiredis.ProtocolError:
            self.abort("protocol")

    def _answer(self, reply: Any) -> None:
        if not self._pending:
            self.abort("protocol")
            return
        pending = self._pending.popleft()
        took = self._clock.seconds() - pending.sent
        if took >= self.slow:
            self.on_slow(pending, took)
        self._settle(pending, reply)

    def _settle(self, pending: Pending, reply: Any) -> None:
        if reply.__class__ is not RedisError:
            pending.callback(reply)
        elif self.on_error is None or not self.on_error(pending, reply):
            pending.errback(reply)

    def connectionLost(self, why: Failure | None = None) -> None:
        self._end("tls" if why is not None and why.check(SSL.Error) else "lost")
        self.closed.callback(None)

    def _end(self, why: str) -> None:
        if self.lost:
            return
        self.lost = True
        self.why = why
        self._tell_sent()
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None
        try:
            self.on_lost(why)
        finally:
            pending, self._pending = self._pending, deque()
            for one in pending:
                one.errback(BrokerUnavailable(retry_after=RETRY_AFTER))

    def pauseProducing(self) -> None:
        self._choked = True

    def resumeProducing(self) -> None:
        self._choked = False
        self._unsent = 0

    def stopProducing(self) -> None:
        pass

    # -- time

    def _later(self, seconds: float) -> None:
        self._tick = self._clock.callLater(seconds, self._look, self._clock.seconds() + seconds)

    def _look(self, due: float) -> None:
        self._tick = None
        self._tell_sent()
        now = self._clock.seconds()
        if self._heard:
            self._heard = False
            self._heard_at = self._idle_since = now
        if now - due > _STOOD_STILL:
            # Ours was the process that stood still: first read what the server has sent meanwhile.
            self._marks.clear()
        self._marks.append(self.sent)
        if len(self._marks) > _TICKS and self._overdue(self._marks.popleft()):
            self.abort("timeout")
            return
        if self._pending:
            self._idle_since = now
        # what was heard was heard up to a tick earlier
        idle = now - self._idle_since + self.timeout / _TICKS
        if idle >= IDLE or now - self._clock_read >= _CLOCK_AGE:
            self._idle_since = now
            self._ask()
        self._later(self.timeout / _TICKS)

    def _tell_sent(self) -> None:
        if self.sent > self._told:
            told, self._told = self._told, self.sent
            self.on_sent(self.sent - told)

    def _overdue(self, sent: int) -> bool:
        """Whether one of the first so many commands is still not answered."""
        return self.sent - len(self._pending) < sent

    def _ask(self) -> None:
        """Ask something of the server, to see that it is there."""
        self.read_clock().addErrback(_unanswered)

    def read_clock(self) -> Deferred[None]:
        """Ask for the server's time; then `clock_ahead` is known."""
        self._clock_read = asked = self._clock.seconds()

        def told(reply: list[bytes]) -> None:
            self._answered(asked)
            middle = (asked + self._clock.seconds()) / 2
            self.clock_ahead = int(reply[0]) + int(reply[1]) / 1e6 - middle

        return self.command("TIME").addCallback(told)

    def _answered(self, asked: float) -> None:
        self.probed = self._clock.seconds()
        self.round_trip = self.probed - asked


def _unanswered(failure: Failure) -> None:
    """A connection that is lost says so by `on_lost`; an error reply is an answer too."""
    failure.trap(BrokerUnavailable, RedisError)


class _Acknowledgements(Pending):
    """What is expected for one SUBSCRIBE or its like: one reply per channel, in their order."""

    def __init__(self, kind: bytes, channels: Sequence[bytes]) -> None:
        super().__init__()
        self.args = (kind.upper(), *channels)
        self.kind = kind
        self.channels = deque(channels)


class SubscriberConnection(RedisConnection):
    """A connection for pub/sub.

    Once something is subscribed no other command may be sent. Its exceptions caught and logged, a
    callback can't hurt the connection.

    :ivar on_message: called with the channel and what was published on it.
    :ivar on_pmessage: called with the pattern, the channel, and what was published on it.
    :ivar on_dropped: called with a channel that the server took away by itself: a Cluster's slot moved.
    """

    on_message: Callable[[bytes, bytes], None] = staticmethod(_nothing)
    on_pmessage: Callable[[bytes, bytes, bytes], None] = staticmethod(_nothing)
    on_dropped: Callable[[bytes], None] = staticmethod(_nothing)

    def change(self, kind: bytes, channels: Sequence[bytes]) -> Deferred[None]:
        """Send one command of the SUBSCRIBE family.

        :param kind: in lower case: ``subscribe``, ``punsubscribe``.
        :returns: fires once all channels are acknowledged.
        """
        acknowledgements = _Acknowledgements(kind, channels)
        self.send(acknowledgements)
        return acknowledgements

    def dataReceived(self, data: bytes, unpause: bool = False) -> None:
        self._heard = True
        on_message = self.on_message
        try:
            self._reader.feed(data)
            gets = self._reader.gets
            while (reply := gets()) is not False and not self.lost:
                if reply.__class__ is list:
                    kind = reply[0]
                    if kind in (b"message", b"smessage"):
                        try:
                            on_message(reply[1], reply[2])
                        except Exception:
                            _log.failure("a subscriber failed")
                        continue
                self._answer(reply)
        except hiredis.ProtocolError:
            self.abort("protocol")

    def _answer(self, reply: Any) -> None:
        if reply.__class__ is not list or not isinstance(kind := reply[0], bytes):
            super()._answer(reply)
        elif kind == b"pmessage":
            try:
                self.on_pmessage(reply[1], reply[2], reply[3])
            except Exception:
                _log.failure("a subscriber failed")
        elif kind.endswith(b"subscribe") and len(reply) == 3:
            self._acknowledged(kind, reply[1])
        else:
            # PONG while subscribed, TIME before
            super()._answer(reply)

    def _acknowledged(self, kind: bytes, channel: bytes) -> None:
        first = self._pending[0] if self._pending else None
        if isinstance(first, _Acknowledgements) and first.kind == kind and first.channels[0] == channel:
            first.channels.popleft()
            if not first.channels:
                self._pending.popleft()
                first.callback(None)
            return
        try:
            self.on_dropped(channel)
        except Exception:
            _log.failure("a subscriber failed")

    def _overdue(self, sent: int) -> bool:
        # An answer comes behind all that was published before it: while that comes, the server lives.
        return self._clock.seconds() - self._heard_at >= self.timeout and super()._overdue(sent)

    def _ask(self) -> None:
        self._clock_read = asked = self._clock.seconds()
        self.command("PING").addCallback(lambda pong: self._answered(asked)).addErrback(_unanswered)
