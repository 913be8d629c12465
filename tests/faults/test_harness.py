"""The harness itself, on one node with the embedded broker: all its parts work together."""

from __future__ import annotations

import json

from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import deferLater

from tests.redis_servers import Client, start_redis

from .case import FaultCase, recoveries
from .fleet import Pulse
from .scale import dice
from .ways import STREAM

USERS = ("alice", "bob", "carol")


class HarnessTests(FaultCase):
    """What the other tests of this folder take for granted."""

    async def test_all_shapes_and_a_cut(self) -> None:
        """Traffic over all shapes, room messages and cuts: every client has exactly its own, once."""
        throw = dice(self.id())
        await self.start_fleet(1, url=None)
        clients = await self.populate(throw, 9, USERS)
        traffic = self.traffic(throw, USERS, "http")
        self.send(clients[0], sorted(clients[0].rooms), 100, 10, 2, again=True)
        for _ in range(4):
            await self.flow(self.http, traffic, 40, 400)
            clients[throw.randrange(9)].cut()
        await self.complete(self.http)
        returns = [recovered for client in clients for recovered in recoveries(client)]
        self.assertEqual(returns, [True] * 4)
        await self.check_history(clients[0], clients[0].rooms)

    async def test_restart(self) -> None:
        """A node that is killed comes back on its ports; its clients come back, with a new session."""
        throw = dice(self.id())
        fleet = await self.start_fleet(1, url=None)
        clients = await self.populate(throw, 6, USERS, nodes=fleet.nodes)
        traffic = self.traffic(throw, USERS, "http")
        await self.flow(self.http, traffic, 20, 400)
        await fleet[0].restart()
        await self.recorders.settled()
        await self.flow(self.http, traffic, 20, 400)
        await self.complete(self.http)
        self.assertEqual([recoveries(client) for client in clients], [[False]] * 6)

    async def test_freeze(self) -> None:
        """A node that stands still is late for the pulse, and loses nobody and nothing."""
        throw = dice(self.id())
        fleet = await self.start_fleet(1, url=None)
        clients = await self.populate(throw, 3, USERS, nodes=fleet.nodes)
        pulse = Pulse(fleet[0])
        self.send(clients[0], sorted(clients[0].rooms), 40, 20, 2, again=False)
        fleet[0].freeze()
        await deferLater(reactor, 0.4)
        fleet[0].thaw()
        await self.complete()
        self.assertGreater((await pulse.stop())[-1], 0.3)
        self.assertEqual([client.disconnects for client in clients], [[]] * 3)

    async def test_loss_is_seen(self) -> None:
        """A message that was never published is missed by all that were to get it."""
        throw = dice(self.id())
        await self.start_fleet(1, url=None)
        await self.populate(throw, 3, USERS)
        traffic = self.traffic(throw, USERS, "http")
        await self.flow(self.http, traffic, 20, 400)
        traffic.next()
        await self.flow(self.http, traffic, 5, 400)
        failed = None
        try:
            await self.complete(self.http)
        except self.failureException as fault:
            failed = str(fault)
        self.assertIn("lost", failed or "nothing")


class WayTests(FaultCase):
    """How messages reach Redis, and what is known of them afterwards."""

    async def _listener(self) -> Client:
        listener = await self._own_redis().client()
        self.addCleanup(listener.transport.abortConnection)
        await listener.command("PSUBSCRIBE", "*")
        return listener

    async def test_plain(self) -> None:
        """A message that nobody heard, or that a dead server may have had, is doubtful; others are not."""
        throw = dice(self.id())
        redis = self.redis = await start_redis(self)
        traffic = self.traffic(throw, USERS, repeated=0)
        way = await self.plain()
        await self.flow(way, traffic, 3, 1000)
        self.assertEqual([message.doubtful for message in traffic.sent], [True] * 3, "nobody listens")
        listener = await self._listener()
        await self.flow(way, traffic, 50, 1000)
        self.assertEqual([message.doubtful for message in traffic.sent[3:]], [False] * 50)
        heard = [(channel.decode(), json.loads(data)["n"]) for _, _, channel, data in listener.pushed]
        self.assertEqual(heard, [(message.channel, message.n) for message in traffic.sent[3:]])
        await redis.kill()
        await self.flow(way, traffic, 5, 100)
        self.assertEqual([message.doubtful for message in traffic.sent[53:]], [True] * 5)
        await redis.start()
        await self._listener()
        for _ in range(50):
            await self.flow(way, traffic, 1, 100)
        self.assertFalse(traffic.sent[-1].doubtful, "connected again")

    async def test_streamed(self) -> None:
        """An entry is added although the server was away, under its message id."""
        throw = dice(self.id())
        redis = self.redis = await start_redis(self, appendonly=True)
        traffic = self.traffic(throw, USERS, "streams", repeated=0)
        way = self.streamed()
        await self.flow(way, traffic, 5, 1000)
        await redis.kill()
        flowing = ensureDeferred(self.flow(way, traffic, 5, 1000))
        await redis.start()
        await flowing
        entries = await redis.command("XRANGE", STREAM, "-", "+")
        self.assertEqual([fields[5].decode() for _, fields in entries], [one.id for one in traffic.sent])
