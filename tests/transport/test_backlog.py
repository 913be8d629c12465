from __future__ import annotations

from hypothesis import given, strategies
from twisted.trial.unittest import SynchronousTestCase

from realtime.transport.backlog import Backlog, weight
from realtime.wire.session import Frame

from ..generated import unhurried


def frames(count: int) -> list[Frame]:
    return [Frame(b"4" * number, (b"x",) * (number % 2)) for number in range(1, count + 1)]


class BacklogTests(SynchronousTestCase):
    """Frames leave in the order in which they came; replays are not counted."""

    def test_order_and_size(self) -> None:
        backlog = Backlog()
        one, two, three, four = frames(4)
        backlog.add(one)
        backlog.replay([two, three])
        backlog.add(four)
        self.assertEqual(backlog.size, weight(one) + weight(four))
        self.assertFalse(backlog.replaying)
        self.assertIs(backlog.take(), one)
        self.assertTrue(backlog.replaying)
        self.assertEqual([backlog.take(), backlog.take()], [two, three])
        self.assertIs(backlog.take(), four)
        self.assertIsNone(backlog.take())
        self.assertEqual(backlog.size, 0)

    def test_a_replay_is_drawn_one_by_one(self) -> None:
        backlog = Backlog()
        drawn: list[Frame] = []
        backlog.replay(drawn.append(frame) or frame for frame in frames(3))  # type: ignore[func-returns-value]
        backlog.take()
        self.assertEqual(len(drawn), 1)

    def test_marks(self) -> None:
        """A place is reached once all that waited has been taken; it is no frame, and has no size."""
        backlog = Backlog()
        reached: list[str] = []
        one, two, three = frames(3)
        backlog.add(one)
        backlog.mark(lambda: reached.append("one"))
        backlog.mark(lambda: reached.append("again"))
        backlog.replay([two])
        backlog.mark(lambda: reached.append("replay"))
        backlog.add(three)
        self.assertEqual(backlog.size, weight(one) + weight(three))
        for taken, so_far in (
            (one, ["one", "again"]),
            (two, ["one", "again"]),
            (three, ["one", "again", "replay"]),
            (None, ["one", "again", "replay"]),
        ):
            self.assertIs(backlog.take(), taken)
            self.assertEqual(reached, so_far)
        backlog.mark(lambda: reached.append("nothing"))
        self.assertFalse(backlog.replaying)
        self.assertIsNone(backlog.take())
        self.assertEqual(reached[-1], "nothing")

    @unhurried
    @given(strategies.lists(strategies.one_of(strategies.none(), strategies.integers(0, 4)), max_size=12))
    def test_any_mixture(self, steps: list[int | None]) -> None:
        backlog = Backlog()
        written: list[Frame] = []
        for step in steps:
            made = frames(1 if step is None else step)
            written += made
            backlog.add(made[0]) if step is None else backlog.replay(made)
        taken = list(iter(backlog.take, None))
        self.assertEqual((taken, backlog.size), (written, 0))
