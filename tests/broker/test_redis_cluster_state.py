"""The state of many nodes on a Redis Cluster: scripts reach their keys, also while the slot moves."""

from __future__ import annotations

import random
import secrets
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import Clock

from realtime.broker.interface import Held, Limits
from realtime.broker.redis import Links, RedisBroker
from realtime.broker.redis_deployment import RedisDeployment
from realtime.broker.redis_state import RedisStateStore
from realtime.broker.scripts import Scripts
from realtime.errors import BrokerUnavailable
from realtime.messages import Owner
from realtime.redis_url import parse

from ..redis_servers import until
from ..redis_sets import Cluster, start_cluster
from . import contract
from .contract import Delivered, Peer, session_of
from .nodes import as_kept
from .redis_bus import CONSTANTS, TIMES, Node, RedisBus

MANY = Limits(1000, 1000)


class ClusterNode(Node):
    """One node on a Cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self.delivered, self.peer, self.clock = Delivered(), Peer(), Clock()
        self.deployment = RedisDeployment(reactor, parse(cluster.url, ""))
        self.prefix = self.deployment.prefix(3)
        scripts = Scripts({**CONSTANTS, "PREFIX": self.prefix, "PUBLISH": "SPUBLISH"})

        def connect(broker: RedisBroker) -> Links:
            key = self.prefix + "log"
            return Links(
                self.deployment.link("commands", key, on_up=broker.commands_up, prepare=scripts.load),
                self.deployment.link("reads", key, prepare=scripts.load),
                self.deployment.subscriber(
                    "subscriber",
                    key,
                    on_message=broker.message,
                    on_up=broker.subscriber_up,
                    on_down=broker.subscriber_down,
                ),
            )

        self.broker = RedisBroker(
            reactor,
            node=secrets.token_hex(8),
            prefix=self.prefix,
            scripts=scripts,
            connect=connect,
            sharded=True,
            max_bytes=contract.MAX_BYTES,
        )
        self.store = RedisStateStore(
            self.clock, self.broker, prefix=self.prefix, times=TIMES, members=1000, wall=reactor.seconds
        )

    async def stop(self) -> None:
        await super().stop()
        await self.deployment.stop()


class ClusterTests(RedisBus):
    """Two nodes on a Cluster of three primaries."""

    async def setUp(self) -> None:
        self.cluster = await start_cluster(self)
        self.nodes: list[Any] = []
        self.addCleanup(self._stop_nodes)
        for name in "ab":
            node = ClusterNode(self.cluster)
            self.nodes.append(node)
            setattr(self, name, await node.start())
        self.prefix = self.nodes[0].prefix
        self.slot = await self.cluster.slot(self.prefix + "log")
        self.server = await self.cluster.owner(self.slot)

    async def begin(self, node: Node, user: str, connection: str, *rooms: str) -> Owner:
        owner = Owner(user, connection, 1)
        await node.store.begin(owner, session_of(owner), dict.fromkeys(rooms, True), 1000, MANY)
        return owner

    a: ClusterNode
    b: ClusterNode

    async def test_all_of_it(self) -> None:
        """Sessions, rooms, presence, preferences, comparing and leases work as on one server."""
        owner = await self.begin(self.a, "alice", "1", "lobby")
        await self.begin(self.b, "bob", "2", "lobby")
        wanted = contract.Preferences(frozenset(("a:b",)))
        await self.b.store.prefer("alice", wanted)
        self.assertEqual(await self.a.store.preferences("alice"), wanted)
        await self.a.store.choose("alice", "busy", None)
        self.assertEqual([one.shown for one in await self.b.store.members("lobby")], ["busy", "online"])
        record = await self.b.store.record(session_of(owner))
        read = await self.b.broker.recover(record, record.opened, 10**6)
        restored = await self.b.store.take_over(record, read, 0, MANY)
        await self.a.settled()
        self.assertEqual(self.a.peer.gone, [owner])
        held = Held(restored.owner, session_of(owner), {"lobby": True}, 0, False)
        self.assertEqual(await self.b.store.compare([held], False), [as_kept(restored.owner, wanted)])
        for node in self.nodes:
            await node.store.leases.beat()
            await node.store.leases.keep()
        self.assertEqual(dict(await self.a.store.rooms()), {"lobby": 2})
        await self.b.store.forget(restored.owner, session_of(owner))
        await self.check_state()

    async def test_slot_that_moves(self) -> None:
        """While keys are here and there a script is repeated or refused, and never half done."""
        rng = random.Random(5)
        target = next(server for server in self.cluster.servers if server is not self.server)
        live = [await self.begin(self.a, f"u{n % 9}", str(n), "lobby", f"event:{n % 3}") for n in range(12)]
        numbers = iter(range(100, 10**6))

        def step() -> Deferred[Any]:
            node = rng.choice(self.nodes)
            what = rng.randrange(5)
            if what == 0 or not live:
                number = next(numbers)
                return Deferred.fromCoroutine(self.begin(node, f"u{number % 9}", str(number), "lobby"))
            owner = rng.choice(live)
            if what == 1:
                return self.a.store.leave(owner, session_of(owner), "lobby")
            if what == 2:
                return self.a.store.choose(owner.user, rng.choice(("busy", "online")), None)
            if what == 3:
                return self.a.store.join(owner, session_of(owner), "event:9", True, 100)
            live.remove(owner)
            return self.a.store.forget(owner, session_of(owner))

        await self.cluster.begin_migration(self.slot, target)
        results: list[tuple[bool, Any]] = []
        while True:
            doing = [step() for _ in range(5)]
            moved = await self.cluster.move_keys(self.slot, target, 30)
            results += await DeferredList(doing, consumeErrors=True)
            if not moved:
                break
        await self.cluster.end_migration(self.slot, target)
        for good, result in results:
            if not good:
                result.trap(BrokerUnavailable)
        self.server = target

        async def serving() -> bool:
            try:
                for node in self.nodes:
                    await self.begin(node, "late", str(next(numbers)), "lobby")
            except BrokerUnavailable:
                return False
            return True

        await until(serving, "both nodes to be served by the new owner")
        await self.check_state()
