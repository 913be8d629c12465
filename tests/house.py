"""House: a whole node without sockets, on a clock that tests move, and clients that live in memory."""

from __future__ import annotations

import json
from typing import Any

import jwt
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from realtime.messages import Handshake
from realtime.node import Node
from realtime.settings import Settings
from realtime.wire.plain import PlainSession
from realtime.wire.socketio import SocketIOSession

from .outlets import MemoryOutlet

SECRET = "a secret of at least thirty-two bytes"
REFRESH_SECRET = "another secret, for refresh tokens only"
START = 1_700_000_000.0


class House:
    """One node, started.

    :param settings: what differs from the defaults of development; times in seconds.
    """

    def __init__(self, **settings: Any) -> None:
        self.clock = MemoryReactorClock()
        given = {
            "jwt_secret": SECRET,
            "jwt_refresh_secret": REFRESH_SECRET,
            "api_key": "the key of the api",
            "rate_limit_max_messages": 100_000,
            **settings,
        }
        self.node = Node(Settings(**given), clock=self.clock, wall=self.wall)
        self.node.privilegedStartService()
        self.node.startService()

    def wall(self) -> float:
        return START + self.clock.seconds()

    def token(self, user: str | int = "alice", ttl: float = 3600, **claims: Any) -> str:
        made = {"sub": user, "exp": int(self.wall() + ttl), **claims}
        return jwt.encode(made, SECRET, algorithm="HS256")

    def client(self, user: str | None = None, **auth: Any) -> Client:
        """A client; connected as `user`, if one is named."""
        client = Client(self)
        if user is not None:
            client.connect(token=self.token(user), **auth)
        return client

    def publish(self, channel: str, data: dict[str, Any], message_id: str | None = None) -> Any:
        """Publish as a service does; answers what `Ingest.publish` answers."""
        found: list[Any] = []
        done = self.node.ingest.publish(channel, json.dumps(data).encode(), message_id)
        done.addBoth(found.append)
        return found[0]

    def kick(self, user: str) -> int:
        """End all sessions of a user, as the API does; how many connections that were."""
        found: list[Any] = []
        done = Deferred.fromCoroutine(self.node.sessions.user_endings.disconnect_user(user))
        done.addBoth(found.append)
        count: int = found[0]
        return count

    def stop(self) -> None:
        self.node.stopService()


class HouseCase(SynchronousTestCase):
    """A test with houses, which are stopped at its end."""

    def house(self, **settings: Any) -> House:
        house = House(**settings)
        self.addCleanup(house.stop)
        return house


class Client:
    """A Socket.IO client without a transport.

    :ivar pid: what the server said on CONNECT.
    """

    def __init__(self, house: House) -> None:
        self.house = house
        self.outlet = MemoryOutlet()
        session = SocketIOSession(1_000_000)
        self.receiver = house.node.router.accept(self.outlet, session, Handshake("127.0.0.1"))
        self.pid = ""
        self.sid = ""
        self.answer = ""
        self._acks = 0
        self._seen = 0
        self.offset: str | None = None

    def connect(self, **auth: Any) -> Client:
        before = len(self.outlet.frames)
        self.receiver.received("0" + (json.dumps(auth) if auth else ""))
        packets = self.outlet.packets()[before:]
        self.answer = packets[0] if packets else ""
        if self.answer.startswith("40"):
            told = json.loads(self.answer[2:])
            self.sid, self.pid = told["sid"], told.get("pid", "")
        return self

    def emit(self, name: str, *arguments: Any) -> None:
        self.receiver.received("2" + json.dumps([name, *arguments]))

    def call(self, name: str, *arguments: Any) -> Any:
        """Emit with an acknowledgement, and answer it; None if there is none (yet)."""
        self._acks += 1
        self.receiver.received(f"2{self._acks}" + json.dumps([name, *arguments]))
        prefix = f"43{self._acks}["
        for text in self.outlet.packets():
            if text.startswith(prefix):
                return json.loads(text[len(prefix) - 1 :])[0]
        return None

    def join(self, room: str, **more: Any) -> Any:
        return self.call("room:join", {"roomId": room, **more})

    def say(self, room: str, text: str, **more: Any) -> Any:
        return self.call("room:message", {"roomId": room, "text": text, **more})

    def news(self) -> list[list[Any]]:
        """The events since it was last asked, without offsets, which it remembers as a client does."""
        events = self.outlet.events()
        fresh = events[self._seen :]
        self._seen = len(events)
        for event in fresh:
            if isinstance(event[-1], str):
                self.offset = event.pop()
        return fresh

    def heard(self, name: str) -> list[Any]:
        """The payloads of the events of one name since `news` was last asked."""
        return [event[1] for event in self.news() if event[0] == name]

    def cut(self) -> None:
        """The transport is lost."""
        self.receiver.closed("transport_close")

    def leave(self) -> None:
        """DISCONNECT."""
        self.receiver.received("1")

    def back(self, **auth: Any) -> Client:
        """A new transport that takes up this one's session, as socket.io-client does."""
        self.news()
        following = Client(self.house)
        offset = {} if self.offset is None else {"offset": self.offset}
        following.connect(**{"pid": self.pid, **offset, **auth})
        following.offset = self.offset
        return following


class PlainClient:
    """A client of plain JSON without a transport.

    :ivar session: what the newest ``system:connected`` said: by it the session is taken up.
    :ivar offset: the last place in the sequence that it has seen.
    """

    def __init__(
        self, house: House, user: str | None = None, token: str | None = None, **login: Any
    ) -> None:
        self.house = house
        self.outlet = MemoryOutlet()
        self.receiver = house.node.router.accept(
            self.outlet, PlainSession(), Handshake("127.0.0.1", token=token)
        )
        self.session = ""
        self.offset: str | None = None
        self._ids = 0
        self._seen = 0
        if user is not None:
            login["token"] = house.token(user)
        if login:
            self.answer = self.call("auth:login", login)

    def say(self, text: str | bytes) -> None:
        """Send a message as it is."""
        self.receiver.received(text)

    def call(self, event: str, data: Any = None, **more: Any) -> Any:
        """Send an event with an id, and answer its acknowledgement; None if there is none (yet)."""
        self._ids += 1
        sent = {"event": event, "data": {} if data is None else data, "id": self._ids, **more}
        self.say(json.dumps(sent))
        for message in self.messages():
            if message.get("id") == self._ids:
                return {name: value for name, value in message.items() if name != "id"}
        return None

    def messages(self) -> list[dict[str, Any]]:
        """All that it was sent."""
        return [json.loads(frame.text) for frame in self.outlet.frames if frame.text]

    def news(self) -> list[dict[str, Any]]:
        """The events since it was last asked."""
        messages = self.messages()
        fresh = [message for message in messages[self._seen :] if "event" in message]
        self._seen = len(messages)
        for event in fresh:
            self.offset = event.get("offset", self.offset)
            if event["event"] == "system:connected":
                self.session = event["data"]["session"]
        return fresh

    def heard(self, name: str) -> list[Any]:
        """The payloads of the events of one name since `news` was last asked."""
        return [event["data"] for event in self.news() if event["event"] == name]

    def cut(self) -> None:
        """The transport is lost."""
        self.receiver.closed("transport_close")

    def back(self, user: str, **login: Any) -> PlainClient:
        """A new transport that takes up this one's session."""
        self.news()
        return PlainClient(self.house, user, **{"session": self.session, "position": self.offset, **login})
