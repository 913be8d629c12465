from __future__ import annotations

from hypothesis import given, strategies
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from realtime.deadlines import Deadlines

from .generated import unhurried


class DeadlinesTests(SynchronousTestCase):
    """Whoever is not cancelled in time expires, exactly then, and once."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.expired: list[tuple[str, float]] = []
        self.deadlines: Deadlines[str] = Deadlines(self.clock, 10.0, self.note)

    def note(self, key: str) -> None:
        self.expired.append((key, self.clock.seconds()))

    def test_expires_at_its_time(self) -> None:
        self.deadlines.start("a")
        self.clock.advance(3)
        self.deadlines.start("b")
        self.clock.advance(6.9)
        self.assertEqual(self.expired, [])
        self.clock.advance(0.1)
        self.assertEqual([key for key, _ in self.expired], ["a"])
        self.clock.advance(3)
        self.assertEqual([key for key, _ in self.expired], ["a", "b"])
        self.assertEqual((len(self.deadlines), self.clock.getDelayedCalls()), (0, []))

    def test_one_timer_for_all(self) -> None:
        for number in range(1000):
            self.deadlines.start(str(number))
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)

    def test_first_and_age(self) -> None:
        self.assertIsNone(self.deadlines.first())
        self.deadlines.start("a")
        self.clock.advance(3)
        self.deadlines.start("b")
        self.assertEqual(self.deadlines.first(), "a")
        self.assertEqual([self.deadlines.age(key) for key in ("a", "b", "unknown")], [3, 0, 0])
        self.deadlines.start("a")
        self.assertEqual((self.deadlines.first(), self.deadlines.age("a")), ("b", 0))

    def test_cancelled(self) -> None:
        self.deadlines.start("a")
        self.deadlines.start("b")
        self.deadlines.cancel("a")
        self.deadlines.cancel("unknown")
        self.assertNotIn("a", self.deadlines)
        self.clock.advance(10)
        self.assertEqual([key for key, _ in self.expired], ["b"])

    def test_no_timer_is_left(self) -> None:
        self.deadlines.start("a")
        self.deadlines.cancel("a")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_started_anew(self) -> None:
        self.deadlines.start("a")
        self.clock.advance(9)
        self.deadlines.start("a")
        self.clock.advance(9)
        self.assertEqual(self.expired, [])
        self.clock.advance(1)
        self.assertEqual(len(self.expired), 1)

    def test_since(self) -> None:
        self.clock.advance(100)
        self.deadlines.start("a", 95.0)
        self.clock.advance(5)
        self.assertEqual(([key for key, _ in self.expired], self.deadlines.expired_at), (["a"], 105.0))

    def test_overdue_before_the_reactor_comes(self) -> None:
        self.deadlines.start("a")
        self.assertFalse(self.deadlines.overdue("a"))
        self.assertFalse(self.deadlines.overdue("unknown"))
        self.clock.rightNow += 10
        self.assertTrue(self.deadlines.overdue("a"))
        self.deadlines.expire("a")
        self.deadlines.expire("a")
        self.assertEqual(([key for key, _ in self.expired], self.clock.getDelayedCalls()), (["a"], []))

    def test_a_failure_stops_nobody(self) -> None:
        def fail(key: str) -> None:
            self.note(key)
            raise ZeroDivisionError

        deadlines: Deadlines[str] = Deadlines(self.clock, 10.0, fail)
        deadlines.start("a")
        deadlines.start("b")
        self.clock.advance(10)
        self.assertEqual([key for key, _ in self.expired], ["a", "b"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

    def test_changes_from_within(self) -> None:
        def again(key: str) -> None:
            self.note(key)
            self.deadlines.cancel("b")
            if len(self.expired) < 3:
                self.deadlines.start(key)

        self.deadlines = Deadlines(self.clock, 10.0, again)
        self.deadlines.start("a")
        self.deadlines.start("b")
        self.clock.pump([10, 10, 10, 10])
        self.assertEqual([key for key, _ in self.expired], ["a"] * 3)

    def test_after_a_standstill_what_came_in_is_read_first(self) -> None:
        self.deadlines.start("a")
        self.deadlines.start("b")
        self.clock.callLater(60, self.deadlines.cancel, "a")
        self.clock.advance(60)
        self.assertEqual([key for key, _ in self.expired], ["b"])

    @unhurried
    @given(
        strategies.lists(
            strategies.tuples(strategies.integers(0, 5), strategies.booleans(), strategies.floats(0, 7)),
            max_size=40,
        ),
        strategies.floats(0, 1e6),
    )
    def test_against_a_plain_model(self, steps: list[tuple[int, bool, float]], begin: float) -> None:
        clock = Clock()
        clock.advance(begin)
        expired: list[tuple[int, float]] = []
        deadlines: Deadlines[int] = Deadlines(
            clock, 5.0, lambda key: expired.append((key, clock.seconds()))
        )
        model: dict[int, float] = {}
        gone: list[int] = []
        for key, start, wait in steps:
            if start:
                deadlines.start(key)
                model.pop(key, None)
                model[key] = clock.seconds() + 5.0
            else:
                deadlines.cancel(key)
                model.pop(key, None)
            clock.advance(wait)
            due = [key for key, at in model.items() if at <= clock.seconds() + 1e-6]
            gone += due
            model = {key: at for key, at in model.items() if key not in due}
            self.assertEqual([key for key, _ in expired], gone)
        self.assertEqual(len(deadlines), len(model))
