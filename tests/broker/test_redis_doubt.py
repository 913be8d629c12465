"""What the store could not do, although no connection broke, is put right once it can."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from realtime.broker.interface import Limits
from realtime.errors import BrokerUnavailable
from realtime.messages import Owner

from .contract import publication, session_of
from .nodes import MANY, NodesCase, as_held


class DoubtTests(NodesCase):
    """A node whose peer compares, as `Peers` does, whenever it is told of a return."""

    count = 2

    async def setUp(self) -> None:
        await super().setUp()
        self.held: list[Any] = []
        self.a.peer.returned = self._returned
        self.compared: list[Any] = []
        self.lost = False

    def _returned(self, lost: bool) -> None:
        self.lost |= lost
        self.compared.append(self.a.store.compare(self.held, self.lost))

    async def full(self) -> None:
        """From now on Redis refuses what takes memory."""
        await self.server.command("CONFIG", "SET", "maxmemory", "1")

    async def beat(self) -> None:
        await self.server.command("CONFIG", "SET", "maxmemory", "0")
        await self.a.store.leases.beat()
        for comparison in self.compared:
            await comparison

    async def test_suspend(self) -> None:
        """A connection that went meanwhile does not stay online for ever."""
        owner = await self.begin(self.a, "alice", "c1", "lobby")
        await self.full()
        with self.assertRaises(BrokerUnavailable):
            await self.a.store.suspend(owner, session_of(owner), 1.0)
        await self.beat()
        self.assertEqual(len(self.compared), 1)
        record = await self.record(self.b, owner)
        self.assertNotEqual(record.last_seen, 0)
        await self.a.store.leases.beat()
        self.assertEqual(len(self.compared), 1)

    async def test_compare(self) -> None:
        """Sessions that could not be written anew are, later."""
        owner = await self.begin(self.a, "alice", "c1", "lobby")
        self.held = [as_held(owner, "lobby")]
        await self.full()
        with self.assertRaises(BrokerUnavailable):
            await self.a.store.compare(self.held, True)
        await self.beat()
        self.assertEqual(len(self.compared), 1)

    async def test_lost_and_not_known_yet(self) -> None:
        """Where the data was lost, and only others know so far, nobody is taken for ended."""
        owner = await self.begin(self.a, "alice", "c1", "lobby")
        self.held = [as_held(owner, "lobby")]
        deaf = self.a.broker._links.subscriber._connection
        real, deaf.on_message = deaf.on_message, lambda channel, text: None
        await self.server.command("FLUSHALL")
        await self.b.broker.publish(publication("lobby"))
        self.a.store.leases.doubt()
        await self.a.store.leases.beat()
        self.assertEqual(self.compared, [])
        with self.assertRaises(BrokerUnavailable):
            await self.a.store.compare(self.held, False)
        deaf.on_message = real
        await self.a.broker.resume()
        (comparison,) = self.compared
        (kept,) = await comparison
        self.assertIsNotNone(kept.owner)
        await self.b.store.leases.beat()

    async def test_begin(self) -> None:
        """A session that began, and whose node was told that it did not, ends."""
        run = self.a.broker.run

        async def lost(name: str, *args: Any) -> Any:
            answer = await run(name, *args)
            if name == "begin":
                raise BrokerUnavailable
            return answer

        self.patch(self.a.broker, "run", lambda *args: Deferred.fromCoroutine(lost(*args)))
        owner = Owner("alice", "c1", 1)
        with self.assertRaises(BrokerUnavailable):
            await self.a.store.begin(owner, session_of(owner), {"lobby": True}, 1000, MANY)
        self.patch(self.a.broker, "run", run)
        await self.beat()
        await self.begin(self.b, "alice", "c2", limits=Limits(1, 1000))
