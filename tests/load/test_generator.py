"""The load generator is only worth its figures if it sees what goes wrong."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
from twisted.internet import reactor
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from benchmarks import compiling, generator
from benchmarks.generator import Load, LoadFailed, Report

from .faulty import FaultyServer, faithful

LOAD = Load(
    scenario="fanout", connections=10, window=2, warm=0.0, seconds=30, count=40, patience=1.0, deadline=60
)


def at(place: int, count: int, fault: Callable[[list[bytes]], Iterable[bytes]]) -> FaultyServer:
    """A server that treats one receiver otherwise when it has had so many messages."""

    def deliver(receiver: int, messages: list[bytes]) -> Iterable[bytes]:
        if receiver == place and len(messages) == count:
            return fault(messages)
        return faithful(receiver, messages)

    return FaultyServer(deliver)


class GeneratorCase(TestCase):
    """Runs a load against a server in this process."""

    timeout = 120

    def setUp(self) -> None:
        self.marks: list[str] = []
        self.publisher_port: int | None = None

    async def load(self, server: FaultyServer, load: Load = LOAD) -> Report:
        """Run it; the report, also of a run that failed."""
        port = reactor.listenTCP(0, server, interface="127.0.0.1")
        try:
            return await deferToThread(self._generate, port.getHost().port, load)
        except LoadFailed as failed:
            self.assertTrue(str(failed).startswith("{"), failed)
            report = msgspec.json.decode(str(failed), type=Report)
            self.assertFalse(report.clean)
            return report
        finally:
            await port.stopListening()

    def _generate(self, port: int, load: Load) -> Report:
        with generator.tokens(load.connections, "a secret of 32 bytes for tests only") as tokens:
            return generator.run(load, port, tokens, self.marks.append, self.publisher_port)


class CleanTests(GeneratorCase):
    """A server that does its work."""

    async def test_fanout(self) -> None:
        """All is delivered to all, each in its own name; pings are answered; phases are told."""
        server = FaultyServer()
        report = await self.load(server)
        self.assertTrue(report.clean)
        self.assertEqual((report.connections, report.publications, report.deliveries), (10, 40, 400))
        self.assertEqual(self.marks, ["connect", "connected", "measure", "measured"])
        self.assertEqual(server.pongs, 10)
        self.assertEqual(len(set(server.tokens)), 10)
        self.assertGreater(report.p50_ms, 0)
        self.assertLessEqual(report.p50_ms, report.p99_ms)
        self.assertLessEqual(report.p99_ms, report.max_ms)

    async def test_publisher_elsewhere(self) -> None:
        """The publisher may be at another port than those who only receive."""
        server = FaultyServer()
        port = reactor.listenTCP(0, server, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.publisher_port = port.getHost().port
        report = await self.load(server)
        self.assertTrue(report.clean)
        ports = [member.port for member in server.members]
        self.assertEqual(ports.count(self.publisher_port), 1)

    async def test_text(self) -> None:
        """A text has the size that was asked for."""
        for size in (32, 60, 1024):
            server = FaultyServer()
            await self.load(server, msgspec.structs.replace(LOAD, text=size, count=4))
            body = msgspec.json.decode(server.members[0].messages[-1])
            self.assertEqual(len(body[1]["text"]), size)

    async def test_rate(self) -> None:
        """So many are published a second, whatever comes back."""
        report = await self.load(
            FaultyServer(), msgspec.structs.replace(LOAD, scenario="rate", rate=100, count=50)
        )
        self.assertTrue(report.clean)
        self.assertEqual(report.deliveries, 500)
        self.assertGreater(report.seconds, 0.49)

    async def test_no_measurement(self) -> None:
        """Connections alone are a load too."""
        for scenario, marks in (("connect", []), ("idle", ["held"])):
            self.marks = []
            report = await self.load(
                FaultyServer(), msgspec.structs.replace(LOAD, scenario=scenario, first=4, seconds=0.1)
            )
            self.assertTrue(report.clean)
            self.assertEqual(self.marks, ["connect", "connected", *marks])


class FaultTests(GeneratorCase):
    """A server that does not."""

    async def test_lost(self) -> None:
        """A message that one receiver does not get is counted."""
        report = await self.load(at(3, 17, lambda messages: []))
        self.assertEqual((report.lost, report.repeated, report.disordered), (1, 0, 0))

    async def test_last_lost(self) -> None:
        """So is one that nothing follows."""
        report = await self.load(at(9, 40, lambda messages: []))
        self.assertEqual((report.lost, report.repeated, report.disordered), (1, 0, 0))

    async def test_repeated(self) -> None:
        """A message that comes twice is counted, at once or late."""
        for fault in (lambda messages: messages[-1:] * 2, lambda messages: [messages[-1], messages[3]]):
            report = await self.load(at(3, 17, fault))
            self.assertEqual((report.lost, report.repeated, report.disordered), (0, 1, 0))

    async def test_disordered(self) -> None:
        """Two messages in each other's place are counted."""
        held: list[bytes] = []

        def deliver(receiver: int, messages: list[bytes]) -> Iterable[bytes]:
            if receiver == 3 and len(messages) == 17:
                held.append(messages[-1])
                return []
            if receiver == 3 and len(messages) == 18:
                return [messages[-1], held[0]]
            return messages[-1:]

        report = await self.load(FaultyServer(deliver))
        self.assertEqual((report.lost, report.repeated, report.disordered), (0, 0, 1))

    async def test_misdirected(self) -> None:
        """In an echo, a message of somebody else's room is counted."""
        report = await self.load(FaultyServer(), msgspec.structs.replace(LOAD, scenario="echo"))
        self.assertGreater(report.misdirected, 0)

    async def test_refused(self) -> None:
        """A refusal ends the run; the report quotes it."""
        server = FaultyServer(answer=lambda number: {"ok": number != 5})
        report = await self.load(server)
        self.assertEqual(report.refused, 1)
        self.assertIn("'ok':false", report.fault)

    async def test_cut(self) -> None:
        """A connection that is closed ends the run."""
        server = at(4, 9, lambda messages: server.members[4].transport.loseConnection() or [])
        report = await self.load(server)
        self.assertGreaterEqual(report.cut, 1)

    async def test_garbled(self) -> None:
        """A message without its number ends the run."""
        report = await self.load(at(4, 9, lambda messages: [b'["room:message",{}]']))
        self.assertEqual(report.garbled, 1)

    async def test_deadline(self) -> None:
        """A run that lasts too long is a failed one."""
        report = await self.load(
            at(3, 7, lambda messages: []), msgspec.structs.replace(LOAD, patience=30.0, deadline=2.0)
        )
        self.assertTrue(report.late)


class BuildTests(TestCase):
    """The generator's making."""

    def test_no_compiler(self) -> None:
        """Without a compiler it says how to get one."""
        directory = Path(self.mktemp()) / "benchmarks"
        directory.mkdir(parents=True)
        for name in (*generator.SOURCES, *generator.HEADERS):
            (directory / name).touch()
        self.patch(compiling, "HERE", directory)
        self.patch(os, "environ", {"PATH": ""})
        failed = self.assertRaises(compiling.NoCompiler, generator.build)
        self.assertIn("apt-get install gcc", str(failed))
