"""The booking queue over two nodes and Redis, with the workers of examples/, and what may go wrong."""

from __future__ import annotations

from collections import Counter
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
        answer = await client.call("queue:confirm", fields)
        while "retryAfter" in answer.get("error", {}):
            await deferLater(reactor, 0.2)
            answer = await client.call("queue:confirm", fields)
        self.accepted(answer)


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


class FaultTests(QueueCase):
    async def crowd(self, count: int, event: str) -> list[Client]:
        """So many users, half of them on each node, that wait for an event."""
        found = []
        for n in range(count):
            url = self.nodes[n % 2].url
            client = await self.connect(self.driver, f"{event}-{n}", url=url)
            client.user = f"{event}-{n}"
            await self.join(client, {"eventId": event})
            found.append(client)
        return found

    async def proceeded(self, clients: list[Client]) -> None:
        """Wait until each has got its proceed, and confirm it."""
        for client in clients:
            await self.confirm(client, await client.event("queue:proceed"))

    async def receipts(self, clients: list[Client], *workers: BookingWorker) -> None:
        """Wait until a worker has the receipt of each; each user has got one proceed, and no more."""
        users = {client.user for client in clients}

        async def told() -> bool:
            # who has left already is told to have declined
            return users <= {line["user"] for worker in workers for line in worker.told("receipt")}

        await self.until(told, f"the receipts of {users}; {[worker.lines[-5:] for worker in workers]}")
        await self.barrier(*clients)
        counts = Counter(client.user for client in clients for _ in client.events("queue:proceed"))
        self.assertEqual(counts, dict.fromkeys(users, 1))

    async def test_faults(self) -> None:
        """Workers and a node are killed, Redis freezes: nobody is lost, nobody proceeds twice."""
        await self.start_nodes()
        self.driver = await self.start_node()
        python = self.worker("python", places=4, turn=1000)
        node = self.worker("node", places=4, turn=1000)
        await self.killed_workers(python, node)
        await self.two_workers(python, node)
        await self.frozen_redis(python, node)
        await self.killed_node(python, node)

    async def killed_workers(self, *workers: BookingWorker) -> None:
        """Each worker is killed among its proceeds, and started again."""
        clients = await self.crowd(4, "killed")
        leader = await self.leader("killed", *workers)
        await self.proceeded(clients)
        await leader.kill()
        more = await self.crowd(2, "killed-more")
        for client in clients[:2]:
            self.accepted(await client.call("queue:leave", {"eventId": "killed"}))
        leader.start()
        await self.proceeded(more)
        await self.receipts([*clients, *more], *workers)
        declined = [line for worker in workers for line in worker.told("receipt", state="declined")]
        self.assertEqual({line["user"] for line in declined}, {client.user for client in clients[:2]})

    async def leader(self, event: str, *workers: BookingWorker) -> BookingWorker:
        """The worker that leads a queue."""
        found: list[BookingWorker] = []

        async def there() -> bool:
            found[:] = [worker for worker in workers if worker.told("joined", event=event)]
            return bool(found)

        await self.until(there, f"a worker hears of {event}")
        return found[0]

    async def two_workers(self, *workers: BookingWorker) -> None:
        """Each queue is led by one of them; when that dies for good the other has all of it."""
        await self.connected_workers(len(workers))
        clients = [client for n in range(4) for client in await self.crowd(1, f"two-{n}")]
        await self.proceeded(clients)
        await self.receipts(clients, *workers)
        for n in range(4):
            heard = [len(worker.told("joined", event=f"two-{n}")) for worker in workers]
            self.assertEqual(sorted(heard), [0, 1], n)
        for worker in workers:
            self.assertTrue([line for line in worker.told("joined") if line["event"].startswith("two-")])

    async def connected_workers(self, count: int) -> None:
        """Wait until so many workers have opened."""

        async def there() -> bool:
            found = [await node.metric("realtime_booking_queue_workers") for node in self.nodes]
            return sum(found) == count

        await self.until(there, f"{count} workers")

    async def frozen_redis(self, *workers: BookingWorker) -> None:
        """Redis answers nothing for a moment, and then all goes on."""
        clients = await self.crowd(2, "frozen")
        self.redis.freeze()
        late = await clients[0].call("queue:join", {"eventId": "frozen-more"})
        self.refused(late, "broker.unavailable")
        self.redis.thaw()
        await self.proceeded(clients)
        await self.receipts(clients, *workers)

    async def killed_node(self, *workers: BookingWorker) -> None:
        """A node dies, with the workers and the clients that it has: both come by the other one."""
        first, second = self.nodes
        proxy = Proxy(first.ports["PORT"])
        self.addCleanup(proxy.stop)
        client = self.open(self.driver, "last", url=proxy.url)
        client.user = "last"
        await client.connected()
        # A place among those who wait, of a queue whose turns are taken.
        before = await self.crowd(4, "last")
        await self.proceeded(before)
        await self.join(client, {"eventId": "last"})
        await client.event("queue:position", position=1)
        await first.kill()
        self.service = second
        proxy.target = second.ports["PORT"]
        here = before[1]
        self.accepted(await here.call("queue:leave", {"eventId": "last"}))
        await self.proceeded([client])
        await self.receipts_of("last", *workers)
        await self.barrier(client)
        self.assertEqual(len(client.events("queue:proceed")), 1)

    async def receipts_of(self, user: str, *workers: BookingWorker) -> None:
        """Wait for the receipt of a user's proceed."""

        async def told() -> bool:
            return any(worker.told("receipt", user=user, state="acknowledged") for worker in workers)

        await self.until(told, f"the receipt of {user}")
