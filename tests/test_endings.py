"""How a session ends on its node."""

from __future__ import annotations

from realtime.errors import Close

from .house import HouseCase


class EndTests(HouseCase):
    """What is left, and what can be taken up."""

    def test_logout(self) -> None:
        """Logout is acknowledged, then DISCONNECT is sent and the session is gone."""
        house = self.house()
        client = house.client("alice")
        self.assertEqual(client.call("auth:logout"), {"ok": True})
        self.assertEqual(client.outlet.packets()[-1], "41")
        self.assertIs(client.outlet.close_reason, Close.LOGOUT)
        self.assertNotEqual(client.back(token=house.token("alice")).pid, client.pid)

    def test_nothing_stays(self) -> None:
        """After many connections of all endings nothing is left of them."""
        house = self.house()
        for n in range(300):
            client = house.client(f"u{n}")
            client.join(f"room:{n}")
            client.call("user:typing", {"roomId": f"room:{n}", "typing": True})
            (client.cut, client.leave, lambda c=client: c.call("auth:logout"))[n % 3]()
        node = house.node
        house.clock.pump([30.0] * 30)
        self.assertEqual((len(node.connections), len(node.rooms)), (0, 0))
        self.assertEqual((node.store.users, node.store.sessions), (0, 0))
        self.assertEqual(node.rooms.everyone.members, {})
        self.assertEqual(len(node.guard.policy.limit), 0)
