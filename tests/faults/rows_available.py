"""Redis with replicas: issue 3, "Must show" 7; R11 and R12 of the plan."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import deferLater

from tests.redis_servers import RedisServer
from tests.redis_sets import Cluster, SentinelSet, start_cluster, start_sentinels

from .case import FaultCase, resets
from .scale import dice, scaled

USERS = tuple(f"user{number}" for number in range(6))
ROOMS = ("event:1", "event:2", "lobby")
#: Milliseconds after which a silent server is taken for dead.
DOWN_AFTER = 1000


class AvailableCase(FaultCase):
    """Two nodes; clients and the HTTP API publish, each message until it is acknowledged."""

    async def _start(self, url: str, seconds: float) -> Deferred[None]:
        throw = dice(self.id())
        fleet = await self.start_fleet(2, url=url)
        clients = await self.populate(throw, 8, USERS, ROOMS, nodes=fleet.nodes)
        for client in clients[:2]:
            self.send(client, sorted(client.rooms), int(seconds * 50), 20, 1, again=True)
        traffic = self.traffic(throw, USERS, "http", rooms=ROOMS)
        return ensureDeferred(self.flow(self.http, traffic, int(seconds * 30), 30))

    async def _writes_again(self, began: float) -> float:
        """Wait until all nodes are ready; seconds since then."""
        for node in self.fleet.nodes:
            await self.within(30, node.is_ready, "a node to be ready again")
        return reactor.seconds() - began

    async def _finish(self, flowing: Deferred[None]) -> None:
        """Whatever was acknowledged was delivered, also where a session began anew on its connection."""
        await flowing
        await self.complete(self.http, live=True)
        for client in self.recorders.recordings:
            self.assertEqual(client.disconnects, [], client)
            self.assertEqual({sent.outcome for sent in client.sent} - {"ok"}, set())


class SentinelTests(AvailableCase):
    """One primary, two replicas, three Sentinels."""

    async def _sentinels(self) -> SentinelSet:
        return await start_sentinels(self, replicas=2, down_after=DOWN_AFTER)

    async def test_primary_dies(self) -> None:
        """Must show 7 and R11: SIGKILL of the primary: writes again within down-after and 3 s, 0 lost."""
        sentinels = await self._sentinels()
        flowing = await self._start(sentinels.url, scaled(5, 60))
        old = await sentinels.primary()
        await deferLater(reactor, 1)
        began = reactor.seconds()
        await old.kill()
        await self._moved(sentinels, old)
        took = await self._writes_again(began)
        self.assertLess(took, DOWN_AFTER / 1000 + scaled(8, 3), "on a busy machine a little longer")
        await self._finish(flowing)

    async def test_primary_dies_ahead(self) -> None:
        """R11: the primary dies with what no replica has, and who has heard that is back last: 0 lost.

        The data goes back in time for one node, when the other has taken new messages into it already.
        """
        sentinels = await self._sentinels()
        flowing = await self._start(sentinels.url, scaled(5, 60))
        old = await sentinels.primary()
        first, late = self.fleet.nodes
        await deferLater(reactor, 0.5)
        await old.command("ACL", "SETUSER", "default", "-psync", "-sync")
        await old.command("CLIENT", "KILL", "TYPE", "replica")
        await deferLater(reactor, 0.3)
        late.freeze()
        await old.kill()
        await self._moved(sentinels, old)
        await self.within(30, first.is_ready, "one node to be ready again")
        await deferLater(reactor, 1)
        late.thaw()
        await self._finish(flowing)
        self.assertTrue(all(resets(client) for client in self.recorders.recordings))

    async def test_primary_freezes(self) -> None:
        """R11: SIGSTOP of the primary; when it goes on it accepts no write of ours."""
        sentinels = await self._sentinels()
        flowing = await self._start(sentinels.url, scaled(5, 60))
        old = await sentinels.primary()
        old.freeze()
        began = reactor.seconds()
        await self._moved(sentinels, old)
        await self._writes_again(began)
        old.thaw()
        await self._finish(flowing)
        await self.within(20, self._is_replica(old), "the old primary to be a replica")
        new = await sentinels.primary()
        asked = ("HGET", "realtime:3:log", "number")
        await self.within(20, self._agree(old, new, asked), "the old primary to have the new one's data")

    async def _moved(self, sentinels: SentinelSet, old: RedisServer) -> None:
        async def moved() -> bool:
            return await sentinels.primary() is not old

        await self.within(30, moved, "the Sentinels to choose another primary")

    def _is_replica(self, server: RedisServer) -> Callable[[], object]:
        async def is_replica() -> bool:
            return (await server.command("ROLE"))[0] == b"slave"

        return is_replica

    def _agree(self, one: RedisServer, other: RedisServer, asked: tuple[str, ...]) -> Callable[[], object]:
        async def agree() -> bool:
            return await one.command(*asked) == await other.command(*asked)

        return agree


class ClusterTests(AvailableCase):
    """Three primaries with two replicas each."""

    async def _cluster(self) -> Cluster:
        return await start_cluster(self, primaries=3, replicas=2, node_timeout=DOWN_AFTER)

    async def test_slot_migrates_and_primary_dies(self) -> None:
        """Must show 7 and R12: the slot moves under load, then its new primary dies: heals, 0 lost."""
        cluster = await self._cluster()
        flowing = await self._start(cluster.url, scaled(8, 90))
        slot = await cluster.slot("realtime:{3}:log")
        source = await cluster.owner(slot)
        target = next(server for server in cluster.servers[: cluster.primaries] if server is not source)
        await deferLater(reactor, 0.5)
        await cluster.begin_migration(slot, target)
        while await cluster.move_keys(slot, target, 5):
            await deferLater(reactor, 0.01)
        await cluster.end_migration(slot, target)
        await deferLater(reactor, 1)
        began = reactor.seconds()
        await target.kill()

        async def moved() -> bool:
            return (await cluster.owner(slot)).running

        await self.within(30, moved, "a replica to take the slot")
        await self._writes_again(began)
        await self._finish(flowing)
