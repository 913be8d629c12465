"""Relays over one real Redis, in one process: nodes that die, freeze and go deaf as tests wish."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import TestCase

from realtime.broker.redis import Links, RedisBroker
from realtime.broker.redis_link import Link, SubscriberLink
from realtime.broker.redis_locate import Connector, FixedLocator, Place
from realtime.broker.relay import LISTENING_TIMEOUT, Relay, State
from realtime.broker.scripts import Scripts
from realtime.broker.stream_reader import StreamReader
from realtime.broker.texts import parse
from realtime.errors import BrokerUnavailable
from realtime.ingress.publish import Ingest
from realtime.ingress.redis_events import RedisEvents
from realtime.messages import Publication
from realtime.metrics import Metrics
from realtime.routing import Routing

from ..redis_servers import HOST, RedisServer, start_redis, until

PREFIX = "realtime:3:"
SCRIPTS = Scripts(
    {
        "PREFIX": PREFIX,
        "PUBLISH": "PUBLISH",
        "RETENTION": 205_000,
        "RECEIPT_TIMEOUT": 60_000,
        "RECEIPT_TTL": 600_000,
        "MAX_RECEIPTS": 1000,
        "MAX_MESSAGES": 20_000,
        "MAX_BYTES": 1 << 26,
        "HISTORY": 100,
        "HISTORY_TTL": 86_400_000,
        "META_TTL": 86_400_000,
        "LOG_TTL": 86_400_000,
        "KEY_TTL": 120_000,
    }
)


class Bus:
    """A node's broker, as the relay sees it, with a gate.

    :ivar gate: asked for each script; "pass", or: "hold" keeps it back, "drop" fails it at once without
        sending it, "late" fails it at once and sends it when it is let go, "lose" sends it and loses
        its answer.
    :ivar kept: what is kept back, as functions that send it.
    :ivar late: what became of the late ones.
    """

    def __init__(self, broker: RedisBroker) -> None:
        self.node = broker.node
        self.broker = broker
        self.gate: Callable[[str, Sequence[Any]], str] = _open
        self.kept: list[Callable[[], object]] = []
        self.late: list[Any] = []
        self.command = broker.command
        self.published = broker.published

    def run(self, name: str, *args: Any) -> Deferred[Any]:
        return self._pass(self.broker.run, name, args)

    def run_once(self, name: str, *args: Any) -> Deferred[Any]:
        return self._pass(self.broker.run_once, name, args)

    def _pass(self, run: Callable[..., Deferred[Any]], name: str, args: Sequence[Any]) -> Deferred[Any]:
        verdict = self.gate(name, args)
        done: Deferred[Any] = Deferred()
        if verdict == "hold":
            self.kept.append(lambda: run(name, *args).chainDeferred(done))
        elif verdict == "lose":
            run(name, *args).addBoth(lambda _: done.errback(BrokerUnavailable()))
        elif verdict == "late":
            self.kept.append(lambda: run(name, *args).addBoth(self.late.append))
            done.errback(BrokerUnavailable())
        elif verdict == "drop":
            done.errback(BrokerUnavailable())
        else:
            return run(name, *args)
        return done

    def release(self) -> None:
        """Send what was kept back, and keep nothing back any more."""
        self.gate = _open
        kept, self.kept = self.kept, []
        for send in kept:
            send()

    def release_first(self) -> None:
        """Send the first that was kept back."""
        self.kept.pop(0)()


def _open(name: str, args: Sequence[Any]) -> str:
    return "pass"


class Listening(SubscriberLink):
    """The listening connection of a node.

    :ivar dropped: why it was given up, each time.
    """

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.dropped: list[str] = []

    def drop(self, why: str) -> None:
        self.dropped.append(why)
        super().drop(why)

    def cut(self) -> None:
        """The connection is lost."""
        if self._connection is not None:
            self._connection.transport.abortConnection()

    def freeze(self) -> None:
        """Nothing comes any more, and nobody is told: half open."""
        assert self._connection is not None
        self._connection.transport.pauseProducing()

    def thaw(self) -> None:
        """What had come meanwhile comes now."""
        assert self._connection is not None
        self._connection.transport.resumeProducing()


class RelayNode:
    """One node: its broker, its relay, its reader of the stream, its HTTP.

    :ivar rooms: what the store says of the rooms of users.
    :ivar slow: whether the store lets its answers wait in `lookups`.
    """

    def __init__(
        self,
        server: RedisServer,
        name: str,
        services: Sequence[str] = (),
        timeout: float = 5.0,
        **bounds: int,
    ) -> None:
        self._connector = Connector(reactor)
        self._place = FixedLocator(Place(HOST, server.port))
        self._timeout = timeout
        self.broker = RedisBroker(
            reactor,
            node=name,
            prefix=PREFIX,
            scripts=SCRIPTS,
            connect=self._links,
            sharded=False,
            max_bytes=1 << 26,
        )
        self.bus = Bus(self.broker)
        self.metrics = Metrics()
        self.rooms: dict[str, frozenset[str]] = {}
        self.lookups: list[Deferred[frozenset[str]]] = []
        self.slow = False
        self.dead = False
        self.ingest = Ingest(self.broker, self, Routing(services), self.metrics, time.time)
        self.events = RedisEvents(self.ingest, reactor.seconds)
        self.relay = Relay(reactor, self.bus, self.events, PREFIX, self._listen, **bounds)
        self.blocking = self._link(Link, "stream")
        self.reader = StreamReader(reactor, self.bus, self.events, self.blocking, PREFIX, self.relay.failed)
        self.relay.follow(self.reader)

    def _links(self, broker: RedisBroker) -> Links:
        return Links(
            self._link(Link, "commands", on_up=broker.commands_up, prepare=SCRIPTS.load),
            self._link(Link, "reads", prepare=SCRIPTS.load),
            self._link(
                SubscriberLink,
                "subscriber",
                on_up=broker.subscriber_up,
                on_down=broker.subscriber_down,
                on_message=broker.message,
            ),
        )

    def _link(self, kind: Callable[..., Any], name: str, **more: Any) -> Any:
        return kind(self._connector, self._place, **{"name": name, "timeout": self._timeout, **more})

    def _listen(self, relay: Relay) -> Listening:
        self.listening: Listening = self._link(
            Listening,
            "relay",
            on_up=relay.up,
            on_down=relay.down,
            on_message=relay.message,
            on_pmessage=relay.pmessage,
            timeout=LISTENING_TIMEOUT,
        )
        return self.listening

    # the store, as far as routing asks it

    def rooms_of(self, user: str) -> Deferred[frozenset[str]]:
        found: Deferred[frozenset[str]] = Deferred()
        if self.slow:
            self.lookups.append(found)
        else:
            found.callback(self.rooms.get(user, frozenset()))
        return found

    # what the broker delivers to, and tells

    def deliver(self, publication: Publication) -> None:
        pass

    def wants(self, channel: str) -> bool:
        return False

    def reset(self, channels: object) -> None:
        pass

    def returned(self, lost: bool) -> None:
        pass

    async def start(self) -> RelayNode:
        await self.broker.start(self, self)
        self.relay.start()
        return self

    async def stands(self, state: State | None = None) -> None:
        """Wait until it listens, or is in a state."""

        async def does() -> bool:
            now = self.relay.state
            return now is state if state else now in (State.LISTENER, State.HOLDER)

        await until(does, f"{self.bus.node} to be {state}; it is {self.relay.state}")

    def die(self) -> Deferred[Any]:
        """SIGKILL: all connections end, nothing is said; fires when they have."""
        self.dead = True
        self.bus.run = self.bus.run_once = _away  # type: ignore[method-assign]
        self.reader.end()
        self.relay._asking.stop()
        return self.relay.stop().addCallback(lambda _: self.broker.stop())

    async def end(self) -> None:
        if not self.dead:
            self.bus.release()
            await until(self._alive, "the broker to have healed")
            await self.relay.stop()
            await self.broker.stop()

    async def _alive(self) -> bool:
        return self.broker.alive()

    def counted(self, kind: str, outcome: str) -> float:
        labels = {"kind": kind, "outcome": outcome}
        return self.metrics.registry.get_sample_value("realtime_publications_total", labels) or 0.0


def _away(*args: Any) -> Deferred[Any]:
    return fail(BrokerUnavailable())


class RelayCase(TestCase):
    """A server, nodes over it, and what comes out on all of the deployment's channels."""

    timeout = 60

    async def begin(self, *names: str, **more: Any) -> list[RelayNode]:
        """A server, and nodes that stand, in this order; the first holds the lease."""
        if not hasattr(self, "server"):
            self.server = await start_redis(self)
        self.nodes: list[RelayNode] = []
        self.addCleanup(self.end)
        for index, name in enumerate(names):
            node = await self.node(name, **more)
            await node.stands(None if index else State.HOLDER)
        await self.hear()
        return self.nodes

    async def hear(self) -> None:
        """Listen to what comes out, from now on."""
        self.out = await self.server.client()
        self.addCleanup(lambda out: out.transport.abortConnection(), self.out)
        await self.out.command("PSUBSCRIBE", f"{PREFIX}channel:*")

    async def node(self, name: str, **more: Any) -> RelayNode:
        node = RelayNode(self.server, name, **more)
        self.nodes.append(node)
        return await node.start()

    async def end(self) -> None:
        for node in self.nodes:
            await node.end()

    async def say(self, channel: str, **data: Any) -> int:
        """PUBLISH as a service does; how many heard it."""
        heard: int = await self.server.command("PUBLISH", channel, json.dumps(data))
        return heard

    def delivered(self) -> list[Publication]:
        """All publications so far, in their order."""
        return [parse(push[3]) for push in self.out.pushed]

    def numbers(self) -> list[int]:
        """The field ``n`` of all publications so far."""
        return [json.loads(publication.data)["n"] for publication in self.delivered()]

    async def comes(self, numbers: Sequence[int], seconds: float = 15) -> None:
        """Wait until so many came, and a little longer for what must not come; compare."""

        async def came() -> bool:
            return len(self.numbers()) >= len(numbers)

        try:
            await until(came, f"{len(numbers)} publications", seconds)
        finally:
            await self.settle()
            self.assertEqual(self.numbers(), list(numbers))

    async def settle(self) -> None:
        """Everything that is under way between the nodes and the server has come."""
        for _ in range(3):
            await self.server.command("PUBLISH", "nobody", "")
            for node in self.nodes:
                if not node.dead:
                    with contextlib.suppress(BrokerUnavailable):
                        await node.bus.command("PING")
