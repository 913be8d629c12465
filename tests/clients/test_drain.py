"""SIGTERM: clients are told and sent away so that they come back, and the process ends at once."""

from __future__ import annotations

from twisted.internet import reactor

from .case import TRANSPORTS, LiveCase


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
