"""Who goes on sending although it is refused is slowed, then closed; others are not."""

from __future__ import annotations

from collections import deque
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from realtime.connections import Connection
from realtime.errors import Close
from realtime.escalation import PAUSE, STEP, Escalation

from .house import House
from .test_limits import connection


class EscalationTests(SynchronousTestCase):
    """`Escalation`."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.closed: list[Connection] = []
        self.began: list[Connection] = []
        self.escalation = Escalation(
            self.clock, 100, 60.0, close=self.closed.append, began=self.began.append
        )

    def refuse(self, client: Connection, times: int) -> None:
        for _ in range(times):
            self.escalation.refused(client, self.clock.seconds())

    def reading(self, client: Connection) -> bool:
        outlet: Any = client.outlet
        return bool(outlet.reading)

    def test_a_few_refusals(self) -> None:
        client = connection("alice")
        self.refuse(client, STEP - 1)
        self.assertTrue(self.reading(client))
        self.assertEqual((self.began, self.closed), ([client], []))

    def test_slowed(self) -> None:
        """Nothing is read for a while, and then again."""
        client = connection("alice")
        self.refuse(client, STEP)
        self.assertFalse(self.reading(client))
        self.clock.advance(PAUSE)
        self.assertTrue(self.reading(client))

    def test_closed(self) -> None:
        """Past the number it is closed, and so is the next connection of the user that is refused."""
        client = connection("alice")
        self.refuse(client, 101)
        self.assertEqual(self.closed, [client])
        again = connection("alice")
        self.refuse(again, 1)
        self.assertEqual(self.closed, [client, again])
        self.refuse(connection("bob"), 1)
        self.assertEqual(len(self.closed), 2)

    def test_forgiven(self) -> None:
        """Who keeps quiet for a while begins anew."""
        client = connection("alice")
        self.refuse(client, 90)
        self.clock.advance(60)
        self.refuse(client, 90)
        self.assertEqual(self.closed, [])
        self.assertEqual(len(self.began), 2)

    def test_nobodies_by_address(self) -> None:
        for _ in range(101):
            self.refuse(connection(), 1)
        self.assertEqual(len(self.closed), 1)

    def test_gone(self) -> None:
        """A connection that went while it was slowed is not resumed."""
        client = connection("alice")
        self.refuse(client, STEP)
        self.escalation.gone(client)
        self.clock.advance(PAUSE)
        self.assertFalse(self.reading(client))

    def test_waiting_event(self) -> None:
        """While an event of the client waits, its reading is the router's."""
        client = connection("alice")
        self.refuse(client, STEP)
        client.parked = deque()
        self.clock.advance(PAUSE)
        self.assertFalse(self.reading(client))

    def test_in_a_house(self) -> None:
        """A flood is answered, each with retryAfter, and then ends in a typed close."""
        house = House(rate_limit_max_messages=10, rate_limit_max_refusals=50)
        self.addCleanup(house.stop)
        client = house.client("alice")
        codes = []
        for _ in range(70):
            answer = client.call("user:typing", {"roomId": "lobby", "typing": True})
            if answer is None:
                break
            codes.append(answer["error"]["code"])
            if codes[-1] == "rate.limited":
                self.assertGreater(answer["error"]["retryAfter"], 0)
        self.assertEqual(codes, ["room.not_joined"] * 10 + ["rate.limited"] * 51)
        self.assertIs(client.outlet.close_reason, Close.RATE_LIMITED)
        self.assertEqual(len(house.node.connections), 0)
