"""What the log says of messages, and of what was slow; and what it never says."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from realtime.journal import MESSAGES, SLOW, Journal
from realtime.line_limit import WINDOW
from realtime.logs import line
from realtime.pulse import INTERVAL

from .house import HouseCase
from .test_limits import connection

#: A card's number, as a payment service might send it.
NUMBER = "4111111111111111"


class LinesCase(SynchronousTestCase):
    """A test that sees the lines of one kind."""

    kind = "message"

    def setUp(self) -> None:
        self.lines: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(self._observe)
        self.addCleanup(globalLogPublisher.removeObserver, self._observe)

    def _observe(self, event: LogEvent) -> None:
        told = json.loads(line(event))
        if told["kind"] == self.kind:
            self.lines.append(told)

    def told(self, *fields: str) -> list[tuple[Any, ...]]:
        """The message of each line since this was last asked, and these fields."""
        lines, self.lines = self.lines, []
        return [tuple(told.get(field) for field in ("message", *fields)) for told in lines]


class MessageTests(LinesCase, HouseCase):
    def test_off(self) -> None:
        """As it comes, no message is told."""
        house = self.house()
        alice = house.client("alice")
        alice.join("lobby")
        alice.say("lobby", "hi")
        self.assertEqual(self.lines, [])
        self.assertFalse(house.node.journal.sampling)

    def test_all(self) -> None:
        """What comes and what goes: which event, whose, how large, to how many; not what is in it."""
        house = self.house(log_messages=1)
        alice, bob = house.client("alice"), house.client("bob")
        alice.join("lobby")
        bob.join("lobby")
        self.lines.clear()
        alice.say("lobby", "a secret between us")
        self.assertEqual(
            self.told("user", "connection", "protocol", "receivers", "offset"),
            [
                ("in: room:message", "alice", alice.sid, "socketio", None, None),
                ("out: room:message", None, None, None, 2, 3),
            ],
        )
        house.publish("payment:processed", {"userId": "bob", "card": NUMBER})
        (told,) = self.lines
        self.assertEqual(
            (told["event"], told["receivers"], told["milliseconds"]), ("payment:processed", 1, 0)
        )
        self.assertGreater(told["bytes"], 16)
        self.assertNotIn("data", told)

    def test_sample(self) -> None:
        """One of so many, each way."""
        house = self.house(log_messages=3)
        alice = house.client("alice")
        for _ in range(7):
            alice.emit("user:typing", {"roomId": "lobby", "typing": True})
        self.assertEqual([told["message"] for told in self.lines], ["in: user:typing"] * 2)

    def test_payloads(self) -> None:
        """Where wanted, they are shown; those of payments, logins and services never, nor tokens."""
        house = self.house(log_messages=1, log_payloads=True)
        token = house.token("alice")
        alice = house.client().connect()
        alice.call("auth:login", {"token": token})
        alice.join("lobby")
        alice.call("room:message", {"roomId": "lobby", "data": {"password": "hunter2", "n": 1}})
        house.publish("payment:processed", {"userId": "alice", "card": NUMBER})
        house.publish("user:alice:payment:failed", {"card": NUMBER})
        alice.call("service:publish", {"channel": "payment:failed", "data": {"card": NUMBER}})
        alice.call("room:message", {"roomId": "lobby", "data": {"x": "y" * 5000}})
        written = json.dumps(self.lines)
        for secret in (token, "hunter2", NUMBER):
            self.assertNotIn(secret, written)
        self.assertIn('\\"password\\":\\"***\\"', written)
        self.assertLess(max(len(told.get("data", "")) for told in self.lines), 300)
        shown = {told["event"] for told in self.lines if "data" in told}
        self.assertEqual(shown, {"room:join", "room:message"})

    def test_bounded(self) -> None:
        """So many lines in a while; then how many were left out."""
        self.kind = "service"
        clock = Clock()
        journal = Journal(clock.seconds, every=1)
        client = connection("alice")
        for _ in range(MESSAGES + 7):
            journal.received(client, "room:message", b"{}")
        clock.advance(WINDOW)
        journal.received(client, "room:message", b"{}")
        self.assertEqual(self.told("count"), [("7 lines of messages were left out", 7)])


class SlowTests(LinesCase, HouseCase):
    kind = "performance"

    def test_handler(self) -> None:
        """An event that took its time is told, one that did not is not."""
        house = self.house(log_slow=0.5)
        alice = house.client("alice")
        handlers = house.node.router._handlers
        join = handlers["room:join"]

        def slow(*arguments: Any) -> Any:
            house.clock.advance(0.6)
            return join(*arguments)

        alice.join("lobby")
        handlers["room:join"] = slow  # type: ignore[index]
        alice.join("attic")
        self.assertEqual(
            self.told("event", "user", "connection"),
            [("slow: room:join took 600 ms", "room:join", "alice", alice.sid)],
        )

    def test_reactor(self) -> None:
        """A turn of the reactor that held all others is told."""
        house = self.house(log_slow=0.5)
        house.clock.advance(INTERVAL)
        house.clock.advance(INTERVAL + 0.4)
        self.assertEqual(self.lines, [])
        house.clock.advance(INTERVAL + 0.7)
        self.assertEqual(self.told("milliseconds"), [("slow: the reactor was held for 700 ms", 700)])

    def test_off(self) -> None:
        house = self.house(log_slow=0.0)
        house.clock.advance(60)
        self.assertEqual(self.lines, [])

    def test_bounded(self) -> None:
        """So many lines in a while."""
        journal = Journal(Clock().seconds, slow=0.5)
        for _ in range(SLOW + 7):
            journal.commanded("commands", "publish.lua", 0.75)
        self.assertEqual(len(self.lines), SLOW)
        self.assertEqual(
            self.told("link", "command", "milliseconds")[0],
            ("slow: Redis answered publish.lua of commands after 750 ms", "commands", "publish.lua", 750),
        )
