"""Tests of looking at the events of single connections: what is seen, what is hidden, and when it ends."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from realtime.connections import Connection, Connections, IOutlet, IWatch
from realtime.errors import Close
from realtime.watches import IDLE, MAX_EVENTS, MAX_TEXT, MAX_WATCHES, Seen, Watches
from realtime.wire.session import Frame

from .test_limits import connection


class WatchTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.connections = Connections()
        self.watches = Watches(self.clock, self.connections, lambda: 5.0)
        self.watched = self.add("c1")
        self.outlet = self.watched.outlet

    def add(self, name: str) -> Connection:
        made = connection("alice")
        made.id = name
        self.connections.add(made)
        return made

    def seen(self, after: int = 0) -> list[Seen]:
        found = self.watches.events("c1", after)
        assert found is not None
        return found

    def test_events(self) -> None:
        """What comes in and what goes out is seen, in order, and still goes out."""
        self.assertEqual(self.seen(), [])
        verifyObject(IOutlet, self.watched.outlet)
        (watch,) = self.watched.watches
        verifyObject(IWatch, watch)
        watch.received("room:message", b'{"text":"hi"}')
        self.watched.outlet.write(Frame(b'42["room:message",{}]', (b"12345",)))
        self.watched.outlet.replay([Frame(b"missed")])
        self.watched.outlet.close(Close.KICKED)
        self.assertEqual(
            [(one.number, one.time, one.way, one.event, one.text) for one in self.seen()],
            [
                (1, 5000, "in", "room:message", '{"text":"hi"}'),
                (2, 5000, "out", "", '42["room:message",{}]'),
                (3, 5000, "out", "", "(binary, 5 bytes)"),
                (4, 5000, "out", "", "missed"),
                (5, 5000, "out", "", "(closed: kicked)"),
            ],
        )
        self.assertEqual([one.number for one in self.seen(3)], [4, 5])
        self.assertEqual(len(self.outlet.frames), 2)  # type: ignore[attr-defined]
        self.assertEqual(self.outlet.close_reason, Close.KICKED)  # type: ignore[attr-defined]

    def test_secrets(self) -> None:
        """What lets somebody in is never seen, wherever it stands; half of it neither."""
        self.seen()
        hidden = b'{"token":"%b","x":{"refreshToken": "a\\"b","session":"s3"}}' % (b"t" * 3000)
        self.watched.watches[0].received("auth:login", hidden)
        self.watched.outlet.write(Frame(b'40{"sid":"c1","pid":"s3cret"}'))
        text = " ".join(one.text for one in self.seen())
        self.assertEqual(
            text,
            '{"token":"***","x":{"refreshToken":"***","session":"***"}} 40{"sid":"c1","pid":"***"}',
        )

    def test_half_a_secret(self) -> None:
        """Not even the beginning of a secret that is longer than what is looked at."""
        self.seen()
        for text in (b'{"token":"' + b"t" * 100_000, b'{"token":"' + b"t" * (8 * MAX_TEXT - 11) + b'\\"'):
            self.watched.outlet.write(Frame(text))
        self.assertEqual({one.text for one in self.seen()}, {'{"token":"***"'})

    def test_bounded(self) -> None:
        """So many events are kept of each, so many characters of one, and so many watches."""
        self.seen()
        self.watched.outlet.write(Frame(b"x" * 100_000))
        self.assertEqual(len(self.seen()[0].text), MAX_TEXT)
        for _ in range(MAX_EVENTS + 5):
            self.watched.outlet.write(Frame(b"y"))
        self.assertEqual(len(self.seen()), MAX_EVENTS)
        self.assertEqual(self.seen()[-1].number, MAX_EVENTS + 6)
        for number in range(MAX_WATCHES - 1):
            self.add(f"d{number}")
            self.assertEqual(self.watches.events(f"d{number}", 0), [])
        self.add("one more")
        self.assertIsNone(self.watches.events("one more", 0))

    def test_end(self) -> None:
        """A watch that is asked for goes on; one that is not ends, and the connection is as it was."""
        self.seen()
        for _ in range(5):
            self.clock.advance(IDLE - 1)
            self.seen()
        self.assertIsNot(self.watched.outlet, self.outlet)
        self.clock.advance(IDLE)
        self.clock.advance(IDLE)
        self.assertIs(self.watched.outlet, self.outlet)
        self.assertEqual(self.watched.watches, ())
        self.assertEqual((len(self.watches), self.clock.getDelayedCalls()), (0, []))

    def test_gone(self) -> None:
        """Of a connection that has ended, what was seen last can be asked for; of a stranger nothing."""
        self.seen()
        self.watched.outlet.write(Frame(b"last"))
        self.connections.remove(self.watched)
        self.assertEqual([one.text for one in self.seen()], ["last"])
        self.assertIsNone(self.watches.events("c9", 0))
