"""`RedisBus`: brokers and state stores of several nodes over one real Redis, for tests."""

from __future__ import annotations

import secrets
from collections import Counter, defaultdict
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from realtime.broker.redis import Links, RedisBroker
from realtime.broker.redis_leases import StateTimes
from realtime.broker.redis_link import Link, SubscriberLink
from realtime.broker.redis_locate import Connector, FixedLocator, Place
from realtime.broker.redis_state import RedisStateStore
from realtime.broker.scripts import Scripts

from ..redis_servers import RedisServer, start_redis
from . import contract
from .contract import Delivered, Peer

PREFIX = "realtime:3:"
LEASE = 60.0
TIMES = StateTimes(
    window=contract.WINDOW,
    grace=contract.GRACE,
    lease=LEASE,
    dead=contract.RETENTION - contract.WINDOW,
)
CONSTANTS: dict[str, str | int] = {
    "PREFIX": PREFIX,
    "PUBLISH": "PUBLISH",
    "RETENTION": int(contract.RETENTION * 1000),
    "RECEIPT_TIMEOUT": 60_000,
    "RECEIPT_TTL": 600_000,
    "MAX_RECEIPTS": 1000,
    "MAX_MESSAGES": contract.MAX_MESSAGES,
    "MAX_BYTES": contract.MAX_BYTES,
    "HISTORY": contract.HISTORY,
    "HISTORY_TTL": int(contract.HISTORY_TTL * 1000),
    "META_TTL": 86_400_000,
    "LOG_TTL": 30 * 86_400_000,
    "KEY_TTL": int(contract.WINDOW * 1000),
    **TIMES.constants(),
}


class Node:
    """One node: a broker, a state store, and what they tell it."""

    def __init__(self, server: RedisServer, **constants: str | int) -> None:
        self.delivered = Delivered()
        self.peer = Peer()
        self.clock = Clock()
        self.connector = Connector(reactor)
        self._locator = FixedLocator(Place("127.0.0.1", server.port))
        scripts = Scripts({**CONSTANTS, **constants})
        self.broker = RedisBroker(
            reactor,
            node=secrets.token_hex(8),
            prefix=PREFIX,
            scripts=scripts,
            connect=lambda broker: self._links(broker, scripts),
            sharded=False,
            max_bytes=contract.MAX_BYTES,
        )
        self.store = RedisStateStore(
            self.clock, self.broker, prefix=PREFIX, times=TIMES, members=1000, wall=reactor.seconds
        )

    def _links(self, broker: RedisBroker, scripts: Scripts) -> Links:
        more = {"prepare": scripts.load}
        return Links(
            Link(self.connector, self._locator, name="commands", on_up=broker.commands_up, **more),
            Link(self.connector, self._locator, name="reads", **more),
            SubscriberLink(
                self.connector,
                self._locator,
                name="subscriber",
                on_message=broker.message,
                on_up=broker.subscriber_up,
                on_down=broker.subscriber_down,
            ),
        )

    async def start(self) -> Node:
        await self.broker.start(self.delivered, self.peer)
        await self.store.start(self.peer)
        return self

    async def stop(self) -> None:
        await self.store.stop()
        await self.broker.stop()

    async def die(self) -> None:
        """End without a word to the store."""
        self.store.leases.stop()
        await self.broker.stop()

    async def settled(self) -> None:
        """All that was published so far has been delivered here."""
        await self.broker.at_point([], "fence")


class RedisBus(TestCase):
    """Starts a server and nodes; all end with the test."""

    timeout = 60
    maxDiff = None
    prefix = PREFIX

    async def start_server(self) -> None:
        self.server = await start_redis(self, movable_clock=True)
        self.nodes: list[Node] = []
        self.addCleanup(self._stop_nodes)

    async def start_node(self, **constants: str | int) -> Node:
        node = Node(self.server, **constants)
        self.nodes.append(node)
        return await node.start()

    async def _stop_nodes(self) -> None:
        for node in self.nodes:
            if node.store.leases.running:
                await node.stop()

    async def advance(self, seconds: float) -> None:
        """Let time pass for the server; all nodes that live beat on."""
        while seconds > 0:
            step = min(seconds, LEASE / 3)
            self.server.advance(step)
            seconds -= step
            for node in self.nodes:
                if node.store.leases.running:
                    await node.store.leases.beat()

    async def check_state(self) -> None:
        """Whatever happened: what the store says of sessions in several places agrees."""
        found: dict[str, Any] = {}
        for key in await self.server.command("KEYS", self.prefix + "*"):
            name = key.decode().removeprefix(self.prefix)
            kind = name.partition(":")[0]
            if kind in ("session", "user", "room"):
                flat = [part.decode() for part in await self.server.command("HGETALL", key)]
                found[name] = dict(zip(flat[::2], flat[1::2], strict=True))
            elif kind in ("node", "rooms"):
                found[name] = {part.decode() for part in await self.server.command("SMEMBERS", key)}
            elif kind == "waiting":
                found[name] = {part.decode() for part in await self.server.command("ZRANGE", key, 0, -1)}
        for name, fields in found.items():
            if name.startswith("user:"):
                present = any(field.startswith("s:") for field in fields)
                self.assertEqual("changed" in fields, present, name)
                for field in ("status", "text", "changed"):
                    if fields.pop(field, None) is not None:
                        self.assertTrue(present, f"{name}: {field}")
                for field in fields:
                    if field.startswith(("m:", "w:")):
                        fields[field] = "…"
        self.assertEqual({name: entry for name, entry in found.items() if entry}, _state(found))

    async def now(self) -> float:
        seconds, microseconds = await self.server.command("TIME")
        return int(seconds) + int(microseconds) / 1_000_000


def _state(found: dict[str, Any]) -> dict[str, Any]:
    """What all keys have to say, by what the sessions' own say."""
    wanted: dict[str, Any] = {"rooms": set(), "waiting": set()}
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for name, session in found.items():
        if not name.startswith("session:"):
            continue
        wanted[name] = session
        identity, user = name.partition(":")[2], session["user"]
        of_user = wanted.setdefault(f"user:{user}", {})
        if "suspended" in session:
            wanted["waiting"].add(identity)
            of_user[f"w:{identity}"] = "…"
        else:
            wanted.setdefault(f"node:{session['node']}", set()).add(identity)
        if "present" in session:
            of_user[f"s:{session['connection']}"] = identity
            of_user[f"m:{session['connection']}"] = "…"
            for field, value in session.items():
                if field.startswith("r:") and value.endswith(" 1"):
                    counts[field[2:]][user] += 1
    for room, users in counts.items():
        wanted["rooms"].add(room)
        orders = {user: value.split(" ")[1] for user, value in found.get(f"room:{room}", {}).items()}
        wanted[f"room:{room}"] = {user: f"{count} {orders.get(user)}" for user, count in users.items()}
    return {name: entry for name, entry in wanted.items() if entry}
