"""Router: the one place that orders limits, rights, validation and effect of each command of a client.

The commands of one connection run in order: while one waits, those after it are parked.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from . import events
from .connections import Connection, IOutlet, IReceiver, State
from .deadlines import Deadlines
from .endings import Endings
from .errors import (
    AuthRequired,
    Close,
    InternalError,
    InvalidMessage,
    ProtocolError,
    RateLimited,
    RealtimeError,
    UnknownEvent,
)
from .escalation import Escalation
from .handlers import Answer, Handlers, Outcome
from .journal import Journal
from .limits import RateLimit
from .messages import (
    Ack,
    Acknowledged,
    Command,
    Connect,
    Event,
    Handshake,
    Later,
    Own,
    Placed,
)
from .metrics import Metrics
from .notices import Notices
from .presence import PresenceService
from .receipts import Receipts
from .sessions import Sessions
from .wire.session import NOTHING, Frame, ISession, Send

_log = Logger()

#: States in which a client's events mean nothing any more.
_OVER: Final = (State.LEFT, State.ENDED)


class Router:
    """Runs the commands of all connections of this node.

    :param max_parked: commands of one connection that may wait before it is read no further.
    :ivar services: does what other services ask for, by events of a client that `_of_service` knows.
    :param message_timeout: seconds for a message of several frames to arrive whole.
    """

    def __init__(
        self,
        clock: IReactorTime,
        *,
        handlers: Handlers,
        sessions: Sessions,
        endings: Endings,
        presence: PresenceService,
        limit: RateLimit,
        escalation: Escalation,
        notices: Notices,
        metrics: Metrics,
        journal: Journal,
        receipts: Receipts,
        max_parked: int,
        message_timeout: float,
    ) -> None:
        self._clock = clock
        self._handlers = handlers.table
        self._sessions = sessions
        self._endings = endings
        self._presence = presence
        self._limit = limit
        self._escalation = escalation
        self._notices = notices
        self._metrics = metrics
        self._journal = journal
        self._sampling, self._slow = journal.sampling, journal.slow
        self._receipts = receipts
        self._max_parked = max_parked
        self._partial: Deadlines[Connection] = Deadlines(clock, message_timeout, self._too_slow)
        self.services: Callable[[Connection, Event], Outcome | Deferred[Outcome]] = _no_services

    def accept(self, outlet: IOutlet, session: ISession, handshake: Handshake) -> IReceiver:
        """A transport has opened: what its messages are to be handed to."""
        receiver = Receiver(self, outlet, session, handshake)
        receiver.take(session.opening(handshake.token is not None))
        return receiver

    def open(self, outlet: IOutlet, session: ISession, handshake: Handshake) -> Connection:
        """A new connection over an open transport."""
        connection = Connection(session, outlet, handshake, self._clock.seconds())
        self._endings.nobodies.add(connection)
        return connection

    def closed(self, connection: Connection, reason: str) -> None:
        """The connection's transport is gone."""
        self._partial.cancel(connection)
        self._escalation.gone(connection)
        self._endings.closed(connection, reason)

    def progress(self, connection: Connection) -> bool:
        """A frame came; True if its message is not whole, for which there is so much time."""
        if not connection.session.incomplete:
            self._partial.cancel(connection)
            return False
        if connection not in self._partial:
            self._partial.start(connection)
        return True

    def _too_slow(self, connection: Connection) -> None:
        self.broke_protocol(connection, ProtocolError("the attachments did not come in time"))

    def broke_protocol(self, connection: Connection, error: ProtocolError) -> None:
        """What the client sends can't be understood any more: it may come back and start anew."""
        self._metrics.refused(error.code)
        self._endings.end(connection, Close.PROTOCOL_ERROR)

    # -- the order of things

    def handle(self, connection: Connection, command: Command) -> None:
        """Run a command, or park it behind one that waits. Never raises."""
        parked = connection.parked
        if parked is None:
            self._run(connection, command)
            return
        parked.append(command)
        if len(parked) >= self._max_parked:
            connection.outlet.pause_reading()

    def _run(self, connection: Connection, command: Command) -> None:
        if isinstance(command, Later):
            command = command.decide()
        if isinstance(command, Event):
            self._run_event(connection, command)
        elif isinstance(command, Connect):
            self._run_connect(connection, command)
        elif isinstance(command, Own):
            self._run_own(connection, command)
        elif isinstance(command, Acknowledged):
            self._run_acknowledged(connection, command)
        elif connection.state is not State.ENDED:
            self._endings.left(connection)

    def _run_connect(self, connection: Connection, command: Connect) -> None:
        now = self._clock.seconds()
        if connection.state is State.LEFT:
            try:
                # A new transport has its price; to come and go over an old one costs only us.
                self._limit.take(connection, now)
            except RateLimited as error:
                self._metrics.refused(error.code)
                self._endings.end(connection, Close.CONNECTION_LIMIT)
                return
            connection.begin(now)
        if connection.state is State.OPENING:
            done = Deferred.fromCoroutine(self._sessions.connect(connection, command))
            done.addErrback(self._broken, connection)
            self._park_until(connection, done)

    def _run_own(self, connection: Connection, own: Own) -> None:
        if connection.state in _OVER:
            return
        now = self._clock.seconds()
        try:
            self._limit.take(connection, now)
            if own.error is not None:
                raise own.error
        except RealtimeError as error:
            self._metrics.refused(error.code)
            data = msgspec.json.encode({"ok": False, "error": error.refusal()})
            if not _write(connection, connection.session.reply(own.ack, data, False)):
                self._notices.error(connection, error)
            if isinstance(error, RateLimited):
                self._escalation.refused(connection, now)
        else:
            _write(connection, connection.session.answer(own.ack))

    def _run_acknowledged(self, connection: Connection, command: Acknowledged) -> None:
        if connection.state in _OVER or self._receipts.acknowledged(connection, command.number):
            return
        # Nobody has asked for it: that has its price.
        now = self._clock.seconds()
        try:
            self._limit.take(connection, now)
        except RateLimited as error:
            self._metrics.refused(error.code)
            self._notices.error(connection, error)
            self._escalation.refused(connection, now)

    def _run_event(self, connection: Connection, event: Event) -> None:
        started = self._clock.seconds()
        self._metrics.received(event.name, connection.session.protocol, len(event.data))
        if connection.watches:
            for watch in connection.watches:
                watch.received(event.name, event.data)
        if self._sampling:
            self._journal.received(connection, event.name, event.data)
        if event.name == events.ACKNOWLEDGE and self._was_asked(connection, event):
            self._answer({}, connection, event, started)
            return
        try:
            identity = connection.identity
            if identity is None or identity.service is None:
                self._limit.take(connection, started, event.name)
            outcome = self._perform(connection, event)
        except RateLimited as error:
            self._refuse(connection, event, error)
            self._escalation.refused(connection, started)
            return
        except RealtimeError as error:
            self._refuse(connection, event, error)
            return
        except Exception:
            _log.failure("handling {event} failed", event=event.name)
            self._refuse(connection, event, InternalError())
            return
        if isinstance(outcome, Deferred):
            settled = _settled(outcome)
            if settled is not None:
                self._answer(settled, connection, event, started)
                return
            outcome.addCallbacks(
                self._answer,
                self._failed,
                callbackArgs=(connection, event, started),
                errbackArgs=(connection, event),
            )
            self._park_until(connection, outcome)
        else:
            self._answer(outcome, connection, event, started)

    def _was_asked(self, connection: Connection, event: Event) -> bool:
        """Whether an ``ack`` is one that was awaited: that one is free."""
        try:
            number = events.decode(events.Acknowledge, event.data).id
        except RealtimeError:
            return False
        return connection.state is State.LIVE and self._receipts.acknowledged(connection, number)

    def _perform(self, connection: Connection, event: Event) -> Outcome | Deferred[Outcome]:
        handler = self._handlers.get(event.name)
        service = handler is None and _of_service(connection, event.name)
        if handler is None and not service:
            if event.fault and not event.name:
                raise InvalidMessage(event.fault)
            raise UnknownEvent(f"accepted are {', '.join(self._handlers)}")
        if connection.state is not State.LIVE:
            if connection.state in _OVER:
                return {}
            if event.name != "auth:login":
                raise AuthRequired()
        if event.fault:
            raise InvalidMessage(event.fault)
        if handler is None:
            self._presence.active(connection)
            return self.services(connection, event)
        payload = events.decode(events.CLIENT_EVENTS[event.name], event.data)
        self._presence.active(connection)
        return handler(connection, payload, event)

    def _park_until(self, connection: Connection, done: Deferred[Any]) -> None:
        if done.called and not done.paused:
            return
        connection.parked = deque()
        done.addBoth(self._unpark, connection)

    def _unpark(self, result: Any, connection: Connection) -> Any:
        parked, connection.parked = connection.parked, None
        while parked:
            self._run(connection, parked.popleft())
            if connection.parked is not None:
                connection.parked.extend(parked)
                return result
        connection.outlet.resume_reading()
        return result

    def _answer(self, outcome: Outcome, connection: Connection, event: Event, started: float) -> None:
        answer = outcome if isinstance(outcome, Answer) else Answer(outcome)
        if event.ack is not None and connection.state not in _OVER:
            told = {"ok": True, **answer.fields}
            self._reply(connection, event.ack, told, answer.binary, answer.placed)
        took = self._clock.seconds() - started
        self._metrics.processed(event.name, took)
        if took >= self._slow:
            self._journal.handled(connection, event.name, took)
        if answer.then is not None:
            answer.then()

    def _failed(self, failure: Any, connection: Connection, event: Event) -> None:
        if isinstance(failure.value, RealtimeError):
            self._refuse(connection, event, failure.value)
        else:
            _log.failure("handling {event} failed", failure, event=event.name)
            self._refuse(connection, event, InternalError())

    def _refuse(self, connection: Connection, event: Event, error: RealtimeError) -> None:
        """Say no: in the acknowledgement if the client asked for one, else as ``system:error``."""
        self._metrics.refused(error.code)
        if connection.state in _OVER:
            return
        name = None if event.fault and not event.name else event.name
        if event.ack is not None:
            self._reply(connection, event.ack, {"ok": False, "error": error.refusal(name)})
        else:
            self._notices.error(connection, error, name)

    def _reply(
        self,
        connection: Connection,
        ack: Ack,
        told: dict[str, Any],
        binary: bool = False,
        placed: Placed = (),
    ) -> None:
        data = msgspec.json.encode(told)
        _write(connection, connection.session.reply(ack, data, binary, placed))

    def _broken(self, failure: Any, connection: Connection) -> None:
        _log.failure("connecting failed", failure)
        self._endings.end(connection, Close.INTERNAL)


@implementer(IReceiver)
class Receiver:
    """Hands what one transport receives to its session, and the commands to the router."""

    __slots__ = ("_connection", "_outlet", "_partial", "_router", "_session")

    def __init__(self, router: Router, outlet: IOutlet, session: ISession, handshake: Handshake) -> None:
        self._router = router
        self._outlet = outlet
        self._session = session
        self._connection = router.open(outlet, session, handshake)
        self._partial = False

    def received(self, data: str | bytes) -> None:
        try:
            commands = self._session.receive(data)
        except ProtocolError as error:
            self._router.broke_protocol(self._connection, error)
            return
        if not commands or self._partial:
            self._partial = self._router.progress(self._connection)
        self.take(commands)

    def take(self, commands: list[Command | Send]) -> None:
        """Run commands, and write the protocol's own answers among them."""
        for command in commands:
            if isinstance(command, Send):
                self._outlet.write(command.frame)
                continue
            self._router.handle(self._connection, command)

    def closed(self, reason: str) -> None:
        self._router.closed(self._connection, reason)


def _write(connection: Connection, frame: Frame) -> bool:
    """Write what there is to write; False if that is `NOTHING`."""
    connection.reencode()
    if frame is NOTHING:
        return False
    connection.outlet.write(frame)
    return True


def _of_service(connection: Connection, name: str) -> bool:
    """Whether an event that is none of clients is for `Router.services`: a verb, or a service's channel."""
    if name.startswith(events.SERVICE_EVENT):
        return True
    identity = connection.identity
    return identity is not None and identity.service is not None and ":" in name


def _no_services(connection: Connection, event: Event) -> Deferred[Outcome]:
    raise UnknownEvent()


def _settled(outcome: Deferred[Outcome]) -> Outcome | None:
    """What a Deferred has come to already, if that is an outcome: the embedded broker never waits."""
    result: Any = outcome.result if outcome.called and not outcome.paused else None
    return result if isinstance(result, dict | Answer) else None
