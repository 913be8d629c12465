"""The turnstile lets so many in at a time, in order, and never nests."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from realtime.turnstile import Turnstile


class TurnstileTests(SynchronousTestCase):
    """`Turnstile`."""

    def test_order(self) -> None:
        """Those who wait come in in their order, one for each that leaves."""
        gate = Turnstile(2)
        turns = [gate.enter() for _ in range(4)]
        self.assertEqual([turn.called for turn in turns], [True, True, False, False])
        self.assertEqual(len(gate), 2)
        gate.leave()
        self.assertEqual([turn.called for turn in turns], [True, True, True, False])
        gate.leave()
        gate.leave()
        gate.leave()
        self.assertEqual([gate.enter().called for _ in range(3)], [True, True, False])

    def test_many_that_leave_at_once(self) -> None:
        """Thousands that leave as soon as they are let in do not nest in one another."""
        gate = Turnstile(1)
        done: list[int] = []

        async def visit(number: int) -> None:
            await gate.enter()
            try:
                done.append(number)
            finally:
                gate.leave()

        first = gate.enter()
        self.successResultOf(first)
        visits = [Deferred.fromCoroutine(visit(number)) for number in range(5000)]
        gate.leave()
        for one in visits:
            self.successResultOf(one)
        self.assertEqual(done, list(range(5000)))
