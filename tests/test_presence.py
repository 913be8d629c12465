"""The look for idle connections."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from realtime.presence import BATCH

from .house import House


class IdleTests(SynchronousTestCase):
    """Connections that fall silent."""

    def house(self) -> House:
        house = House(rate_limit_max_connections=1000, presence_timeout=100.0, presence_interval=10.0)
        self.addCleanup(house.stop)
        return house

    def test_many_at_once(self) -> None:
        """Many that fall silent together are told of over several turns of the reactor."""
        house = self.house()
        clients = [house.client(f"u{n}") for n in range(BATCH * 3)]
        touch, touched, turns = house.node.store.touch, [], []

        def counting(*args: Any) -> Deferred[None]:
            if not touched:
                house.clock.callLater(0, lambda: turns.append(len(touched)))
            touched.append(args)
            return touch(*args)

        self.patch(house.node.store, "touch", counting)
        house.clock.pump([10.0] * 11)
        self.assertEqual(len(touched), len(clients))
        self.assertLess(turns[0], BATCH + 1)

    def test_who_speaks_or_leaves_meanwhile(self) -> None:
        """Who does something before its turn comes is not idle, and who has gone is passed over."""
        house = self.house()
        clients = [house.client(f"u{n}") for n in range(BATCH + 2)]
        touch = house.node.store.touch

        def meanwhile() -> None:
            clients[-1].call("user:presence", {"status": "online"})
            clients[-2].cut()

        def first(*args: Any) -> Deferred[None]:
            self.patch(house.node.store, "touch", touch)
            house.clock.callLater(0, meanwhile)
            return touch(*args)

        self.patch(house.node.store, "touch", first)
        house.clock.pump([10.0] * 10)
        shown = [self.successResultOf(house.node.store.presence(f"u{n}")).shown for n in range(BATCH + 2)]
        self.assertEqual(shown, ["away"] * BATCH + ["online"] * 2)
