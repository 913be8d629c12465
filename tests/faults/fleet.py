"""`Fleet`: several nodes over one Redis, which tests kill, freeze and start again where they were."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, ensureDeferred
from twisted.internet.task import LoopingCall
from twisted.web.client import ResponseNeverReceived

from tests.clients.proxy import Balancer, Proxy
from tests.clients.service import LISTENERS, Answer, Service
from tests.redis_servers import RedisServer, until

Prepare = Callable[..., Service]


#: Names that stand for the ports of this process' fleets, lest another takes one before it is bound.
_TAKEN: list[socket.socket] = []


def steady_port() -> int:
    """A free port that no outgoing connection takes while its node is away: below the ephemeral ones."""
    while True:
        port = random.randrange(15000, 32000)
        name = socket.socket(socket.AF_UNIX)
        with socket.socket() as probe:
            try:
                name.bind(f"\0realtime-tests-port-{port}")
                probe.bind(("127.0.0.1", port))
            except OSError:
                name.close()
                continue
            _TAKEN.append(name)
            return port


class Subscriber(NamedTuple):
    """A subscriber connection as Redis has it: client id, the port that it comes from, its name."""

    id: int
    port: int
    name: str


class Node:
    """One place in the fleet: its ports stay, its process changes.

    :param prepare: `LiveCase.prepare_service`.
    :ivar service: the present process.
    :ivar proxy: what carries it to Redis, or None.
    :ivar frozen: whether it was stopped by SIGSTOP.
    """

    def __init__(self, prepare: Prepare, environ: dict[str, str], proxy: Proxy | None) -> None:
        self._prepare = prepare
        self._environ = {**environ, **{name: str(steady_port()) for name in LISTENERS}}
        self.proxy = proxy
        self.frozen = False
        self.service: Service
        self.id = ""

    @property
    def port(self) -> int:
        """Where clients connect."""
        return int(self._environ["PORT"])

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self, **environ: str) -> None:
        """Start a process of it; with settings that stay for the next ones too."""
        self._environ.update(environ)
        self.service = self._prepare(**self._environ)
        await self.service.start()
        self.id = (await self.service.request("GET", "/health", listener="HEALTH_CHECK_PORT")).body["node"]

    async def kill(self) -> None:
        """SIGKILL, frozen or not."""
        self.frozen = False
        await self.service.kill()

    async def stop(self) -> None:
        """SIGTERM; returns after its end."""
        self.service.terminate()
        await self.service.exited()

    async def restart(self) -> None:
        """SIGKILL and start."""
        await self.kill()
        await self.start()

    def freeze(self) -> None:
        """SIGSTOP."""
        self.frozen = True
        self.service.signal("STOP")

    def thaw(self) -> None:
        """SIGCONT."""
        if self.frozen:
            self.frozen = False
            self.service.signal("CONT")

    async def ready(self) -> Answer:
        """What ``/health/ready`` answers."""
        return await self.service.request("GET", "/health/ready", listener="HEALTH_CHECK_PORT")

    async def live(self) -> Answer:
        """What ``/health/live`` answers."""
        return await self.service.request("GET", "/health/live", listener="HEALTH_CHECK_PORT")

    async def is_ready(self) -> bool:
        """Whether it says that it is ready."""
        return (await self.ready()).status == 200

    async def is_unready(self) -> bool:
        """Whether it says that it is not ready."""
        return (await self.ready()).status == 503

    async def connections(self) -> int:
        """How many clients it holds."""
        told = await self.service.request("GET", "/health", listener="HEALTH_CHECK_PORT")
        return int(told.body["connections"]["open"])

    async def subscribers(self, redis: RedisServer) -> list[Subscriber]:
        """Its subscriber connections that Redis has, if it is carried by a proxy."""
        assert self.proxy is not None
        ports = self.proxy.ports()
        found = [
            Subscriber(int(one["id"]), int(one["addr"].rpartition(":")[2]), one["name"])
            for one in await redis.clients("pubsub")
        ]
        return [one for one in found if one.port in ports]


class Fleet:
    """The nodes, and a balancer before them.

    :param prepare: `LiveCase.prepare_service`.
    :param url: REDIS_URL; None for nodes on their own, with the embedded broker.
    :param proxies: one for each node, to carry it to Redis.
    """

    def __init__(
        self, prepare: Prepare, count: int, url: str | None, proxies: list[Proxy], **environ: str
    ) -> None:
        self.nodes = []
        for index in range(count):
            proxy = proxies[index] if proxies else None
            own = dict(environ)
            if url is not None:
                own["REDIS_URL"] = url if proxy is None else f"redis://127.0.0.1:{proxy.port}"
            self.nodes.append(Node(prepare, own, proxy))
        self.balancer = Balancer([node.port for node in self.nodes])

    def __getitem__(self, index: int) -> Node:
        return self.nodes[index]

    async def start(self) -> None:
        """Start all nodes at once; returns once all listen."""
        starts = [ensureDeferred(node.start()) for node in self.nodes]
        for one in starts:
            await one

    async def ready(self) -> None:
        """Wait until all nodes are ready: they listen before they have reached Redis."""
        for node in self.nodes:
            await until(node.is_ready, "a node to be ready")

    async def stop(self) -> None:
        """Stop balancing."""
        await self.balancer.stop()


class Pulse:
    """Asks a node for its liveness again and again: how long its reactor lets others wait (I5).

    :ivar times: seconds that each answer took.
    """

    def __init__(self, node: Node, every: float = 0.05) -> None:
        self._node = node
        self._loop = LoopingCall(self._ask)
        self._asked = self._loop.start(every)
        self.times: list[float] = []

    def _ask(self) -> object:
        return ensureDeferred(self._beat())

    async def _beat(self) -> None:
        began = reactor.seconds()
        with suppress(CancelledError, ResponseNeverReceived):
            await self._node.live()
            self.times.append(reactor.seconds() - began)

    async def stop(self) -> list[float]:
        """Ask no more; the times, in order of size."""
        if self._loop.running:
            self._loop.stop()
        await self._asked
        return sorted(self.times)
