"""ServiceEvents: what other services ask for as clients with a service token."""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.internet.defer import Deferred

from ..api_keys import ApiKey
from ..connections import Connection
from ..errors import ApiForbidden, UnknownEvent
from ..events import SERVICE_EVENT
from ..handlers import Answer, Outcome
from ..messages import Event, Service
from . import shapes
from .publish import Accepted
from .verbs import VERBS, Caller, Verb, Verbs, accepted

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class ServiceEvents:
    """Does ``service:{verb}`` for those who may; an event with the name of a channel is published to it."""

    def __init__(self, verbs: Verbs) -> None:
        self._verbs = verbs

    def perform(self, connection: Connection, event: Event) -> Deferred[Outcome]:
        """Do what an event asks for.

        :returns: the fields of its acknowledgement: the verb's answer.
        :raises ApiForbidden: the client's token is not that of a service, or not for this verb.
        :raises UnknownEvent: there is no such verb.
        """
        identity = connection.identity
        if identity is None or identity.service is None:
            raise ApiForbidden("only for clients with a service token")
        verb, request = _asked(event)
        caller = Caller(_key(identity.user, identity.service), connection.handshake.address)
        caller.key.check(verb.scope)
        if isinstance(request, shapes.Publish):
            return Deferred.fromCoroutine(self._verbs.publish(request, caller)).addCallback(_published)
        return self._verbs.perform(verb, request, caller).addCallback(_told)


def _asked(event: Event) -> tuple[Verb, Any]:
    if not event.name.startswith(SERVICE_EVENT):
        return VERBS["publish"], shapes.Publish(event.name, msgspec.Raw(event.data))
    verb = VERBS.get(event.name.removeprefix(SERVICE_EVENT))
    if verb is None:
        raise UnknownEvent(f"accepted are {SERVICE_EVENT}{{{', '.join(VERBS)}}}")
    return verb, verb.decode(event.data)


def _key(user: str, service: Service) -> ApiKey:
    scopes: Any = service.scopes
    return ApiKey(f"service {user}", b"", service.channels, scopes)


def _published(taken: Accepted) -> Answer:
    return Answer(_told(accepted(taken)), placed=(taken.published,))


def _told(answer: Any) -> dict[str, Any]:
    return _fields(msgspec.json.encode(answer))
