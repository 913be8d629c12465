"""A small load on a whole service: nothing is lost, repeated or out of order, within a bound of time."""

from __future__ import annotations

from typing import Any

from twisted.internet.threads import deferToThread

from benchmarks import generator
from benchmarks.generator import Load, Report

from ..clients.case import LiveCase
from ..clients.service import JWT_SECRET

#: Far more than is needed on a busy machine.
DEADLINE = 60.0


class LoadTests(LiveCase):
    """50 connections; what is wrong in any message fails the run."""

    async def load(self, **load: Any) -> Report:
        """Run a load against a new service, the measured part at once.

        :raises generator.LoadFailed: anything went wrong.
        """
        service = await self.start_service(RATE_LIMIT_MAX_MESSAGES="1000000")
        whole = Load(connections=50, warm=0.0, seconds=DEADLINE, deadline=DEADLINE, **load)
        return await deferToThread(self._generate, service.ports["PORT"], whole)

    def _generate(self, port: int, load: Load) -> Report:
        with generator.tokens(load.connections, JWT_SECRET) as tokens:
            return generator.run(load, port, tokens, lambda mark: None)

    async def test_fanout(self) -> None:
        """300 messages to a room of 50."""
        report = await self.load(scenario="fanout", window=10, count=300)
        self.assertEqual((report.publications, report.deliveries), (300, 15_000))

    async def test_protocols(self) -> None:
        """200 messages to a room in which every protocol is spoken."""
        report = await self.load(scenario="fanout", protocol="mix", window=10, count=200)
        self.assertEqual((report.publications, report.deliveries), (200, 10_000))

    async def test_echo(self) -> None:
        """300 messages of 50 clients, each to a room of its own."""
        report = await self.load(scenario="echo", window=2, count=300)
        self.assertEqual((report.publications, report.deliveries), (300, 300))

    async def test_rate(self) -> None:
        """100 messages of 1 KB at 100 a second."""
        report = await self.load(scenario="rate", rate=100.0, text=1024, count=100)
        self.assertEqual((report.publications, report.deliveries), (100, 5_000))
        self.assertLess(report.seconds, DEADLINE / 2)
