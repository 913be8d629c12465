"""Rooms: the index, muting, typing."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from realtime.rooms import Rooms, Typing

from .test_limits import connection


class RoomsTests(SynchronousTestCase):
    """`Rooms`."""

    def test_enter_and_remove(self) -> None:
        """A room exists while it has members."""
        rooms, client = Rooms(), connection("alice")
        rooms.enter(client, "lobby", True)
        rooms.enter(client, "user:alice", False)
        self.assertEqual((len(rooms), rooms.memberships), (2, 2))
        self.assertEqual((client.rooms, client.joined), ({"lobby", "user:alice"}, {"lobby"}))
        rooms.remove(client, "lobby")
        self.assertIsNone(rooms.get("lobby"))
        self.assertEqual(client.joined, set())

    def test_dismiss(self) -> None:
        """Nothing is left of a connection that was dismissed."""
        rooms, client = Rooms(), connection("alice")
        client.muted_events = frozenset(("x",))
        rooms.admit(client)
        rooms.enter(client, "lobby", True)
        rooms.dismiss(client)
        rooms.dismiss(client)
        self.assertEqual((len(rooms), client.rooms), (0, set()))
        self.assertEqual((rooms.everyone.members, rooms.everyone.muting), ({}, {}))

    def test_emptied(self) -> None:
        """It is told when the last connection has left a room, however it left, once each time."""
        emptied: list[str] = []
        rooms, one, other = Rooms(emptied.append), connection("alice"), connection("bob")
        for client in (one, other):
            rooms.admit(client)
            rooms.enter(client, "lobby", True)
        rooms.enter(one, "user:alice", False)
        rooms.remove(one, "lobby")
        rooms.remove(one, "lobby")
        self.assertEqual(emptied, [])
        rooms.dismiss(one)
        self.assertEqual(emptied, ["user:alice"])
        rooms.remove(other, "lobby")
        self.assertEqual(emptied, ["user:alice", "lobby"])
        rooms.dismiss(other)
        rooms.remove(other, "never entered")
        self.assertEqual(emptied, ["user:alice", "lobby"])
        rooms.enter(other, "lobby", True)
        rooms.dismiss(other)
        self.assertEqual(emptied, ["user:alice", "lobby", "lobby"])

    def test_emptied_room_is_no_more(self) -> None:
        """Who is told finds the room gone already: nobody is to be delivered anything of it."""
        found: list[object] = []
        rooms, client = Rooms(lambda room: found.append(rooms.get(room))), connection("alice")
        rooms.enter(client, "lobby", True)
        rooms.remove(client, "lobby")
        self.assertEqual(found, [None])

    def test_muting(self) -> None:
        """Muting an event or a whole room holds in every room, and can be taken back."""
        rooms, client = Rooms(), connection("alice")
        client.muted_events, client.muted_rooms = frozenset(("ping",)), frozenset(("quiet",))
        rooms.admit(client)
        for room in ("lobby", "quiet"):
            rooms.enter(client, room, True)
        lobby, quiet = rooms.get("lobby"), rooms.get("quiet")
        assert lobby is not None and quiet is not None
        self.assertEqual((lobby.deaf_to("ping"), lobby.deaf_to("pong")), ({client}, set()))
        self.assertEqual(quiet.deaf_to("pong"), {client})
        self.assertEqual(rooms.everyone.deaf_to("ping"), {client})
        client.muted_events = client.muted_rooms = frozenset()
        rooms.remute(client)
        self.assertEqual((lobby.muting, quiet.muting, rooms.everyone.muting), ({}, {}, {}))

    def test_event_named_like_the_mark_of_all(self) -> None:
        """A muted event called ``*`` is an event, not everything."""
        rooms, client = Rooms(), connection("alice")
        client.muted_events = frozenset(("*",))
        rooms.enter(client, "lobby", True)
        room = rooms.get("lobby")
        assert room is not None
        self.assertEqual(room.deaf_to("pong"), set())


class TypingTests(SynchronousTestCase):
    """`Typing`."""

    def test_ends(self) -> None:
        """Typing ends by itself, once, after the last sign of it."""
        clock = Clock()
        stopped: list[tuple[str, str]] = []
        typing = Typing(clock, 3.0, lambda user, room: stopped.append((user, room)))
        self.assertTrue(typing.start("alice", "lobby"))
        clock.advance(2)
        self.assertFalse(typing.start("alice", "lobby"))
        self.assertTrue(typing.start("alice", "other"))
        clock.advance(2)
        self.assertEqual(stopped, [])
        clock.advance(1)
        self.assertEqual(stopped, [("alice", "lobby"), ("alice", "other")])
        self.assertFalse(typing.stop("alice", "lobby"))

    def test_stop(self) -> None:
        """Who says that it has ended is not told of again."""
        clock = Clock()
        stopped: list[object] = []
        typing = Typing(clock, 3.0, lambda *who: stopped.append(who))
        typing.start("alice", "lobby")
        self.assertTrue(typing.stop("alice", "lobby"))
        clock.advance(5)
        self.assertEqual(stopped, [])
