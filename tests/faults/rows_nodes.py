"""Nodes end, are restarted, fail inside and stand still: N1, N4, N5 and N6 of the plan.

N2 and N3 are in `tests.faults.rows_presence`, N2 under load in `tests.faults.rows_exactly_once`.
"""

from __future__ import annotations

from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import deferLater

from tests.clients.service import ROOT

from .case import ROOMS, FaultCase, recoveries
from .scale import dice, scaled

USERS = tuple(f"user{number}" for number in range(10))
#: Thousands are in rooms of some tens, as those of events are: every member is told of every newcomer.
CROWDED = scaled(ROOMS, tuple(f"event:{number}" for number in range(200)))
SABOTAGE = Path(__file__).with_name("sabotage")
#: What a node sends, of all that Redis counts: not what its scripts call.
SENT = ("eval", "evalsha", "ping", "subscribe", "unsubscribe", "psubscribe", "script|load", "hello", "auth")


class EndTests(FaultCase):
    """Nodes that are told to end."""

    async def test_drain_under_load(self) -> None:
        """N1: SIGTERM under load, 2,000 clients: told, sent elsewhere, recovered; 0 lost, exit 0."""
        throw = dice(self.id())
        fleet = await self.start_fleet(2, DRAIN_TIMEOUT=scaled("2000", "10000"))
        users = tuple(f"user{number}" for number in range(scaled(10, 500)))
        clients = await self.populate(throw, scaled(30, 2000), users, CROWDED, most=4)
        way = await self.plain()
        traffic = self.traffic(throw, users, rooms=CROWDED, shapes=("booking", "user", "event"))
        flowing = ensureDeferred(self.flow(way, traffic, scaled(300, 2000), 100))
        self.send(clients[0], sorted(clients[0].rooms), scaled(100, 1000), 20, 1, again=True)
        await deferLater(reactor, 0.3)
        fleet[0].service.terminate()
        self.assertEqual(await fleet[0].service.exited(), 0)
        await flowing
        await self.complete(way)
        moved = [client for client in clients if client.disconnects]
        self.assertEqual(len(moved), len(clients) // 2)
        for client in moved:
            self.assertEqual(recoveries(client), [True], client)
            self.assertEqual(len(client.told("system:maintenance")), 1, client)

    async def test_fleet_restarts(self) -> None:
        """N6: all nodes are restarted, 5,000 clients: back within 15 s at p99, cheap for Redis."""
        throw = dice(self.id())
        fleet = await self.start_fleet(2)
        count = scaled(40, 5000)
        clients = await self.populate(
            throw, count, tuple(f"user{n}" for n in range(count)), CROWDED, most=4
        )
        before = await self._commands()
        began = reactor.seconds()
        for node in fleet.nodes:
            node.service.terminate()
        for node in fleet.nodes:
            self.assertEqual(await node.service.exited(), 0)
        await fleet.start()

        def most() -> bool:
            return sum(client.settled and client.connects > 1 for client in clients) >= count * 0.99

        await self.recorders.until(most, lambda: "99 % of the clients to be back", 60)
        p99 = reactor.seconds() - began
        await self.recorders.settled(seconds=60)
        slowest = reactor.seconds() - began
        spent = (await self._commands() - before) / count
        print(f"\n  back: p99 {p99:.1f} s, all {slowest:.1f} s; {spent:.1f} commands per client", end="")
        self.assertLess(p99, 15)
        self.assertLess(slowest, 30)
        if count > 1000:
            # What nodes send by the clock weighs nothing among thousands.
            self.assertLess(spent, 10)
        await self.complete()
        self.assertEqual({recovered for one in clients for recovered in recoveries(one)}, {True})

    async def _commands(self) -> int:
        stats = (await self._own_redis().command("INFO", "commandstats")).decode()
        calls = 0
        for line in stats.splitlines():
            name, _, told = line.partition(":")
            if name.removeprefix("cmdstat_") in SENT:
                calls += int(told.partition("calls=")[2].partition(",")[0])
        return calls


class InsideTests(FaultCase):
    """Nodes that fail inside."""

    async def test_exceptions(self) -> None:
        """N4: every third call of some inner step raises: refused or closed, and nobody else is harmed."""
        hooks = (
            "handlers:Handlers._room_history",
            "handlers:Handlers._room_join",
            "sessions:Sessions.connect",
        )
        fleet = await self.start_fleet(2)
        bystander = self.record("bystander", ROOMS, node=fleet[1])
        await self.recorders.settled()
        await fleet[0].stop()
        await fleet[0].start(
            PYTHONPATH=f"{SABOTAGE}:{ROOT}", SABOTAGE=",".join(f"realtime.{hook}" for hook in hooks)
        )
        # The failures that were asked for are in the log, as they must be.
        fleet[0].service.forgiven += ["sabotage"]
        clients = [self.record(f"user{n}", node=fleet[0]) for n in range(6)]
        await self.recorders.settled()
        codes = set()
        for client in clients:
            for _ in range(4):
                for event in ("room:join", "room:history"):
                    answer = await client.call(event, {"roomId": "lobby"})
                    codes.add("ok" if answer["ok"] else answer["error"]["code"])
        self.assertEqual(codes - {"room.not_joined"}, {"ok", "internal.error"})
        self.assertEqual(await fleet[0].connections(), len(clients))
        self.send(clients[0], ("lobby",), 20, 5, 1, again=False)
        await self.acknowledged()
        await self.recorders.until(lambda: bystander.count == 20, lambda: "the messages elsewhere")
        self.assertEqual(bystander.disconnects, [])

    async def test_blocked(self) -> None:
        """N5: a reactor that is blocked for 2 s: nobody is disconnected, nothing is lost."""
        throw = dice(self.id())
        fleet = await self.start_fleet(2, PYTHONPATH=f"{SABOTAGE}:{ROOT}")
        clients = await self.populate(throw, 12, USERS, nodes=fleet.nodes)
        way = await self.plain()
        traffic = self.traffic(throw, USERS)
        flowing = ensureDeferred(self.flow(way, traffic, scaled(300, 1000), 100))
        for _ in range(scaled(1, 3)):
            await deferLater(reactor, 0.3)
            fleet[0].service.signal("USR2")
            await deferLater(reactor, 2.2)
        await flowing
        await self.complete(way)
        for client in clients:
            self.assertEqual((client.connects, client.disconnects), (1, []), client)
