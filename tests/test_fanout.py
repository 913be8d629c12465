"""Fan-out: each entitled connection once, one encoding per kind, and no receiver harms another."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from realtime.broker.interface import IDelivery
from realtime.connections import Connection
from realtime.errors import Close
from realtime.fanout import Fanout
from realtime.journal import Journal
from realtime.messages import Audience, Publication, user_room
from realtime.metrics import Metrics
from realtime.rights import Rights
from realtime.rooms import Rooms
from realtime.transport.flusher import Flusher
from realtime.wire.session import Frame

from .test_limits import connection


class Session:
    """A session whose encoding is set by the test."""

    protocol = "plain"
    encoding = "a"

    def encode(self, publication: Publication) -> Frame:
        return Frame(self.encoding.encode())


class FanoutTests(SynchronousTestCase):
    """`Fanout`."""

    def setUp(self) -> None:
        self.rooms = Rooms()
        self.metrics = Metrics()
        self.members: dict[str, Connection] = {}
        self.fanout = Fanout(
            self.rooms,
            Rights(),
            self.metrics,
            Journal(lambda: 0.0),
            lambda: 1.5,
            flusher=Flusher(Clock()),
            find=self.members.get,
        )

    def member(self, user: str, *rooms: str, encoding: str = "a") -> Connection:
        made = connection(user)
        made.id = f"c-{user}"
        made.encoding = encoding
        self.members[made.id] = made
        self.rooms.admit(made)
        self.rooms.enter(made, user_room(user), False)
        for room in rooms:
            self.rooms.enter(made, room, True)
        return made

    def deliver(self, event: str = "room:message", **audience: Any) -> None:
        self.fanout.deliver(Publication(event, b'{"n":1}', Audience(**audience), "1", 1000))

    @staticmethod
    def got(*members: Connection) -> list[int]:
        return [len(member.outlet.frames) for member in members]

    def test_interface(self) -> None:
        """It provides ``IDelivery``."""
        verifyObject(IDelivery, self.fanout)

    def test_audiences(self) -> None:
        """Everyone, one room, a union; each connection once."""
        a = self.member("a", "r1", "r2", "user:a")
        b = self.member("b", "r2", "user:b")
        c = self.member("c")
        self.deliver(rooms=frozenset(("r1",)))
        self.assertEqual(self.got(a, b, c), [1, 0, 0])
        self.deliver(rooms=frozenset(("r1", "r2")), users=frozenset("ab"))
        self.assertEqual(self.got(a, b, c), [2, 1, 0])
        self.deliver(everyone=True)
        self.assertEqual(self.got(a, b, c), [3, 2, 1])
        self.deliver(users=frozenset("b"))
        self.assertEqual(self.got(a, b, c), [3, 3, 1])
        self.deliver(rooms=frozenset(("nobody",)))
        self.deliver()
        self.assertEqual(self.got(a, b, c), [3, 3, 1])

    def test_exceptions(self) -> None:
        """Users and connections can be left out."""
        a, b = self.member("a", "r"), self.member("b", "r")
        self.deliver(rooms=frozenset("r"), except_users=frozenset("a"))
        self.deliver(rooms=frozenset("r"), except_connections=frozenset(("c-b",)))
        self.assertEqual(self.got(a, b), [1, 1])

    def test_encoded_once(self) -> None:
        """Receivers of one encoding share one frame; another encoding has its own."""
        a, b, c = self.member("a", "r"), self.member("b", "r"), self.member("c", "r", encoding="b")
        self.deliver(rooms=frozenset("r"))
        self.assertIs(a.outlet.frames[0], b.outlet.frames[0])
        self.assertIsNot(a.outlet.frames[0], c.outlet.frames[0])

    def test_encoding_that_changes(self) -> None:
        """Who comes, goes, or is encoded otherwise from now on, is delivered to accordingly."""
        session = Session()
        a, b = self.member("a", "r"), self.member("b", "r")
        b.session = session
        self.deliver(rooms=frozenset("r"))
        self.deliver(everyone=True)
        session.encoding = "b"
        b.reencode()
        c = self.member("c", "r", encoding="b")
        self.rooms.enter(c, "r", True)
        for audience in ({"rooms": frozenset("r")}, {"everyone": True}):
            self.deliver(**audience)
            self.assertIs(b.outlet.frames[-1], c.outlet.frames[-1])
            self.assertIsNot(a.outlet.frames[-1], b.outlet.frames[-1])
        self.assertEqual(self.got(a, b, c), [4, 4, 2])
        self.rooms.remove(b, "r")
        self.deliver(rooms=frozenset("r"))
        self.assertEqual(self.got(a, b, c), [5, 4, 3])
        self.rooms.dismiss(b)
        session.encoding = "c"
        b.reencode()
        self.deliver(everyone=True)
        self.assertEqual(self.got(a, b, c), [6, 4, 4])
        d = self.member("d", "r", encoding="d")
        self.deliver(rooms=frozenset("r"))
        self.deliver(everyone=True)
        self.assertEqual(self.got(a, c, d), [8, 6, 2])

    def test_muted(self) -> None:
        """Who mutes is left out."""
        a, b = self.member("a", "r"), self.member("b", "r")
        a.muted_events = frozenset(("ticket:sold",))
        self.rooms.remute(a)
        self.deliver("ticket:sold", rooms=frozenset("r"))
        self.deliver("ticket:sold", rooms=frozenset("r"), except_users=frozenset("x"))
        self.assertEqual(self.got(a, b), [0, 2])

    def test_droppable(self) -> None:
        """Typing is not queued for who does not keep up; messages are."""
        a, b = self.member("a", "r"), self.member("b", "r")
        a.outlet.behind = True
        self.deliver("room:typing", rooms=frozenset("r"))
        self.assertEqual(self.got(a, b), [0, 1])
        self.deliver(rooms=frozenset("r"))
        self.assertEqual(self.got(a, b), [1, 2])
        value = self.metrics.registry.get_sample_value
        self.assertEqual(value("realtime_messages_dropped_total", {"event": "room:typing"}), 1)

    def test_newest(self) -> None:
        """Frames of loss class latest know what they tell the value of; others give way to nothing."""
        a, b = self.member("a", "r"), self.member("b", "r", encoding="b")
        self.deliver("ticket:sold", rooms=frozenset("r"))
        (one,), (other,) = a.outlet.frames, b.outlet.frames
        self.assertIs(one.newest, other.newest)
        self.assertEqual(one.newest.event, "ticket:sold")
        self.deliver(rooms=frozenset("r"))
        self.assertIsNone(a.outlet.frames[1].newest)
        made = Publication("room:message", b"{}", Audience(rooms=frozenset("r")), "1", 1000, loss="latest")
        self.fanout.deliver(made)
        self.assertEqual(a.outlet.frames[2].newest.event, "room:message")

    def test_broken_transport(self) -> None:
        """A transport that fails is closed; the receivers after it get theirs."""
        a, b = self.member("a", "r"), self.member("b", "r")

        def broken(frame: object) -> None:
            raise OSError("gone")

        a.outlet.write = broken
        self.deliver(rooms=frozenset("r"))
        self.assertEqual(self.got(b), [1])
        self.assertIs(a.outlet.close_reason, Close.INTERNAL)
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        a.outlet.close = broken
        self.deliver(rooms=frozenset("r"))
        self.assertEqual(self.got(b), [2])
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 2)

    def test_receivers_that_leave_meanwhile(self) -> None:
        """A write that ends a connection does not disturb the delivery."""
        members = [self.member(str(n), "r") for n in range(3)]
        write = members[0].outlet.write

        def leaving(frame: Any) -> None:
            write(frame)
            self.rooms.dismiss(members[0])

        members[0].outlet.write = leaving
        self.deliver(rooms=frozenset("r"))
        self.assertEqual(self.got(*members), [1, 1, 1])

    def test_wants(self) -> None:
        """It wants what a connection here may get: rooms that somebody is in, and what is for everyone."""
        self.assertTrue(self.fanout.wants("*"))
        self.assertFalse(self.fanout.wants("r"))
        a, b = self.member("a", "r"), self.member("b", "r")
        for room in ("*", "r", "user:a", "user:b"):
            self.assertTrue(self.fanout.wants(room), room)
        self.rooms.dismiss(a)
        self.assertEqual((self.fanout.wants("r"), self.fanout.wants("user:a")), (True, False))
        self.rooms.dismiss(b)
        self.assertFalse(self.fanout.wants("r"))

    def test_an_encoding_that_fails(self) -> None:
        """It costs its own receivers the publication, and nobody else."""
        a, b = self.member("a", "r"), self.member("b", "r", encoding="b")

        class Failing:
            protocol = "plain"

            def encode(self, publication: Publication) -> None:
                raise ValueError("no")

        a.session = Failing()
        self.deliver(rooms=frozenset(("r",)))
        self.assertEqual(self.got(a, b), [0, 1])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_counted(self) -> None:
        """Messages, bytes and latency are counted, once per fan-out."""
        self.member("a", "r")
        self.member("b", "r")
        self.deliver(rooms=frozenset("r"))
        value = self.metrics.registry.get_sample_value
        self.assertEqual(
            value("realtime_messages_sent_total", {"event": "room:message", "protocol": "socketio"}), 2
        )
        self.assertEqual(value("realtime_delivery_seconds_count", {"event": "room:message"}), 1)
        self.assertEqual(value("realtime_delivery_seconds_sum", {"event": "room:message"}), 0.5)
