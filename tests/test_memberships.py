"""The rooms that come and go with an identity."""

from __future__ import annotations

from .house import HouseCase


class IdentityTests(HouseCase):
    """The user's room, its roles' rooms and those of its token."""

    def test_default_rooms(self) -> None:
        """The user's room, the roles' rooms and the token's rooms are joined for it."""
        house = self.house()
        client = house.client()
        client.connect(token=house.token("alice", roles=["staff"], rooms=["event:7", "private:*"]))
        connection = house.node.connections.get(client.sid)
        self.assertEqual(connection.rooms, {"user:alice", "role:staff", "event:7"})
        self.assertEqual(connection.joined, {"event:7"})
        self.assertEqual([p["roomId"] for p in client.heard("room:joined")], ["event:7"])

    def test_full_default_room(self) -> None:
        """A token's room that is full is told of; the connection lives."""
        house = self.house(max_room_members=1)
        house.client("bob").join("event:7")
        client = house.client().connect(token=house.token("alice", rooms=["event:7"]))
        self.assertEqual([p["code"] for p in client.heard("system:error")], ["room.full"])
        self.assertIsNone(client.outlet.close_reason)

    def test_rooms_of_a_token(self) -> None:
        """A token's rooms past the limit of a connection are refused, not passed over in silence."""
        house = self.house(max_rooms_per_connection=2)
        client = house.client().connect(token=house.token("alice", rooms=["a", "b", "c"]))
        (refused,) = client.heard("system:error")
        self.assertEqual(refused["code"], "room.limit")
        self.assertTrue(refused["message"].startswith("c: "))
        client.call("room:leave", {"roomId": "a"})
        client.news()
        newer = house.token("alice", rooms=["b", "c"])
        self.assertTrue(client.call("auth:token_refresh", {"token": newer})["ok"])
        self.assertEqual([p["roomId"] for p in client.heard("room:joined")], ["c"])

    def test_grants_follow_the_token(self) -> None:
        """Rooms that a newer token does not open are left; those it brings are joined."""
        house = self.house()
        client = house.client().connect(token=house.token("alice", rooms=["private:1"], roles=["staff"]))
        client.join("lobby")
        client.news()
        newer = house.token("alice", rooms=["private:2"], roles=["admin"])
        self.assertTrue(client.call("auth:token_refresh", {"token": newer})["ok"])
        connection = house.node.connections.get(client.sid)
        self.assertEqual(connection.rooms, {"user:alice", "role:admin", "lobby", "private:2"})
        news = [(event[0], event[1]["roomId"]) for event in client.news()]
        self.assertEqual(news, [("room:left", "private:1"), ("room:joined", "private:2")])
