"""SIGTERM: clients are told and sent away so that they come back, and the process ends at once."""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet import reactor
from twisted.internet.utils import getProcessOutputAndValue

from .case import TRANSPORTS, LiveCase
from .service import Service


class DrainTests(LiveCase):
    """DRAIN_TIMEOUT is a bound, not how long it takes."""

    async def test_clients_come_back_elsewhere(self) -> None:
        """Each client gets what was published, then word of the end, and goes on trying to connect."""
        service = await self.start_service(DRAIN_TIMEOUT="9000")
        driver = await self.start_node()
        clients = [self.open(driver, name, **options) for name, options in TRANSPORTS.items()]
        for client in clients:
            await client.connected()
        await service.publish("system:announcement", {"last": True})
        service.terminate()
        began = reactor.seconds()
        for client in clients:
            await client.event("system:announcement", last=True)
            await client.event("system:maintenance", reconnect=True)
            self.assertIs((await client.report("disconnect"))["active"], True)
        self.assertEqual(await service.exited(), 0)
        self.assertLess(reactor.seconds() - began, 6)

    async def drain(self, service: Service, *arguments: str) -> tuple[int, str]:
        """``realtime drain``: its status, and what it prints."""
        told: Any = await getProcessOutputAndValue(
            sys.executable,
            ["-c", "import sys; from realtime.cli import main; sys.exit(main())", "drain", *arguments],
            {**service.environ, "HEALTH_CHECK_PORT": str(service.ports["HEALTH_CHECK_PORT"])},
        )
        return told[2], (told[0] + told[1]).decode()

    async def test_by_hand(self) -> None:
        """``realtime drain`` returns after the end of the node; over a second between two at this rate."""
        service = await self.start_service(DRAIN_TIMEOUT="60000", DRAIN_RATE="1")
        driver = await self.start_node()
        for name in ("alice", "bob"):
            await self.connect(driver, name)
        began = reactor.seconds()
        status, told = await self.drain(service)
        self.assertEqual(status, 0, told)
        self.assertGreater(reactor.seconds() - began, 0.9)
        self.assertRegex(told, r"process \d+ has ended\n\Z")
        self.assertEqual(await service.exited(), 0)
        status, told = await self.drain(service)
        self.assertEqual((status, "does not answer" in told), (1, True), told)

    async def test_in_a_hurry(self) -> None:
        """A second signal ends a drain that would take a minute; its status is 0 all the same."""
        service = await self.start_service(DRAIN_SETTLE="60000", DRAIN_TIMEOUT="60000")
        client = await self.connect(await self.start_node(), "alice")
        began = reactor.seconds()
        status, told = await self.drain(service, "--hurry")
        self.assertEqual(status, 0, told)
        self.assertLess(reactor.seconds() - began, 15)
        self.assertEqual(await service.exited(), 0)
        await client.event("system:maintenance", reconnect=True)
