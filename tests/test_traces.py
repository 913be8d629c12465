"""Tracing one user: what the log tells, of whom, for how long, on which nodes."""

from __future__ import annotations

from typing import Any

from zope.interface.verify import verifyObject

from realtime.connections import IWatch
from realtime.traces import LINES, MAX_TRACES
from realtime.trust.interface import Ban
from realtime.wire.session import ISession

from .house import START, House, HouseCase, PlainClient
from .test_journal import NUMBER, LinesCase


def trace(house: House, user: str, seconds: float = 600.0, made: int = 1) -> None:
    """Trace a user, as the API does."""
    house.node.guard.trust.ban(Ban("trace", user, until=house.wall() + seconds, made=made))


class TraceTests(LinesCase, HouseCase):
    def begin(self, **settings: Any) -> House:
        house = self.house(**settings)
        self.alice, self.bob = house.client("alice"), house.client("bob")
        for client in (self.alice, self.bob):
            client.join("lobby")
        return house

    def test_messages(self) -> None:
        """What the user sends, is answered and gets; of nobody else, and no payload."""
        house = self.begin()
        self.assertEqual(self.lines, [])
        trace(house, "alice")
        self.assertEqual(self.told(), [("alice is traced",)])
        self.alice.say("lobby", "hi")
        self.bob.say("lobby", "hello")
        self.alice.call("room:join", {"roomId": "!"})
        self.alice.emit("room:join", {"roomId": "!"})
        house.publish("payment:processed", {"userId": "alice", "card": NUMBER})
        self.assertNotIn("data", {name for told in self.lines for name in told})
        sid = self.alice.sid
        self.assertEqual(
            self.told("connection", "offset", "code"),
            [
                ("trace: alice sent room:message", sid, None, None),
                ("trace: alice gets room:message", sid, 3, None),
                ("trace: alice is answered ok", sid, None, None),
                ("trace: alice gets room:message", sid, 4, None),
                ("trace: alice sent room:join", sid, None, None),
                ("trace: alice is answered room.invalid_id", sid, None, None),
                ("trace: alice sent room:join", sid, None, None),
                ("trace: alice gets system:error", sid, None, "room.invalid_id"),
                ("trace: alice gets payment:processed", sid, 1, None),
            ],
        )

    def test_payloads(self) -> None:
        """With LOG_PAYLOADS what is in them, but not of payments."""
        house = self.begin(log_payloads=True)
        trace(house, "alice")
        self.lines.clear()
        self.alice.say("lobby", "hi")
        self.assertIn('"text": "hi"', self.lines[0]["data"])
        self.lines.clear()
        house.publish("payment:processed", {"userId": "alice", "card": NUMBER})
        self.assertNotIn(NUMBER, str(self.lines))

    def test_connections_to_come(self) -> None:
        """Who comes while traced is so from the greeting on, in what was missed too, by any protocol."""
        house = self.begin()
        trace(house, "alice")
        self.alice.cut()
        self.bob.say("lobby", "missed")
        self.lines.clear()
        back = self.alice.back(token=house.token("alice"))
        self.assertEqual(
            self.told("missed")[:2],
            [("trace: alice gets room:message", True), ("trace: alice gets system:connected", None)],
        )
        self.assertEqual([event[0] for event in back.news()][:2], ["room:message", "system:connected"])
        PlainClient(house, "alice")
        self.assertIn(("trace: alice gets system:connected",), self.told())

    def test_frames(self) -> None:
        """Clients get what they would have got; who is traced shares no frame, and so is always told."""
        house = self.begin()
        other = house.client("alice")
        other.join("lobby")
        trace(house, "alice")
        for client in (self.alice, self.bob, other):
            client.news()
        self.bob.say("lobby", "hi")
        heard = [client.news() for client in (self.alice, self.bob, other)]
        self.assertEqual(heard[0], heard[1])
        self.assertEqual(heard[0], heard[2])
        self.assertEqual(self.alice.offset, self.bob.offset)
        trace(house, "bob")
        self.lines.clear()
        self.alice.say("lobby", "hi")
        gets = [user for (message,) in self.told() if "gets" in message for user in message.split()[1:2]]
        self.assertEqual(sorted(gets), ["alice", "alice", "bob"])

    def test_ends(self) -> None:
        """It ends when its time is over, or when it is lifted; then the connection is as it was."""
        house = self.begin()
        (connection,) = house.node.connections.of_user("alice")
        session, encoding = connection.session, connection.encoding
        for end in ("time", "lifted"):
            trace(house, "alice", 60)
            verifyObject(ISession, connection.session)
            verifyObject(IWatch, connection.watches[0])
            self.assertIsNot(connection.session, session)
            if end == "time":
                house.clock.advance(60)
            else:
                house.node.guard.trust.lift("trace", "alice")
            self.assertIs(connection.session, session)
            self.assertEqual((connection.watches, connection.encoding), ((), encoding))
            self.lines.clear()
            self.alice.say("lobby", "hi")
            self.assertEqual(self.lines, [])

    def test_somebody_else(self) -> None:
        """A transport that has become another user's is not traced."""
        house = self.begin()
        trace(house, "alice")
        self.alice.call("auth:login", {"token": house.token("carol")})
        self.lines.clear()
        self.alice.say("lobby", "hi")
        self.assertEqual(self.lines, [])
        trace(house, "bob")
        self.bob.leave()
        self.lines.clear()
        self.bob.connect()
        self.bob.call("auth:login", {"token": "junk"})
        self.assertEqual(self.lines, [])

    def test_beside_a_watch(self) -> None:
        """An operator may look at a connection that is traced; either ends by itself."""
        house = self.begin()
        sid = self.alice.sid
        trace(house, "alice", 5)
        house.node.census.answers()["events"]({"id": sid, "after": "0"})
        (connection,) = house.node.connections.of_user("alice")
        self.assertEqual(len(connection.watches), 2)
        house.clock.advance(6)
        self.assertEqual(len(connection.watches), 1)
        self.alice.say("lobby", "hi")
        seen: Any = house.node.census.answers()["events"]({"id": sid, "after": "0"})
        self.assertEqual([one.way for one in seen["events"]][:1], ["in"])
        house.clock.advance(60)
        self.assertEqual(connection.watches, ())

    def test_bounded(self) -> None:
        """So many users, the first who were asked for, and so many lines in a while."""
        house = self.begin()
        for number in range(MAX_TRACES + 5):
            trace(house, f"u{number}", made=number)
        self.assertEqual(len(house.node.traces.standing()), MAX_TRACES)
        self.assertNotIn(f"u{MAX_TRACES}", house.node.traces.standing())
        house.node.guard.trust.lift("trace", "u0")
        self.assertIn(f"u{MAX_TRACES}", house.node.traces.standing())
        client = house.client("u1")
        self.lines.clear()
        for _ in range(LINES):
            client.emit("user:typing", {"roomId": "x"})
        self.assertLessEqual(len(self.lines), LINES)

    def test_restart(self) -> None:
        """What stands when a node starts holds for it."""
        house = self.begin()
        until = START + 600
        house.node.guard.enforcement.reset([Ban("trace", "bob", until=until)])
        self.assertEqual(house.node.traces.standing(), {"bob": until})
        self.lines.clear()
        self.bob.say("lobby", "hi")
        self.assertEqual(self.told()[0], ("trace: bob sent room:message",))
