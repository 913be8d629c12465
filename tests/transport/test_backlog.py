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

    def test_newer_values(self) -> None:
        """A newer value goes to the end, and the older one of its key goes; all else keeps its order."""
        backlog = Backlog()
        one, two, three, four, five = frames(5)
        self.assertFalse(backlog.renew(one, "a"))
        backlog.add(two)
        self.assertFalse(backlog.renew(three, "b"))
        self.assertTrue(backlog.renew(four, "a"))
        self.assertEqual(backlog.size, sum(map(weight, (two, three, four))))
        self.assertIs(backlog.take(), two)
        self.assertIs(backlog.take(), three)
        self.assertFalse(backlog.renew(five, "b"), "the older one has left")
        self.assertEqual(list(iter(backlog.take, None)), [four, five])
        self.assertEqual(backlog.size, 0)

    def test_before_a_replay(self) -> None:
        """The place of a value that went does not hide that a replay is next."""
        backlog = Backlog()
        one, two, three = frames(3)
        backlog.renew(one, "a")
        backlog.replay([two])
        backlog.renew(three, "a")
        self.assertTrue(backlog.replaying)
        self.assertEqual(list(iter(backlog.take, None)), [two, three])
        self.assertFalse(backlog.replaying)

    def test_values_without_end(self) -> None:
        """Values that replace each other take no more room however many they are."""
        backlog = Backlog()
        must = [Frame(b"%d" % number) for number in range(10)]
        for frame in must:
            backlog.add(frame)
        for number in range(10_000):
            backlog.renew(Frame(b"x" * 50), number % 3)
            self.assertLess(len(backlog._items), 100)
        self.assertEqual(backlog.size, 10 + 150)
        self.assertEqual(list(iter(backlog.take, None))[:10], must)

    @unhurried
    @given(strategies.lists(strategies.one_of(strategies.none(), strategies.integers(-1, 3)), max_size=200))
    def test_any_order(self, steps: list[int | None]) -> None:
        """As a list would have it: none takes the first, -1 adds, a number renews that key."""
        backlog = Backlog()
        model: list[tuple[int | None, Frame]] = []
        for place, step in enumerate(steps):
            frame = Frame(b"%d" % place)
            if step is None:
                self.assertIs(backlog.take(), model.pop(0)[1] if model else None)
            elif step < 0:
                backlog.add(frame)
                model.append((None, frame))
            else:
                older = [item for item in model if item[0] == step]
                self.assertEqual(backlog.renew(frame, step), bool(older))
                model = [item for item in model if item[0] != step]
                model.append((step, frame))
            self.assertEqual(backlog.size, sum(weight(frame) for _, frame in model))
        self.assertEqual(list(iter(backlog.take, None)), [frame for _, frame in model])

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
