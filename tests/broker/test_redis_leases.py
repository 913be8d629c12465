"""Nodes that are gone without a word, frozen, or back: what they had ends once, or stays."""

from __future__ import annotations

from collections import Counter

from twisted.internet.defer import Deferred, gatherResults

from realtime.broker import redis_leases
from realtime.broker.interface import Held
from realtime.messages import Owner

from ..redis_servers import until
from .contract import GRACE, WINDOW, session_of
from .nodes import NodesCase, as_kept
from .redis_bus import LEASE, PREFIX, Node


class LeaseTests(NodesCase):
    """A node that is gone without a word."""

    count = 3
    a: Node
    b: Node
    c: Node

    async def beat(self, *nodes: Node) -> None:
        await gatherResults([Deferred.fromCoroutine(node.store.leases.beat()) for node in nodes])

    async def test_the_clock_goes_back(self) -> None:
        """However far the server's clock is set back: who dies then is dead after its lease."""
        await self.advance(3600)
        await self.begin(self.a, "alice", "a1", "lobby")
        await self.begin(self.b, "watcher", "w", "lobby")
        self.server.advance(-3600)
        await self.a.die()
        # a beat of the other, and then
        await self.advance(LEASE / 3)
        await self.advance(LEASE + GRACE + 5)
        self.assertEqual(await self.members(self.b, "lobby"), ["watcher"])

    async def test_what_is_no_session(self) -> None:
        """A record that somebody else has made keeps nothing that is one from being ended."""
        await self.begin(self.a, "alice", "a1", "lobby")
        await self.begin(self.b, "watcher", "w", "lobby")
        self.addCleanup(self.server.command, "DEL", PREFIX + "session:x")
        await self.server.command("HSET", PREFIX + "session:x", "foo", 1)
        await self.server.command("ZADD", PREFIX + "waiting", 1, "x")
        await self.server.command("SADD", f"{PREFIX}node:{self.a.broker.node}", "x")
        await self.a.die()
        await self.advance(LEASE + LEASE / 3 + GRACE + 5)
        self.assertEqual(await self.members(self.b, "lobby"), ["watcher"])
        self.assertIsNone(await self.server.command("ZSCORE", PREFIX + "waiting", "x"))

    async def test_swept_once(self) -> None:
        """Survivors that race end what it has left, each thing once; who is elsewhere stays."""
        for n in range(230):
            await self.begin(self.a, f"u{n}", f"a{n}", "lobby", f"event:{n % 3}")
        for n in range(0, 230, 10):
            await self.begin(self.b, f"u{n}", f"b{n}", "lobby")
        await self.begin(self.c, "watcher", "w", "lobby")
        await self.forget_told(self.b, self.c)
        await self.a.die()
        await self.advance(LEASE / 2)
        self.assertEqual(await self.heard(self.c), [])
        self.server.advance(LEASE / 2 + 1)
        # their own leases have lapsed too
        for node in (self.b, self.c):
            await self.server.command("ZADD", PREFIX + "nodes", 10**14, node.broker.node)
        await self.beat(self.b, self.c)
        gone = [f"u{n}" for n in range(230) if n % 10]
        heard = await self.heard(self.c)
        self.assertEqual(
            Counter(line for line in heard if line.startswith("user:")),
            Counter(f"user:offline {user} offline" for user in gone),
        )
        self.assertEqual(
            Counter(line for line in heard if line.startswith("room:")),
            Counter(f"room:user_left {user}" for user in gone),
        )
        self.assertEqual(Counter(await self.heard(self.b)), Counter(heard))
        self.assertEqual(
            Counter(await self.told_services()),
            Counter([f"user:offline {user}" for user in gone])
            + Counter([f"socket:disconnect a{n} node_lost" for n in range(230)]),
        )
        stay = sorted([*(f"u{n}" for n in range(0, 230, 10)), "watcher"])
        for node in (self.b, self.c):
            self.assertEqual(sorted(await self.members(node, "lobby")), stay)
        self.assertEqual(await self.server.command("EXISTS", f"{PREFIX}node:{self.a.broker.node}"), 0)
        self.assertEqual(await self.server.command("ZCARD", PREFIX + "nodes"), 2)

    async def test_sessions_can_be_taken_up(self) -> None:
        """What a dead node had can be taken up elsewhere, before and after it is swept."""
        owners = [await self.begin(self.a, f"u{n}", str(n), "lobby") for n in range(2)]
        await self.a.die()
        self.assertEqual((await self.take_over(self.b, owners[0])).owner.generation, 2)
        await self.advance(LEASE + 1)
        self.assertEqual(await self.members(self.b, "lobby"), ["u0"])
        record = await self.record(self.b, owners[1])
        died = await self.now() - LEASE - 1
        self.assertTrue(died - 90 < record.last_seen < died, (died, record.last_seen))
        self.assertEqual((await self.take_over(self.b, owners[1])).owner.generation, 2)
        self.assertEqual(await self.members(self.b, "lobby"), ["u0", "u1"])

    async def test_grace_outlives_the_node(self) -> None:
        """Who was lost just before its node died is withdrawn by another, and its record ends in time."""
        owner = await self.begin(self.a, "alice", "1", "lobby")
        await self.a.store.suspend(owner, session_of(owner), 5.0)
        await self.a.die()
        await self.advance(GRACE)
        self.assertEqual(await self.members(self.b, "lobby"), ["alice"])
        await self.advance(redis_leases.MARGIN + 1)
        self.assertEqual(await self.members(self.b, "lobby"), [])
        self.assertIsNotNone(await self.record(self.b, owner))
        await self.advance(WINDOW)
        self.assertIsNone(await self.record(self.b, owner))
        left = await self.server.command("KEYS", PREFIX + "[suw]*")
        self.assertEqual([key for key in left if b"waiting" in key or b"alice" in key], [])

    async def test_swept_node_is_told(self) -> None:
        """A node that was frozen past its lease is told to compare; a session it begins then is kept."""
        owner = await self.begin(self.a, "alice", "1", "lobby")
        self.a.peer.returns.clear()
        self.server.advance(LEASE + 1)
        for node in (self.b, self.c):
            await self.server.command("ZADD", PREFIX + "nodes", 10**14, node.broker.node)
        await self.b.store.leases.beat()
        self.assertEqual(await self.members(self.b, "lobby"), [])
        bob = await self.begin(self.a, "bob", "2", "lobby")
        self.assertEqual(self.a.peer.returns, [False])
        await self.b.store.leases.beat()
        self.assertEqual(await self.members(self.b, "lobby"), ["bob"])
        held = [Held(one, session_of(one), {"lobby": True}, 1000, False) for one in (owner, bob)]
        await self.forget_told(self.b)
        found = await self.a.store.compare(held, False)
        self.assertEqual(found, [as_kept(Owner("alice", "1", 2)), as_kept(bob)])
        self.assertEqual(await self.heard(self.b), [])
        self.assertEqual(await self.told_services(), ["user:online alice", "socket:reconnect 1"])
        self.assertEqual(await self.members(self.b, "lobby"), ["bob", "alice"])

    async def test_back_while_it_is_swept(self) -> None:
        """A node that comes back in the middle of it keeps what was not swept yet."""
        for n in range(80):
            await self.begin(self.a, f"u{n}", str(n), "lobby")
        self.server.advance(LEASE + 1)
        await self.server.command("ZADD", PREFIX + "nodes", 10**14, self.b.broker.node)
        sweep = ("sweep_node", self.a.broker.node, 50, 500)
        self.assertEqual(await self.b.broker.run(*sweep), [b"OK", b"1"])
        await self.a.store.leases.beat()
        self.assertEqual(self.a.peer.returns, [False])
        self.assertEqual(await self.b.broker.run(*sweep), [b"OK", b""])
        self.assertEqual(len(await self.members(self.b, "lobby")), 30)

    async def test_entries_that_went_back(self) -> None:
        """What an older snapshot says of a session that lives elsewhere by now does not end it."""
        owner = await self.begin(self.b, "alice", "1", "lobby")
        key = f"{PREFIX}node:{self.a.broker.node}"
        await self.server.command("SADD", key, session_of(owner))
        await self.server.command("ZADD", PREFIX + "waiting", 1, session_of(owner))
        await self.a.die()
        await self.advance(LEASE + 1)
        self.assertEqual(await self.server.command("EXISTS", key, PREFIX + "waiting"), 0)
        self.assertEqual(await self.members(self.b, "lobby"), ["alice"])
        self.assertEqual((await self.record(self.b, owner)).last_seen, 0.0)

    async def test_renewed_while_others_are_swept(self) -> None:
        """However long it takes to end what others have left, the lease is renewed in time."""
        await self.begin(self.a, "alice", "1", "lobby")
        await self.a.die()
        self.server.advance(LEASE + 1)
        await self.server.command("ZADD", PREFIX + "nodes", 10**14, self.b.broker.node)
        leases = self.b.store.leases
        stuck: list[Deferred[None]] = []

        def sweep(node: bytes) -> Deferred[None]:
            stuck.append(Deferred())
            return stuck[-1]

        self.patch(leases, "_sweep", sweep)

        async def renewed() -> bool:
            score = await self.server.command("ZSCORE", PREFIX + "nodes", self.b.broker.node)
            return bool(float(score) < 10**14)

        for _ in range(3):
            await self.server.command("ZADD", PREFIX + "nodes", 10**14, self.b.broker.node)
            self.b.clock.advance(2)
            await until(renewed, "the lease to be renewed")
        self.assertEqual(len(stuck), 1)
        stuck[0].callback(None)

    async def test_store_that_was_away(self) -> None:
        """Where no node could renew its lease, none is taken for dead by whoever comes back first."""
        for node, user in ((self.a, "alice"), (self.b, "bob")):
            await self.begin(node, user, user, "lobby")
        await self.forget_told(self.c)
        self.server.advance(LEASE + 30)
        await self.c.store.leases.beat()
        await self.beat(self.a, self.b)
        self.assertEqual(await self.heard(self.c), [])
        self.assertEqual(await self.members(self.c, "lobby"), ["alice", "bob"])
        # but whoever does not come back is swept after one more lease
        await self.b.die()
        await self.advance(LEASE + 1)
        self.assertEqual(await self.members(self.c, "lobby"), ["alice"])

    async def test_store_that_was_away_for_less_than_a_lease(self) -> None:
        """Whose lease ends first while no node can renew its own is not taken for dead by the others."""
        for node, user in ((self.a, "alice"), (self.b, "bob")):
            await self.begin(node, user, user, "lobby")
        await self.forget_told(self.c)
        await self.beat(self.a, self.b)
        self.server.advance(1)
        await self.beat(self.c)
        # The lease of c has not ended when the store is back.
        self.server.advance(LEASE - 0.5)
        await self.c.store.leases.beat()
        self.server.advance(1)
        await self.c.store.leases.beat()
        await self.a.store.leases.beat()
        self.assertEqual(self.a.peer.returns, [])
        self.assertEqual(await self.heard(self.c), [])
        self.assertEqual(await self.members(self.c, "lobby"), ["alice", "bob"])
        # Who does not come back has had its time, even if the store is away once more.
        await self.b.die()
        self.server.advance(LEASE - 2)
        await self.beat(self.a, self.c)
        self.server.advance(2)
        await self.beat(self.a, self.c)
        self.assertEqual(await self.members(self.c, "lobby"), ["alice"])

    async def test_stopped_node(self) -> None:
        """A node that ends in order leaves its users their grace, and no lease."""
        await self.begin(self.a, "alice", "1", "lobby")
        await self.a.stop()
        self.assertEqual(await self.server.command("ZCARD", PREFIX + "nodes"), 2)
        self.assertEqual(await self.members(self.b, "lobby"), ["alice"])
        await self.advance(GRACE + 1)
        self.assertEqual(await self.members(self.b, "lobby"), [])
