"""The relay and the reader of the stream under one fault after the other: each message once, in order."""

from __future__ import annotations

import json
import random
from collections.abc import Awaitable, Callable

from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import LoopingCall, deferLater

from realtime.broker.relay import State

from ..faults.scale import dice, scaled
from ..redis_servers import until
from .relays import RelayCase, RelayNode
from .test_relay import publishing

EVERY = 0.02
BURST = 5


class ChaosTests(RelayCase):
    """Three nodes, of which one at a time has trouble; messages flow all the while."""

    timeout = 300

    async def test_one_fault_after_the_other(self) -> None:
        throw = dice(self.id())
        await self.begin("n1", "n2", "n3", timeout=1.0)
        self.names = 3
        self.said = self.added = 0
        flow = LoopingCall(self.burst)
        flow.start(EVERY)
        faults = [
            *(self.one_dies, self.one_stops, self.one_is_cut, self.one_goes_deaf, self.answers_are_lost),
            *(self.calls_fail, self.calls_come_late, self.redis_stands_still),
        ]
        try:
            for round_ in range(scaled(1, 8)):
                throw.shuffle(faults)
                for fault in faults:
                    await self.suffer(fault, throw, round_)
        finally:
            flow.stop()

        async def all_came() -> bool:
            return len(self.of("system:note")) >= self.said and len(self.of("system:read")) >= self.added

        await until(all_came, "all messages and entries", 30)
        await self.settle()
        self.assertEqual(self.of("system:note"), list(range(self.said)))
        self.assertEqual(self.of("system:read"), list(range(self.added)))
        alive = [node for node in self.nodes if not node.dead]
        self.assertEqual([node.relay.held for node in alive], [0] * len(alive))
        self.assertEqual(sum(node.relay.lost("overflow") for node in alive), 0)

    def burst(self) -> None:
        for _ in range(BURST):
            self.server._client.command("PUBLISH", "system:note", json.dumps({"n": self.said}))
            self.said += 1
        fields = ("channel", "system:read", "data", json.dumps({"n": self.added}))
        self.server._client.command("XADD", "realtime:events", "*", *fields)
        self.added += 1

    def of(self, event: str) -> list[int]:
        """The numbers of all publications of one event, in their order."""
        return [json.loads(made.data)["n"] for made in self.delivered() if made.event == event]

    async def suffer(
        self, fault: Callable[[random.Random], Awaitable[None]], throw: random.Random, round_: int
    ) -> None:
        """One fault, then time for all to recover."""
        await deferLater(reactor, throw.uniform(0, 0.3))
        await ensureDeferred(fault(throw))

        async def all_well() -> bool:
            states = [node.relay.state for node in self.nodes if not node.dead]
            return sorted(state.value for state in states) == ["holder", "listener", "listener"]

        await until(all_well, f"all to stand again after {fault.__name__} in round {round_}")

    def pick(self, throw: random.Random) -> RelayNode:
        """Mostly the one that publishes."""
        alive = [node for node in self.nodes if not node.dead]
        holders = [node for node in alive if node.relay.state is State.HOLDER]
        return holders[0] if holders and throw.random() < 0.7 else throw.choice(alive)

    async def another(self) -> None:
        self.names += 1
        await self.node(f"n{self.names}", timeout=1.0)

    async def one_dies(self, throw: random.Random) -> None:
        node = self.pick(throw)
        dying = node.die()
        await deferLater(reactor, throw.uniform(0, 1))
        await self.another()
        await dying

    async def one_stops(self, throw: random.Random) -> None:
        node = self.pick(throw)
        await node.relay.stop()
        node.dead = True
        await node.broker.stop()
        await self.another()

    async def one_is_cut(self, throw: random.Random) -> None:
        node = self.pick(throw)
        turn = node.relay._turn
        node.listening.cut()

        async def gone() -> bool:
            return node.relay._turn > turn

        await until(gone, "the connection to be lost")

    async def one_goes_deaf(self, throw: random.Random) -> None:
        node = self.pick(throw)
        node.listening.freeze()

        async def noticed() -> bool:
            return bool(node.listening.dropped)

        await until(noticed, "the deaf one to notice")
        node.listening.dropped.clear()

    async def answers_are_lost(self, throw: random.Random) -> None:
        await self.gated(throw, "lose")

    async def calls_fail(self, throw: random.Random) -> None:
        await self.gated(throw, "drop")

    async def calls_come_late(self, throw: random.Random) -> None:
        await self.gated(throw, "late")

    async def gated(self, throw: random.Random, verdict: str) -> None:
        node = self.pick(throw)
        node.bus.gate = publishing(verdict)
        await deferLater(reactor, throw.uniform(0.05, 0.3))
        node.bus.release()

    async def redis_stands_still(self, throw: random.Random) -> None:
        self.server.freeze()
        await deferLater(reactor, throw.uniform(0.2, 2))
        self.server.thaw()
