"""Shared limit: users' rate limits over all nodes, by telling each other now and then.

A message never waits for it. What users spend here is added up, and told every `PERIOD` seconds; what
comes back is what they have spent everywhere. Between two such times a user can spend on each node
what is left as that node knows it, and has to pay it back later.
"""

from __future__ import annotations

from itertools import islice
from typing import Final

from twisted.internet.interfaces import IReactorTime

from .errors import BrokerUnavailable
from .limits import RateLimit
from .periodic import Periodic
from .trust.interface import ITrust

PERIOD: Final = 0.25

#: Users in one question.
BATCH: Final = 1000


class SharedLimit:
    """Keeps a node's limit and those of the others together."""

    def __init__(self, clock: IReactorTime, limit: RateLimit, trust: ITrust) -> None:
        self._clock = clock
        self._limit = limit
        self._trust = trust
        self._periodic = Periodic(clock, (PERIOD, self._tell))

    def start(self) -> None:
        """Begin to tell."""
        self._limit.spent = {}
        self._periodic.start()

    def stop(self) -> None:
        """Tell no more."""
        self._periodic.stop()
        self._limit.spent = None

    async def _tell(self) -> None:
        spent, self._limit.spent = self._limit.spent, {}
        if not spent:
            return
        told = iter(spent.items())
        try:
            while batch := dict(islice(told, BATCH)):
                debts = await self._trust.charge(batch, self._limit.window)
                self._limit.settle(debts, self._clock.seconds())
        except BrokerUnavailable:
            # Each node has its own limits while the bus is away.
            return
