"""Broker: what one client of WAMP subscribes to and publishes, and the events that it gets.

Subscribing to a topic of one room joins the room, unsubscribing from the last of them leaves it. A
publication comes once for each subscription that matches it, always with the same publication id.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from ..errors import InvalidMessage, ProtocolError, RealtimeError, TooManyRooms
from ..messages import Command, Event, Later, Own, Placed, Publication
from . import wamp_errors as uris
from . import wamp_topics
from .session import NOTHING, Frame, Several
from .wamp_messages import (
    PUBLISH,
    PUBLISHED,
    SUBSCRIBE,
    SUBSCRIBED,
    UNSUBSCRIBE,
    UNSUBSCRIBED,
    Asked,
    event_of,
    payload_of,
    selection_of,
)
from .wamp_realm import Encoder, publication_number
from .wamp_subscriber import Subscriber
from .wamp_topics import Subscription

#: Subscriptions of one connection.
MAX_SUBSCRIPTIONS: Final = 200


class Broker:
    """The broker's side of one session.

    :ivar subscriber: what the client is subscribed to.
    :ivar connection: the public id of its connection.
    """

    __slots__ = ("_codec", "_encoder", "_held", "_held_bytes", "_realm", "connection", "subscriber")

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._codec = encoder.codec
        self._realm = encoder.realm
        self.subscriber = Subscriber(encoder.interests)
        self.connection = ""
        # What came since a session was taken up, for subscriptions that are yet to be made again.
        self._held: list[Publication] | None = None
        self._held_bytes = 0

    @property
    def encoding(self) -> Any:
        """Who has the same interest has the same frames. What is held is its own affair."""
        return self.subscriber.interest if self._held is None else self

    # -- from the client

    def subscribe(self, subscribe: Any) -> Command:
        """SUBSCRIBE; its answer is `subscribed`."""
        match, uri = subscribe.match or wamp_topics.EXACT, subscribe.topic
        return Later(lambda: self._subscribe(Asked(SUBSCRIBE, subscribe.request), match, uri))

    def _subscribe(self, asked: Asked, match: str, uri: str) -> Event | Own:
        try:
            wamp_topics.check(match, uri, self.subscriber.user)
        except RealtimeError as error:
            return Own(asked, error)
        asked.subscription = one = self._realm.subscriptions.get(match, uri)
        known = self.subscriber.get(one.id) is not None
        if not known and len(self.subscriber) >= MAX_SUBSCRIPTIONS:
            return Own(asked, TooManyRooms(f"a connection has at most {MAX_SUBSCRIPTIONS} subscriptions"))
        if one.room is None or known:
            return Own(asked)
        self.subscriber.joining = asked
        return Event("room:join", msgspec.json.encode({"roomId": one.room}), asked, brief=True)

    def unsubscribe(self, unsubscribe: Any) -> Command:
        """UNSUBSCRIBE; its answer is `unsubscribed`."""
        return Later(lambda: self._unsubscribe(unsubscribe.request, unsubscribe.subscription))

    def _unsubscribe(self, request: int, number: int) -> Event | Own:
        one = self.subscriber.get(number)
        asked = Asked(UNSUBSCRIBE, request, one)
        if one is None:
            asked.error = uris.NO_SUCH_SUBSCRIPTION
            return Own(asked, InvalidMessage("there is no such subscription"))
        room = self.subscriber.end(one)
        if room is None:
            return Own(asked)
        return Event("room:leave", msgspec.json.encode({"roomId": room}), asked)

    def publish(self, publish: Any, elements: list[Any]) -> Command:
        """PUBLISH: what a client sends to a room; or what a service publishes, which others may not.

        :raises ProtocolError: the options have not the shape of their type.
        """
        ack = Asked(PUBLISH, publish.request) if publish.acknowledge else None
        disclose = elements[2].get("disclose_me", False)
        if not isinstance(disclose, bool):
            raise ProtocolError("disclose_me is true or false")
        try:
            selection = selection_of(publish, disclose)
            place = wamp_topics.place_of(publish.topic)
            if (place is None or place.event != "room:message") and selection.lists:
                raise InvalidMessage("only messages can leave out receivers, or choose them")
            if place is None:
                return self._publish_as_service(publish.topic, elements[4:], ack, selection.except_self)
        except (InvalidMessage, ProtocolError) as error:
            return Own(ack, InvalidMessage(error.message))
        return event_of(self._codec, place.event, elements[4:], ack, {"roomId": place.room}, selection)

    def _publish_as_service(
        self, topic: str, arguments: list[Any], ack: Asked | None, except_self: bool
    ) -> Event:
        data = msgspec.Raw(payload_of(self._codec, arguments).data)
        asked: dict[str, Any] = {"channel": wamp_topics.channel_of(topic), "data": data}
        if except_self:
            asked["exclude"] = {"connections": [self.connection]}
        return Event("service:publish", msgspec.json.encode(asked), ack)

    # -- to the client: answers

    def answer(self, ack: Asked, placed: Placed) -> Frame:
        """SUBSCRIBED, UNSUBSCRIBED or PUBLISHED."""
        if ack.kind == SUBSCRIBE:
            return self._subscribed(ack)
        if ack.kind == UNSUBSCRIBE:
            return self._unsubscribed(ack)
        number = publication_number(placed[0]) if placed else next(self._realm.unlogged)
        return self._codec.frame((PUBLISHED, ack.request, number))

    def _subscribed(self, ack: Asked) -> Frame:
        one = ack.subscription
        assert one is not None
        frames = [self._codec.frame((SUBSCRIBED, ack.request, one.id))]
        if self.subscriber.add(one) and self._held:
            alone = self._encoder.interests.get(frozenset((one,)), self.subscriber.user)
            held = (self._encoder.frame(publication, alone) for publication in self._held)
            frames += [frame for frame in held if frame is not NOTHING]
        return frames[0] if len(frames) == 1 else Several(frames)

    def _unsubscribed(self, ack: Asked) -> Frame:
        one = ack.subscription
        assert one is not None
        self.subscriber.remove(one)
        return self._codec.frame((UNSUBSCRIBED, ack.request))

    # -- to the client: what happens

    def encode(self, publication: Publication) -> Frame:
        """See `ISession`."""
        if self._held is not None:
            self._hold(publication)
        return self._encoder.frame(publication, self.subscriber.interest)

    def replay(self, publications: Iterable[Publication]) -> Iterable[Frame]:
        """See `ISession`: the client has yet to subscribe; each subscription begins with what it missed."""
        self._held = list(publications)
        return ()

    def settle(self) -> None:
        """See `ISession`."""
        self._held, self._held_bytes = None, 0

    def _hold(self, publication: Publication) -> None:
        assert self._held is not None
        self._held_bytes += len(publication.data)
        self._held.append(publication)
        if self._held_bytes > self._realm.max_held:
            self.settle()

    def event(self, name: str, room: str | None, data: bytes) -> Frame:
        """An event for this client alone."""
        topic = wamp_topics.topic_of_event(name, room)
        matching = self.subscriber.interest.matching(topic, None)
        if not matching:
            return NOTHING
        return self._encoder.events(
            topic, None, next(self._realm.unlogged), matching, self._codec.body(data)
        )

    def entered(self, room: str) -> list[Frame]:
        """The connection is in a room: who waits for that is subscribed from here on."""
        asked = self.subscriber.entered(room)
        if asked is None:
            return []
        asked.told = True
        return [self._subscribed(asked)]

    def left(self, room: str) -> list[Frame]:
        """The connection is in a room no more: the subscriptions end that nobody has ended."""
        return self._revoke(self.subscriber.left(room))

    def become(self, user: str) -> list[Frame]:
        """The connection is somebody else's: so are not its subscriptions."""
        return [] if user == self.subscriber.user else self._revoke(self.subscriber.become(user))

    def _revoke(self, subscriptions: list[Subscription]) -> list[Frame]:
        self.subscriber.remove(*subscriptions)
        return [
            self._codec.frame((UNSUBSCRIBED, 0, {"subscription": one.id, "reason": uris.REVOKED}))
            for one in subscriptions
        ]
