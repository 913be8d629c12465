"""The invariants find each kind of fault, so that what they show of the service can be believed."""

from __future__ import annotations

import random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.clients.recorders import Recorders, Recording

from .invariants import faults, history_faults, misplaced, parted
from .traffic import SHAPES, Expected, Traffic, expected

A = "plain room:lobby:message"


def recording(*rows: list[Any], user: str = "alice") -> Recording:
    """A recording of some rows, after a first system:connected."""
    made = Recording(Recorders(), f"0-{user}", user, {"lobby"})
    for row in (["s", False, "e.1:0", "id"], *rows):
        made.noted(row)
    return made


def event(n: int, number: int | None = None, series: str = A, epoch: str = "e.1") -> list[Any]:
    """A row of an event whose sequence is `number`."""
    return ["e", "room:message", series, n, f"{epoch}:{n + 1 if number is None else number}"]


class FaultTests(SynchronousTestCase):
    """One client, who is to have 0, 1, 2, 3 of one series; 2 is doubtful."""

    def setUp(self) -> None:
        self.expected = Expected()
        for n in range(4):
            self.expected.add(A, n, doubtful=n == 2)

    def check(self, *rows: list[Any], found: str) -> None:
        """Check what is found in these rows: nothing, or the only fault and what it says."""
        told = faults(recording(*rows), self.expected)
        if not found:
            self.assertEqual(told, [])
        else:
            self.assertEqual([found in one for one in told], [True], told)

    def test_well(self) -> None:
        """All of it, with or without the doubtful one."""
        self.check(*map(event, range(4)), found="")
        self.check(event(0), event(1), event(3), found="")

    def test_lost(self) -> None:
        """At the beginning, in the middle, at the end."""
        self.check(event(1), event(3), found="lost 0")
        self.check(event(0), event(3), found="lost 1")
        self.check(event(0), event(1), found="lost 3")

    def test_twice(self) -> None:
        """Also after the session began anew."""
        self.check(*map(event, range(4)), event(3), found="3 came twice")
        again = ["s", False, "e.1:9", "id"]
        self.check(*map(event, range(4)), again, event(3), found="3 came twice")

    def test_inversion(self) -> None:
        """Within a series, and of offsets."""
        self.check(event(0), event(2, 2), event(1, 3), event(3, 4), found="1 came after 2")
        self.check(
            event(0), event(1, 4), event(2, 3), event(3, 5), found="has the offset (1, 3) after (1, 4)"
        )

    def test_foreign(self) -> None:
        """What is for others."""
        self.check(*map(event, range(4)), event(0, 9, "plain booking:confirmed"), found="is not for it")

    def test_anew(self) -> None:
        """A session that begins anew excuses a gap there, and a recovered one none."""
        self.check(event(0), ["s", False, "e.1:3", "id"], event(3), found="")
        self.check(event(0), ["s", True, "e.1:3", "id"], event(3), found="lost 1")
        self.check(event(0), ["s", False, "e.1:1", "id"], event(1), event(2), found="lost 3")

    def test_anew_at_the_end(self) -> None:
        """It excuses also the rest of a series of which nothing came since, but no gap before."""
        anew = ["s", False, "e.1:9", "id"]
        self.check(anew, found="")
        self.check(event(0), event(1), anew, found="")
        self.check(event(0), event(3), anew, found="lost 1")
        self.check(event(0), anew, event(1, 10), found="lost 3")

    def test_live(self) -> None:
        """Where the connection was there all the time, a session that begins anew may excuse nothing."""
        anew = ["s", False, "e.1:3", "id"]
        whole = recording(event(0), event(1), anew, event(3))
        self.assertEqual(faults(whole, self.expected, live=True), [])
        self.assertEqual(len(faults(recording(event(0), anew, event(3)), self.expected, live=True)), 1)
        cut = recording(event(0), ["d", "transport close", 1006], anew, event(3))
        self.assertEqual(faults(cut, self.expected, live=True), [])

    def test_epoch(self) -> None:
        """Another epoch is told."""
        other = event(3, 1, epoch="f.1")
        self.check(event(0), event(1), other, found="without a word")
        self.check(event(0), event(1), ["s", False, "f.1:0", "id"], other, found="")

    def test_unordered(self) -> None:
        """Where messages were repeated only the set counts."""
        self.expected.unordered.add(A)
        self.check(event(1, 1), event(0, 2), event(3, 3), found="")
        self.check(event(1, 1), event(3, 3), found="lost 0")
        self.check(*map(event, range(4)), event(3), found="3 came twice")
        self.check(*map(event, range(4)), ["s", False, "f.1:0", "id"], event(3, epoch="f.1"), found="")

    def test_parted(self) -> None:
        """A doubtful message comes to all or to nobody."""
        has, lacks = recording(*map(event, range(4))), recording(event(0), event(1), event(3))
        wanted = {has: self.expected, lacks: self.expected}
        self.assertEqual(parted([has, lacks], wanted), [f"{A} 2 came to 1 of 2"])
        self.assertEqual(parted([has, has], wanted), [])
        anew = recording(event(0), ["s", False, "e.1:1", "id"])
        self.assertEqual(parted([has, anew], {has: self.expected, anew: self.expected}), [])

    def test_misplaced(self) -> None:
        """A message has one place for all."""
        self.assertEqual(len(misplaced([recording(event(0, 1)), recording(event(0, 2))])), 1)
        self.assertEqual(misplaced([recording(event(0, 1)), recording(event(0, 1))]), [])

    def test_history(self) -> None:
        """A history lacks, repeats or turns round nothing."""

        def found(*entries: tuple[int, int]) -> list[str]:
            messages = [{"c": A, "n": n, "offset": offset} for n, offset in entries]
            return history_faults(messages, "lobby", self.expected)

        self.assertEqual(found((0, 1), (1, 2), (3, 4)), [])
        self.assertIn("twice", found((0, 1), (1, 2), (1, 3), (3, 4))[0])
        self.assertIn("missing", found((0, 1), (3, 4))[0])
        self.assertIn("in order", found((0, 1), (3, 4), (1, 3))[0])


class TrafficTests(SynchronousTestCase):
    """What is published, and for whom."""

    def test_all_shapes(self) -> None:
        """All eight shapes occur, some twice, each for the right clients; the same seed gives the same."""
        rooms = ("event:1", "lobby")
        made = [Traffic(random.Random(5), ("alice", "bob"), rooms) for _ in range(2)]
        batches = [traffic.next() for traffic in made[:1] for _ in range(400)]
        self.assertEqual([made[1].next() for _ in range(400)], batches)
        self.assertEqual({one[0].channel.partition(":")[0] for one in batches}, set(SHAPES))
        self.assertTrue(any(len(one) == 2 for one in batches))
        alice = recording()
        wanted = expected(alice, made[:1], ())
        for batch in batches:
            message = batch[0]
            mine = message.n in wanted.numbers[message.series]
            if message.channel.startswith(("booking:", "payment:", "notification:")):
                self.assertEqual(mine, message.data["userId"] == "alice")
            elif message.channel.startswith("user:"):
                self.assertEqual(mine, message.channel.startswith("user:alice:"))
            elif message.channel.startswith("event:") or "eventId" in message.data:
                self.assertFalse(mine, "alice is in the lobby alone")
            elif message.channel.startswith("room:"):
                self.assertEqual(mine, message.channel.startswith("room:lobby:"))
            else:
                self.assertTrue(mine)

    def test_last(self) -> None:
        """Each channel and audience that there was gets one more."""
        traffic = Traffic(random.Random(1), ("alice",), ("lobby",), shapes=("system", "room"))
        for _ in range(50):
            traffic.next()
        told = [(message.channel, message.n) for message in traffic.last()]
        self.assertEqual(len(told), 3)
        self.assertEqual(len(traffic.sent), 53)
