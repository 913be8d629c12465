"""How many connections a user may have, and which of them makes room for one more."""

from __future__ import annotations

from realtime.errors import Close

from .house import HouseCase


class CapTests(HouseCase):
    """RATE_LIMIT_MAX_CONNECTIONS, by RATE_LIMIT_CONNECTION_POLICY."""

    def test_evict_oldest(self) -> None:
        """The user's oldest connection makes room, and does not come back by itself."""
        house = self.house(rate_limit_max_connections=2, rate_limit_connection_policy="evict-oldest")
        tabs = [house.client("alice") for _ in range(4)]
        closes = [tab.outlet.close_reason for tab in tabs]
        self.assertEqual(closes, [Close.SUPERSEDED, Close.SUPERSEDED, None, None])
        self.assertEqual(tabs[0].outlet.packets()[-1], "41")
        self.assertEqual(len(house.node.connections), 2)

    def test_dry_run(self) -> None:
        """One more is counted, and let in."""
        house = self.house(rate_limit_max_connections=2, rate_limit_dry_run=True)
        closes = [house.client("alice").outlet.close_reason for _ in range(4)]
        self.assertEqual(closes, [None] * 4)
        value = house.node.metrics.registry.get_sample_value
        self.assertEqual(value("realtime_rate_limited_total", {"scope": "connections"}), 2)

    def test_reject(self) -> None:
        house = self.house(rate_limit_max_connections=2)
        closes = [house.client("alice").outlet.close_reason for _ in range(3)]
        self.assertEqual(closes, [None, None, Close.CONNECTION_LIMIT])

    def test_connection_cap(self) -> None:
        """One connection more than a user may have is closed so that it comes back."""
        house = self.house(rate_limit_max_connections=2)
        clients = [house.client("alice") for _ in range(3)]
        self.assertEqual(
            [client.outlet.close_reason for client in clients], [None, None, Close.CONNECTION_LIMIT]
        )
        self.assertEqual(clients[2].outlet.frames, [])
        self.assertIsNone(house.client("bob").outlet.close_reason)
        clients[0].leave()
        self.assertIsNone(house.client("alice").outlet.close_reason)

    def test_cap_evicts_who_owes_a_pong(self) -> None:
        """A connection that may be dead makes room for one that is not."""
        house = self.house(rate_limit_max_connections=2)
        clients = [house.client("alice") for _ in range(2)]
        clients[1].outlet.owes_pong = True
        third = house.client("alice")
        self.assertIsNone(third.outlet.close_reason)
        self.assertEqual([client.outlet.close_reason for client in clients], [None, Close.EVICTED])

    def test_lost_connection_does_not_count(self) -> None:
        """A page that is loaded anew at the cap gets in at once."""
        house = self.house(rate_limit_max_connections=1)
        house.client("alice").cut()
        self.assertIsNone(house.client("alice").outlet.close_reason)

    def test_sessions_that_wait(self) -> None:
        """Of one user no more sessions wait than it may have connections: the newest ones."""
        house = self.house(rate_limit_max_connections=3)
        tabs = []
        for _ in range(50):
            tabs.append(house.client("alice"))
            tabs[-1].news()
            tabs[-1].cut()
        self.assertLessEqual(house.node.store.sessions, 4)
        for tab in tabs[-3:]:
            self.assertEqual(tab.back(token=house.token("alice")).pid, tab.pid)
        self.assertNotEqual(tabs[0].back(token=house.token("alice")).pid, tabs[0].pid)
