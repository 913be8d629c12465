"""Dealer: calls of the service's own procedures, which are the events of clients and the event history."""

from __future__ import annotations

from typing import Any

import msgspec

from ..errors import InvalidMessage, ProtocolError, RoomForbidden
from ..events import CLIENT_EVENTS, SERVICE_EVENT
from ..messages import Command, Event, Later, Own, Placed
from . import wamp_errors as uris
from . import wamp_history
from .session import Frame
from .wamp_codecs import Codec
from .wamp_history import Page
from .wamp_messages import CALL, GET_EVENTS, REGISTER, RESULT, UNREGISTER, Asked, event_of
from .wamp_subscriber import Subscriber


class Dealer:
    """The dealer's side of one session.

    :param subscriber: whose subscriptions have a history.
    """

    __slots__ = ("_codec", "_subscriber")

    def __init__(self, codec: Codec, subscriber: Subscriber) -> None:
        self._codec = codec
        self._subscriber = subscriber

    # -- from the client

    def call(self, call: Any, elements: list[Any]) -> Command:
        """CALL; its answer is `result`."""
        asked = Asked(CALL, call.request)
        if call.procedure == GET_EVENTS:
            return self._get_events(asked, elements[4:])
        name = call.procedure.replace(".", ":", 1)
        if name not in CLIENT_EVENTS and not name.startswith(SERVICE_EVENT):
            # As it was called, so that the refusal names what the client knows.
            name = call.procedure
        asked.joins = name == "room:join"
        return event_of(self._codec, name, elements[4:], asked)

    def _get_events(self, asked: Asked, arguments: list[Any]) -> Command:
        try:
            given = [self._codec.payload(argument).data for argument in arguments]
            page = wamp_history.read(*given)
        except (ProtocolError, InvalidMessage) as error:
            return Own(asked, InvalidMessage(error.message))
        return Later(lambda: self._events_of(asked, page))

    def _events_of(self, asked: Asked, page: Page) -> Event | Own:
        one = self._subscriber.get(page.subscription)
        if one is None:
            asked.error = uris.NO_SUCH_SUBSCRIPTION
            return Own(asked, InvalidMessage("there is no such subscription"))
        asked.subscription, asked.page = one, page
        if one.room is None:
            return Own(asked)
        return Event("room:history", msgspec.json.encode({"roomId": one.room, "limit": 1000}), asked)

    def register(self, register: Any) -> Command:
        """REGISTER is refused."""
        return Own(Asked(REGISTER, register.request), RoomForbidden("the procedures are the service's own"))

    def unregister(self, unregister: Any) -> Command:
        """UNREGISTER: there is nothing registered."""
        asked = Asked(UNREGISTER, unregister.request, error=uris.NO_SUCH_REGISTRATION)
        return Own(asked, InvalidMessage("there is no such registration"))

    # -- to the client

    def result(self, ack: Asked, data: bytes, placed: Placed) -> Frame:
        """RESULT: the fields of an acknowledgement as the keyword arguments, or a page of events."""
        if ack.joins:
            self._subscriber.keep(msgspec.json.decode(data)["roomId"])
        if ack.page is None:
            return self._codec.frame((RESULT, ack.request, {}, ()), data)
        assert ack.subscription is not None
        events = wamp_history.choose(wamp_history.events(placed, ack.subscription), ack.page)
        return self._codec.frame((RESULT, ack.request, {}), msgspec.json.encode([events]))

    def nothing(self, ack: Asked) -> Frame:
        """RESULT: no events."""
        return self._codec.frame((RESULT, ack.request, {}, [[]]))
