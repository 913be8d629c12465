"""The line delivers in one order, stops at a gap, and puts together what was heard and what was missed."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from realtime.broker import line as line_module
from realtime.broker.interface import IDelivery
from realtime.broker.line import Line, Marker
from realtime.broker.texts import head_of, parse
from realtime.messages import Audience, Publication, Sequence

EPOCH = "e1"


def text(number: int, offset: int, room: str = "a", *, epoch: str = EPOCH, generation: int = 1) -> bytes:
    """A logged publication as it is heard; its event says its number."""
    head = head_of(Publication(f"n{number}", b"", Audience(rooms=frozenset((room,))), "id", 1))
    return b"%d %d 7 %s %d\n%s\n{}" % (number, offset, epoch.encode(), generation, head)


def unlogged(event: str, room: str = "a") -> bytes:
    head = head_of(Publication(event, b"", Audience(rooms=frozenset((room,))), "id", 1, logged=False))
    return b"\n%s\n{}" % head


def marker(token: str, number: int, epoch: str = EPOCH) -> Marker:
    return Marker(token, Sequence(epoch, 1, number), b"")


@implementer(IDelivery)
class LineTests(SynchronousTestCase):
    """`Line`, heard on channels a and b."""

    def setUp(self) -> None:
        self.told: list[str] = []
        self.line = Line(
            self,
            arrived=lambda marker: self.told.append(f"marker {marker.token}"),
            gap=lambda: self.told.append("gap"),
            other_epoch=lambda: self.told.append("other epoch"),
        )
        self.line.follow("a")
        self.line.follow("b")
        self.line.begin(Sequence(EPOCH, 1, 0))
        self.line.go_on([])

    def deliver(self, publication: Publication) -> None:
        self.told.append(publication.event)

    def wants(self, channel: str) -> bool:
        return True

    def hear(self, *numbers: Any, room: str = "a") -> None:
        for number, offset in numbers:
            self.line.hear(room, text(number, offset, room))

    def test_in_order(self) -> None:
        """What follows is delivered, and moves the place."""
        self.hear((1, 1), (2, 2))
        self.hear((3, 1), room="b")
        self.assertEqual(self.told, ["n1", "n2", "n3"])
        self.assertEqual(self.line.sequence, Sequence(EPOCH, 1, 3))

    def test_heard_twice(self) -> None:
        """What was delivered is not delivered again."""
        self.hear((1, 1), (2, 2), (1, 1), (2, 2))
        self.assertEqual(self.told, ["n1", "n2"])

    def test_unlogged(self) -> None:
        """What is not logged is delivered in its place, and moves nothing."""
        self.hear((1, 1))
        self.line.hear("a", unlogged("typing"))
        self.assertEqual(self.told, ["n1", "typing"])
        self.assertEqual(self.line.sequence.number, 1)

    def test_gap(self) -> None:
        """A missing offset stops the line, all channels of it, until what was missed is merged in."""
        self.hear((1, 1))
        self.hear((4, 3))
        self.hear((5, 1), room="b")
        self.line.hear("b", unlogged("typing", "b"))
        self.line.mark(marker("t", 5))
        self.hear((6, 4))
        self.assertEqual(self.told, ["n1", "gap"])
        self.assertTrue(self.line.stopped)
        missed = [parse(text(3, 2)), parse(text(4, 3))]
        self.line.go_on(missed)
        self.assertEqual(self.told, ["n1", "gap", "n3", "n4", "n5", "typing", "marker t", "n6"])

    def test_lacking(self) -> None:
        """Of data that parted from what was heard: other generations and epochs, up to the new begin."""
        self.line.sequence = Sequence(EPOCH, 1, 2)
        self.hear((3, 1), (5, 2))
        found = [
            parse(text(number, 9, epoch=epoch, generation=generation))
            for number, epoch, generation in (
                (3, EPOCH, 1),
                (6, EPOCH, 1),
                (4, EPOCH, 2),
                (7, "middle", 3),
                (8, "middle", 3),
                (9, "new", 4),
            )
        ]
        lacking = self.line.lacking("a", found, 7)
        self.assertEqual([one.sequence.number for one in lacking], [6, 4, 7])

    def test_missed_after_what_was_kept(self) -> None:
        """What was read of the logs beyond the last that was kept back comes after it."""
        self.line.stop()
        self.hear((2, 2))
        self.line.go_on([parse(text(number, number)) for number in (3, 1, 2)])
        self.assertEqual(self.told, ["n1", "n2", "n3"])

    def test_marker_moves_the_place(self) -> None:
        """A marker is a place, too: what a node has not subscribed to has gone by."""
        self.line.mark(marker("t", 9))
        self.assertEqual(self.line.sequence.number, 9)
        self.line.mark(marker("u", 9))
        self.assertEqual(self.told, ["marker t", "marker u"])

    def test_channel_begins_anywhere(self) -> None:
        """The first that is heard of a channel is no gap; neither is a channel that was born again."""
        self.hear((7, 40))
        self.line.hear("a", text(8, 1).replace(b" 7 ", b" 8 ", 1))
        self.line.leave("a")
        self.line.follow("a")
        self.hear((9, 90))
        self.assertEqual(self.told, ["n7", "n8", "n9"])

    def test_other_epoch(self) -> None:
        """What is of another epoch stops the line; it is delivered once the line begins there."""
        self.hear((1, 1))
        self.line.hear("a", text(5, 1, epoch="e2"))
        self.assertEqual(self.told, ["n1", "other epoch"])
        self.line.begin(Sequence("e2", 1, 4))
        self.line.go_on([])
        self.assertEqual(self.told[2:], ["n5"])

    def test_marker_of_another_epoch(self) -> None:
        """A marker shows another epoch as well, and is not lost by it."""
        self.line.mark(marker("t", 5, "e2"))
        self.assertEqual(self.told, ["other epoch"])
        self.line.begin(Sequence("e2", 1, 5))
        self.line.go_on([])
        self.assertEqual(self.told[1:], ["marker t"])

    def test_begin_drops_what_was_before(self) -> None:
        """What was kept back of the old epoch, or from before the new beginning, is not delivered."""
        self.line.stop()
        self.hear((3, 1))
        self.line.hear("a", text(4, 2, epoch="e2"))
        self.line.hear("a", text(6, 3, epoch="e2"))
        self.line.begin(Sequence("e2", 1, 5))
        self.line.go_on([])
        self.assertEqual(self.told, ["n6"])

    def test_left_over_from_before(self) -> None:
        """What comes late of a lost log does not lead the line back into it."""
        self.line.stop()
        self.line.begin(Sequence("e2", 1, 5))
        self.hear((9, 1))
        self.line.mark(marker("t", 9))
        self.line.hear("a", text(6, 3, epoch="e2"))
        self.line.go_on([])
        self.assertEqual(self.told, ["marker t", "n6"])
        self.assertEqual(self.line.sequence, Sequence("e2", 1, 6))

    def test_since(self) -> None:
        """Nobody gets what a channel had before it was entered; what may be missing is read again."""
        self.line.enter(["a", "unheard"], 7)
        self.hear((8, 1), room="b")
        self.line.enter(["b"], 9)
        self.assertEqual((self.line.since("a"), self.line.since("b")), (7, 8))
        self.line.enter(["a"], 3)
        self.line.skip("b", 20)
        self.assertEqual((self.line.since("a"), self.line.since("b")), (7, 20))

    def test_overflow(self) -> None:
        """Past the bound all but markers is dropped, and said to be: it has to be read again."""
        self.patch(line_module, "MAX_KEPT", 3)
        self.line.stop()
        self.line.mark(marker("t", 0))
        self.hear((1, 1), (2, 2), (3, 3), (4, 4))
        self.assertTrue(self.line.overflowed)
        self.assertEqual(self.line.kept, 1)
        self.line.forget()
        self.assertFalse(self.line.overflowed)
        self.hear((5, 5))
        self.line.go_on([parse(text(number, number)) for number in (1, 2, 3, 4)])
        self.assertEqual(self.told, ["marker t", "n1", "n2", "n3", "n4", "n5"])

    def test_overflow_by_bytes(self) -> None:
        """The bytes that are kept back are bounded too."""
        self.patch(line_module, "MAX_KEPT_BYTES", 60)
        self.line.stop()
        self.hear((1, 1), (2, 2))
        self.assertTrue(self.line.overflowed)

    def test_unreadable(self) -> None:
        """What can't be read is dropped, and what follows is delivered."""
        for rubbish in (
            b"",
            b"\n",
            b"1 2\n{}\n{}",
            b"1 1 7 e1 1\n[]\n{}",
            b"x 1 7 e1 1\n{}\n{}",
            b"\xff\n\n",
        ):
            self.line.hear("a", rubbish)
        self.hear((1, 1))
        self.assertEqual(self.told, ["n1"])

    def test_failing_delivery(self) -> None:
        """A delivery that fails, against its promise, is logged and costs nothing that follows."""
        self.patch(self, "deliver", lambda publication: 1 / 0)
        self.hear((1, 1))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.line.sequence.number, 1)
