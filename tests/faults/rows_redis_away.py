"""Redis goes away and comes back, with its data or without: issue 3, "Must show" 4; R1, R2 and R3."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import deferLater

from tests.clients.children import Late
from tests.clients.recorders import Recording
from tests.redis_servers import start_redis, until

from .case import LEASE, FaultCase, resets
from .fleet import Node
from .scale import dice, scaled

ROOMS = ("event:1", "lobby")
USERS = tuple(f"user{number}" for number in range(6))
#: Seconds within which a node must say that Redis is away, or is there again.
SOON = 2.0
#: Bytes of memory that a node may grow by while Redis is away.
GROWTH = 20_000_000


class AwayCase(FaultCase):
    """Two nodes, clients that watch, one that gives up when it is refused, and one that does not."""

    async def _start(self, seconds: float, **environ: str) -> None:
        fleet = await self.start_fleet(2, **environ)
        self.clients = await self.populate(dice(self.id()), 6, USERS, ROOMS, nodes=fleet.nodes)
        self.once = self.record("once", ROOMS, node=fleet[0])
        self.again = self.record("again", ROOMS, node=fleet[1])
        await self.recorders.settled()
        self.send(self.once, ROOMS, int(seconds * 50), 40, 2, again=False)
        self.send(self.again, ROOMS, int(seconds * 50), 40, 2, again=True)
        await self.recorders.until(
            lambda: self.again.acknowledged > 10 and self.once.acknowledged > 10, lambda: "some messages"
        )

    async def _away(self, seconds: float) -> None:
        """What must hold while Redis is away: looked at for so many seconds."""
        began = reactor.seconds()
        for node in self.fleet.nodes:
            await self.within(SOON + 1, node.is_unready, "readiness to say that Redis is away")
            self.assertIn("redis_unavailable", (await node.ready()).body["causes"])
            self.assertEqual((await node.live()).status, 200)
            links = await self._links(node)
            self.assertEqual(set(links), {"commands", "reads", "subscriber", "listener", "stream"})
            self.assertFalse(links["commands"]["up"])
            self.assertTrue(links["commands"]["trouble"])
        asked = reactor.seconds()
        answer = await self.fleet[0].service.publish("system:announcement", {"text": "refused"})
        self.assertLess(reactor.seconds() - asked, 1.5)
        self.assertEqual((answer.status, answer.body["error"]["code"]), (503, "broker.unavailable"))
        refused = await self.once.call("room:message", {"roomId": "lobby", "text": "refused"})
        error = self.refused(refused, "broker.unavailable")
        self.assertGreater(error["retryAfter"], 0)
        await deferLater(reactor, max(0, seconds - (reactor.seconds() - began)))

    async def _back(self) -> None:
        """What must hold once Redis is there again, within moments and without a restart of anything."""
        for node in self.fleet.nodes:
            try:
                await self.within(SOON + 1, node.is_ready, "readiness to say that Redis is there")
            except Late as late:
                raise Late(f"{late}; {(await node.ready()).body}; {node.service.tail(12)}") from late
            await self.within(SOON + 1, self._all_probed(node), "an answered probe of each connection")

    async def _links(self, node: Node) -> dict[str, Any]:
        """What a node's health says of each of its connections to Redis."""
        told = await node.service.request("GET", "/health", listener="HEALTH_CHECK_PORT")
        found: dict[str, Any] = told.body["broker"]["connections"]
        return found

    def _all_probed(self, node: Node) -> Callable[[], Awaitable[bool]]:
        async def probed() -> bool:
            links = (await self._links(node)).values()
            return all(link["up"] and link["roundTrip"] > 0 for link in links)

        return probed

    async def _finish(self, *, anew: int) -> None:
        """Everything was delivered or refused, nobody was disconnected.

        :param anew: how often everybody was told to reload.
        """
        await self.complete()
        for client in self.recorders.recordings:
            self.assertEqual(client.disconnects, [], client)
            self.assertEqual(resets(client), anew, client.life())
        outcomes = [sent.outcome for sent in self.once.sent]
        self.assertEqual(set(outcomes) - {"ok", "broker.unavailable"}, set())
        self.assertEqual({sent.outcome for sent in self.again.sent}, {"ok"})
        self.assertEqual(
            [one for client in self.recorders.recordings for one in client.told("room:message")],
            [],
            "what was refused by itself",
        )
        print(f"\n  {outcomes.count('ok')} of {len(outcomes)} taken at once", end="")
        await self._rebuilt()

    async def _rebuilt(self) -> None:
        """Presence and membership are as if nothing had been, on all nodes; nobody seemed to leave."""
        for room in ROOMS:
            wanted = sorted(one.user for one in self.recorders.recordings if room in one.rooms)
            for node in self.fleet.nodes:
                await self.within(4 * LEASE, self._has(node, room, wanted), f"members of {room}: {wanted}")
        for client in self.recorders.recordings:
            self.assertEqual(client.told("user:offline"), [], client)
            self.assertEqual(client.told("room:user_left"), [], client)

    def _has(self, node: Node, room: str, wanted: list[str]) -> Callable[[], Awaitable[bool]]:
        async def has() -> bool:
            return await self.members(node, room) == wanted

        return has


class AwayTests(AwayCase):
    """Redis keeps its data."""

    async def test_frozen(self) -> None:
        """Must show 4 and R3: SIGSTOP for 2 s (10 s, 60 s): refused in time, all well 2 s after SIGCONT."""
        for seconds in scaled((2.5,), (2.5, 10, 60)):
            if not self.traffics and not self.senders:
                # What was taken just before is repeated after the longest of them.
                await self._start(scaled(4, 80), RECOVERY_WINDOW="180000")
            before = [node.service.rss() for node in self.fleet.nodes]
            self._own_redis().freeze()
            await self._away(seconds)
            after = [node.service.rss() for node in self.fleet.nodes]
            self._own_redis().thaw()
            await self._back()
            for was, grown in zip(before, after, strict=True):
                self.assertLess(grown - was, GROWTH)
        await self._finish(anew=0)

    async def test_restarted_at_once(self) -> None:
        """R1: SIGKILL and restarted at once with its data: subscribed again within 0.5 s, nothing lost."""
        await self._start(scaled(3, 20))
        took: list[float] = []
        for _ in range(scaled(1, 5)):
            await self._own_redis().restart()

            async def subscribed() -> bool:
                return len(await self._own_redis().clients("pubsub")) >= 2

            took.append(await self.within(3, subscribed, "the nodes to listen again"))
            await self._back()
        print(f"\n  listening again after {', '.join(f'{one:.2f} s' for one in sorted(took))}", end="")
        self.assertLess(sorted(took)[len(took) // 2], scaled(1.5, 0.5), "on a busy machine a little longer")
        await self._finish(anew=0)

    async def test_restarted_with_data(self) -> None:
        """Must show 4: stopped, away for a while, restarted with all its data: nobody has to reload."""
        await self._start(scaled(3, 30))
        await self._own_redis().kill()
        await self._away(scaled(1, 10))
        await self._own_redis().start()
        await self._back()
        await self._finish(anew=0)


class LossTests(AwayCase):
    """Redis loses data: everybody is told to reload, once, on the connection that they have."""

    async def _told(self, times: int = 1) -> None:
        """Every connection is told within 2 s of the return."""
        await self.recorders.until(
            lambda: all(resets(one) >= times for one in self.recorders.recordings),
            lambda: f"all to be told: {[resets(one) for one in self.recorders.recordings]}",
            SOON + 1,
        )

    async def test_older_snapshot(self) -> None:
        """Must show 4: restarted from an older snapshot, so that the sequence goes back."""
        self.redis = await start_redis(self)
        await self._start(scaled(4, 30))
        snapshot = await self.redis.snapshot()
        seen = self.again.acknowledged
        await self.recorders.until(lambda: self.again.acknowledged > seen + 40, lambda: "more messages")
        await self.redis.restart_from(snapshot)
        await self._back()
        await self._told()
        await self._finish(anew=1)

    async def test_without_data(self) -> None:
        """Must show 4 and R2: down for a while (30 s), and empty when it comes back."""
        await self._start(scaled(3, 60))
        await self._own_redis().kill()
        await self._away(scaled(1, 30))
        await self._own_redis().restart_empty()
        await self._back()
        await self._told()
        await self._finish(anew=1)

    async def test_flushed(self) -> None:
        """FLUSHALL under load: no reset of a connection shows it, and still everybody is told."""
        await self._start(scaled(3, 20))
        await self._own_redis().command("FLUSHALL")
        await self._told()
        await self._finish(anew=1)

    async def test_away_meanwhile(self) -> None:
        """Who was away while the data was lost is told that it is no recovery: no silent gap."""
        await self.start_fleet(2)
        client = self.record("alice", ROOMS)
        other = self.record("bob", ROOMS)
        await self.recorders.settled()
        targets, self.fleet.balancer.targets = self.fleet.balancer.targets, []
        client.cut()
        await self.recorders.until(lambda: bool(client.disconnects), lambda: "the cut")
        self.send(other, ROOMS, 20, 10, 2, again=True)
        await self.acknowledged()
        await self._own_redis().restart_empty()
        self.fleet.balancer.targets = targets
        await self.recorders.settled(client)
        self.assertEqual([row[0] for row in client.of("c")], [False, False])
        await until(self.fleet[0].is_ready, "the nodes to be well")
        self.send(other, ROOMS, 20, 10, 2, again=True)
        await self.recorders.settled()
        await self.acknowledged()

        def heard() -> list[Recording]:
            return [one for one in (client, other) if one.count < 20]

        await self.recorders.until(lambda: not heard(), lambda: f"messages afterwards at {heard()}")
