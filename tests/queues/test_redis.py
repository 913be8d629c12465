"""`RedisQueues` keeps the contract of `IQueues`, whatever becomes of Redis."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet import reactor

from realtime.errors import BrokerUnavailable
from realtime.messages import Sequence
from realtime.queues.interface import LEASE, RETENTION, Change
from realtime.queues.redis import RedisQueues
from realtime.signals import QUEUED

from ..broker.redis_bus import PREFIX, RedisBus
from ..broker.test_redis_keys import written_by
from ..redis_servers import until
from .contract import LIMITS, QueuesCase, QueuesContract, short

_decode = msgspec.json.Decoder(Change | None).decode


class RedisQueuesCase(RedisBus):
    """One server, one node."""

    async def setUp(self) -> None:
        await self.start_server()
        node = self.node = await self.start_node()
        self.broker, self.store, self.delivered, self.peer = (
            node.broker,
            node.store,
            node.delivered,
            node.peer,
        )
        self.queues: Any = RedisQueues(node.broker, LIMITS, reactor.seconds)

    async def settled(self) -> None:
        await self.node.settled()

    async def advance(self, seconds: float) -> None:
        # Of sessions there are none that would have to live on.
        self.server.advance(seconds)

    async def told(self) -> list[Change | None]:
        await self.settled()
        signals, self.peer.signals = self.peer.signals, []
        return [_decode(data) for name, data in signals if name == QUEUED]


class ContractTests(RedisQueuesCase, QueuesContract):
    """The contract."""


class RedisTests(RedisQueuesCase, QueuesCase):
    """What memory could not show."""

    async def busy(self) -> None:
        """A bit of everything."""
        await self.hear("user:alice", "user:bob", "user:carol")
        await self.begin()
        for user in ("alice", "bob", "carol", "dora"):
            await self.queues.join("7", user, "c")
        await self.queues.join("8", "alice", "c")
        changes = await self.pull()
        await self.queues.positions("7", [("alice", 1, b'{"position":1}')])
        await self.queues.touch([("7", "bob"), ("9", "bob")])
        sent, other = await self.turn("alice"), await self.turn("dora")
        await self.queues.confirm("7", "alice", sent.id)
        await self.queues.leave("7", "bob", "left")
        await self.queues.leave("7", "dora", "left")
        await self.queues.greet("alice", "c2", self.broker.sequence())
        await self.queues.join("7", "dora", "c")
        self.assertEqual((await self.turn("dora", other.id)).state, "declined")
        await self.queues.acknowledge(changes + await self.pull())

    async def test_every_key_ends(self) -> None:
        """Every key has a time to live, and is in docs/redis.rst; in the end none is left."""
        await self.busy()
        page = (Path(__file__).parents[2] / "docs" / "redis.rst").read_text("utf-8")
        documented = set(re.findall(r"^``P:(queue:\w+)", page, re.MULTILINE))
        keys = [key.decode().removeprefix(PREFIX) for key in await self.server.command("KEYS", "*")]
        kinds = {":".join(key.split(":")[:2]) for key in keys if key.startswith("queue:")}
        self.assertEqual(kinds - documented, set())
        self.assertGreater(len(kinds), 10)
        for key in keys:
            self.assertGreater(await self.server.command("PTTL", PREFIX + key), 0, key)

    async def test_nothing_stays(self) -> None:
        """Once all have left, and the worker knows, nothing is kept but where the numbers are."""
        await self.busy()
        for event, user in (("7", "carol"), ("7", "dora"), ("8", "alice"), ("7", "alice")):
            await self.queues.leave(event, user, "left")
        await self.queues.acknowledge(await self.pull())
        await self.advance(RETENTION)
        await self.queues.sweep()
        await self.queues.release("w", "1")
        keys = [key.decode() for key in await self.server.command("KEYS", PREFIX + "queue:*")]
        self.assertEqual(keys, [PREFIX + "queue:number"])

    async def test_read_before_written(self) -> None:
        """See tests.broker.test_redis_keys: no script writes before it has read all that it writes."""
        monitor = await self.server.client()
        self.addCleanup(monitor.transport.abortConnection)
        await monitor.command("MONITOR")
        await self.busy()
        await self.queues.pull("v", "1", True, "first", 9)
        await self.advance(LEASE + 1)
        await self.queues.pull("v", "1", True, "anew", 9)
        await self.advance(RETENTION)
        await self.queues.sweep()
        await self.queues.release("v", "1")
        await self.server.command("ECHO", "the end")

        async def ended() -> bool:
            return any(b"the end" in line for line in monitor.pushed)

        await until(ended, "the end of the commands")
        self.assertGreater(len(written_by(monitor.pushed)), 8)

    async def test_lost(self) -> None:
        """After Redis has lost everything numbers go on above those before, and workers begin anew."""
        before = await self.queues.join("7", "alice", "c")
        await self.begin()
        await self.server.command("FLUSHALL")
        self.server.advance(0.001)
        after = await self.queues.join("7", "alice", "c")
        self.assertGreater(after.number, before.number)
        pulled = await self.queues.pull("w", "1", False, "", 9)
        self.assertEqual((pulled.begun, [short(one) for one in pulled.changes]), (True, ["joined 7 alice"]))

    async def test_away(self) -> None:
        """While Redis is away everything is refused as temporary, and nothing is half done."""
        await self.queues.join("7", "alice", "c")
        await self.node.broker.stop()
        for doing in (
            lambda: self.queues.join("7", "bob", "c"),
            lambda: self.queues.greet("alice", "c", Sequence("", 0, 0)),
            lambda: self.queues.pull("w", "1", False, "first", 9),
        ):
            await self.refused(BrokerUnavailable, doing())
