"""Other people's rooms, by each protocol: the same refusal, and nothing of theirs is heard."""

from __future__ import annotations

from typing import Any

from autobahn.wamp import message as wamp
from twisted.trial.unittest import SynchronousTestCase

from realtime.trust.interface import Ban
from tests.house import House, PlainClient
from tests.wampclient import SERIALIZERS, WampClient

#: Rooms that are joined for others, or need a grant that mallory has not.
CLOSED = ("user:alice", "user:mallory", "role:admin", "private:1", "user", "role")


class ProtocolTests(SynchronousTestCase):
    """Mallory is logged in, and may be in open rooms only."""

    def house(self) -> House:
        house = House()
        self.addCleanup(house.stop)
        return house

    def say_secrets(self, house: House) -> None:
        """What is meant for alice, and for a room that mallory is not in."""
        house.publish("notification:new", {"userId": "alice", "text": "a secret"})
        house.publish("user:alice:notification:new", {"text": "a secret"})
        house.publish("room:private:1:message", {"text": "a secret"})

    def test_socketio(self) -> None:
        house = self.house()
        mallory = house.client("mallory")
        for room in CLOSED:
            for answer in (mallory.join(room), mallory.say(room, "x")):
                self.assertIn(answer["error"]["code"], ("room.forbidden", "room.not_joined"), room)
        self.say_secrets(house)
        self.assertNotIn("secret", str(mallory.outlet.packets()))

    def test_plain(self) -> None:
        house = self.house()
        mallory = PlainClient(house, "mallory")
        for room in CLOSED:
            for event in ("room:join", "room:history", "room:message"):
                answer = mallory.call(event, {"roomId": room, "text": "x"})
                self.assertIn("error", answer, (room, event))
        self.say_secrets(house)
        self.assertNotIn("secret", str(mallory.messages()))

    def test_wamp(self) -> None:
        """By each serializer: topics by name and by pattern, procedures, and publishing."""
        for subprotocol in SERIALIZERS:
            house = self.house()
            mallory = WampClient(house, "mallory", subprotocol)
            refused: list[Any] = []
            for room in CLOSED:
                refused.append(mallory.subscribe(f"room.{room}.message"))
                refused.append(mallory.call("room.join", roomId=room))
                refused.append(mallory.publish(f"room.{room}.message", text="x"))
            refused.append(mallory.subscribe("user.alice.notification.new"))
            refused.append(mallory.subscribe("user.alice.", "prefix"))
            for answer in refused:
                self.assertIsInstance(answer, wamp.Error)
            for pattern in ("", "user.", "notification.", "room."):
                mallory.subscribe(pattern, "prefix")
            mallory.subscribe("room..message", "wildcard")
            self.say_secrets(house)
            self.assertNotIn("secret", str(mallory.heard()))

    def test_revoked(self) -> None:
        """Who is blocked is out by each protocol, with a word for it."""
        house = self.house()
        clients: list[Any] = [
            house.client("alice"),
            PlainClient(house, "alice"),
            WampClient(house, "alice"),
        ]
        house.node.guard.trust.ban(Ban("block", "alice"))
        for client in clients:
            self.assertEqual(client.outlet.close_reason.reason, "revoked")
        self.assertEqual(PlainClient(house, "alice").answer["error"]["code"], "auth.blocked")
        (abort,) = WampClient(house, "alice").fresh() or [WampClient(house, "alice").welcome]
        self.assertIsInstance(abort, wamp.Abort)
