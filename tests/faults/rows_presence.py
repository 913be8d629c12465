"""Presence, membership and caps over nodes that die and freeze: issue 3, "Must show" 5 and 6; N2 and N3."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

from twisted.internet import reactor
from twisted.internet.task import deferLater

from tests.clients.recorders import Recording
from tests.redis_servers import Client

from .case import GRACE, LEASE, FaultCase, recoveries
from .scale import scaled

#: Seconds within which a dead node's users have gone, beside lease and grace.
MARGIN = 5.0


class PresenceTests(FaultCase):
    """Users on node 0, some of them also on node 1, where watchers are."""

    async def _start(self, users: int, **environ: str) -> None:
        fleet = await self.start_fleet(2, **environ)
        self.watchers = [self.record(f"watcher{n}", ["lobby"], node=fleet[1]) for n in range(2)]
        await self.recorders.settled()
        self.listener = await self._own_redis().client()
        self.addCleanup(self.listener.transport.abortConnection)
        await self.listener.command("PSUBSCRIBE", "user:*", "socket:*")
        self.users = [f"user{number}" for number in range(users)]
        self.both = self.users[: max(1, users // 10)]
        # Who joins later is not seen to come online: its token takes it into the room.
        self.there = [self.record(user, granted=["lobby"], node=fleet[0]) for user in self.users]
        self.elsewhere = [self.record(user, granted=["lobby"], node=fleet[1]) for user in self.both]
        await self.recorders.settled(seconds=60)
        self.gone = sorted(set(self.users) - set(self.both))
        await self._told("user:online", self.users)

    async def _told(self, event: str, users: Sequence[str], seconds: float = 30) -> None:
        """Wait until all watchers were told of each of these users, once each, and of no other."""

        def holds() -> bool:
            return all(len(one.told(event)) >= len(users) for one in self.watchers)

        counts = [len(one.told(event)) for one in self.watchers]
        await self.recorders.until(holds, lambda: f"{len(users)} {event}: {counts}", seconds)
        for watcher in self.watchers:
            told = Counter(
                payload["userId"]
                for payload in watcher.told(event)
                if not payload["userId"].startswith("watcher")
            )
            self.assertEqual(told, Counter(users), event)

    def _backend(self, event: str) -> Counter[str]:
        """Whom backends were told of by an event, and how often."""
        return published(self.listener, event)

    async def _members_are(self, users: Sequence[str]) -> None:
        wanted = sorted({*users, *(one.user for one in self.watchers)})
        for node in self.fleet.nodes:
            if node.service.status is None:
                self.assertEqual(await self.members(node, "lobby"), wanted)

    async def test_node_dies(self) -> None:
        """Must show 5 and N2: SIGKILL of a node with 500 users: offline events once each, and in time.

        Users who are also connected elsewhere stay online; member lists are right on all nodes; backends
        learn of each once. When the node is back its clients recover, and are online once each.
        """
        await self._start(scaled(40, 500))
        fleet = self.fleet
        await fleet[0].kill()
        await self._told("user:offline", self.gone, LEASE + GRACE + MARGIN)
        await self._told("room:user_left", self.gone)
        self.assertEqual(self._backend("user:offline"), Counter(self.gone))
        await self._members_are(self.both)
        await fleet[0].start()
        await self.recorders.settled(seconds=60)
        await self._told("user:online", self.users + self.gone)
        self.assertEqual({tuple(recoveries(one)) for one in self.there}, {(True,)})
        await self._members_are(self.users)
        await self._told("user:offline", self.gone)
        self.assertEqual(self._backend("user:offline"), Counter(self.gone))
        self.assertEqual([one.disconnects for one in self.watchers], [[], []])

    async def test_node_freezes(self) -> None:
        """N3: a node is frozen past its lease (30 s) and goes on: its users are offline, then online again.

        No presence is there twice; its clients, who never left, have everything that was sent meanwhile.
        """
        await self._start(10)
        fleet = self.fleet
        sender = self.watchers[0]
        fleet[0].freeze()
        self.send(sender, ["lobby"], 50, 40, 1, again=True)
        await self._told("user:offline", self.gone, LEASE + GRACE + MARGIN)
        await deferLater(reactor, scaled(0, 30))
        fleet[0].thaw()
        await self._told("user:online", self.users + self.gone)
        await self.complete()
        await self._members_are(self.users)
        for user in self.users:
            shown = await fleet[1].service.request("GET", f"/v1/users/{user}/presence")
            metas = shown.body["metas"]
            self.assertEqual(len(metas), 2 if user in self.both else 1, shown.body)
        self.assertEqual([one.disconnects for one in self.there], [[]] * len(self.there))

    async def test_backends_learn(self) -> None:
        """Backends learn of connects, disconnects and status changes on Redis, once each, from any node."""
        await self._start(6)
        self.assertEqual(self._backend("user:online"), Counter(self.users))
        self.assertEqual(self._backend("socket:connect"), Counter(self.users + self.both))
        chooser = self.there[1]
        self.accepted(await chooser.call("user:presence", {"status": "busy"}))
        await self._told("user:status_change", [chooser.user])
        self.there[2].cut()
        await self.recorders.until(lambda: self.there[2].connects == 2, lambda: "a return")
        self.elsewhere[0].stop()
        self.there[0].stop()
        await self._told("user:offline", self.both)

        async def learnt() -> bool:
            return (
                self._backend("user:status_change") == Counter([chooser.user])
                and self._backend("socket:reconnect") == Counter([self.there[2].user])
                and self._backend("socket:disconnect")[self.there[0].user] == 2
            )

        await self.within(10, learnt, "what backends learn")


class LimitTests(FaultCase):
    """Must show 6: limits hold exactly over three nodes."""

    async def test_room_members(self) -> None:
        """MAX_ROOM_MEMBERS holds exactly under concurrent joins; a dead node's entries block nobody."""
        limit = scaled(12, 100)
        fleet = await self.start_fleet(3, MAX_ROOM_MEMBERS=str(limit), RECOVERY_WINDOW="2000")
        count = 3 * limit
        clients = [self.record(f"user{n}", [], node=fleet[n % 3]) for n in range(count)]
        await self.recorders.settled()
        for client in clients:
            client.join("lobby")
        await self.recorders.until(
            lambda: all(client.of("j") for client in clients), lambda: "answers to all joins"
        )
        answers = Counter(client.of("j")[0][1] or client.of("j")[0][2] for client in clients)
        self.assertEqual(answers, Counter({True: limit, "room.full": count - limit}))
        inside = [client for client in clients if client.of("j")[0][1]]
        for node in fleet.nodes:
            self.assertEqual(await self.members(node, "lobby"), sorted(one.user for one in inside))
        dead = [client for client in inside if clients.index(client) % 3 == 0]
        await fleet[0].kill()
        late = [client for client in clients if client not in inside and clients.index(client) % 3 == 1]
        await self._enters(late[: len(dead)])
        left = {*inside, *late[: len(dead)]} - set(dead)
        self.assertEqual(await self.members(fleet[1], "lobby"), sorted(one.user for one in left))

    async def _enters(self, waiting: Sequence[Recording]) -> None:
        """Wait until these can join, asking again and again."""
        still = list(waiting)

        async def all_in() -> bool:
            for one in list(still):
                if (await one.call("room:join", {"roomId": "lobby"}))["ok"]:
                    still.remove(one)
            return not still

        await self.within(LEASE + GRACE + MARGIN, all_in, "those who wait to get in")

    async def test_connections(self) -> None:
        """RATE_LIMIT_MAX_CONNECTIONS holds exactly too; a dead node's connections block nobody."""
        limit = 5
        fleet = await self.start_fleet(3, RATE_LIMIT_MAX_CONNECTIONS=str(limit), RECOVERY_WINDOW="2000")
        users = [f"user{n}" for n in range(scaled(4, 30))]
        clients = [
            self.record(user, node=fleet[n % 3], reconnection=False) for user in users for n in range(12)
        ]
        await self._answered(clients)
        held = Counter(client.user for client in clients if client.settled)
        self.assertEqual(held, Counter(dict.fromkeys(users, limit)))
        await fleet[0].kill()
        dead = [one for n, one in enumerate(clients) if n % 3 == 0 and one.of("s")]
        await self.recorders.until(lambda: all(one.disconnects for one in dead), lambda: "the node's end")
        for user in users:
            for _ in range(sum(one.user == user for one in dead)):
                await self._connects(user)
        more = [self.record(user, node=fleet[2], reconnection=False) for user in users]
        await self._answered(more)
        self.assertEqual([one for one in more if one.settled], [], "the limit holds for the new ones too")

    async def _answered(self, clients: Sequence[Recording]) -> None:
        """Wait until each is let in for good, or is not."""
        await self.recorders.until(
            lambda: all(one.of("s") or one.disconnects or one.of("x") for one in clients),
            lambda: f"answers: {[one.rows[-2:] for one in clients][:9]}",
        )

    async def _connects(self, user: str) -> None:
        async def let_in() -> bool:
            client = self.record(user, node=self.fleet[1], reconnection=False)
            await self._answered([client])
            return client.settled

        await self.within(LEASE + GRACE + MARGIN, let_in, f"{user} to be let in again")


def published(listener: Client, event: str) -> Counter[str]:
    """The users of the messages of one plain channel that a listener has heard."""
    told: Counter[str] = Counter()
    for kind, *_, channel, data in listener.pushed:
        if kind == b"pmessage" and channel.decode() == event:
            user = json.loads(data)["userId"]
            told[user] += not user.startswith("watcher")
    return +told
