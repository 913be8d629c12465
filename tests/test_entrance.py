"""What becomes true of a session between the store's answer and its first delivery."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from realtime.errors import Close
from realtime.trust.interface import Ban

from .house import Client, House, HouseCase


class BanTests(HouseCase):
    """A ban that is made while the store is asked ends the session as it enters."""

    def banned_meanwhile(self, house: House, step: str) -> None:
        """Let the next call of one of the store's methods be answered after a ban."""
        store = house.node.store
        real = getattr(store, step)

        def late(*args: Any) -> Deferred[Any]:
            house.node.guard.trust.ban(Ban("block", "alice"))
            answer: Deferred[Any] = real(*args)
            return answer

        self.patch(store, step, late)

    def assert_expelled(self, house: House, client: Client) -> None:
        self.assertEqual([told["code"] for told in client.heard("system:error")], ["auth.blocked"])
        self.assertEqual(client.outlet.packets()[-1], "41")
        self.assertIs(client.outlet.close_reason, Close.REVOKED)
        self.assertEqual((len(house.node.connections), house.node.store.sessions), (0, 0))

    def test_begun(self) -> None:
        house = self.house()
        self.banned_meanwhile(house, "begin")
        self.assert_expelled(house, house.client("alice"))

    def test_taken_up(self) -> None:
        house = self.house()
        client = house.client("alice")
        client.cut()
        self.banned_meanwhile(house, "take_over")
        self.assert_expelled(house, client.back(token=house.token("alice")))
