"""How long a connection may stay without an identity."""

from __future__ import annotations

from realtime.errors import Close

from .house import HouseCase


class LoginTests(HouseCase):
    """WS_CONNECTION_TIMEOUT."""

    def test_silent_transport(self) -> None:
        """A transport on which nothing is said is closed."""
        house = self.house()
        client = house.client()
        house.clock.advance(house.node.settings.ws_connection_timeout - 1)
        self.assertIsNone(client.outlet.close_reason)
        house.clock.advance(1)
        self.assertIs(client.outlet.close_reason, Close.CONNECT_TIMEOUT)

    def test_live_connections_stay(self) -> None:
        """Who has logged in is not closed by that deadline."""
        house = self.house(presence_interval=1000.0)
        client = house.client("alice")
        house.clock.advance(house.node.settings.ws_connection_timeout * 2)
        self.assertIsNone(client.outlet.close_reason)

    def test_left_transport(self) -> None:
        """A transport whose session has ended is closed in time, unless another began on it."""
        house = self.house()
        first, second = house.client("alice"), house.client("bob")
        first.leave()
        second.leave()
        house.clock.advance(house.node.settings.ws_connection_timeout - 1)
        second.connect(token=house.token("bob"))
        house.clock.advance(1)
        self.assertIs(first.outlet.close_reason, Close.CONNECT_TIMEOUT)
        self.assertIsNone(second.outlet.close_reason)
