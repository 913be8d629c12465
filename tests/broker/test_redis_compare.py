"""A store that was away, or went back, is put in step with the nodes; and all of it at once."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, gatherResults

from realtime.broker import redis_leases
from realtime.broker.interface import Held, Kept, Limits
from realtime.errors import RoomFull, SessionReplaced, TooManyConnections
from realtime.messages import Owner

from .contract import GRACE, WINDOW, publication, session_of
from .nodes import MANY, NodesCase, as_held, as_kept
from .redis_bus import LEASE, PREFIX, Node


class CompareTests(NodesCase):
    """A store that was away, or went back, is put in step with the nodes."""

    a: Node
    b: Node

    async def test_in_step(self) -> None:
        """What is in step stays as it is, and nobody hears of it."""
        owner = await self.begin(self.a, "alice", "1", "lobby")
        before = await self.record(self.a, owner)
        await self.forget_told(self.a)
        for lost in (False, True):
            self.assertEqual(
                await self.a.store.compare([as_held(owner, "lobby")], lost), [as_kept(owner, lost=lost)]
            )
        self.assertEqual(await self.record(self.a, owner), before)
        self.assertEqual(await self.heard(self.a), [])
        self.assertEqual(await self.told_services(), [])
        self.assertEqual(await self.members(self.a, "lobby"), ["alice"])

    async def test_lost_data(self) -> None:
        """After FLUSHALL all nodes write anew what they have, in silence; more than one script's worth."""
        owners = {
            node: [
                await self.begin(node, f"u{n}", f"{name}{n}", "lobby", f"event:{n % 7}")
                for n in range(count)
            ]
            for node, name, count in ((self.a, "a", 120), (self.b, "b", 40))
        }
        for node in (self.a, self.b):
            await node.settled()
            node.peer.returns.clear()
        await self.told_services()
        await self.server.command("FLUSHALL")
        await gatherResults([Deferred.fromCoroutine(node.store.leases.beat()) for node in (self.a, self.b)])
        self.assertEqual([node.peer.returns for node in (self.a, self.b)], [[True], [True]])
        for node in (self.a, self.b):
            await node.settled()
            node.delivered.publications.clear()
        for node, its in owners.items():
            held = [as_held(one, "lobby", f"event:{int(one.connection[1:]) % 7}") for one in its]
            self.assertEqual(await node.store.compare(held, True), [Kept(one) for one in its])
        for node in (self.a, self.b):
            self.assertEqual(await self.heard(node), [])
            self.assertEqual(len(await self.members(node, "lobby")), 120)
        self.assertEqual(await self.told_services(), [])
        # and all that is fenced by owner still works
        one = owners[self.b][0]
        await self.b.store.forget(one, session_of(one))
        self.assertEqual(await self.told_services(), ["socket:disconnect b0 left"])
        restored = await self.take_over(self.a, owners[self.b][1])
        self.assertEqual(restored.owner.generation, 2)
        self.assertEqual(await self.server.command("ZCARD", PREFIX + "nodes"), 2)

    async def test_recovery_after_loss(self) -> None:
        """What comes after the loss is recovered, also what came before the record was written anew."""
        owner = await self.begin(self.a, "alice", "1", "lobby")
        await self.server.command("FLUSHALL")
        await self.a.store.leases.beat()
        sent = [await self.b.broker.publish(publication("lobby")) for _ in range(2)]
        await self.a.store.compare([as_held(owner, "lobby")], True)
        sent.append(await self.b.broker.publish(publication("lobby")))
        record = await self.record(self.b, owner)
        # the client was told the place of the new epoch before anything was published in it
        since = msgspec.structs.replace(sent[0].sequence, number=sent[0].sequence.number)
        found = await self.b.broker.recover(record, since, 10**6)
        self.assertEqual([one.id for one in found.publications], [one.id for one in sent[1:]])

    async def test_taken_up_elsewhere(self) -> None:
        """A session that another node has by now is not this one's any more."""
        owner = await self.begin(self.a, "alice", "1", "lobby")
        new = (await self.take_over(self.b, owner)).owner
        for lost in (False, True):
            self.assertEqual(await self.a.store.compare([as_held(owner, "lobby")], lost), [Kept(None)])
        self.assertEqual((await self.record(self.a, owner)).owner, new)
        # also where both go by the same generation, as after data that went back
        for lost in (False, True):
            self.assertEqual(await self.a.store.compare([as_held(new, "lobby")], lost), [Kept(None)])
        self.assertEqual((await self.record(self.a, owner)).last_seen, 0.0)

    async def test_ended_meanwhile(self) -> None:
        """A session that was ended while the store was away for this node has ended."""
        owner = await self.begin(self.a, "alice", "1", "lobby")
        await self.b.store.forget_user("alice")
        self.assertEqual(await self.a.store.compare([as_held(owner, "lobby")], False), [Kept(None)])
        self.assertIsNone(await self.record(self.a, owner))

    async def test_swept_in_grace_and_after(self) -> None:
        """A swept session comes back under a new generation; only what others saw is announced."""
        waiting, gone = [await self.begin(self.a, user, user, "lobby") for user in ("alice", "bob")]
        await self.begin(self.b, "carol", "3", "lobby")
        await self.a.store.suspend(waiting, session_of(waiting), 0.0)
        await self.a.store.suspend(gone, session_of(gone), 0.0)
        await self.a.store.withdraw(gone, session_of(gone))
        await self.forget_told(self.b)
        held = [as_held(one, "lobby") for one in (waiting, gone)]
        kept = await self.a.store.compare(held, False)
        raised = [msgspec.structs.replace(one, generation=2) for one in (waiting, gone)]
        self.assertEqual([one.owner for one in kept], raised)
        self.assertEqual(await self.heard(self.b), ["room:user_joined bob", "user:online bob online"])
        self.assertEqual(
            sorted(await self.told_services()),
            ["socket:reconnect alice", "socket:reconnect bob", "user:online bob"],
        )
        # what was still to come under the old generation
        for one in (waiting, gone):
            await self.a.store.withdraw(one, session_of(one))
        self.assertEqual(sorted(await self.members(self.b, "lobby")), ["alice", "bob", "carol"])
        await self.advance(WINDOW + 1)
        self.assertEqual(sorted(await self.members(self.b, "lobby")), ["alice", "bob", "carol"])

    async def test_lease_that_has_ended(self) -> None:
        """A node whose lease has ended takes it anew before it says what it has."""
        owner = await self.begin(self.a, "alice", "1", "lobby")
        self.server.advance(LEASE + 1)
        self.assertEqual(await self.a.store.compare([as_held(owner, "lobby")], False), [as_kept(owner)])
        await self.advance(LEASE / 2)
        self.assertEqual(await self.members(self.b, "lobby"), ["alice"])

    async def test_room_that_is_full(self) -> None:
        """Who has no place any more is told, and is not in the room; exactly as many as may are."""
        owners = [await self.begin(self.a, f"u{n}", str(n), "lobby", "event:7") for n in range(5)]
        self.a.store._comparing._members = 100
        await self.server.command("FLUSHALL")
        await self.a.store.leases.beat()
        await self.b.store.leases.beat()
        for n in range(98):
            await self.begin(self.b, f"v{n}", f"v{n}", "lobby")
        kept = await self.a.store.compare([as_held(one, "lobby", "event:7") for one in owners], True)
        self.assertEqual(kept[:2], [Kept(one) for one in owners[:2]])
        self.assertEqual(kept[2:], [Kept(one, frozenset(("lobby",))) for one in owners[2:]])
        self.assertEqual(len(await self.members(self.a, "lobby")), 100)
        self.assertEqual(set((await self.record(self.a, owners[4])).rooms), {"event:7"})

    async def test_rooms_that_differ(self) -> None:
        """The node is right about the rooms of its sessions."""
        owner = await self.begin(self.a, "alice", "1", "left", "kept")
        await self.a.store.compare([as_held(owner, "kept", "new", idle=True)], False)
        self.assertEqual(set((await self.record(self.a, owner)).rooms), {"kept", "new"})
        self.assertEqual(dict(await self.a.store.rooms()), {"kept": 1, "new": 1})
        self.assertEqual((await self.a.store.presence("alice")).shown, "away")

    async def test_orphans(self) -> None:
        """What the store has in this node's name and the node has not waits to be taken up, and ends."""
        owners = [await self.begin(self.a, f"u{n}", str(n), "lobby") for n in range(230)]
        other = await self.begin(self.b, "bob", "b", "lobby")
        # what an older snapshot may say
        gone = await self.begin(self.a, "carol", "c")
        await self.a.store.suspend(gone, session_of(gone), 5.0)
        for one in (gone, other):
            await self.server.command("SADD", f"{PREFIX}node:{self.a.broker.node}", session_of(one))
        await self.told_services()
        await self.a.store.compare([as_held(owners[0], "lobby")], False)
        told = await self.told_services()
        self.assertEqual(Counter(told), Counter(f"socket:disconnect {n} closed" for n in range(1, 230)))
        record = await self.record(self.a, owners[7])
        self.assertGreater(record.last_seen, 0)
        await self.advance(GRACE + 1)
        self.assertEqual(sorted(await self.members(self.b, "lobby")), ["bob", "u0"])
        self.assertEqual((await self.record(self.b, other)).last_seen, 0.0)

    async def test_begun_meanwhile(self) -> None:
        """A session that begins while the store is compared is no orphan."""
        # in whose room this node is, so that what follows is run at once
        known = await self.begin(self.a, "bob", "0", "lobby")
        owners = [Owner("alice", str(n), 1) for n in range(1, 4)]

        def begin(owner: Owner) -> Deferred[Any]:
            return self.a.store.begin(owner, session_of(owner), {"lobby": True}, 0, MANY)

        beginning = [begin(owners[0])]
        comparing = self.a.store.compare([as_held(known, "lobby")], False)
        beginning += [begin(owner) for owner in owners[1:]]
        await gatherResults([comparing, *beginning])
        for owner in (known, *owners):
            self.assertEqual((await self.record(self.a, owner)).last_seen, 0.0)

    async def test_ended_here_meanwhile(self) -> None:
        """A session that ends while it is written anew does not stay."""
        owners = [await self.begin(self.a, f"u{n}", str(n), "lobby") for n in range(3)]
        await self.server.command("FLUSHALL")
        await self.a.store.leases.beat()
        comparing = self.a.store.compare([as_held(one, "lobby") for one in owners], True)
        ending = [
            self.a.store.suspend(owners[0], session_of(owners[0]), 5.0),
            self.a.store.forget(owners[1], session_of(owners[1])),
        ]
        await gatherResults([comparing, *ending])
        self.assertEqual((await self.record(self.a, owners[0])).last_seen, 5.0)
        self.assertIsNone(await self.record(self.a, owners[1]))
        self.assertEqual((await self.record(self.a, owners[2])).last_seen, 0.0)
        # also one that comes back under another generation than the one under which it ends
        owner = owners[2]
        await self.a.store.suspend(owner, session_of(owner), 5.0)
        comparing = self.a.store.compare([as_held(owner, "lobby")], False)
        await gatherResults([comparing, self.a.store.suspend(owner, session_of(owner), 7.0)])
        record = await self.record(self.a, owner)
        self.assertEqual((record.owner.generation, record.last_seen), (2, 7.0))

    async def test_rooms_that_change_meanwhile(self) -> None:
        """What is joined or left while the store is compared is joined or left in the end."""
        # in which this node has somebody, so that the script is run at once
        await self.begin(self.a, "bob", "2", "new")
        owner = await self.begin(self.a, "alice", "1", "kept", "left", "back")
        session = session_of(owner)
        held = as_held(owner, "kept", "left", "back", "left later")
        changes = [
            self.a.store.leave(owner, session, "left"),
            self.a.store.join(owner, session, "new", True, 9),
            self.a.store.leave(owner, session, "back"),
            self.a.store.compare([held], False),
            self.a.store.join(owner, session, "new later", True, 9),
            self.a.store.leave(owner, session, "left later"),
            self.a.store.join(owner, session, "back", True, 9),
            self.a.store.touch(owner, True),
        ]
        await gatherResults(changes)
        rooms = {"kept", "new", "new later", "back"}
        self.assertEqual(set((await self.record(self.a, owner)).rooms), rooms)
        self.assertEqual(set(await self.a.store.rooms()), rooms)
        self.assertEqual((await self.a.store.presence("alice")).shown, "away")

    async def test_asked_before_it_is_in_step(self) -> None:
        """What a client asks before its session is written anew is done after that."""
        owner = await self.begin(self.a, "alice", "1", "lobby")
        await self.server.command("FLUSHALL")
        await self.a.store.leases.beat()
        comparing = self.a.store.compare([as_held(owner, "lobby")], True)
        choosing = self.a.store.choose("alice", "busy", None)
        await comparing
        self.assertEqual((await choosing).shown, "busy")
        # in which this node has somebody, so that the script is run at once
        await self.begin(self.a, "bob", "2", "x")
        await self.server.command("FLUSHALL")
        await self.a.store.leases.beat()
        joining = self.a.store.join(owner, session_of(owner), "x", True, 9)
        comparing = self.a.store.compare([as_held(owner, "lobby")], True)
        await gatherResults([joining, comparing])
        self.assertEqual(set((await self.record(self.a, owner)).rooms), {"lobby", "x"})
        # and for one that is raised, or is another's by now
        await self.a.store.suspend(owner, session_of(owner), 0.0)
        comparing = self.a.store.compare([as_held(owner, "lobby", "x")], False)
        joining = self.a.store.join(owner, session_of(owner), "lobby", True, 9)
        await gatherResults([joining, comparing])
        taken = (await self.take_over(self.b, owner)).owner
        self.assertEqual(taken.generation, 3)
        joining = self.a.store.join(owner, session_of(owner), "lobby", True, 9)
        comparing = self.a.store.compare([as_held(owner, "lobby")], False)
        await self.assertFailure(joining, SessionReplaced)
        await comparing

    async def test_back_to_a_snapshot(self) -> None:
        """What went back is brought forward again by who knows better, in whatever order they compare."""
        for order in ((0, 1), (1, 0)):
            name = f"u{order[0]}"
            owner = await self.begin(self.a, name, name, "lobby")
            session = f"{PREFIX}session:{session_of(owner)}"
            old = await self.server.command("HGETALL", session)
            new = (await self.take_over(self.b, owner)).owner
            await self.server.command("HSET", session, *old)
            await self.server.command("SADD", f"{PREFIX}node:{self.a.broker.node}", session_of(owner))
            await self.server.command("SREM", f"{PREFIX}node:{self.b.broker.node}", session_of(owner))
            self.a.peer.gone.clear()
            nodes = [(self.a, []), (self.b, [as_held(new, "lobby")])]
            for index in order:
                node, held = nodes[index]
                self.assertEqual(await node.store.compare(held, True), [Kept(one.owner) for one in held])
            record = await self.record(self.a, owner)
            self.assertEqual((record.owner, record.last_seen), (new, 0.0))
            await self.a.settled()
            self.assertEqual(self.a.peer.gone, [owner] if order == (1, 0) else [])
            self.assertIn(name, await self.members(self.a, "lobby"))
            await self.b.store.forget(new, session_of(new))


class RaceTests(NodesCase):
    """Everything at once, from all nodes: what the store says stays whole."""

    count = 3
    a: Node
    b: Node
    c: Node

    async def test_seeded(self) -> None:
        """Whatever comes between what, every place where a session is noted agrees with the others."""
        for seed in range(1, 9):
            await self._race(random.Random(seed))
            await self.check_state()

    async def _race(self, rng: random.Random) -> None:
        numbers = iter(range(10**6))
        held: dict[Node, dict[str, Held]] = {node: {} for node in self.nodes}
        lost: list[Owner] = []
        doing: list[Deferred[Any]] = []

        def start(node: Node) -> Deferred[Any]:
            owner = Owner(f"u{rng.randrange(6)}", f"{rng.randrange(9)}-{next(numbers)}", 1)
            rooms = rng.sample(("lobby", "event:7", "event:8", "event:9"), rng.randrange(4))
            beginning = node.store.begin(
                owner, session_of(owner), dict.fromkeys(rooms, True), 0, Limits(5, 4)
            )

            def begun(got: Any) -> None:
                entered = [room for room in rooms if room not in got.full]
                held[node][session_of(owner)] = as_held(owner, *entered)

            return beginning.addCallback(begun)

        def end(node: Node, one: Held) -> Deferred[Any]:
            lost.append(one.owner)
            del held[node][one.session]
            return node.store.suspend(one.owner, one.session, 0.0)

        async def return_(node: Node, owner: Owner) -> None:
            record = await self.record(node, owner)
            if record is None:
                return
            read = await node.broker.recover(record, record.opened, 10**6)
            restored = read and await node.store.take_over(record, read, 0, Limits(5, 4))
            if restored:
                for other in held.values():
                    other.pop(record.session, None)
                held[node][record.session] = as_held(restored.owner, *record.rooms)

        def step() -> Deferred[Any]:
            node = rng.choice(self.nodes)
            here = list(held[node].values())
            what = rng.randrange(20)
            if what < 7 or not here:
                return start(node)
            one = rng.choice(here)
            session, room = one.session, rng.choice(("lobby", "event:7", "event:8"))
            if what < 10:
                return end(node, one)
            if what < 13 and lost:
                return Deferred.fromCoroutine(return_(node, rng.choice(lost)))
            if what == 13:
                return node.store.join(one.owner, session, room, True, 4)
            if what == 14:
                return node.store.leave(one.owner, session, room)
            if what == 15:
                del held[node][session]
                return node.store.forget(one.owner, session)
            if what == 16 and lost:
                gone = rng.choice(lost)
                return node.store.withdraw(gone, session_of(gone))
            if what == 17:
                return node.store.choose(one.owner.user, rng.choice(("busy", "invisible", "online")), None)
            if what == 18:
                return node.store.forget_user(one.owner.user)
            return node.store.compare(here, rng.random() < 0.5)

        expected = (RoomFull, TooManyConnections, SessionReplaced)
        for _ in range(150):
            doing.append(step().addErrback(lambda failure: failure.trap(*expected)))
            if doing and rng.random() < 0.4:
                await doing.pop(rng.randrange(len(doing)))
            if rng.random() < 0.03:
                # what is under way when the clock is moved would come too late
                await gatherResults(doing)
                doing.clear()
                self.server.advance(GRACE + redis_leases.MARGIN)
                await rng.choice(self.nodes).store.leases.beat()
        await gatherResults(doing)
        await self.advance(1)
