"""Tests for the Socket.IO server that conformance suites are run against, in memory."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from realtime.connections import IReceiver
from realtime.errors import Close

from ..outlets import MemoryOutlet
from .socketio import AUTH_DELAY, CONNECT_TIMEOUT, Client


class ClientTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.outlet = MemoryOutlet()
        self.client = Client(self.outlet, self.clock)

    def test_provides_the_interface(self) -> None:
        self.assertTrue(verifyObject(IReceiver, self.client))

    def test_one_namespace_in_time_is_enough(self) -> None:
        self.clock.advance(CONNECT_TIMEOUT - 0.001)
        self.client.received("0/custom,")
        self.clock.advance(CONNECT_TIMEOUT)
        self.assertIsNone(self.outlet.close_reason)

    def test_closes_when_no_namespace_connects_in_time(self) -> None:
        self.client.received("0/unknown")
        self.clock.advance(CONNECT_TIMEOUT)
        self.assertEqual(self.outlet.close_reason, Close.CONNECT_TIMEOUT)

    def test_nothing_is_left_to_do_once_the_transport_is_gone(self) -> None:
        self.client.received("0")
        self.client.closed("gone")
        Client(MemoryOutlet(), self.clock).closed("gone")
        self.clock.advance(AUTH_DELAY)
        self.assertEqual(len(self.outlet.frames), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_whoever_has_left_is_not_greeted(self) -> None:
        self.client.received("0")
        self.client.received("1")
        self.clock.advance(AUTH_DELAY)
        self.assertEqual(len(self.outlet.frames), 1)

    def test_the_custom_namespace_only_greets(self) -> None:
        self.client.received("0/custom,")
        self.client.received('2/custom,5["message",1]')
        self.assertEqual(len(self.outlet.frames), 1)
