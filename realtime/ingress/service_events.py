"""ServiceEvents: the verbs of other services as events of a client with a service token."""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.internet.defer import Deferred

from ..api_keys import ApiKey
from ..connections import Connection
from ..errors import ApiForbidden, UnknownEvent
from ..events import SERVICE_EVENT
from ..messages import Event
from .verbs import VERBS, Caller, Verbs

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class ServiceEvents:
    """Does ``service:{verb}`` for those who may."""

    def __init__(self, verbs: Verbs) -> None:
        self._verbs = verbs

    def perform(self, connection: Connection, event: Event) -> Deferred[Any]:
        """Do what an event asks for.

        :returns: the fields of its acknowledgement: the verb's answer.
        :raises ApiForbidden: the client's token is not that of a service, or not for this verb.
        :raises UnknownEvent: there is no such verb.
        """
        identity = connection.identity
        if identity is None or identity.service is None:
            raise ApiForbidden("only for clients with a service token")
        verb = VERBS.get(event.name.removeprefix(SERVICE_EVENT))
        if verb is None:
            raise UnknownEvent(f"accepted are {SERVICE_EVENT}{{{', '.join(VERBS)}}}")
        service = identity.service
        scopes: Any = service.scopes
        key = ApiKey(f"service {identity.user}", b"", service.channels, scopes)
        key.check(verb.scope)
        caller = Caller(key, connection.handshake.address)
        return self._verbs.perform(verb, verb.decode(event.data), caller).addCallback(_told)


def _told(answer: Any) -> dict[str, msgspec.Raw]:
    return _fields(msgspec.json.encode(answer))
