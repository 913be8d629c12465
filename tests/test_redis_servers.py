"""The servers that tests start do what tests take for granted."""

from __future__ import annotations

from pathlib import Path

import hiredis
from twisted.trial.unittest import TestCase

from .redis_servers import RedisServer, start_redis, until
from .redis_sets import start_cluster, start_sentinels


class ServerTests(TestCase):
    """One server."""

    timeout = 60

    async def assert_holds(self, server: RedisServer, value: bytes | None) -> None:
        self.assertEqual(await server.command("GET", "key"), value)

    async def test_data(self) -> None:
        """It comes back with its data, with those of a snapshot, or with none, on the same port."""
        server = await start_redis(self, save="3600 1")
        port = server.port
        await server.command("SET", "key", "old")
        snapshot = await server.snapshot()
        await server.command("SET", "key", "new")
        await server.snapshot()
        await server.restart()
        await self.assert_holds(server, b"new")
        await server.restart_from(snapshot)
        await self.assert_holds(server, b"old")
        await server.restart_empty()
        await self.assert_holds(server, None)
        self.assertEqual(server.port, port)

    async def test_appendonly(self) -> None:
        """An append-only server loses nothing by SIGKILL."""
        server = await start_redis(self, appendonly=True)
        await server.command("SET", "key", "value")
        await server.restart()
        await self.assert_holds(server, b"value")

    async def test_no_persistence(self) -> None:
        """By default it forgets all."""
        server = await start_redis(self)
        await server.command("SET", "key", "value")
        await server.restart()
        await self.assert_holds(server, None)

    async def test_frozen(self) -> None:
        """A frozen one answers when it is thawed, and can be killed."""
        server = await start_redis(self)
        client = await server.client()
        server.freeze()
        reply = client.command("PING")
        self.assertNoResult(reply)
        server.thaw()
        self.assertEqual(await reply, b"PONG")
        server.freeze()
        await server.kill()
        self.assertFalse(server.running)

    async def test_clock(self) -> None:
        """Its clock can be moved: what would have expired by then is gone at once."""
        server = await start_redis(self, movable_clock=True)
        await server.command("SET", "key", "value", "PX", 60_000)
        before = int((await server.command("TIME"))[0])
        server.advance(59)
        await self.assert_holds(server, b"value")
        server.advance(1.5)
        await self.assert_holds(server, None)
        self.assertIn(int((await server.command("TIME"))[0]) - before, range(60, 70))

    async def test_password_and_users(self) -> None:
        """Strangers are refused, and the tests' own commands are not."""
        for server in (
            await start_redis(self, password="secret"),
            await start_redis(self, users=("user default off", "user alice on >secret ~* &* +@all")),
        ):
            self.assertEqual(await server.command("PING"), b"PONG")
            password, server.password = server.password, ""
            users, server.users = server.users, ()
            with self.assertRaises(hiredis.ReplyError):
                await (await server.client()).command("GET", "key")
            server.password, server.users = password, users

    async def test_refused_option(self) -> None:
        """A server that can't start says why."""
        server = RedisServer(Path(self.mktemp()), "--no-such-option", "1")
        with self.assertRaisesRegex(AssertionError, "no-such-option"):
            await server.start()


class SetTests(TestCase):
    """Sentinel and Cluster."""

    timeout = 60

    async def test_sentinels(self) -> None:
        """They make the replica the primary when that is killed."""
        servers = await start_sentinels(self, down_after=300)
        first = await servers.primary()
        self.assertIs(first, servers.servers[0])
        await first.kill()

        async def another() -> bool:
            return (await servers.primary()) is not first

        await until(another, "a failover")

    async def test_cluster(self) -> None:
        """A slot moves with its keys; when its primary dies a replica takes it over."""
        cluster = await start_cluster(self, replicas=1)
        slot = await cluster.slot("key")
        source = await cluster.owner(slot)
        await source.command("SET", "key", "value")
        target = next(one for one in cluster.servers[:3] if one is not source)
        await cluster.migrate(slot, target)
        self.assertIs(await cluster.owner(slot), target)
        self.assertEqual(await target.command("GET", "key"), b"value")
        with self.assertRaisesRegex(hiredis.ReplyError, f"MOVED {slot}"):
            await source.command("GET", "key")
        await target.kill()

        async def another() -> bool:
            owner = await cluster.owner(slot)
            return owner is not target and await owner.command("GET", "key") == b"value"

        await until(another, "the replica to take over")
