"""WampClient: a client of WAMP without a transport, that writes and reads by Autobahn's own messages."""

from __future__ import annotations

from typing import Any

import autobahn.twisted  # noqa: F401 (chooses the framework for what follows)
from autobahn.wamp import message as wamp
from autobahn.wamp.role import (
    RoleCallerFeatures,
    RolePublisherFeatures,
    RoleSubscriberFeatures,
)
from autobahn.wamp.serializer import CBORSerializer, JsonSerializer, MsgPackSerializer

from realtime.messages import Handshake
from realtime.wire.wamp import WampSession

from .house import House
from .outlets import MemoryOutlet
from .wire.test_session import parsed

#: Autobahn's serializers, by ours.
SERIALIZERS = {
    "wamp.2.json": JsonSerializer,
    "wamp.2.cbor": CBORSerializer,
    "wamp.2.msgpack": MsgPackSerializer,
}
ROLES = {
    "publisher": RolePublisherFeatures(),
    "subscriber": RoleSubscriberFeatures(subscription_revocation=True),
    "caller": RoleCallerFeatures(),
}


class WampClient:
    """One client.

    :ivar welcome: the details of WELCOME, and its ``session``.
    """

    def __init__(
        self,
        house: House,
        user: str | None = None,
        subprotocol: str = "wamp.2.json",
        token: str | None = None,
        **extra: Any,
    ) -> None:
        self.house = house
        self.outlet = MemoryOutlet()
        self.serializer = SERIALIZERS[subprotocol]()
        session = house.node.direct.protocols[subprotocol]()
        assert isinstance(session, WampSession)
        self.receiver = house.node.router.accept(self.outlet, session, Handshake("127.0.0.1", token=token))
        self._requests = 0
        self._seen = 0
        self._news: list[Any] = []
        self.welcome: Any = None
        if user is not None:
            self.hello(**extra)
            (self.welcome,) = self.send(wamp.Authenticate(house.token(user)))[:1]

    def hello(
        self, *, realm: str = "realtime", methods: tuple[str, ...] = ("ticket",), **extra: Any
    ) -> list[Any]:
        return self.send(wamp.Hello(realm, ROLES, authmethods=list(methods), authid="x", authextra=extra))

    def send(self, message: Any) -> list[Any]:
        """Send a message of Autobahn's, and answer all that came since."""
        payload, binary = self.serializer.serialize(message)
        return self.send_raw(payload if binary else payload.decode())

    def send_raw(self, frame: str | bytes) -> list[Any]:
        self.receiver.received(frame)
        return self.fresh()

    def fresh(self) -> list[Any]:
        """All that came since it was last asked, as Autobahn's messages."""
        found = []
        for frame in self.outlet.frames[self._seen :]:
            for opcode, payload in parsed(frame.websocket):
                found += self.serializer.unserialize(payload, opcode == 2)
        self._seen = len(self.outlet.frames)
        self._news += found
        return found

    def ask(self, kind: Any, *args: Any, **options: Any) -> Any:
        """Send a request, and answer what answers it."""
        self._requests += 1
        for message in self.send(kind(self._requests, *args, **options)):
            if getattr(message, "request", None) == self._requests:
                return message
        return None

    def subscribe(self, topic: str, match: str = "exact") -> Any:
        return self.ask(wamp.Subscribe, topic, match=match)

    def unsubscribe(self, subscription: int) -> Any:
        return self.ask(wamp.Unsubscribe, subscription)

    def publish(self, topic: str, *, acknowledge: bool = True, options: Any = None, **payload: Any) -> Any:
        return self.ask(wamp.Publish, topic, kwargs=payload, acknowledge=acknowledge, **(options or {}))

    def call(self, procedure: str, *args: Any, **payload: Any) -> Any:
        return self.ask(wamp.Call, procedure, args=list(args), kwargs=payload)

    def events(self) -> list[Any]:
        """The EVENTs since it was last asked."""
        self.fresh()
        news, self._news = self._news, []
        return [message for message in news if isinstance(message, wamp.Event)]

    def heard(self) -> list[dict[str, Any]]:
        """The payloads of the EVENTs since it was last asked."""
        return [event.kwargs for event in self.events()]

    def cut(self) -> None:
        """The transport is lost."""
        self.receiver.closed("transport_close")
