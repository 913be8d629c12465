"""What is said again and again is said now and then."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from realtime.complaints import QUIET, Complaints


class ComplaintsTests(SynchronousTestCase):
    def test_each_once_in_a_while(self) -> None:
        clock = Clock()
        complaints = Complaints(clock.seconds)
        self.assertEqual(
            [complaints.due("a"), complaints.due("a"), complaints.due("b")], [True, False, True]
        )
        clock.advance(QUIET - 0.1)
        self.assertFalse(complaints.due("a"))
        clock.advance(0.1)
        self.assertEqual([complaints.due("a"), complaints.due("a")], [True, False])
