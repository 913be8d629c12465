"""What is asked of a service that is looked at, for how long; and that what was not asked is a failure."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from benchmarks import observed
from benchmarks.cells import parse


class ObservedTests(SynchronousTestCase):
    def test_plan(self) -> None:
        """In ten seconds two scrapes, and what an open console asks every two seconds, in order."""
        server: Any = None
        plan = list(observed.Observers(server, {}, 10.0)._plan(10.0))
        self.assertEqual(len(plan), 2 + 5 * len(observed.ASKED))
        times = [due for due, _ in plan]
        self.assertEqual(times, sorted(times))
        self.assertLess(times[-1], 10.0)

    def test_cells(self) -> None:
        """Each is one, and lasts for whole intervals of pings where these are what it costs to be idle."""
        for cell, (half, bound) in observed.CELLS.items():
            self.assertIn(parse(cell, half).scenario, ("idle", "rate"))
            self.assertTrue(half >= 2 * observed.SCRAPE and 0 < bound <= 0.05)
            if cell.startswith("idle"):
                self.assertEqual(half % 25, 0)
