"""Relays over one real Redis, in one process: nodes that die, freeze and go deaf as tests wish."""

from __future__ import annotations

import json
from collections.abc import Callable
from collections.abc import Sequence as Items
from pathlib import Path
from typing import Any

import hiredis
from twisted.internet import reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectError, ConnectionLost
from twisted.internet.protocol import Protocol
from twisted.trial.unittest import TestCase

import realtime.broker
from realtime.broker.relay import Relay, State
from realtime.broker.stream_reader import StreamReader
from realtime.broker.texts import head_of, parse
from realtime.errors import BrokerUnavailable
from realtime.ingress.publish import Ingest
from realtime.ingress.redis_events import RedisEvents
from realtime.messages import Position, Publication, Published, Sequence
from realtime.metrics import Metrics

from ..redis_servers import HOST, Client, RedisServer, start_redis, until

PREFIX = "realtime:3:"
SCRIPTS = Path(realtime.broker.__file__).parent / "scripts"
CONSTANTS = {
    "PREFIX": f"'{PREFIX}'",
    "PUBLISH": "'PUBLISH'",
    "RETENTION": 205_000,
    "MAX_MESSAGES": 20_000,
    "MAX_BYTES": 1 << 26,
    "HISTORY": 100,
    "HISTORY_TTL": 86_400_000,
    "META_TTL": 86_400_000,
    "LOG_TTL": 86_400_000,
    "KEY_TTL": 120_000,
}


def text_of(name: str) -> str:
    """A script as it is sent."""
    head = "".join(f"local {key} = {value}\n" for key, value in CONSTANTS.items())
    return head + (SCRIPTS / "prelude.lua").read_text() + (SCRIPTS / f"{name}.lua").read_text()


class Bus:
    """A node's connection for commands, and the part of the broker that the relay uses.

    :ivar gate: asked for each script; answering "hold" keeps it back, "lose" sends it and loses its
        answer, "drop" fails it at once without sending it, "late" too but sends it when it is let go.
    """

    def __init__(self, server: RedisServer, node: str) -> None:
        self.node = node
        self.server = server
        self.client: Client | None = None
        self.run_id = ""
        self.gate: Callable[[str, Items[Any]], str] = lambda name, args: "pass"
        self.kept: list[Callable[[], None]] = []
        self.late: list[Any] = []
        self.ran: list[str] = []

    async def open(self) -> None:
        self.client = await self.server.client()
        info = (await self.client.command("INFO", "server")).decode()
        self.run_id = info.partition("run_id:")[2].split()[0]
        await self.client.command("EVAL", text_of("resume"), 0, self.run_id, "", 0, 0, self.node)

    def close(self) -> None:
        if self.client is not None:
            self.client.transport.abortConnection()

    def run(self, name: str, *args: Any) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        verdict = self.gate(name, args)
        if verdict == "hold":
            self.kept.append(lambda: self._send(name, args).chainDeferred(done))
        elif verdict == "drop":
            done.errback(BrokerUnavailable())
        elif verdict == "late":
            self.kept.append(lambda: self._send(name, args).addBoth(self.late.append))
            done.errback(BrokerUnavailable())
        elif verdict == "lose":
            self._send(name, args).addBoth(lambda _: done.errback(BrokerUnavailable()))
        else:
            self._send(name, args).chainDeferred(done)
        return done

    run_once = run

    def release(self) -> None:
        """Send what was kept back, and keep nothing back any more."""
        self.gate = lambda name, args: "pass"
        kept, self.kept = self.kept, []
        for send in kept:
            send()

    def _send(self, name: str, args: Items[Any]) -> Deferred[Any]:
        self.ran.append(name)
        reply = self.command("EVAL", text_of(name), 0, self.run_id, *args)
        return reply.addCallback(self._resume)

    def _resume(self, reply: Any) -> Any:
        if reply[:1] != [b"RESUME"]:
            return reply
        resumed = self.command("EVAL", text_of("resume"), 0, self.run_id, "", 0, 0, self.node)
        return resumed.addCallback(self._resumed)

    @staticmethod
    def _resumed(_: Any) -> Any:
        raise BrokerUnavailable

    def release_first(self) -> None:
        """Send the first that was kept back."""
        self.kept.pop(0)()

    def command(self, *args: Any) -> Deferred[Any]:
        if self.client is None or self.client.lost:
            done: Deferred[Any] = Deferred()
            done.errback(BrokerUnavailable())
            return done
        reply = self.client.command(*args)
        reply.addErrback(self._lost)
        return reply

    @staticmethod
    def _lost(failure: Any) -> None:
        failure.trap(ConnectionLost)
        raise BrokerUnavailable

    @staticmethod
    def arguments(publication: Publication, key: str | None) -> tuple[Any, ...]:
        return (
            *(publication.channel, key or "", int(publication.logged), int(publication.history)),
            *(publication.id, publication.time, head_of(publication), publication.data),
        )

    @staticmethod
    def published(answer: list[Any]) -> Published:
        told, identity, time, number, offset, born, epoch, generation = (
            part.decode() if isinstance(part, bytes) else str(part) for part in answer
        )
        if not number:
            return Published(identity, int(time), None, None, told == "REPEATED")
        position = Position(int(offset), f"{epoch}.{born}")
        sequence = Sequence(epoch, int(generation), int(number))
        return Published(identity, int(time), position, sequence, told == "REPEATED")

    # the broker that HTTP publishes to

    def publish(self, publication: Publication, key: str | None = None) -> Deferred[Published]:
        answer = self.run("publish", *self.arguments(publication, key), "", "", "")
        return answer.addCallback(self.published)


class _Subscriber(Protocol):
    def __init__(self, owner: Listening) -> None:
        self._owner = owner
        self._reader = hiredis.Reader()
        self._acks: list[list[Any]] = []

    def send(self, kind: str, names: Items[bytes]) -> Deferred[None]:
        done: Deferred[None] = Deferred()
        self._acks.append([len(names), done])
        self.transport.write(hiredis.pack_command((kind, *names)))
        return done

    def dataReceived(self, data: bytes) -> None:
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            kind = reply[0]
            if kind == b"message":
                self._owner.relay.message(reply[1], reply[2])
            elif kind == b"pmessage":
                self._owner.relay.pmessage(*reply[1:])
            else:
                ack = self._acks[0]
                ack[0] -= 1
                if not ack[0]:
                    self._acks.pop(0)[1].callback(None)

    def connectionLost(self, reason: Any = None) -> None:
        acks, self._acks = self._acks, []
        for _, done in acks:
            done.errback(BrokerUnavailable())
        self._owner.gone(self)


class Listening:
    """The listening connection of a node.

    :ivar dropped: why the relay gave it up, each time.
    """

    def __init__(self, server: RedisServer, relay: Relay) -> None:
        self.relay = relay
        self.dropped: list[str] = []
        self.connects = True
        self._server = server
        self._protocol: _Subscriber | None = None
        self._running = False

    def start(self) -> None:
        self._running = True
        self._connect()

    def _connect(self) -> None:
        if not self._running or not self.connects:
            return
        endpoint = TCP4ClientEndpoint(reactor, HOST, self._server.port, 5)
        connecting = connectProtocol(endpoint, _Subscriber(self))
        connecting.addCallbacks(self._up, self._refused)

    def _refused(self, failure: Any) -> None:
        failure.trap(ConnectError)
        reactor.callLater(0.05, self._connect)

    def _up(self, protocol: _Subscriber) -> None:
        self._protocol = protocol
        if not self._running:
            protocol.transport.abortConnection()
            return
        self.relay.up(self)

    def gone(self, protocol: _Subscriber) -> None:
        if protocol is self._protocol:
            self._protocol = None
            self.relay.down(self)
            self._connect()

    def subscribe(self, channels: Items[bytes]) -> Deferred[None]:
        return self._send("SUBSCRIBE", channels)

    def psubscribe(self, patterns: Items[bytes]) -> Deferred[None]:
        return self._send("PSUBSCRIBE", patterns)

    def _send(self, kind: str, names: Items[bytes]) -> Deferred[None]:
        if self._protocol is None:
            failed: Deferred[None] = Deferred()
            failed.errback(BrokerUnavailable())
            return failed
        return self._protocol.send(kind, names)

    def drop(self, why: str) -> None:
        self.dropped.append(why)
        self.cut()

    def cut(self) -> None:
        """The connection is lost."""
        if self._protocol is not None:
            self._protocol.transport.abortConnection()

    def freeze(self) -> None:
        """Nothing comes any more, and nobody is told: half-open."""
        if self._protocol is not None:
            self._protocol.transport.pauseProducing()

    def thaw(self) -> None:
        """What had come meanwhile comes now."""
        if self._protocol is not None:
            self._protocol.transport.resumeProducing()

    def stop(self) -> None:
        self._running = False
        self.cut()


class RelayNode:
    """One node: its relay, its reader of the stream, its HTTP."""

    def __init__(self, server: RedisServer, name: str, services: Items[str] = (), **bounds: int) -> None:
        self.bus = Bus(server, name)
        self.metrics = Metrics()
        self.rooms: dict[str, frozenset[str]] = {}
        self.lookups: list[Deferred[frozenset[str]]] = []
        self.slow = False
        self.ingest = Ingest(self.bus, self, services, self.metrics, reactor_wall)
        self.events = RedisEvents(self.ingest, reactor.seconds)
        self.relay = Relay(
            reactor, self.bus, self.events, PREFIX, lambda relay: Listening(server, relay), **bounds
        )
        self.listening: Listening = self.relay._listening  # type: ignore[assignment]
        self.blocking = Bus(server, name)
        self.reader = StreamReader(
            reactor, self.bus, self.events, self.blocking, PREFIX, self.relay.failed, reactor_wall
        )
        self.relay.follow(self.reader)

    # the store, as far as routing asks it

    def rooms_of(self, user: str) -> Deferred[frozenset[str]]:
        found: Deferred[frozenset[str]] = Deferred()
        if self.slow:
            self.lookups.append(found)
        else:
            found.callback(self.rooms.get(user, frozenset()))
        return found

    async def start(self) -> RelayNode:
        await self.bus.open()
        await self.blocking.open()
        self.relay.start()
        return self

    async def stands(self, state: State | None = None) -> None:
        """Wait until it listens, or is in a state."""

        async def does() -> bool:
            now = self.relay.state
            return now is state if state else now in (State.LISTENER, State.HOLDER)

        await until(does, f"{self.bus.node} to be {state}; it is {self.relay.state}")

    def die(self) -> None:
        """SIGKILL: all connections end, nothing is said."""
        self.relay._stopping = True
        if self.relay._asking.running:
            self.relay._asking.stop()
        self.reader.end()
        self.listening._running = False
        self.bus.gate = self.blocking.gate = lambda name, args: "drop"
        self.listening.cut()
        self.bus.close()
        self.blocking.close()

    def counted(self, kind: str, outcome: str) -> float:
        labels = {"kind": kind, "outcome": outcome}
        return self.metrics.registry.get_sample_value("realtime_publications_total", labels) or 0.0


def reactor_wall() -> float:
    import time

    return time.time()


class RelayCase(TestCase):
    """A server, nodes over it, and what comes out on all of the deployment's channels."""

    timeout = 60

    async def begin(self, *names: str, **more: Any) -> list[RelayNode]:
        """A server, and nodes that stand, in this order; the first holds the lease."""
        self.server = await start_redis(self)
        self.nodes: list[RelayNode] = []
        self.addCleanup(self.end)
        for index, name in enumerate(names):
            node = await self.node(name, **more)
            await node.stands(None if index else State.HOLDER)
        self.out = await self.server.client()
        await self.out.command("PSUBSCRIBE", f"{PREFIX}channel:*")
        return self.nodes

    async def node(self, name: str, **more: Any) -> RelayNode:
        node = RelayNode(self.server, name, **more)
        self.nodes.append(node)
        return await node.start()

    async def end(self) -> None:
        for node in self.nodes:
            node.bus.release()
            await maybeDeferred(node.relay.stop)
            node.reader.end()
            node.bus.close()
            node.blocking.close()

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

    async def comes(self, numbers: Items[int], seconds: float = 15) -> None:
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
                if node.bus.client is not None and not node.bus.client.lost:
                    await node.bus.command("PING")
