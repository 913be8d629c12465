"""Issue 8, "Must show" 1: all nodes are replaced one after the other, behind a real HAProxy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import LoopingCall, deferLater

from tests.clients.children import Late
from tests.clients.recorders import Recording
from tests.redis_servers import until

from .case import FaultCase, recoveries
from .fleet import Node
from .haproxy import Haproxy
from .scale import dice, scaled

#: By what clients come; polling ones keep the balancer's cookie, as a browser does.
WAYS: tuple[dict[str, Any], ...] = (
    {"transports": ["websocket"]},
    {"transports": ["polling"], "withCredentials": True},
    {"transports": ["polling", "websocket"], "withCredentials": True},
)
#: Connections that a node may close per second.
RATE = scaled(10, 100)
#: Rooms, of about 15 members each, as the rooms of events are: every member is told of every newcomer.
ROOMS = tuple(f"event:{number}" for number in range(scaled(3, 300)))
#: Clients that come at a time, before anything is measured.
COME = 200


class Arrivals:
    """Looks again and again at how many clients each node has let in."""

    def __init__(self, nodes: list[Node]) -> None:
        self._nodes = nodes
        self.seen: dict[str, list[tuple[float, float]]] = {}
        self._loop = LoopingCall(lambda: ensureDeferred(self._look()))

    def start(self) -> None:
        self._loop.start(0.25).addErrback(lambda failure: failure.printTraceback())

    def stop(self) -> None:
        if self._loop.running:
            self._loop.stop()

    async def _look(self) -> None:
        for node in self._nodes:
            service = node.service
            if service.status is None:
                try:
                    total = await service.metric("realtime_connects_total", transport="websocket")
                    total += await service.metric("realtime_connects_total", transport="polling")
                except Exception:
                    continue
                self.seen.setdefault(f"{node.port} {node.id}", []).append((reactor.seconds(), total))

    def most(self) -> float:
        """The most arrivals at one node in one second, or in a longer time between two looks."""
        most = 0.0
        for looks in self.seen.values():
            for at, (began, before) in enumerate(looks):
                later = [(time, total) for time, total in looks[at + 1 :] if time - began >= 1]
                if later:
                    most = max(most, (later[0][1] - before) / (later[0][0] - began))
        return most


class RollingTests(FaultCase):
    """A rolling restart."""

    async def test_three_nodes(self) -> None:
        """3 nodes, 3,000 clients, 200 messages a second: nobody left behind, 0 lost, 0 twice, paced."""
        throw = dice(self.id())
        fleet = await self.start_fleet(
            3,
            DRAIN_RATE=str(RATE),
            DRAIN_TIMEOUT="60000",
            DRAIN_SETTLE="2200",
            TRUSTED_PROXIES="127.0.0.1",
        )
        haproxy = await self.balance()
        count = scaled(24, 3000)
        clients = await self.mixed(haproxy, throw, count)
        way = await self.plain()
        users = tuple(f"user{n}" for n in range(count))
        traffic = self.traffic(throw, users, rooms=ROOMS, shapes=("booking", "user", "event"))
        seconds = scaled(12, 150)
        flowing = ensureDeferred(self.flow(way, traffic, seconds * scaled(40, 200), scaled(40, 200)))
        arrivals = Arrivals(fleet.nodes)
        arrivals.start()
        self.addCleanup(arrivals.stop)
        for node in fleet.nodes:
            node.service.terminate()
            self.assertEqual(await node.service.exited(), 0)
            await node.start()
            await until(node.is_ready, "the new node to be ready")
            # until the balancer has noticed
            await deferLater(reactor, 1.2)
        await flowing
        arrivals.stop()
        await self.complete(way)
        for client in clients:
            self.assertEqual(set(recoveries(client)) | {True}, {True}, client)
        moved = sum(bool(client.disconnects) for client in clients)
        self.assertEqual(moved, count)
        most = arrivals.most()
        print(f"\n  {count} clients moved; at most {most:.1f} a second came to one node", end="")
        self.assertLessEqual(most, RATE)

    async def balance(self) -> Haproxy:
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        haproxy = Haproxy(directory)
        haproxy.start(self.fleet.nodes)
        self.addCleanup(haproxy.stop)
        return haproxy

    async def mixed(self, haproxy: Haproxy, throw: Any, count: int) -> list[Recording]:
        """Clients by all ways, each in some rooms."""
        made = []
        for number in range(count):
            user = f"user{number}"
            rooms = throw.sample(ROOMS, throw.randrange(1, 3))
            token = self.token(user, rooms=["*"])
            options = WAYS[number % len(WAYS)]
            made.append(self.recorders.record(haproxy.url, token, user, rooms, **options))
            if len(made) % COME == 0 or len(made) == count:
                try:
                    await self.recorders.settled(*made[-COME:], seconds=30)
                except Late:
                    print("\n".join(haproxy.log[-10:]))
                    raise
        return made
