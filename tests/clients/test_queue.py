"""The booking queue over two nodes and Redis, with the workers of examples/, and what may go wrong."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.task import deferLater

from ..redis_servers import RedisServer
from .case import LiveCase
from .drivers import Client
from .proxy import Balancer, Proxy
from .service import Service
from .workers import BookingWorker

EVENT = {"eventId": "42"}


class QueueCase(LiveCase):
    """Two nodes over one Redis, and a way to the gRPC API of either."""

    async def start_nodes(self, **environ: str) -> None:
        self.redis = RedisServer(self.directory())
        await self.redis.start()
        self.addCleanup(self.redis.stop)
        self.nodes = [
            await self.start_service(REDIS_URL=self.redis.url, GRPC_PORT="0", **environ) for _ in range(2)
        ]
        self.grpc = Balancer([await self.grpc_port(node) for node in self.nodes])
        self.addCleanup(self.grpc.stop)

    async def grpc_port(self, service: Service) -> int:
        found: list[int] = []

        async def listening() -> bool:
            entries = service.entries("listening")
            found[:] = [entry["port"] for entry in entries if entry["setting"] == "GRPC_PORT"]
            return bool(found)

        await self.until(listening, "the gRPC API listens")
        return found[0]

    def worker(self, kind: str, **more: Any) -> BookingWorker:
        target = f"127.0.0.1:{self.grpc.port}"
        worker = BookingWorker(self.directory(), target, kind, **{"name": kind, "places": 1, **more})
        self.addCleanup(self._end_worker, worker)
        return worker.start()

    async def _end_worker(self, worker: BookingWorker) -> None:
        await worker.kill()
        # a process that is killed leaves a line of the shell's at most
        self.assertEqual([line for line in worker.faults if line.strip()], [])

    async def told(self, worker: BookingWorker, what: str, **fields: Any) -> dict[str, Any]:
        """Wait until a worker has told something."""

        async def there() -> bool:
            return bool(worker.told(what, **fields))

        await self.until(there, f"{what} {fields} of the worker; it told {worker.lines} {worker.faults}")
        return worker.told(what, **fields)[-1]

    async def join(self, client: Client, event: dict[str, str] = EVENT) -> None:
        self.accepted(await client.call("queue:join", event))

    async def confirm(self, client: Client, proceed: dict[str, Any]) -> None:
        fields = {name: proceed[name] for name in ("eventId", "proceedId")}
        self.accepted(await client.call("queue:confirm", fields))


class FlowTests(QueueCase):
    async def test_flow(self) -> None:
        """A page waits, is cut off twice, comes back by another node, proceeds once; the worker knows."""
        page = self.start_page()
        await self.start_nodes(WS_ALLOWED_ORIGINS=page.origin)
        first, second = self.nodes
        driver, browser = await self.start_node(), await self.start_chromium(page)
        worker = self.worker("node")
        others = [await self.connect(driver, user, url=second.url) for user in ("dave", "bob", "carol")]
        for client in others:
            await self.join(client)
        dave, bob, carol = others
        await self.confirm(dave, await dave.event("queue:proceed"))
        proxy = Proxy(first.ports["PORT"])
        self.addCleanup(proxy.stop)
        alice = await self.connect(browser, "alice", url=proxy.url, transports=["websocket"])
        await self.join(alice)
        await alice.event("queue:position", position=3)
        for leaving, place, node in ((bob, 2, second), (carol, 1, first)):
            proxy.cut()
            await alice.report("disconnect")
            self.accepted(await leaving.call("queue:leave", EVENT))
            await self.told(worker, "left", user=leaving.user or leaving.name.partition("-")[2])
            await self.settled(worker)
            proxy.target = node.ports["PORT"]
            proxy.mend()
            self.assertTrue((await alice.connected())["recovered"])
            await alice.event("queue:position", position=place)
        # It is the next one's turn.
        self.accepted(await dave.call("queue:leave", EVENT))
        proceed = await alice.event("queue:proceed")
        await self.confirm(alice, proceed)
        receipt = await self.told(worker, "receipt", user="alice")
        self.assertEqual(receipt["state"], "acknowledged")
        self.assertEqual(worker.told("proceed", id=proceed["proceedId"])[0]["state"], "sent")
        proxy.cut()
        await alice.report("disconnect")
        proxy.mend()
        await alice.connected()
        await self.barrier(alice)
        self.assertEqual(len(alice.events("queue:proceed")), 1)
        self.assertEqual([told["position"] for told in alice.events("queue:position")], [3, 2, 1])
        self.assertNotIn(proceed["token"], str([node.log for node in self.nodes]) + str(worker.lines))

    async def settled(self, worker: BookingWorker) -> None:
        """What the worker has said of a change has been done."""
        await deferLater(reactor, 0.2)
