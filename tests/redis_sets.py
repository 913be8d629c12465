"""Sets of real Redis servers for tests: one watched by Sentinels, and a Cluster."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import hiredis
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from .redis_servers import HOST, RedisServer, free_port, until

SLOTS = 16384
#: Replicas hear of their primary's death and of writes without the delays meant for real networks.
_PROMPT = ("--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1", "--repl-timeout", "5")


async def _all(*coroutines: Any) -> None:
    started = [Deferred.fromCoroutine(one) for one in coroutines]
    await gatherResults(started, consumeErrors=True)


class Sentinel(RedisServer):
    """One Sentinel. Its configuration names all others, so that none has to be discovered.

    :param lines: its configuration beside port and directory.
    """

    def __init__(self, directory: Path, lines: list[str]) -> None:
        super().__init__(directory)
        self.lines = lines

    def _mode(self) -> list[str]:
        return [str(self.directory / "sentinel.conf"), "--sentinel"]

    def _command(self) -> list[str]:
        configuration = self.directory / "sentinel.conf"
        if not configuration.exists():
            configuration.write_text("\n".join([*self.lines, ""]))
        command = super()._command()
        own = command.index("--dir")
        return [*command[:own], "--dir", str(self.directory)]


class SentinelSet:
    """A primary, its replicas and three Sentinels that watch it.

    :param name: of the service.
    :param down_after: milliseconds of silence after which a Sentinel takes the primary for dead.
    :param fenced: whether a primary takes writes only while a replica hears it.
    :ivar servers: the primary of the beginning first, then the replicas.
    """

    def __init__(
        self,
        directory: Path,
        *,
        replicas: int = 1,
        name: str = "main",
        down_after: int = 1000,
        password: str = "",
        fenced: bool = False,
    ) -> None:
        self.name = name
        self.down_after = down_after
        self._directory = directory
        options: tuple[str, ...] = _PROMPT
        if fenced:
            options += ("--min-replicas-to-write", "1", "--min-replicas-max-lag", "1")
        if password:
            options += ("--masterauth", password)
        self.servers = [
            RedisServer(directory / f"server-{index}", *options, password=password)
            for index in range(1 + replicas)
        ]
        self.sentinels: list[Sentinel] = []

    async def start(self) -> SentinelSet:
        """Start all; returns once every Sentinel knows of all."""
        primary, *replicas = self.servers
        await _all(*(server.start() for server in self.servers))
        for replica in replicas:
            await replica.command("REPLICAOF", HOST, primary.port)
        for replica in replicas:
            await until(_linked(replica), "the replica to be in step")
        ids = [secrets.token_hex(20) for _ in range(3)]
        ports = [free_port() for _ in range(3)]
        for index, (own, port) in enumerate(zip(ids, ports, strict=True)):
            sentinel = Sentinel(self._directory / f"sentinel-{index}", self._lines(own, ids, ports))
            sentinel.port = port
            self.sentinels.append(sentinel)
        await _all(*(sentinel.start() for sentinel in self.sentinels))
        for sentinel in self.sentinels:
            await until(self._agrees(sentinel), "the Sentinels to see each other and all servers")
        return self

    def _lines(self, own: str, ids: list[str], ports: list[int]) -> list[str]:
        primary, *replicas = self.servers
        name = self.name
        lines = [
            f"sentinel myid {own}",
            f"sentinel monitor {name} {HOST} {primary.port} 2",
            f"sentinel down-after-milliseconds {name} {self.down_after}",
            f"sentinel failover-timeout {name} 3000",
            f"sentinel config-epoch {name} 0",
        ]
        if primary.password:
            lines.append(f"sentinel auth-pass {name} {primary.password}")
        lines += [f"sentinel known-replica {name} {HOST} {replica.port}" for replica in replicas]
        lines += [
            f"sentinel known-sentinel {name} {HOST} {port} {other}"
            for other, port in zip(ids, ports, strict=True)
            if other != own
        ]
        return lines

    def _agrees(self, sentinel: Sentinel) -> Any:
        async def agrees() -> bool:
            reply = await sentinel.command("SENTINEL", "MASTER", self.name)
            told = dict(zip(reply[::2], reply[1::2], strict=True))
            if told[b"flags"] != b"master" or told[b"num-other-sentinels"] != b"2":
                return False
            replies = await sentinel.command("SENTINEL", "REPLICAS", self.name)
            replicas = [dict(zip(one[::2], one[1::2], strict=True)) for one in replies]
            good = [
                one for one in replicas if one[b"flags"] == b"slave" and one[b"master-link-status"] == b"ok"
            ]
            return len(good) == len(self.servers) - 1

        return agrees

    async def primary(self) -> RedisServer:
        """The server that the first Sentinel that runs takes for the primary."""
        for sentinel in self.sentinels:
            if sentinel.running:
                _, port = await sentinel.command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.name)
                return next(server for server in self.servers if server.port == int(port))
        raise AssertionError("no Sentinel runs")

    @property
    def url(self) -> str:
        """What REDIS_URL is for it, without a password."""
        hosts = ",".join(f"{HOST}:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/{self.name}"

    async def stop(self) -> None:
        """End all."""
        await _all(*(server.stop() for server in [*self.sentinels, *self.servers]))


class Cluster:
    """A Redis Cluster: primaries that share the slots evenly, each with its replicas.

    :param node_timeout: milliseconds of silence after which a node is taken for dead.
    :ivar servers: the primaries of the beginning, in the order of their slots, then the replicas.
    """

    def __init__(
        self,
        directory: Path,
        *,
        primaries: int = 3,
        replicas: int = 0,
        node_timeout: int = 1000,
        password: str = "",
    ) -> None:
        self.primaries = primaries
        options = (
            *_PROMPT,
            *("--cluster-enabled", "yes", "--cluster-node-timeout", str(node_timeout)),
            *("--cluster-replica-validity-factor", "0"),
        )
        if password:
            options += ("--masterauth", password)
        self.servers = [
            ClusterServer(directory / f"server-{index}", *options, password=password)
            for index in range(primaries * (1 + replicas))
        ]

    async def start(self) -> Cluster:
        """Start all; returns once every node answers for the whole cluster."""
        await _all(*(server.start() for server in self.servers))
        for index, server in enumerate(self.servers):
            await server.command("CLUSTER", "SET-CONFIG-EPOCH", index + 1)
        for index, server in enumerate(self.servers[: self.primaries]):
            low, high = (SLOTS * edge // self.primaries for edge in (index, index + 1))
            await server.command("CLUSTER", "ADDSLOTSRANGE", low, high - 1)
        for server in self.servers:
            for other in self.servers:
                if other is not server:
                    await server.command("CLUSTER", "MEET", HOST, other.port, other.bus)
        for server in self.servers:
            await until(self._knows(server), "the nodes to know each other")
        for index, replica in enumerate(self.servers[self.primaries :]):
            primary = self.servers[index % self.primaries]
            await replica.command("CLUSTER", "REPLICATE", await primary.id())
        for replica in self.servers[self.primaries :]:
            await until(_linked(replica), "the replica to be in step")
        for server in self.servers:
            await until(_whole(server), "the cluster to be whole")
        return self

    def _knows(self, server: ClusterServer) -> Any:
        async def knows() -> bool:
            lines = (await server.command("CLUSTER", "NODES")).decode().splitlines()
            return len(lines) == len(self.servers) and not any("handshake" in line for line in lines)

        return knows

    @property
    def url(self) -> str:
        """What REDIS_URL is for it, without a password."""
        return "redis+cluster://" + ",".join(f"{HOST}:{server.port}" for server in self.servers)

    async def slot(self, key: str) -> int:
        """The slot of a key."""
        return int(await self._some().command("CLUSTER", "KEYSLOT", key))

    def _some(self) -> ClusterServer:
        return next(server for server in self.servers if server.running)

    async def owner(self, slot: int) -> ClusterServer:
        """The server that serves a slot, as a running node has it."""
        for low, high, (_, port, *_), *_ in await self._some().command("CLUSTER", "SLOTS"):
            if low <= slot <= high:
                return next(server for server in self.servers if server.port == port)
        # for `until`: while a primary is dead nobody does, and soon somebody will
        raise hiredis.ReplyError(f"CLUSTERDOWN nobody serves slot {slot}")

    async def begin_migration(self, slot: int, target: ClusterServer) -> None:
        """Let a slot be on its way: what its owner lacks is asked for at `target`."""
        source = await self.owner(slot)
        await target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", await source.id())
        await source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", await target.id())

    async def move_keys(
        self, slot: int, target: ClusterServer, count: int = 1_000_000, *chosen: str
    ) -> int:
        """Move some of a slot's keys, or those chosen, to where it is on its way; how many were moved."""
        source = await self.owner(slot)
        keys = chosen or await source.command("CLUSTER", "GETKEYSINSLOT", slot, count)
        if keys:
            auth = ("AUTH", target.password) if target.password else ()
            await source.command("MIGRATE", HOST, target.port, "", 0, 5000, *auth, "KEYS", *keys)
        return len(keys)

    async def end_migration(self, slot: int, target: ClusterServer) -> None:
        """Say to all that the slot has moved."""
        node = await target.id()
        others = [server for server in self.servers if server is not target]
        for server in [target, *others]:
            if server.running and await server.role() == "master":
                await server.command("CLUSTER", "SETSLOT", slot, "NODE", node)

    async def migrate(self, slot: int, target: ClusterServer) -> None:
        """Move a slot with all its keys."""
        await self.begin_migration(slot, target)
        while await self.move_keys(slot, target):
            pass
        await self.end_migration(slot, target)

    async def stop(self) -> None:
        """End all."""
        await _all(*(server.stop() for server in self.servers))


class ClusterServer(RedisServer):
    """One node of a Cluster.

    :ivar bus: the port on which the nodes speak to each other.
    """

    bus = 0

    def _mode(self) -> list[str]:
        self.bus = self.bus or free_port()
        return ["--cluster-port", str(self.bus)]

    async def id(self) -> str:
        """Its id in the cluster."""
        return (await self.command("CLUSTER", "MYID")).decode()

    async def role(self) -> str:
        """``master`` or ``slave``."""
        return (await self.command("ROLE"))[0].decode()


def _linked(replica: RedisServer) -> Any:
    async def linked() -> bool:
        return await replica.info("replication", "master_link_status") == "up"

    return linked


def _whole(server: RedisServer) -> Any:
    async def whole() -> bool:
        return b"cluster_state:ok" in await server.command("CLUSTER", "INFO")

    return whole


async def start_sentinels(case: TestCase, **more: Any) -> SentinelSet:
    """Start a `SentinelSet` that ends with the test."""
    made = SentinelSet(Path(case.mktemp()).absolute(), **more)
    case.addCleanup(made.stop)
    return await made.start()


async def start_cluster(case: TestCase, **more: Any) -> Cluster:
    """Start a `Cluster` that ends with the test."""
    made = Cluster(Path(case.mktemp()).absolute(), **more)
    case.addCleanup(made.stop)
    return await made.start()
