"""Links to Redis, with real servers: they come up, come back, and say what became of each command."""

from __future__ import annotations

import itertools
import socket
import time
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from realtime.broker.redis_link import Link
from realtime.broker.redis_locate import LAST_DELAY, Connector, FixedLocator, Place, Unlocated
from realtime.broker.redis_protocol import MAX_IN_FLIGHT, MAX_UNSENT, RedisError
from realtime.broker.scripts import Scripts
from realtime.errors import BrokerUnavailable

from ..clients.proxy import Proxy
from ..redis_servers import free_port
from ..redis_tls import Authority
from .links import LinkCase

#: Payloads that a library which converts numbers or text would change.
PAYLOADS = (b"1_0", b"007", b"+4412345", b"1.10", b"1e5", b"None", b"", b"\xff\xfe\x00", "é".encode())


class CommandTests(LinkCase):
    """What a link that is up does."""

    async def test_replies(self) -> None:
        """Replies come back raw, errors as `RedisError`, and values are not converted."""
        await self.start_server()
        link = await self.link()
        for payload in PAYLOADS:
            await link.command("SET", "key", payload)
            self.assertEqual(await link.command("GET", b"key"), payload)
        self.assertEqual(await link.command("INCRBY", "number", 41), 41)
        self.assertIsNone(await link.command("GET", "missing"))
        self.assertEqual(await link.command("EVAL", "return {1, 'a', {false}}", 0), [1, b"a", [None]])
        with self.assertRaises(RedisError) as caught:
            await link.command("INCR", "key")
        self.assertEqual(caught.exception.kind, "ERR")
        self.assertEqual(self.counts.errors, ["ERR"])
        self.assertEqual(link.run, await self.server.info("server", "run_id"))
        (client,) = await self.server.clients()
        self.assertEqual(client["name"], "realtime-publish")

    async def test_refused_argument(self) -> None:
        """What can't be sent fails alone."""
        await self.start_server()
        link = await self.link()
        bad, good = link.command("SET", "key", "\ud800"), link.command("SET", "key", "x")
        with self.assertRaises(UnicodeError):
            await bad
        self.assertEqual(await good, b"OK")

    async def test_order(self) -> None:
        """A thousand publications arrive in their order, and each reply is the right one."""
        await self.start_server()
        link, subscriber = await self.link(), await self.subscriber()
        await subscriber.subscribe([b"channel"])
        replies = await gatherResults(
            [
                link.command("EVAL", "redis.call('PUBLISH', 'channel', ARGV[1]) return ARGV[1]", 0, n)
                for n in range(1000)
            ]
        )
        expected = [str(number).encode() for number in range(1000)]
        self.assertEqual(replies, expected)
        self.assertEqual([data for _, data in await self.heard(1000)], expected)
        await self.reach(lambda: self.counts.sent >= 1000, "the commands to be counted")

    async def test_socket(self) -> None:
        """Nothing waits in the kernel to be sent with more, and a dead peer is noticed there too."""
        await self.start_server()
        link = await self.link()
        handle = link._connection.transport.socket
        self.assertEqual(handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY), 1)
        self.assertEqual(handle.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), 1)
        self.assertEqual(handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT), 3000)

    async def test_named_commands(self) -> None:
        """The library's own methods go the same way, in `prepare` for one."""
        await self.start_server()
        await self.server.command("HSET", "hash", "field", "007")
        found: list[object] = []
        await self.link(prepare=lambda connection: connection.hgetall("hash").addCallback(found.append))
        self.assertEqual(found, [[b"field", b"007"]])

    async def test_too_many_in_flight(self) -> None:
        """Past the bound commands are refused, and those in flight are answered."""
        await self.start_server()
        link = await self.link()
        sent = [link.command("PING") for _ in range(MAX_IN_FLIGHT)]
        refused = self.failureResultOf(link.command("PING"), BrokerUnavailable)
        self.assertIsNotNone(refused.value.retry_after)
        self.assertEqual(set(await gatherResults(sent)), {b"PONG"})
        self.assertEqual(await link.command("PING"), b"PONG")

    async def test_server_does_not_read(self) -> None:
        """What waits for a server that does not read is bounded too."""
        await self.start_server()
        link = await self.link()
        self.server.freeze()
        size = 1_000_000
        accepted = 0
        waiting: list[Deferred[object]] = []
        for _ in range(3 * MAX_UNSENT // size):
            sent = link.command("SET", "key", b"x" * size)
            waiting.append(sent)
            if sent.called:
                self.failureResultOf(sent, BrokerUnavailable)
                break
            accepted += size
        self.assertLess(accepted, MAX_UNSENT + 8 * size)
        for sent in waiting[:-1]:
            with self.assertRaises(BrokerUnavailable):
                await sent
        self.server.thaw()


class LossTests(LinkCase):
    """Connections that are lost."""

    async def test_killed_server(self) -> None:
        """Commands in flight fail, those after fail at once; it comes back to the new server."""
        await self.start_server(save="3600 1")
        events: list[str] = []
        link = await self.link(
            on_up=lambda link: events.append("up"), on_down=lambda link: events.append("down")
        )
        run = link.run
        blocked = link.command("BLPOP", "list", 0)
        blocked.addErrback(lambda failure: events.append(failure.type.__name__))
        await self.server.kill()
        await blocked
        self.assertEqual(events, ["up", "down", "BrokerUnavailable"])
        refused = self.failureResultOf(link.command("PING"), BrokerUnavailable).value
        self.assertGreater(refused.retry_after, 0)
        await self.reach(lambda: link.trouble == "refused", "the link to say why")
        await self.server.start()
        await self.reach(lambda: link.up, "the link to be up", LAST_DELAY + 1)
        self.assertNotEqual(link.run, run)
        self.assertEqual(link.trouble, "")
        self.assertEqual(events[3:], ["up"])
        self.assertEqual((self.counts.ups, self.counts.downs), (2, 1))

    async def test_killed_connections(self) -> None:
        """Again and again it is back at once."""
        await self.start_server()
        link = await self.link()
        for number in range(2, 6):
            await self.server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await self.reach(lambda number=number: self.counts.ups == number, "the link to be up", 0.5)
            self.assertEqual(await link.command("PING"), b"PONG")

    async def test_frozen(self) -> None:
        """A frozen server: the time-out, then refusals at once, none of which runs later."""
        await self.start_server()
        link = await self.link()
        self.server.freeze()
        began = time.monotonic()
        # Within its time-out nobody can know that the server will not run it; so it may have run.
        with self.assertRaises(BrokerUnavailable) as caught:
            await link.command("SET", "before", "1")
        self.assertEqual(caught.exception.retry_after, 1.0)
        self.assertLess(time.monotonic() - began, 1.6)
        self.assertFalse(link.up)
        self.assertIn("timeout", self.counts.errors)
        for _ in range(1000):
            self.failureResultOf(link.command("SET", "after", "1"), BrokerUnavailable)
        self.assertEqual(link.in_flight, 0)
        # A try against the frozen server fails, too, and is not the last.
        await self.reach(lambda: link.trouble == "timeout", "the link to say why")
        self.server.thaw()
        await self.reach(lambda: link.up, "the link to be up", 2)
        self.assertIsNone(await link.command("GET", "after"))

    async def test_half_open(self) -> None:
        """A peer that is silently gone is noticed by an idle link, and another connection is made."""
        await self.start_server()
        proxy = Proxy(self.server.port)
        self.addCleanup(proxy.stop)
        through = FixedLocator(Place("127.0.0.1", proxy.port))
        link, subscriber = await self.link(locator=through), await self.subscriber(locator=through)
        await subscriber.subscribe([b"channel"])
        proxy.drop()
        await self.reach(lambda: self.counts.downs == 2, "both links to notice", 3)
        await self.reach(lambda: link.up and subscriber.up, "both links to be up", 1)
        await link.command("PUBLISH", "channel", "x")
        self.assertEqual(await self.heard(1), [(b"channel", b"x")])

    async def test_blocking_reader(self) -> None:
        """A longer time-out lets a command block; the link does not ask meanwhile."""
        await self.start_server()
        link = await self.link(timeout=4.0)
        self.assertIsNone(await link.command("XREAD", "BLOCK", 2000, "STREAMS", "stream", "$"))
        self.assertEqual(self.counts.downs, 0)

    async def test_stopped_while_frozen(self) -> None:
        """A link that is greeting a frozen server can be stopped."""
        await self.start_server()
        self.server.freeze()
        link = self.prepare_link()
        await self.reach(lambda: link._open, "it to be connected")
        await link.stop()
        self.assertEqual(link.trouble, "stopped")
        self.server.thaw()


class ServerTests(LinkCase):
    """Servers that will not have us, for a while."""

    async def test_wrong_password(self) -> None:
        """It tries again until the password is right, and not more often than the back-off says."""
        await self.start_server(password="old")
        link = self.prepare_link(connector=Connector(reactor, password="new"))
        await self.reach(lambda: link.trouble == "denied" and link._failures >= 4, "some tries")
        self.failureResultOf(link.command("PING"), BrokerUnavailable)
        await self.server.command("CONFIG", "SET", "requirepass", "new")
        await self.reach(lambda: link.up, "the link to be up", LAST_DELAY + 1)
        self.server.password = "new"
        # One that is logged in stays so when the password changes, and is lost when it must log in.
        await self.server.command("CONFIG", "SET", "requirepass", "newer")
        self.assertEqual(await link.command("PING"), b"PONG")
        await self.server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await self.reach(lambda: link.trouble == "denied", "the link to say why")

    async def test_no_password(self) -> None:
        """A server that wants one, and a link that has none."""
        await self.start_server(password="secret")
        link = self.prepare_link(connector=Connector(reactor))
        await self.reach(lambda: link.trouble == "denied", "the link to say why")

    async def test_user(self) -> None:
        """A user of the access control list; what it may not do is an error."""
        allowed = (
            "+client|setname +info +ping +time +role +script|exists +script|load +eval +evalsha +wait"
            " +subscribe +unsubscribe +psubscribe +punsubscribe +get +set"
        )
        await self.start_server(
            users=("user default off", f"user alice on >secret ~realtime:* &realtime:* -@all {allowed}")
        )
        connector = Connector(reactor, user="alice", password="secret")
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "script.lua").write_text("return 1")
        scripts = Scripts({}, folder)
        link = await self.link(connector=connector, prepare=scripts.load)
        subscriber = await self.subscriber(connector=connector)
        await subscriber.subscribe([b"realtime:x"])
        await subscriber.psubscribe([b"realtime:*"])
        self.assertEqual(await link.command("SET", "realtime:x", "1"), b"OK")
        for command in (("GET", "other"), ("FLUSHALL",)):
            with self.assertRaises(RedisError) as caught:
                await link.command(*command)
            self.assertEqual(caught.exception.kind, "NOPERM")
        self.assertTrue(link.up)

    async def test_full(self) -> None:
        """The server has as many clients as it takes."""
        await self.start_server("--maxclients", 4)
        others = [await self.server.client() for _ in range(3)]
        link = self.prepare_link()
        await self.reach(lambda: link.trouble == "full" and link._failures >= 4, "some tries")
        for other in others:
            other.transport.loseConnection()
        await self.reach(lambda: link.up, "the link to be up", LAST_DELAY + 1)

    async def test_loading(self) -> None:
        """The server is there and loads its data."""
        await self.start_server(
            *("--key-load-delay", 10_000, "--loading-process-events-interval-bytes", 1024), save="3600 1"
        )
        await self.server.command("DEBUG", "POPULATE", 100)
        await self.server.snapshot()
        link = await self.link()
        await self.server.restart(ready=False)
        await self.reach(lambda: link.trouble == "loading", "the link to say why")
        await self.reach(lambda: link.up, "the link to be up", LAST_DELAY + 1)
        self.assertEqual(await link.command("DBSIZE"), 100)

    async def test_replica(self) -> None:
        """A primary that becomes a replica is left at the first write; a replica is not taken up."""
        await self.start_server()
        link = await self.link()
        await self.server.command("REPLICAOF", "127.0.0.1", 1)
        with self.assertRaises(BrokerUnavailable):
            await link.command("EVAL", "return redis.call('SET', 'key', '1')", 0)
        self.assertEqual(self.counts.errors, ["READONLY"])
        self.assertFalse(link.up)
        await self.reach(lambda: link.trouble == "replica", "the link to say why")
        await self.server.command("REPLICAOF", "NO", "ONE")
        await self.reach(lambda: link.up, "the link to be up", LAST_DELAY + 1)

    async def test_out_of_memory(self) -> None:
        """Writes are refused for the time being; the link stays, and reads go on."""
        await self.start_server()
        await self.server.command("SET", "key", "value")
        link = await self.link()
        await self.server.command("CONFIG", "SET", "maxmemory", 1)
        for write in (("SET", "key", "1"), ("EVAL", "return redis.call('SET', 'key', '1')", 0)):
            with self.assertRaises(BrokerUnavailable):
                await link.command(*write)
        self.assertEqual(await link.command("GET", "key"), b"value")
        self.assertEqual((self.counts.errors, self.counts.downs), (["OOM", "OOM"], 0))

    async def test_cluster_by_mistake(self) -> None:
        """A node of a Cluster is not one server."""
        await self.start_server("--cluster-enabled", "yes", "--cluster-port", free_port())
        link = self.prepare_link()
        await self.reach(lambda: link.trouble == "cluster", "the link to say why")

    async def test_unix_socket(self) -> None:
        await self.start_server(unixsocket=True, password="secret")
        link = await self.link(locator=FixedLocator(Place(path=str(self.server.socket))))
        self.assertEqual(await link.command("ECHO", "hello"), b"hello")

    async def test_unknown_host(self) -> None:
        await self.start_server()
        link = self.prepare_link(locator=FixedLocator(Place("no-such-host.invalid", 6379)))
        await self.reach(lambda: link.trouble == "unknown_host", "the link to say why")

    async def test_slow_server(self) -> None:
        """A server that is slow to answer, but within the time-out, is not left; what was slow is told."""
        await self.start_server()
        told: list[Any] = []
        link = await self.link(slow=0.2, on_slow=lambda *slow: told.append(slow))
        for _ in range(3):
            await self.server.command("DEBUG", "SLEEP", 0.3)
            self.assertEqual(await link.command("PING"), b"PONG")
        self.assertEqual((self.counts.downs, told), (0, []))
        await link.command("DEBUG", "SLEEP", 0.3)
        ((name, command, seconds),) = told
        self.assertEqual((name, command), ("publish", ("DEBUG", "SLEEP", 0.3)))
        self.assertGreaterEqual(seconds, 0.3)


class TLSTests(LinkCase):
    """TLS is of use only if the certificate is looked at."""

    async def start_tls(self, *names: str) -> Authority:
        authority = Authority(Path(self.mktemp()))
        authority.names = names
        await self.start_server(tls=authority, password="secret")
        return authority

    def connector(self, authority: Authority) -> Connector:
        trusted = authority.certificate.read_bytes()
        return Connector(reactor, password="secret", tls=True, authorities=trusted)

    def place(self, host: str = "127.0.0.1") -> FixedLocator:
        return FixedLocator(Place(host, self.server.tls_port))

    async def test_trusted(self) -> None:
        """By address and by name."""
        authority = await self.start_tls()
        for host in ("127.0.0.1", "localhost"):
            link = await self.link(connector=self.connector(authority), locator=self.place(host))
            self.assertEqual(await link.command("ECHO", "hello"), b"hello")
            handle = link._connection.transport.socket
            self.assertEqual(handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY), 1)

    def test_bad_authorities(self) -> None:
        """A file that holds no certificates is an error, not trust in nobody or in all."""
        begin, end = b"-----BEGIN CERTIFICATE-----\n", b"-----END CERTIFICATE-----\n"
        for text in (b"junk", end, begin + b"junk\n" + end):
            with self.assertRaises(ValueError):
                Connector(reactor, tls=True, authorities=text)

    async def test_subscriber(self) -> None:
        authority = await self.start_tls()
        link = await self.subscriber(connector=self.connector(authority), locator=self.place())
        await link.subscribe([b"channel"])
        await self.server.command("PUBLISH", "channel", "x")
        self.assertEqual(await self.heard(1), [(b"channel", b"x")])

    async def refused(self, authority: Authority, host: str = "127.0.0.1") -> None:
        link = self.prepare_link(connector=self.connector(authority), locator=self.place(host))
        await self.reach(lambda: link.trouble == "tls", "the certificate to be refused")
        # nothing was said to whoever it is, the password least of all
        self.assertEqual(await self.server.clients(), [])

    async def test_another_authority(self) -> None:
        await self.start_tls()
        await self.refused(Authority(Path(self.mktemp())))

    async def test_another_host(self) -> None:
        await self.refused(await self.start_tls("redis.example"))

    async def test_no_host(self) -> None:
        """A certificate that names nobody, which Twisted's own check would let pass."""
        await self.refused(await self.start_tls(""))

    async def test_system_authorities(self) -> None:
        """Without authorities of its own it trusts those of the system, which don't know ours."""
        await self.start_tls()
        link = self.prepare_link(
            connector=Connector(reactor, password="secret", tls=True), locator=self.place()
        )
        await self.reach(lambda: link.trouble == "tls", "the certificate to be refused")


class Nowhere:
    """A locator that finds nothing.

    :ivar asked: when it was asked.
    """

    key = None
    last_delay = LAST_DELAY

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.asked: list[float] = []

    def locate(self) -> Deferred[Place]:
        self.asked.append(self.clock.seconds())
        raise Unlocated("nobody_knows")

    def check(self, connection: object, server: object) -> Deferred[None]:
        return succeed(None)

    def hint(self, error: object) -> bool:
        return False

    def follow(self, moved: object) -> None:
        pass

    def unfollow(self, moved: object) -> None:
        pass


class BackOffTests(SynchronousTestCase):
    """When a link tries again."""

    def gaps(self, part: float) -> list[float]:
        """The seconds between a link's tries, where chance always gives `part`."""
        clock = Clock()
        locator = Nowhere(clock)
        link = Link(Connector(clock), locator, name="publish", rng=lambda: part)
        link.start()
        while len(locator.asked) < 12:
            clock.advance(1 / 1024)
        self.assertEqual(link.trouble, "nobody_knows")
        self.successResultOf(link.stop())
        self.assertEqual(clock.getDelayedCalls(), [])
        return [later - earlier for earlier, later in itertools.pairwise(locator.asked)]

    def test_full_jitter(self) -> None:
        """At once, then at random below a bound that doubles from 50 ms to 1 s, for ever."""
        bounds = [0, 0.05, 0.1, 0.2, 0.4, 0.8, 1, 1, 1, 1, 1]
        for part in (1.0, 0.25):
            for gap, bound in zip(self.gaps(part), bounds, strict=True):
                self.assertLess(abs(gap - part * bound), 2 / 1024)
