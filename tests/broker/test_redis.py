"""The Redis broker and state store keep the contract, over a real server."""

from __future__ import annotations

from .contract import BrokerContract, StoreContract
from .redis_bus import RedisBus


class _Redis(RedisBus):
    async def setUp(self) -> None:
        await self.start_server()
        node = await self.start_node()
        self.broker, self.store = node.broker, node.store
        self.delivered, self.peer = node.delivered, node.peer

    async def settled(self) -> None:
        await self.nodes[0].settled()


class RedisBrokerTests(_Redis, BrokerContract):
    """`RedisBroker` provides `IBroker`."""


class RedisStateStoreTests(_Redis, StoreContract):
    """`RedisStateStore` provides `IStateStore`."""

    async def setUp(self) -> None:
        await super().setUp()
        self.addCleanup(self.check_state)
