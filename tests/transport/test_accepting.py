"""Ports take few connections at a time, and none while there is a crowd."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.internet.tcp import Port
from twisted.trial.unittest import SynchronousTestCase

from realtime.reception import Reception
from realtime.transport.accepting import CROWD, PAUSE, PER_TURN, by_turns


class Listening(Port):
    """A port of the kernel's that is not bound.

    :ivar asked: how many connections it was to take, each time.
    """

    def __init__(self) -> None:
        self.numberAccepts = 100
        self.asked: list[int] = []
        self.reading = True

    def doRead(self) -> None:
        self.asked.append(self.numberAccepts)
        self.numberAccepts += 20

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        self.reading = True


class AcceptingTests(SynchronousTestCase):
    """`by_turns`."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.reception = Reception(self.clock)
        self.port = Listening()
        by_turns(self.port, self.reception, self.clock)

    def test_few(self) -> None:
        """The same few each time, whatever Twisted makes of it."""
        for _ in range(3):
            self.port.doRead()
        self.assertEqual(self.port.asked, [PER_TURN] * 3)

    def test_crowd(self) -> None:
        """None while many wait; then it goes on."""
        self.reception.ready()
        for _ in range(CROWD):
            self.reception.wait(lambda: None)
        self.port.doRead()
        self.assertEqual((self.port.asked, self.port.reading), ([], False))
        self.clock.advance(PAUSE)
        self.assertTrue(self.port.reading)

    def test_long_turns(self) -> None:
        """As many more as there is time for."""
        self.reception.time = 0.01
        self.port.doRead()
        self.assertEqual(self.port.asked, [100])

    def test_no_port(self) -> None:
        """What listens otherwise does so as it likes."""
        by_turns(object(), self.reception, self.clock)
