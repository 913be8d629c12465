"""Redis is there and refuses, or is slow, or was meddled with: R7, R8, R9 and R13 of the plan."""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable

from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import deferLater

from tests.redis_servers import RedisServer, start_redis, until

from .case import FaultCase, resets
from .fleet import Pulse
from .scale import dice, scaled
from .ways import STREAM

ROOMS = ("event:1", "lobby")
USERS = ("alice", "bob", "carol")
#: Seconds after the end of a cause within which all is well again.
HEALED = 10.0


class RefusalCase(FaultCase):
    """One node and some clients; a cause comes and goes, and nobody restarts anything."""

    async def _start(self, redis: RedisServer, **environ: str) -> None:
        self.redis = redis
        fleet = await self.start_fleet(1, **environ)
        self.node = fleet[0]
        self.clients = await self.populate(dice(self.id()), 4, USERS, ROOMS)
        self.chatty = self.record("dave", ROOMS)
        await self.recorders.settled()
        self.traffic(dice("http"), USERS, "http", rooms=ROOMS)
        await self.flow(self.http, self.traffics[0], 10, 200)

    async def _drop_connections(self) -> None:
        """End all connections of the node, so that it has to make new ones."""
        for kind in ("pubsub", "normal"):
            await self._own_redis().command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")

    async def _refused(self) -> None:
        """Publishing is refused with a temporary error, by each way that has an answer."""

        async def refused() -> bool:
            answer = await self.node.service.publish("system:maintenance", {})
            return answer.status == 503 and answer.body["error"]["code"] == "broker.unavailable"

        await self.within(HEALED, refused, "publishing to be refused")
        told = await self.chatty.call("room:message", {"roomId": "lobby", "text": "refused"})
        self.refused(told, "broker.unavailable")
        self.assertEqual((await self.node.live()).status, 200)

    async def _heals(self) -> None:
        """All is well again: what is published now comes, and nobody was disconnected."""
        await self.within(HEALED, self.node.is_ready, "the node to be ready")
        await self.flow(self.http, self.traffics[0], 10, 200)
        self.send(self.chatty, ROOMS, 10, 5, 1, again=True)
        await self.complete(self.http)
        for client in self.recorders.recordings:
            self.assertEqual((client.disconnects, resets(client)), ([], 0), client)


class AdmissionTests(RefusalCase):
    """R7: Redis does not let the node in."""

    async def test_password(self) -> None:
        """R7: a wrong password at the start, and one that is changed later: tried again until it fits."""
        redis = self.redis = await start_redis(self, password="another", appendonly=True)
        fleet = await self.start_fleet(1, ready=False, REDIS_PASSWORD="right")
        self.assertTrue(await fleet[0].is_unready())
        await redis.command("CONFIG", "SET", "requirepass", "right")
        redis.password = "right"
        await self.within(HEALED, fleet[0].is_ready, "the password to be accepted")
        client = self.record("alice", ROOMS)
        await self.recorders.settled()
        await redis.command("CONFIG", "SET", "requirepass", "rotated")
        await self._drop_connections()
        await self.within(HEALED, fleet[0].is_unready, "readiness to say so")
        await redis.command("CONFIG", "SET", "requirepass", "right")
        await self.within(HEALED, fleet[0].is_ready, "the password to be accepted again")
        await self.complete()
        self.assertEqual(client.disconnects, [])

    async def test_maxclients(self) -> None:
        """R7: Redis takes no more clients."""
        await self._start(await start_redis(self, appendonly=True))
        await self._own_redis().command("CONFIG", "SET", "maxclients", 1)
        await self._drop_connections()
        await self.within(HEALED, self.node.is_unready, "readiness to say so")
        await self._refused()
        await self._own_redis().command("CONFIG", "SET", "maxclients", 1000)
        await self._heals()

    async def test_loading(self) -> None:
        """R7: Redis loads its data for a while, and answers LOADING meanwhile."""
        slow = ("--key-load-delay", 1000, "--loading-process-events-interval-bytes", 1024)
        redis = await start_redis(self, *slow)
        await self._start(redis)
        await redis.command("DEBUG", "POPULATE", scaled(1500, 20_000), "filling", 100)
        await redis.command("SAVE")
        await redis.restart(ready=False)
        await self.within(HEALED, self.node.is_unready, "readiness to say so")
        await self._refused()
        await until(self._pongs(redis), "the data to be loaded", 60)
        await self._heals()

    def _pongs(self, redis: RedisServer) -> Callable[[], Awaitable[bool]]:
        async def pongs() -> bool:
            return await redis.command("PING") == b"PONG"

        return pongs

    async def test_denied(self) -> None:
        """R7: the ACL forbids what the node needs, until it does not."""
        user = "user default on nopass ~* &* +@all"
        await self._start(await start_redis(self, users=(user,), appendonly=True))
        await self._own_redis().command("ACL", "SETUSER", "default", "-evalsha", "-eval")
        await self._refused()
        await self._own_redis().command("ACL", "SETUSER", "default", "+@all")
        await self._heals()


class WriteTests(RefusalCase):
    """R8: Redis takes no writes. They fail loudly; reads and fan-out go on."""

    async def _reads(self) -> None:
        page = await self.chatty.call("room:history", {"roomId": "lobby"})
        self.accepted(page)

    async def test_out_of_memory(self) -> None:
        """R8: OOM."""
        await self._start(await start_redis(self, appendonly=True))
        await self._own_redis().command("CONFIG", "SET", "maxmemory", "100kb")
        await self._refused()
        await self._reads()
        await self._own_redis().command("CONFIG", "SET", "maxmemory", 0)
        await self._heals()

    async def test_no_snapshot(self) -> None:
        """R8: MISCONF: Redis can't save, and therefore takes no writes."""
        redis = await start_redis(self, save="3600 1")
        await self._start(redis)
        shutil.rmtree(redis.directory)
        await redis.command("BGSAVE")

        async def failed() -> bool:
            return await redis.info("persistence", "rdb_last_bgsave_status") == "err"

        await until(failed, "the snapshot to fail")
        await self._refused()
        await self._reads()
        await redis.command("CONFIG", "SET", "stop-writes-on-bgsave-error", "no")
        await self._heals()

    async def test_replica(self) -> None:
        """R8: READONLY: the server has become a replica."""
        await self._start(await start_redis(self, appendonly=True))
        await self._own_redis().command("REPLICAOF", "127.0.0.1", 1)
        await self._refused()
        await self._own_redis().command("REPLICAOF", "NO", "ONE")
        await self._heals()


class SlowTests(RefusalCase):
    """R9: a slow Redis makes nobody wait who does not need it."""

    async def test_slow(self) -> None:
        """R9: DEBUG SLEEP 0.2 again and again, and CLIENT PAUSE 3000: the reactor stays free (I5)."""
        await self._start(await start_redis(self, appendonly=True))
        pulse = Pulse(self.node)
        self.send(self.chatty, ROOMS, scaled(60, 600), 20, 1, again=True)
        other = await self._own_redis().client()
        self.addCleanup(other.transport.abortConnection)
        for _ in range(scaled(5, 50)):
            await other.command("DEBUG", "SLEEP", 0.2)
            await deferLater(reactor, 0.02)
        await other.command("CLIENT", "PAUSE", scaled(1500, 3000), "ALL")
        asked = reactor.seconds()
        await self.node.service.publish("system:maintenance", {})
        self.assertLess(reactor.seconds() - asked, 3)
        times = await pulse.stop()
        self.assertLess(times[-1], scaled(1.0, 0.5), "I5: the longest wait")
        self.assertLess(times[int(len(times) * 0.99)], scaled(0.5, 0.1), "I5: p99")
        await self._heals()


class MeddledTests(FaultCase):
    """R13: somebody trims what nodes still need, or ids run backwards."""

    async def test_log_trimmed(self) -> None:
        """R13: the log lost what a client missed: it is told that it did not recover, or misses nothing."""
        await self.start_fleet(2)
        away, sender = self.record("alice", ROOMS), self.record("bob", ROOMS)
        await self.recorders.settled()
        targets, self.fleet.balancer.targets = self.fleet.balancer.targets, []
        away.cut()
        await self.recorders.until(lambda: bool(away.disconnects), lambda: "the cut")
        self.send(sender, ROOMS, 40, 5, 2, again=True)
        await self.acknowledged()
        for key in await self._own_redis().command("KEYS", "realtime:3:log:*"):
            await self._own_redis().command("XTRIM", key, "MAXLEN", 1)
        self.fleet.balancer.targets = targets
        await self.recorders.settled()
        await self.complete()
        self.assertEqual([row[0] for row in away.of("c")], [False, False])

    async def test_ids_run_backwards(self) -> None:
        """R13: the stream is deleted and its ids begin anew: the reader notices within 5 s."""
        await self.start_fleet(2)
        client = self.record("alice", ROOMS)
        await self.recorders.settled()
        traffic = self.traffic(dice(self.id()), ("alice",), "streams", rooms=ROOMS, repeated=0)
        way = self.streamed()
        await self.flow(way, traffic, 10, 500)
        await self.recorders.until(lambda: client.count == 10, lambda: f"the entries: {client.count}")
        await self._own_redis().command("DEL", STREAM)
        for n in range(1, 6):
            (message, *_) = traffic.next()
            fields = ("channel", message.channel, "data", message.text())
            await self._own_redis().command("XADD", STREAM, f"{n}-1", *fields)
        await self.recorders.until(lambda: client.count == 15, lambda: f"the entries: {client.count}", 5)
        await self.complete(way)

    async def test_streams_over_a_break(self) -> None:
        """R13: entries added while no node runs, or Redis was away, are read once each, in order."""
        fleet = await self.start_fleet(2)
        throw = dice(self.id())
        client = self.record("alice", ROOMS)
        await self.recorders.settled()
        traffic = self.traffic(throw, ("alice",), "streams", rooms=ROOMS)
        way = self.streamed()
        flowing = ensureDeferred(self.flow(way, traffic, scaled(200, 3000), 100))
        await deferLater(reactor, 0.3)
        await self._own_redis().restart()
        await deferLater(reactor, 0.3)
        for node in fleet.nodes:
            await node.kill()
        await deferLater(reactor, 0.3)
        await fleet.start()
        await flowing
        await self.complete(way)
        self.assertEqual([row[0] for row in client.of("c")][1:], [True])
