"""How all sessions of a user end."""

from __future__ import annotations

from realtime.errors import Close

from .house import HouseCase


class UserTests(HouseCase):
    """All at once, and for good."""

    def test_logout_everywhere(self) -> None:
        """All of the user's sessions end, those among them that were cut too."""
        house = self.house()
        here, there, cut = (house.client("alice") for _ in range(3))
        other = house.client("bob")
        cut.cut()
        here.call("auth:logout", {"everywhere": True})
        self.assertIs(here.outlet.close_reason, Close.LOGOUT)
        self.assertIs(there.outlet.close_reason, Close.LOGOUT)
        self.assertIsNone(other.outlet.close_reason)
        self.assertNotEqual(cut.back(token=house.token("alice")).pid, cut.pid)

    def test_kick(self) -> None:
        """A kicked user is told why, gets DISCONNECT and can't take the session up."""
        house = self.house()
        client = house.client("alice")
        client.news()
        self.assertEqual(house.kick("alice"), 1)
        self.assertEqual([p["code"] for p in client.heard("system:error")], ["connection.kicked"])
        self.assertEqual(client.outlet.packets()[-1], "41")
        self.assertIs(client.outlet.close_reason, Close.KICKED)
        self.assertEqual(len(house.node.connections), 0)

    def test_kick_of_several_tabs(self) -> None:
        """A user who is sent away goes in one step: all who shared a room hear of it, once."""
        house = self.house()
        watcher = house.client("watcher")
        watcher.join("lobby")
        tabs = [house.client("alice") for _ in range(3)]
        tabs[0].join("lobby")
        tabs[2].cut()
        watcher.news()
        self.assertEqual(house.kick("alice"), 2)
        self.assertEqual([event[0] for event in watcher.news()], ["user:offline", "room:user_left"])
        self.assertEqual([event[0] for event in tabs[0].news()][-1:], ["system:error"])
        house.clock.advance(house.node.settings.presence_grace + 1)
        self.assertEqual(watcher.news(), [])
