"""`RedisTrust` keeps the contract of `ITrust`, and tells all nodes, whatever becomes of Redis."""

from __future__ import annotations

import time
from typing import Any

from twisted.internet import reactor

from realtime.signals import BANNED
from realtime.trust import redis as module
from realtime.trust.interface import Ban, Change
from realtime.trust.redis import RedisTrust

from ..broker.contract import Peer
from ..broker.redis_bus import PREFIX, Node, RedisBus
from ..broker.test_redis_keys import written_by
from ..redis_servers import until
from .contract import Listener, TrustContract


class TrustedPeer(Peer):
    """Hands what is signalled of bans to its trust."""

    trust: RedisTrust

    def signalled(self, name: str, data: bytes) -> None:
        if name == BANNED:
            self.trust.signalled(data)


class RedisTrustCase(RedisBus):
    """One server; as many nodes as are made."""

    async def setUp(self) -> None:
        self._moved = 0.0
        await self.start_server()

    async def make(self) -> RedisTrust:
        node = Node(self.server)
        peer = TrustedPeer()
        node.peer = peer
        made = peer.trust = RedisTrust(reactor, node.broker, self.wall)
        self.nodes.append(node)
        await node.start()
        self.addCleanup(made.stop)
        return made

    def wall(self) -> float:
        return time.time() + self._moved

    async def advance(self, seconds: float) -> None:
        self._moved += seconds
        await super().advance(seconds)

    async def heard(self, listener: Listener, count: int) -> None:
        async def told() -> bool:
            return len(listener.changes) >= count

        await until(told, f"{count} changes")

    def fill_families(self, trust: Any, count: int) -> None:
        self.patch(module, "MAX_FAMILIES", count)


class ContractTests(RedisTrustCase, TrustContract):
    """The contract."""


class NodesTests(RedisTrustCase):
    """What no node alone could show."""

    async def started(self, trust: RedisTrust) -> Listener:
        listener = Listener()
        await trust.start(listener.changes.append, listener.resets.append)
        return listener

    async def test_told_everywhere(self) -> None:
        """A change is told to all nodes at once; who comes later reads it."""
        a, b = await self.make(), await self.make()
        heard = [await self.started(a), await self.started(b)]
        ban = Ban("block", "alice")
        began = time.monotonic()
        await a.ban(ban)
        for listener in heard:
            await self.heard(listener, 1)
            self.assertEqual(listener.changes, [Change(ban)])
        self.assertLess(time.monotonic() - began, 1.0)
        self.assertTrue(await b.lift("block", "alice"))
        for listener in heard:
            await self.heard(listener, 2)
            self.assertEqual(listener.changes[1], Change(ban, lifted=True))
        late = await self.started(await self.make())
        self.assertEqual(late.resets, [[]])

    async def test_missed_changes(self) -> None:
        """Changes of which a node was not told are found at the next look."""
        a, b = await self.make(), await self.make()
        listener = await self.started(b)
        deaf = b.signalled
        b.signalled = lambda data: None  # type: ignore[method-assign]
        await a.ban(Ban("block", "alice"))

        async def found() -> bool:
            return len(listener.resets) == 2

        await until(found, "the bans to be read")
        self.assertEqual(listener.resets[1], [Ban("block", "alice")])
        b.signalled = deaf  # type: ignore[method-assign]
        await a.ban(Ban("block", "bob"))
        await self.heard(listener, 1)

    async def test_redis_that_lost_them(self) -> None:
        """What a node still knows is written again: nobody is trusted anew by a loss of Redis."""
        a, b = await self.make(), await self.make()
        listeners = [await self.started(a), await self.started(b)]
        await a.ban(Ban("block", "alice"))
        for listener in listeners:
            await self.heard(listener, 1)
        await self.server.command("FLUSHALL")

        async def written() -> bool:
            return await self.server.command("HLEN", f"{PREFIX}bans") == 1

        await until(written, "the ban to be written again")
        late = await self.started(await self.make())
        self.assertEqual(late.resets, [[Ban("block", "alice")]])

    async def test_families_and_debts_over_nodes(self) -> None:
        a, b = await self.make(), await self.make()
        later = self.wall() + 100
        self.assertTrue(await a.turn("f", 0, later))
        self.assertFalse(await b.turn("f", 0, later))
        self.assertFalse(await a.turn("f", 1, later))
        await a.charge({"alice": 10.0}, 60.0)
        debts = await b.charge({"alice": 5.0}, 60.0)
        self.assertTrue(14.5 < debts["alice"] <= 15.0, debts)

    async def test_every_key_ends(self) -> None:
        """What is kept of tokens and users ends with them; only bans stay until they are lifted."""
        a = await self.make()
        await self.started(a)
        await a.turn("f", 0, self.wall() + 100)
        await a.charge({"alice": 10.0}, 60.0)
        for key, most in (("family:f", 101_000), ("debt:alice", 10_001)):
            left = await self.server.command("PTTL", f"{PREFIX}{key}")
            self.assertTrue(0 < left <= most, (key, left))

    async def test_read_before_written(self) -> None:
        """Each script has read all that it writes before it writes the first; see its namesake."""
        a = await self.make()
        monitor = await self.server.client()
        self.addCleanup(monitor.transport.abortConnection)
        await monitor.command("MONITOR")
        await self.started(a)
        for ban in (Ban("block", "alice", until=self.wall() + 1), Ban("block", "bob"), Ban("token", "t")):
            await a.ban(ban)
        await self.advance(2)
        await a.ban(Ban("block", "bob", until=self.wall() + 100))
        await a.lift("block", "bob")
        for turn in (0, 1, 0):
            await a.turn("f", turn, self.wall() + 100)
        for _ in range(2):
            await a.charge({"alice": 10.0, "bob": 1.0}, 60.0)
        await self.server.command("ECHO", "the end")

        async def ended() -> bool:
            return any(b"the end" in line for line in monitor.pushed)

        await until(ended, "the end of the commands")
        self.assertGreaterEqual(len(written_by(monitor.pushed)), 4)
