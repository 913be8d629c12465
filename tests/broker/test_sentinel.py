"""Sentinel, with real servers: the primary is found, and followed when it changes."""

from __future__ import annotations

import itertools
import time

from twisted.internet import reactor
from twisted.internet.defer import Deferred

from realtime.broker.redis_link import Link
from realtime.broker.redis_locate import Connector, Place
from realtime.broker.sentinel import SentinelLocator
from realtime.errors import BrokerUnavailable

from ..redis_servers import RedisServer, until
from ..redis_sets import SentinelSet, start_sentinels
from .links import LinkCase

#: Seconds of silence after which the Sentinels of these tests act.
DOWN_AFTER = 0.6
PASSWORD = "the-servers-own-password"


class SentinelCase(LinkCase):
    timeout = 90

    async def start_set(self, **more: object) -> SentinelSet:
        self.set = await start_sentinels(self, down_after=int(DOWN_AFTER * 1000), **more)
        return self.set

    def sentinels(self, service: str = "", password: str = "") -> SentinelLocator:
        places = [Place("127.0.0.1", sentinel.port) for sentinel in self.set.sentinels]
        connector = Connector(reactor, password=password)
        locator = SentinelLocator(connector, places, service or self.set.name)
        self.addCleanup(locator.stop)
        return locator

    async def link_to(self, locator: SentinelLocator, password: str = "", **more: object) -> Link:
        return await self.link(locator=locator, connector=Connector(reactor, password=password), **more)

    async def assert_followed(self, link: Link) -> None:
        """A write is taken within 3 s beyond the Sentinels' silence, and soon after there is a primary.

        How long the Sentinels take to agree is theirs: up to 2 s, by chance, and more on a busy machine.
        """
        began = time.monotonic()
        written = Deferred.fromCoroutine(self.write(link))
        await until(self.promoted, "a replica to be made the primary")
        promoted = time.monotonic() - began
        await written
        taken = time.monotonic() - began
        self.assertLess(taken, max(DOWN_AFTER + 3, promoted + 1.5))

    async def promoted(self) -> bool:
        return (await self.set.servers[1].command("ROLE"))[0] == b"master"

    async def write(self, link: Link) -> None:
        async def written() -> bool:
            try:
                return await link.command("SET", "key", "after") == b"OK"
            except BrokerUnavailable:
                return False

        await until(written, "a write", 20)

    async def changed(self, first: RedisServer) -> RedisServer:
        async def another() -> RedisServer | None:
            primary = await self.set.primary()
            return None if primary is first else primary

        found = await until(another, "a failover")
        assert isinstance(found, RedisServer)
        return found


class FailoverTests(SentinelCase):
    """Links follow a failover."""

    async def test_killed(self) -> None:
        """Writes go on within the Sentinels' time and 3 s; the password is the primary's only."""
        await self.start_set(password=PASSWORD)
        locator = self.sentinels(password=PASSWORD)
        link = await self.link_to(locator, PASSWORD)
        subscriber = await self.subscriber(locator=locator, connector=Connector(reactor, password=PASSWORD))
        await subscriber.subscribe([b"channel"])
        first = await self.set.primary()
        await first.kill()
        await self.assert_followed(link)
        second = await self.changed(first)
        self.assertEqual(link.place, Place("127.0.0.1", second.port))
        await self.reach(lambda: subscriber.up, "the subscriber to be up", 1)
        await second.command("PUBLISH", "channel", "x")
        self.assertEqual(await self.heard(1), [(b"channel", b"x")])

    async def test_frozen(self) -> None:
        """A frozen primary is left as quickly, and takes no write when it goes on."""
        await self.start_set()
        link = await self.link_to(self.sentinels())
        first = await self.set.primary()
        first.freeze()
        await self.assert_followed(link)
        first.thaw()
        for number in range(50):
            await link.command("SET", f"key:{number}", "x")
        second = await self.changed(first)
        self.assertEqual(await second.command("DBSIZE"), 51)

        async def demoted() -> bool:
            return (await first.command("ROLE"))[0] == b"slave"

        await until(demoted, "the old primary to be a replica", 20)
        self.assertEqual(self.counts.downs, 1)

    async def test_planned(self) -> None:
        """A failover that somebody asks for, without any failure: the link changes over by itself.

        One of which no Sentinel could tell is found out when one is heard again.
        """
        await self.start_set()
        locator = self.sentinels()
        link = await self.link_to(locator)
        first = await self.set.primary()
        await self.set.sentinels[0].command("SENTINEL", "FAILOVER", self.set.name)
        second = await self.changed(first)
        place = Place("127.0.0.1", second.port)
        await self.reach(lambda: link.up and link.place == place, "the link to change over", 3)
        self.assertEqual(await link.command("SET", "key", "x"), b"OK")
        await self.reach(lambda: all(watch.up for watch in locator._watches), "the watches to be up")
        heard: list[bytes] = []
        for watch in locator._watches:
            watch._connection.on_message = lambda channel, data: heard.append(data)
        await until(self.asked, "a Sentinel to do it once more")
        await self.changed(second)
        await self.reach(lambda: heard, "the message that is not heard")
        locator._watches[1].drop("test")
        await self.reach(lambda: link.up and link.place != place, "the link to change over", 3)

    async def asked(self) -> bool:
        return await self.set.sentinels[0].command("SENTINEL", "FAILOVER", self.set.name) == b"OK"


class LocatorTests(SentinelCase):
    """Whom to believe."""

    async def test_sentinels(self) -> None:
        """One is behind, some are away, all are away, and what they don't know."""
        await self.start_set()
        await self.check_newest_configuration()
        await self.check_some_away()
        link = self.prepare_link(locator=self.sentinels(service="other"), connector=Connector(reactor))
        await self.reach(lambda: link.trouble == "unknown_service", "the link to say why")
        for sentinel in self.set.sentinels:
            await sentinel.kill()
        await self.reach(lambda: link.trouble == "no_sentinel", "the link to say why")

    async def check_newest_configuration(self) -> None:
        """A Sentinel that still tells of the old primary is not believed."""
        first = await self.set.primary()
        late, running, _ = self.set.sentinels
        late.freeze()
        await running.command("SENTINEL", "FAILOVER", self.set.name)

        async def another() -> bool:
            _, port = await running.command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.set.name)
            return int(port) != first.port

        await until(another, "the failover")
        located = self.sentinels().locate()
        late.thaw()
        self.assertNotEqual((await located).port, first.port)

    async def check_some_away(self) -> None:
        """One Sentinel that answers is enough; a frozen one costs no more than its time."""
        await self.set.sentinels[0].kill()
        self.set.sentinels[1].freeze()
        began = time.monotonic()
        link = await self.link_to(self.sentinels())
        self.assertLess(time.monotonic() - began, 1.5)
        self.set.sentinels[1].thaw()
        await link.stop()


class DurableTests(SentinelCase):
    """Replies that wait for a replica."""

    async def test_group_commit(self) -> None:
        """The commands of one turn cost one WAIT, and answers come in order."""
        await self.start_set()
        link = await self.link_to(self.sentinels(), replicas=1)
        _, replica = self.set.servers
        calls = await self.waits()
        order: list[int] = []
        waiting = [link.command("INCR", "key").addCallback(order.append) for _ in range(100)]
        for one in waiting:
            await one
        self.assertEqual(order, list(range(1, 101)))
        self.assertEqual(await replica.command("GET", "key"), b"100")
        self.assertEqual(await self.waits() - calls, 1)
        for number in range(101, 111):
            self.assertEqual(await link.command("INCR", "key"), number)
            self.assertEqual(await replica.command("GET", "key"), str(number).encode())

    async def waits(self) -> int:
        text = (await self.set.servers[0].command("INFO", "commandstats")).decode()
        lines = [line for line in text.splitlines() if line.startswith("cmdstat_wait:")]
        return int(lines[0].partition("calls=")[2].split(",")[0]) if lines else 0

    async def test_no_replica(self) -> None:
        """Without a replica that answers each command fails, in time, and the link stays."""
        await self.start_set()
        link = await self.link_to(self.sentinels(), replicas=1)
        replica = self.set.servers[1]
        replica.freeze()
        waiting: list[Deferred[object]] = []
        for _ in range(5):
            began = time.monotonic()
            waiting = [link.command("INCR", "key") for _ in range(10)]
            for one in waiting:
                with self.assertRaises(BrokerUnavailable):
                    await one
            self.assertLess(time.monotonic() - began, 1.5)
        self.assertEqual(self.counts.downs, 0)
        replica.thaw()

        async def answered() -> bool:
            try:
                return bool(await link.command("INCR", "key"))
            except BrokerUnavailable:
                return False

        await until(answered, "the replica to be heard")
        # What was refused was run all the same.
        self.assertGreater(int(await self.set.servers[0].command("GET", "key")), 50)

    async def test_nothing_acknowledged_is_lost(self) -> None:
        """Under writes the primary is killed: each one that was acknowledged is on the next one."""
        await self.start_set()
        link = await self.link_to(self.sentinels(), replicas=1)
        first, replica = self.set.servers
        acknowledged: list[str] = []
        ended = False

        async def write() -> None:
            for number in itertools.count():
                if ended:
                    return
                name = f"key:{number}"
                try:
                    await link.command("SET", name, "x")
                except BrokerUnavailable:
                    pass
                else:
                    acknowledged.append(name)
                pause: Deferred[None] = Deferred()
                reactor.callLater(0.0005, pause.callback, None)
                await pause

        writing = Deferred.fromCoroutine(write())
        await self.reach(lambda: len(acknowledged) > 300, "some writes")
        # What the replica has not got yet is lost with the primary, and nobody was told it was there.
        await first.kill()
        before = len(acknowledged)
        await self.changed(first)
        ended = True
        await writing
        self.assertGreater(before, 300)
        kept = await replica.command("EXISTS", *acknowledged[:before])
        self.assertEqual(kept, before)
