"""Exactly once, over several nodes, whoever dies: issue 3, "Must show" 1 and 2."""

from __future__ import annotations

from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import deferLater

from .case import ROOMS, FaultCase, recoveries
from .scale import dice, scaled

USERS = tuple(f"user{number}" for number in range(20))


class ExactlyOnceTests(FaultCase):
    """Three nodes over one Redis, and clients of mixed users and rooms on all of them."""

    async def test_all_shapes(self) -> None:
        """Must show 1: 10,000 PUBLISHes over all eight shapes, some of them producers' duplicates.

        Each entitled connection has each id once and in order, nobody has what is another user's, the
        history of each room holds each message once. Nobody is disconnected or told to begin anew.
        """
        throw = dice(self.id())
        fleet = await self.start_fleet(3)
        clients = await self.populate(throw, 60, USERS, nodes=fleet.nodes)
        reader = self.record("reader", ROOMS, node=fleet[0])
        await self.recorders.settled()
        way = await self.plain()
        traffic = self.traffic(throw, USERS)
        await self.flow(way, traffic, scaled(1200, 10_000), scaled(800, 1000))
        await self.complete(way)
        self.assertFalse(any(message.doubtful for message in traffic.sent))
        for client in (*clients, reader):
            self.assertEqual((client.connects, client.disconnects), (1, []), client)
        await self.check_history(reader, ROOMS)

    async def test_three_ways_and_clients(self) -> None:
        """PUBLISH, Redis Streams, the HTTP API and clients publish side by side: each exactly once."""
        throw = dice(self.id())
        fleet = await self.start_fleet(2)
        clients = await self.populate(throw, 16, USERS[:8], nodes=fleet.nodes)
        ways = [await self.plain(), self.streamed(), self.http]
        flows = []
        for way in ways:
            traffic = self.traffic(throw, USERS[:8], type(way).__name__.lower())
            flows.append(ensureDeferred(self.flow(way, traffic, scaled(120, 3000), scaled(150, 300))))
        for client in clients[:4]:
            self.send(client, sorted(client.rooms), scaled(60, 1500), 20, 1, again=False)
        for flow in flows:
            await flow
        await self.complete(*ways)
        self.assertEqual({sent.outcome for client in clients for sent in client.sent}, {"ok"})

    async def test_nodes_die(self) -> None:
        """Must show 2: a node is killed by SIGKILL again and again, the relay's among them, and restarted.

        The clients go on elsewhere and recover: nothing is lost, nothing comes twice.
        """
        throw = dice(self.id())
        fleet = await self.start_fleet(3)
        clients = await self.populate(throw, scaled(24, 60), USERS)
        way = await self.plain()
        kills, every = scaled(3, 24), scaled(1.5, 5.0)
        rate = scaled(150, 400)
        traffic = self.traffic(throw, USERS)
        flowing = ensureDeferred(self.flow(way, traffic, int(kills * every * rate), rate))
        for kill in range(kills):
            await deferLater(reactor, throw.uniform(0.2, 0.4) * every)
            node = await self.relay_holder() if kill % 2 == 0 else throw.choice(fleet.nodes)
            await node.kill()
            if kill % 2:
                await deferLater(reactor, throw.uniform(0, 0.3) * every)
            # The relay's node is back before its lease has run out.
            await node.start()
        await flowing
        await self.complete(way)
        self.assertFalse(any(message.doubtful for message in traffic.sent))
        returns = [recovered for client in clients for recovered in recoveries(client)]
        self.assertGreater(len(returns), kills)
        self.assertEqual(returns, [True] * len(returns))
        self.assertEqual(sum(client.connects for client in clients), len(clients) + len(returns))
