"""Tests for realtime.queue_stream, over a real Redis."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet import reactor

from realtime.booking_workers import BookingWorkers
from realtime.broker.redis_link import Link
from realtime.broker.redis_locate import FixedLocator, Place
from realtime.errors import WorkersElsewhere
from realtime.metrics import Metrics
from realtime.queue_stream import STREAM, QueueStream
from realtime.queues.interface import QueueLimits
from realtime.queues.redis import RedisQueues
from realtime.signals import QUEUED
from realtime.watching import Watching

from .broker.contract import Peer
from .broker.redis_bus import RedisBus
from .redis_servers import until


class HandingPeer(Peer):
    """Hands what is signalled of queues to the workers."""

    workers: BookingWorkers

    def signalled(self, name: str, data: bytes) -> None:
        if name == QUEUED:
            self.workers.heard(data)


class StreamTests(RedisBus):
    async def setUp(self) -> None:
        await self.start_server()
        self.node = await self.start_node()
        self.queues: Any = RedisQueues(self.node.broker, QueueLimits(), reactor.seconds)

    async def begin(self, length: int = 1000) -> QueueStream:
        workers = BookingWorkers(reactor, self.queues, Watching(), Metrics(), streamed=True)
        peer = HandingPeer()
        peer.workers = workers
        self.node.broker._peer = peer
        self.node.broker.hearing._peer = peer
        locator = FixedLocator(Place("127.0.0.1", self.server.port))
        link = Link(self.node.connector, locator, name="queue")
        stream = QueueStream(reactor, workers, link, name="s", database=3, length=length)
        workers.start()
        stream.start()
        self.addCleanup(workers.stop)
        self.addCleanup(stream.stop)
        self.workers = workers
        return stream

    async def entries(self) -> list[dict[str, Any]]:
        found = []
        for _, flat in await self.server.command("XRANGE", STREAM, "-", "+"):
            fields = {n.decode(): v.decode() for n, v in zip(flat[::2], flat[1::2], strict=True)}
            found.append({**fields, "data": json.loads(fields["data"])})
        return found

    async def has(self, *users: str) -> list[dict[str, Any]]:
        """Wait until the stream has these users, each the first time, in order; its entries."""
        found: list[dict[str, Any]] = []

        async def there() -> bool:
            found[:] = await self.entries()
            named = list(dict.fromkeys(entry["data"]["userId"] for entry in found))
            return named == list(users)

        await until(there, f"{users} in the stream")
        return found

    async def acknowledged(self) -> None:
        async def there() -> bool:
            return not self.workers.unacknowledged

        await until(there, "all is acknowledged")

    async def test_added(self) -> None:
        """Each change is in the stream, with what it is; and once, if nothing fails."""
        await self.queues.join("7", "early", "c1")
        await self.begin()
        await self.has("early")
        await self.queues.join("7", "late", "c2")
        entry, _ = await self.has("early", "late")
        self.assertEqual((entry["kind"], entry["database"]), ("joined", "3"))
        self.assertEqual(entry["id"], str(entry["data"]["id"]))
        self.assertEqual(entry["data"]["eventId"], "7")
        await self.acknowledged()
        with self.assertRaises(WorkersElsewhere):
            self.workers.open(self, "", False, lambda changes: None, lambda error: None)

    async def test_refused(self) -> None:
        """While the stream can't be written nothing is acknowledged; afterwards all of it comes."""
        await self.server.command("SET", STREAM, "not a stream")
        await self.begin()
        await self.queues.join("7", "alice", "c")
        await self.queues.join("7", "bob", "c")

        async def refused() -> bool:
            return self.workers.unacknowledged == 2

        await until(refused, "the changes to be told")
        await self.server.command("DEL", STREAM)
        entries = await self.has("alice", "bob")
        await self.acknowledged()
        self.assertEqual(len({entry["id"] for entry in entries}), 2)

    async def test_bounded(self) -> None:
        """It keeps about so many."""
        await self.begin(length=100)
        for n in range(400):
            await self.queues.join(f"{n % 4}", f"u{n}", "c")

        async def there() -> bool:
            return (await self.entries())[-1:] != [] and not self.workers.unacknowledged

        await until(there, "all is in the stream")
        self.assertLess(len(await self.entries()), 300)
