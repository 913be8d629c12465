"""A small load on a whole service: nothing is lost, repeated or out of order, within a bound of time."""

from __future__ import annotations

from typing import Any

from twisted.internet.threads import deferToThread

from benchmarks import generator
from benchmarks.generator import Load, Report
from benchmarks.peers import limit

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
        service = await self.start_service(
            RATE_LIMIT_MAX_MESSAGES="1000000", RATE_LIMIT_MAX_CONNECTIONS="10000", RECOVERY_WINDOW="1000"
        )
        return await self.load_on(service.ports["PORT"], **load)

    async def load_on(self, port: int, **load: Any) -> Report:
        """Run a load against what listens on a port."""
        whole = Load(**{"connections": 50, "warm": 0.0, "seconds": DEADLINE, "deadline": DEADLINE, **load})
        return await deferToThread(self._generate, port, whole)

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

    async def test_crowds(self) -> None:
        """100 that come at once while 50 others live; 160 that come and go in any way; 40 further rooms."""
        report = await self.load(
            scenario="storm", connections=150, first=50, offered=1000.0, rate=50.0, seconds=0.2
        )
        self.assertEqual(report.connections, 150)
        self.assertEqual(report.deliveries, report.publications * 50)
        self.assertGreater(report.quiet_p99_ms, 0)
        report = await self.load_on(self.service.ports["PORT"], scenario="churn", connections=20, count=160)
        self.assertEqual((report.clean, report.publications), (True, 160))
        report = await self.load_on(self.service.ports["PORT"], scenario="fanout", rooms=40, count=20)
        self.assertEqual((report.publications, report.deliveries), (20, 1000))

    async def test_limit(self) -> None:
        """The peer in C does its work by either mode, and what it is told is spoken."""
        for mode, scenario, each in (("loop", "echo", 1), ("batch", "fanout", 50)):
            with limit(mode) as server:
                load = {"scenario": scenario, "protocol": "bare", "window": 7, "count": 300}
                report = await self.load_on(server.port, **load)
                self.assertEqual((report.publications, report.deliveries), (300, 300 * each))
