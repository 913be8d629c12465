"""ServiceEvents: the verbs of other services as events of a client with a service token.

Three are of such clients alone: ``service:queue_open {worker?, replay?}`` makes the client a worker of
booking queues, which is told of changes by ``service:queue``; ``service:queue_acknowledge {ids}``, and
``service:queue_close``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final, TypeVar

import msgspec
from twisted.internet.defer import Deferred

from ..api_keys import ApiKey
from ..booking_workers import WINDOW, BookingWorkers
from ..connections import Connection, State
from ..errors import ApiForbidden, InvalidMessage, RealtimeError, UnknownEvent
from ..events import SERVICE_EVENT
from ..handlers import Answer, Outcome
from ..messages import Event, Service
from ..notices import Notices
from . import shapes
from .publish import Accepted
from .queue_verbs import PROCEED
from .verbs import VERBS, Caller, Verb, Verbs, accepted

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


Fields = dict[str, Any]
_R = TypeVar("_R", bound=shapes.Request)


class QueueOpen(shapes.Request, frozen=True):
    """``service:queue_open``; see `BookingWorkers.open`."""

    worker: str = ""
    replay: bool = False


class QueueAcknowledge(shapes.Request, frozen=True):
    """``service:queue_acknowledge``: changes that are dealt with."""

    ids: Annotated[list[shapes.Number], msgspec.Meta(max_length=2 * WINDOW)]


class QueueClose(shapes.Request, frozen=True):
    """``service:queue_close``"""


class ServiceEvents:
    """Does ``service:{verb}`` for those who may; an event with the name of a channel is published to it."""

    def __init__(self, verbs: Verbs, workers: BookingWorkers, notices: Notices) -> None:
        self._verbs = verbs
        self._workers = workers
        self._notices = notices
        self._own: Final[dict[str, Callable[[Connection, bytes], Fields]]] = {
            f"{SERVICE_EVENT}queue_open": self._queue_open,
            f"{SERVICE_EVENT}queue_acknowledge": self._queue_acknowledge,
            f"{SERVICE_EVENT}queue_close": self._queue_close,
        }

    def perform(self, connection: Connection, event: Event) -> Outcome | Deferred[Outcome]:
        """Do what an event asks for.

        :returns: the fields of its acknowledgement: the verb's answer.
        :raises ApiForbidden: the client's token is not that of a service, or not for this verb.
        :raises UnknownEvent: there is no such verb.
        """
        identity = connection.identity
        if identity is None or identity.service is None:
            raise ApiForbidden("only for clients with a service token")
        key = _key(identity.user, identity.service)
        own = self._own.get(event.name)
        if own is not None:
            key.check_channel(PROCEED)
            return own(connection, event.data)
        verb, request = self._asked(event)
        caller = Caller(key, connection.handshake.address)
        caller.key.check(verb.scope)
        if isinstance(request, shapes.Publish):
            return Deferred.fromCoroutine(self._verbs.publish(request, caller)).addCallback(_published)
        return self._verbs.perform(verb, request, caller).addCallback(_told)

    def _asked(self, event: Event) -> tuple[Verb, Any]:
        if not event.name.startswith(SERVICE_EVENT):
            return VERBS["publish"], shapes.Publish(event.name, msgspec.Raw(event.data))
        verb = VERBS.get(event.name.removeprefix(SERVICE_EVENT))
        if verb is None:
            own = (name.removeprefix(SERVICE_EVENT) for name in self._own)
            raise UnknownEvent(f"accepted are {SERVICE_EVENT}{{{', '.join((*VERBS, *own))}}}")
        return verb, verb.decode(event.data)

    # -- workers of booking queues

    def _queue_open(self, connection: Connection, data: bytes) -> Fields:
        opened = _read(QueueOpen, data)

        def ended(error: RealtimeError) -> None:
            self._notices.error(connection, error, f"{SERVICE_EVENT}queue_open")

        self._workers.open(
            connection,
            opened.worker,
            opened.replay,
            lambda changes: self._notices.changed(connection, changes),
            ended,
            alive=lambda: connection.state is State.LIVE,
        )
        return {}

    def _queue_acknowledge(self, connection: Connection, data: bytes) -> Fields:
        self._workers.acknowledge(connection, _read(QueueAcknowledge, data).ids)
        return {}

    def _queue_close(self, connection: Connection, data: bytes) -> Fields:
        _read(QueueClose, data)
        self._workers.close(connection)
        return {}


def _read(kind: type[_R], data: bytes) -> _R:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidMessage(f"the request is not as expected: {str(error)[:200]}") from None


def _key(user: str, service: Service) -> ApiKey:
    scopes: Any = service.scopes
    return ApiKey(f"service {user}", b"", service.channels, scopes)


def _published(taken: Accepted) -> Answer:
    return Answer(_told(accepted(taken)), placed=(taken.published,))


def _told(answer: Any) -> dict[str, Any]:
    return _fields(msgspec.json.encode(answer))
