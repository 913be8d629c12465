"""`MemoryReceipts` and `RedisReceipts` keep the contract of `IReceiptStore`."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from realtime.broker.memory_receipts import MemoryReceipts
from realtime.broker.receipts import Mark, Marks
from realtime.broker.redis_receipts import RedisReceipts

from ..ingress.bus import START, Bus
from .contract import Peer, publication
from .receipt_contract import MOST, TIMEOUT, TTL, ReceiptContract, receipted
from .redis_bus import PREFIX, Node, RedisBus
from .test_redis_keys import written_by


class _Peer(Peer):
    """Remembers signals."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[str, bytes]] = []

    def signalled(self, name: str, data: bytes) -> None:
        self.told.append((name, data))


class MemoryTests(ReceiptContract, TestCase):
    """One node."""

    def setUp(self) -> None:
        self.bus = Bus()
        self.peer = _Peer()
        self.broker = self.bus.broker
        self.broker.start(self.bus, self.peer)
        self.went: list[int] = []
        self.store = self.other = MemoryReceipts(
            self.broker,
            self.bus.wall,
            timeout=TIMEOUT,
            ttl=TTL,
            most=MOST,
            forgotten=self.went.append,
        )

    async def advance(self, seconds: float) -> None:
        self.bus.clock.advance(seconds)

    async def signals(self) -> list[tuple[str, bytes]]:
        return list(self.peer.told)

    def forgotten(self) -> int:
        return sum(self.went)

    async def test_times(self) -> None:
        await self.broker.publish(receipted())
        (found,) = await self.store.read(["p1"])
        self.assertEqual(found.made, START * 1000)
        self.assertFalse(found.over(START + TIMEOUT - 1))
        self.assertTrue(found.over(START + TIMEOUT))


class RedisTests(RedisBus, ReceiptContract):
    """Two nodes over one server."""

    async def setUp(self) -> None:
        await self.start_server()
        self.went: list[int] = []
        self.peer = _Peer()
        constants = {"RECEIPT_TIMEOUT": TIMEOUT * 1000, "RECEIPT_TTL": TTL * 1000, "MAX_RECEIPTS": MOST}
        first, self.second = Node(self.server, **constants), Node(self.server, **constants)
        self.second.peer = self.peer
        for node in (first, self.second):
            node.broker.on_forgotten = self.went.append
            self.nodes.append(node)
            await node.start()
        self.broker = first.broker
        self.store, self.other = (RedisReceipts(node.broker) for node in (first, self.second))

    async def signals(self) -> list[tuple[str, bytes]]:
        await self.second.settled()
        return list(self.peer.told)

    def forgotten(self) -> int:
        return sum(self.went)

    async def test_beyond_of_two_nodes(self) -> None:
        await self.broker.publish(receipted())
        await self.store.note([Marks("p1", (), (3, 2, 1))])
        await self.other.note([Marks("p1", (), (30, 20, 10))])
        self.assertEqual(await self.counts(), (33, 22, 11))

    async def test_kept_with_care(self) -> None:
        """All keys end by themselves, and are read before the first is written (see docs/redis.rst)."""
        monitor = await self.server.client()
        self.addCleanup(monitor.transport.abortConnection)
        await monitor.command("MONITOR")
        for n in range(MOST + 1):
            await self.broker.publish(receipted(f"p{n}"), f"key {n}")
        await self.broker.publish(publication("lobby"))
        await self.store.watch()
        await self.store.note([Marks("p5", (Mark("c", "u", 1),), (1, 1, 1))])
        await self.second.settled()
        self.assertGreaterEqual(len(written_by(monitor.pushed)), 3)
        for key in await self.server.command("KEYS", PREFIX + "*receipt*"):
            self.assertGreater(await self.server.command("PTTL", key), 0, key)
        self.assertEqual(await self.server.command("ZCARD", PREFIX + "receipts"), MOST)
