"""Redis Cluster, with real servers: the slot's primary is found, and followed when it changes."""

from __future__ import annotations

import random
import time
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase

from realtime.broker.cluster import ClusterLocator, slot_of
from realtime.broker.cluster_link import DEADLINE, ClusterLink
from realtime.broker.redis_link import Link
from realtime.broker.redis_locate import Connector, Place
from realtime.broker.scripts import Scripts
from realtime.errors import BrokerUnavailable

from ..redis_sets import Cluster, ClusterServer, start_cluster
from .links import LinkCase

KEY = "realtime:{3}:log"

#: Counts, and keeps a key per message: reads all that it writes before it writes any of it.
PUBLISH = """
local P = 'realtime:{3}:'
local id = ARGV[2]
local counted, known = redis.call('EXISTS', P .. 'log'), redis.call('GET', P .. 'key:' .. id)
if known then return {known, ARGV[1]} end
local number = redis.call('HINCRBY', P .. 'log', 'number', 1)
redis.call('SET', P .. 'key:' .. id, number)
redis.call('SPUBLISH', P .. 'room', number)
return {number, ARGV[1]}
"""


class ClusterCase(LinkCase):
    timeout = 90

    async def start_cluster(self, **more: object) -> Cluster:
        self.cluster = await start_cluster(self, **more)
        self.slot = slot_of(KEY.encode())
        self.owner = await self.cluster.owner(self.slot)
        return self.cluster

    def nodes(self, key: str | None = KEY) -> ClusterLocator:
        places = [Place("127.0.0.1", server.port) for server in self.cluster.servers]
        return ClusterLocator(Connector(reactor, password=self.password), places, key)

    @property
    def password(self) -> str:
        return self.cluster.servers[0].password

    async def cluster_link(self, **more: object) -> ClusterLink:
        given = {"locator": self.nodes(), "connector": Connector(reactor, password=self.password), **more}
        link = await self.link(kind=ClusterLink, **given)
        assert isinstance(link, ClusterLink)
        return link

    def other(self) -> ClusterServer:
        """A primary that does not serve our slot."""
        return next(one for one in self.cluster.servers[: self.cluster.primaries] if one is not self.owner)

    def scripts(self) -> Scripts:
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "publish.lua").write_text(PUBLISH)
        return Scripts({}, folder)


class Publisher:
    """Publishes one message after the other, in several rows, and repeats what is refused.

    :ivar numbers: the number that each message got, as it was answered.
    :ivar going: whether to go on, with new messages and with repetitions.
    :ivar refused: how many answers were refusals.
    """

    def __init__(self, link: Link, scripts: Scripts, rows: int = 4) -> None:
        self.numbers: dict[str, int] = {}
        self.runs: list[bytes] = []
        self.refused = 0
        self.failed: list[object] = []
        self._link = link
        self._scripts = scripts
        self.going = True
        self._rows = [Deferred.fromCoroutine(self._row(row)) for row in range(rows)]

    async def _row(self, row: int) -> None:
        number = 0
        while self.going:
            await self._publish(f"{row}:{number}")
            number += 1

    async def _publish(self, name: str) -> None:
        while True:
            try:
                number, run = await self._scripts.run(self._link, "publish", name)
            except BrokerUnavailable:
                self.refused += 1
                if not self.going:
                    return
                await deferLater(reactor, 0.01)
            else:
                self.numbers[name] = int(number)
                self.runs.append(run)
                return

    async def stop(self) -> None:
        self.going = False
        await gatherResults(self._rows)


class MigrationTests(ClusterCase):
    """The slot moves to another node."""

    async def test_under_traffic(self) -> None:
        """Every message is counted once, whatever the state of the move; the subscription moves too."""
        await self.start_cluster(password="secret")
        scripts = self.scripts()
        link = await self.cluster_link(prepare=scripts.load)
        shard = await self.subscriber(
            locator=self.nodes(), connector=Connector(reactor, password="secret"), sharded=True
        )
        await shard.subscribe([b"realtime:{3}:room"])
        publisher = Publisher(link, scripts)
        await self.reach(lambda: len(publisher.numbers) > 200, "some messages")
        target = self.other()
        await self.cluster.begin_migration(self.slot, target)
        while await self.cluster.move_keys(self.slot, target, 40):
            await deferLater(reactor, 0.01)
        await self.cluster.end_migration(self.slot, target)
        place = Place("127.0.0.1", target.port)
        await self.reach(lambda: link.up and link.place == place, "the link to move", 3)
        await self.reach(lambda: shard.up and shard.place == place, "the subscriber to move", 3)
        reached = len(publisher.numbers)
        await self.reach(lambda: len(publisher.numbers) > reached + 200, "more messages")
        await publisher.stop()
        numbers = publisher.numbers
        self.assertEqual(sorted(numbers.values()), list(range(1, len(numbers) + 1)))
        self.assertEqual(int(await target.command("HGET", KEY, "number")), len(numbers))
        for server in self.cluster.servers:
            if server is not target:
                self.assertEqual(await server.command("CLUSTER", "COUNTKEYSINSLOT", self.slot), 0)
        # after the move it went to the new server by its own run id
        self.assertEqual(publisher.runs[-1].decode(), await target.info("server", "run_id"))
        heard = [int(data) for _, data in self.messages]
        self.assertEqual(heard, sorted(set(heard)))
        await self.reach(lambda: self.messages[-1][1] == str(len(numbers)).encode(), "the last message")

    async def test_plain_commands(self) -> None:
        """In the middle of a move each key is found where it is, and a new one is made where it goes."""
        await self.start_cluster()
        link = await self.cluster_link()
        keys = [f"realtime:{{3}}:{number}" for number in range(20)]
        await gatherResults([link.command("SET", key, key) for key in keys])
        target = self.other()
        await self.cluster.begin_migration(self.slot, target)
        await self.cluster.move_keys(self.slot, target, 10)
        found = await gatherResults([link.command("GET", key) for key in keys])
        self.assertEqual(found, [key.encode() for key in keys])
        self.assertEqual(set(self.counts.errors), {"ASK"})
        await link.command("SET", "realtime:{3}:new", "x")
        self.assertEqual(await target.command("CLUSTER", "COUNTKEYSINSLOT", self.slot), 11)
        # keys on both sides: deferred, and at last refused
        began = time.monotonic()
        with self.assertRaises(BrokerUnavailable):
            await link.command("MGET", *keys)
        self.assertGreater(time.monotonic() - began, DEADLINE - 0.1)
        # or answered, if the move ends in time
        both = link.command("MGET", *keys)
        while await self.cluster.move_keys(self.slot, target):
            pass
        await self.cluster.end_migration(self.slot, target)
        self.assertEqual(await both, [key.encode() for key in keys])
        self.assertIn("TRYAGAIN", self.counts.errors)
        self.assertLessEqual(set(self.counts.errors), {"ASK", "TRYAGAIN", "MOVED"})

    async def test_scripts_in_the_middle(self) -> None:
        """A script whose keys are in two places is not run in either, though the new one would run it."""
        await self.start_cluster()
        scripts = self.scripts()
        link = await self.cluster_link(prepare=scripts.load)
        self.assertEqual((await scripts.run(link, "publish", "a"))[0], 1)
        target = self.other()
        await self.cluster.begin_migration(self.slot, target)
        await self.cluster.move_keys(self.slot, target, 1, KEY)
        with self.assertRaises(BrokerUnavailable):
            await scripts.run(link, "publish", "a")
        self.assertEqual(set(self.counts.errors), {"ASK"})
        repeated = scripts.run(link, "publish", "a")
        while await self.cluster.move_keys(self.slot, target):
            pass
        await self.cluster.end_migration(self.slot, target)
        number, run = await repeated
        self.assertEqual(int(number), 1)
        # it was made anew for the server that ran it
        self.assertEqual(run.decode(), await target.info("server", "run_id"))


class FailureTests(ClusterCase):
    """Nodes that die."""

    async def test_primary(self) -> None:
        """The replica takes over on request, then the other way round because its primary is killed."""
        await self.start_cluster(replicas=1)
        scripts = self.scripts()
        link = await self.cluster_link(prepare=scripts.load, replicas=1)
        shard = await self.subscriber(locator=self.nodes(), connector=Connector(reactor), sharded=True)
        await shard.subscribe([b"realtime:{3}:room"])
        publisher = Publisher(link, scripts)
        await self.reach(lambda: len(publisher.numbers) > 100, "some messages")
        replica = self.cluster.servers[self.cluster.servers.index(self.owner) + 3]
        await replica.command("CLUSTER", "FAILOVER")
        place = Place("127.0.0.1", replica.port)
        await self.reach(lambda: link.up and link.place == place, "the link to move", 5)
        reached = len(publisher.numbers)
        await self.reach(lambda: len(publisher.numbers) > reached + 100, "more messages")
        await replica.kill()
        publisher.going = False
        acknowledged = dict(publisher.numbers)
        self.assertEqual(sorted(acknowledged.values()), list(range(1, len(acknowledged) + 1)))
        place = Place("127.0.0.1", self.owner.port)
        await self.reach(lambda: link.up and link.place == place, "the link to move back", 10)
        # No other replica is left: what is refused for the lack of one is run all the same.
        keys = [f"realtime:{{3}}:key:{name}" for name in acknowledged]
        numbers = [int(number) for number in await self.owner.command("MGET", *keys)]
        self.assertEqual(numbers, list(acknowledged.values()))
        await self.reach(lambda: shard.up, "the subscriber to be up", 3)
        before = len(self.messages)
        await self.owner.command("SPUBLISH", "realtime:{3}:room", "after")
        await self.heard(before + 1)
        await publisher.stop()

    async def test_classic(self) -> None:
        """Classic pub/sub is heard at any node, and at another one when that dies."""
        await self.start_cluster()
        link = await self.subscriber(locator=self.nodes(None), connector=Connector(reactor))
        await link.psubscribe([b"booking:*"])
        for server in self.cluster.servers:
            await server.command("PUBLISH", "booking:created", server.port)
        expected = {str(server.port).encode() for server in self.cluster.servers}
        self.assertEqual({data for _, _, data in await self.heard(3)}, expected)
        assert link.place is not None
        mine = next(server for server in self.cluster.servers if server.port == link.place.port)
        await mine.kill()
        await self.reach(lambda: self.counts.ups == 2, "the link to be up", 3)
        other = next(server for server in self.cluster.servers if server is not mine)
        await other.command("PUBLISH", "booking:created", "x")
        await self.heard(4)


class LocatorTests(ClusterCase):
    """Who is asked, and believed."""

    async def test_nodes(self) -> None:
        """A cluster as it is found, changed, and at last without the slot."""
        await self.start_cluster()
        await self.check_seeds()
        await self.check_slots()
        await self.check_stale_map()
        await self.check_unserved()

    async def check_seeds(self) -> None:
        """One node that answers is enough, and the others are learnt from it."""
        dead = [Place("127.0.0.1", 1), Place("no-such-host.invalid", 6379)]
        for server in self.cluster.servers:
            locator = ClusterLocator(Connector(reactor), [*dead, Place("127.0.0.1", server.port)], KEY)
            self.assertEqual(await locator.locate(), Place("127.0.0.1", self.owner.port))
            self.assertEqual(
                {place.port for place in locator._learnt}, {s.port for s in self.cluster.servers}
            )

    async def check_slots(self) -> None:
        """Slots are those that Redis computes."""
        dice = random.Random(3)
        keys = ["", "{}", "{}x", "{a}{b}", "x{y", "x}y{z}", "{{a}}", KEY, "realtime:events"]
        keys += ["".join(dice.choices("ab{}:", k=dice.randrange(12))) for _ in range(200)]
        for key in keys:
            self.assertEqual(slot_of(key.encode()), await self.cluster.slot(key), key)

    async def check_stale_map(self) -> None:
        """A link that leads to the wrong node is sent on, and so is its command."""
        target = self.other()
        link = await self.cluster_link()
        await link.command("SET", KEY, "x")
        await self.cluster.migrate(self.slot, target)
        self.assertEqual(await link.command("GET", KEY), b"x")
        self.assertEqual(link.place, Place("127.0.0.1", target.port))
        self.assertEqual(self.counts.errors, ["MOVED"])

    async def check_unserved(self) -> None:
        for server in self.cluster.servers:
            await server.command("CLUSTER", "DELSLOTS", self.slot)
        link = self.prepare_link(ClusterLink, self.nodes(), Connector(reactor))
        await self.reach(lambda: link.trouble == "unserved", "the link to say why")

    async def test_trouble(self) -> None:
        """One server that is no Cluster; no node that answers."""
        await self.start_server()
        single = Place("127.0.0.1", self.server.port)
        for place, why in ((single, "no_cluster"), (Place("127.0.0.1", 1), "no_node")):
            locator = ClusterLocator(Connector(reactor), [place], KEY)
            link = self.prepare_link(ClusterLink, locator)
            await self.reach(lambda link=link, why=why: link.trouble == why, why)


class SlotTests(SynchronousTestCase):
    def test_tags(self) -> None:
        self.assertEqual(slot_of(b"realtime:{3}:log"), slot_of(b"3"))
        self.assertEqual(slot_of(b"123456789"), 0x31C3)
