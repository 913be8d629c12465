"""`MemoryQueues` keeps the contract of `IQueues`."""

from __future__ import annotations

import msgspec
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from realtime.broker.memory import MemoryBroker
from realtime.broker.memory_state import MemoryStateStore
from realtime.presence import Announcer
from realtime.queues.interface import Change
from realtime.queues.memory import MemoryQueues

from ..broker import contract
from ..broker.contract import Delivered, Peer
from .contract import LIMITS, QueuesContract

_decode = msgspec.json.Decoder(Change | None).decode


class MemoryQueuesTests(QueuesContract, TestCase):
    async def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_700_000_000)
        self.delivered = Delivered()
        self.broker = MemoryBroker(
            self.clock,
            retention=contract.RETENTION,
            idempotency=contract.WINDOW,
            max_messages=contract.MAX_MESSAGES,
            max_bytes=contract.MAX_BYTES,
            history=contract.HISTORY,
            history_ttl=contract.HISTORY_TTL,
            max_channels=100,
            max_total=10**6,
        )
        wall = self.clock.seconds
        self.store = MemoryStateStore(
            self.clock, self.broker, Announcer(wall), window=contract.WINDOW, wall=wall
        )
        await self.broker.start(self.delivered, Peer())
        self._told: list[Change | None] = []
        self.queues = MemoryQueues(self.broker, LIMITS, wall, lambda data: self._told.append(_decode(data)))

    async def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    async def settled(self) -> None:
        """The call is the delivery."""

    async def now(self) -> float:
        return self.clock.seconds()

    async def told(self) -> list[Change | None]:
        told, self._told = self._told, []
        return told
