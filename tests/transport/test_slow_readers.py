"""Clients that don't read, of every protocol and transport, through the whole client port in memory.

What is queued for them, what gives way, what is left out, and what they see when they read on.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ..house import House
from .peer import Answer, Peer

#: What the transport of these tests holds before it takes no more.
MARK = 1000


class Reader:
    """A client of one protocol: logs in, joins rooms, and tells the events that it has read."""

    def __init__(self, house: House, user: str = "alice") -> None:
        self.house = house
        factory = next(factory for port, factory, *_ in house.clock.tcpServers if port == 3003)
        self.peers = [Peer(factory, house.clock) for _ in range(2)]
        self.token = house.token(user)
        self.begin()

    def begin(self) -> None:
        raise NotImplementedError

    def join(self, room: str) -> None:
        raise NotImplementedError

    def ask(self) -> None:
        """Send something that is answered."""
        raise NotImplementedError

    @property
    def stalled(self) -> bool:
        return self.peers[0].wire.stalled

    @stalled.setter
    def stalled(self, value: bool) -> None:
        self.peers[0].wire.stalled, self.peers[0].wire.mark = value, MARK

    @property
    def reading(self) -> bool:
        """Whether the service reads what it sends."""
        return self.peers[0].wire.reading

    def texts(self) -> list[str]:
        """What it reads now, until nothing comes any more."""
        found: list[str] = []
        while said := [str(text) for text in self.peers[0].said()]:
            found += said
        return found

    def events(self) -> list[tuple[str, Any]]:
        """The events among what it reads now: names and payloads."""
        raise NotImplementedError


class SocketIO(Reader):
    """Socket.IO over a WebSocket."""

    def begin(self) -> None:
        assert self.peers[0].upgrade("/socket.io/?EIO=4&transport=websocket").status == 101
        self.say("40" + json.dumps({"token": self.token}))
        self.texts()

    def say(self, text: str) -> None:
        self.peers[0].say(text)

    def join(self, room: str) -> None:
        self.say("420" + json.dumps(["room:join", {"roomId": room}]))
        self.texts()

    def ask(self) -> None:
        self.say("429" + json.dumps(["room:history", {"roomId": "event:1"}]))

    def events(self) -> list[tuple[str, Any]]:
        found = [json.loads(text[2:]) for text in self.texts() if text.startswith("42")]
        return [(event, payload) for event, payload, *_ in found]


class Polling(SocketIO):
    """Socket.IO by long-polling."""

    def begin(self) -> None:
        opened = self.peers[0].ask("GET", "/socket.io/?EIO=4&transport=polling")
        self.target = "/socket.io/?EIO=4&transport=polling&sid=" + json.loads(opened.body[1:])["sid"]
        self.waits = False
        self.posted: Answer | None = None
        self.say("40" + json.dumps({"token": self.token}))
        self.texts()

    def say(self, text: str) -> None:
        self.peers[1].request("POST", self.target, text.encode())
        self.posted = self.peers[1].answer()

    @property
    def reading(self) -> bool:
        return self.posted is not None

    @property
    def stalled(self) -> bool:
        return not self.waits

    @stalled.setter
    def stalled(self, value: bool) -> None:
        if value and self.waits:
            # the poll that waits is answered first, and that is no slowness
            self.house.publish("notification:new", {"userId": "alice", "n": -1})
            self.texts_of_poll()

    def texts_of_poll(self) -> list[str]:
        if not self.waits:
            self.peers[0].request("GET", self.target)
        self.house.clock.advance(0)
        answer = self.peers[0].answer()
        self.waits = answer is None
        assert answer is None or answer.status == 200, answer.body
        return [] if answer is None else answer.body.decode().split("\x1e")

    def texts(self) -> list[str]:
        found: list[str] = []
        while said := self.texts_of_poll():
            found += said
        return found


class Plain(Reader):
    """Plain JSON."""

    def begin(self) -> None:
        assert self.peers[0].upgrade("/ws").status == 101
        self.say("auth:login", token=self.token)
        self.texts()

    def say(self, event: str, **data: Any) -> None:
        self.peers[0].say(json.dumps({"event": event, "data": data, "id": 1}))

    def join(self, room: str) -> None:
        self.say("room:join", roomId=room)
        self.texts()

    def ask(self) -> None:
        self.say("room:history", roomId="event:1")

    def events(self) -> list[tuple[str, Any]]:
        found = [json.loads(text) for text in self.texts()]
        return [(told["event"], told["data"]) for told in found if "event" in told]


class Wamp(Reader):
    """WAMP."""

    def begin(self) -> None:
        answer = self.peers[0].upgrade("/ws", Sec_WebSocket_Protocol="wamp.2.json")
        assert answer.status == 101
        self.say(1, "realtime", {"roles": {"subscriber": {}}, "authmethods": ["ticket"]})
        self.say(5, self.token, {})
        self.say(32, 1, {}, "booking.created")
        self.topics = {self.subscribed(): "booking:created"}

    def say(self, *message: Any) -> None:
        self.peers[0].say(json.dumps(message))

    def subscribed(self) -> int:
        return int(next(m[2] for m in map(json.loads, self.texts()) if m[0] == 33))

    def join(self, room: str) -> None:
        self.say(32, 2, {}, f"room.{room}.typing")
        self.topics[self.subscribed()] = "room:typing"
        for event in ("available", "sold"):
            self.say(32, 3, {}, f"ticket.{event}")
            self.topics[self.subscribed()] = f"ticket:{event}"

    def ask(self) -> None:
        self.say(48, 9, {}, "room.history", [], {"roomId": "event:1"})

    def events(self) -> list[tuple[str, Any]]:
        found = [json.loads(text) for text in self.texts()]
        return [(self.topics[told[1]], told[5]) for told in found if told[0] == 36]


class SlowReader:
    """What holds for each of them."""

    reader: type[Reader]

    def setUp(self) -> None:
        self.house = House(ws_max_queue_bytes=100_000)
        self.addCleanup(self.house.stop)
        self.other = self.house.client("bob")
        self.other.call("room:join", {"roomId": "event:1"})
        self.one = self.reader(self.house)
        self.one.join("event:1")
        self.other.call("room:history", {"roomId": "event:1"})

    def stall(self) -> None:
        """From here on the client takes nothing: what is written waits."""
        self.one.events()
        self.one.stalled = True
        self.must(-1, "x" * 2 * MARK)
        self.house.clock.advance(0)

    def must(self, n: int, text: str = "") -> None:
        self.house.publish("booking:created", {"userId": "alice", "n": n, "text": text})
        self.house.clock.advance(0)

    def latest(self, kind: str, n: int, event: str = "available") -> None:
        self.house.publish(f"ticket:{event}", {"eventId": "1", "ticketType": kind, "n": n})
        self.house.clock.advance(0)

    def value(self, name: str, **labels: str) -> float | None:
        return self.house.node.metrics.registry.get_sample_value(f"realtime_{name}_total", labels)

    def seen(self) -> list[tuple[str, Any, Any]]:
        """What the client reads now."""
        self.one.stalled = False
        told = [(event, data.get("ticketType"), data.get("n")) for event, data in self.one.events()]
        return [one for one in told if one[2] != -1]

    def test_values(self) -> None:
        """Of each thing it sees the newest value, of what must come all, in order."""
        self.stall()
        for n in range(300):
            self.must(n) if n % 100 == 0 else self.latest("vip" if n % 2 else "all", n)
        self.latest("vip", 300, event="sold")
        expected = [
            *(("booking:created", None, n) for n in (0, 100, 200)),
            *(
                ("ticket:available", "all", 298),
                ("ticket:available", "vip", 299),
                ("ticket:sold", "vip", 300),
            ),
        ]
        self.assertEqual(self.seen(), expected)
        given_way = self.value("messages_conflated", event="ticket:available")
        self.assertEqual(given_way, 297 - 2)
        self.assertEqual(self.value("messages_conflated", event="ticket:sold"), 0)

    def test_values_of_who_reads(self) -> None:
        """Who reads sees every one."""
        told = []
        self.one.events()
        for n in range(30):
            self.latest("vip", n)
            told += self.seen()
        self.assertEqual([n for _, _, n in told], [*range(30)])

    def test_bounded(self) -> None:
        """However many values there are, no more waits than one of each."""
        self.stall()
        socket = next(c for c in self.house.node.connections if c.user == "alice").outlet
        for n in range(2000):
            self.latest(str(n % 5), n)
        self.assertLess(socket.buffered, 5000)
        self.assertEqual(len(self.seen()), 5)

    def test_dropped(self) -> None:
        """Typing is left out when something waits."""
        self.stall()
        before = self.value("messages_dropped", event="room:typing") or 0
        self.other.emit("user:typing", {"roomId": "event:1", "typing": True})
        self.house.clock.advance(0)
        self.assertEqual(self.value("messages_dropped", event="room:typing"), before + 1)
        self.assertEqual(self.seen(), [])
        self.other.emit("user:typing", {"roomId": "event:1", "typing": False})
        self.assertEqual([event for event, *_ in self.seen()], ["room:typing"])

    def test_too_much(self) -> None:
        """What must come and does not fit closes the connection, so that it comes back."""
        self.stall()
        for n in range(20):
            self.must(n, "x" * 10_000)
        self.house.clock.advance(11)
        self.assertEqual(self.value("slow_consumers", loss="must"), 1)
        self.assertEqual(self.house.node.connections.of_user("alice"), [])

    def test_unread(self) -> None:
        """While it does not take its answers it is not read; then it is, and all is answered."""
        for n in range(20):
            self.other.call("room:message", {"roomId": "event:1", "text": "x" * 300, "n": n})
        self.stall()
        asked = 0
        while self.one.reading and asked < 100:
            self.one.ask()
            self.house.clock.advance(0)
            asked += 1
        self.assertLess(asked, 50)
        self.assertEqual(self.value("reads_paused"), 1)
        self.one.stalled = False
        answered = len([text for text in self.one.texts() if '"messages"' in text])
        self.house.clock.advance(0)
        self.assertEqual(answered, asked)
        self.assertTrue(self.one.peers[0].wire.reading)
        self.one.ask()
        self.assertEqual(len([text for text in self.one.texts() if '"messages"' in text]), 1)


class SocketIOTests(SlowReader, SynchronousTestCase):
    """Socket.IO over a WebSocket."""

    reader = SocketIO


class PollingTests(SlowReader, SynchronousTestCase):
    """Socket.IO by long-polling."""

    reader = Polling


class PlainTests(SlowReader, SynchronousTestCase):
    """Plain JSON."""

    reader = Plain


class WampTests(SlowReader, SynchronousTestCase):
    """WAMP."""

    reader = Wamp
