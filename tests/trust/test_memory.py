"""`MemoryTrust` keeps the contract of `ITrust`."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import TestCase

from realtime.trust import memory
from realtime.trust.memory import MemoryTrust

from .contract import Listener, TrustContract


class MemoryTrustTests(TrustContract, TestCase):
    def setUp(self) -> None:
        self.now = 1_700_000_000.0

    async def make(self) -> MemoryTrust:
        return MemoryTrust(self.wall)

    def wall(self) -> float:
        return self.now

    async def advance(self, seconds: float) -> None:
        self.now += seconds

    async def heard(self, listener: Listener, count: int) -> None:
        self.assertEqual(len(listener.changes), count)

    def fill_families(self, trust: Any, count: int) -> None:
        self.patch(memory, "MAX_FAMILIES", count)
