"""The state of many nodes over one Redis: what no node alone could show."""

from __future__ import annotations

import random
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, DeferredList, gatherResults

from realtime.broker import redis_state
from realtime.broker.interface import Limits, Recovered
from realtime.errors import RoomFull, SessionReplaced, TooManyConnections
from realtime.messages import Audience, Owner

from ..redis_servers import until
from .contract import WINDOW, publication, session_of
from .nodes import MANY, NodesCase
from .redis_bus import LEASE, PREFIX, Node


class TakeOverTests(NodesCase):
    """A session that is taken up by another node."""

    a: Node
    b: Node

    async def test_live_session(self) -> None:
        """The node that had it is told, and can't do anything to it any more."""
        owner = await self.begin(self.a, "alice", "1", "lobby")
        await self.forget_told(self.a)
        restored = await self.take_over(self.b, owner)
        self.assertEqual(restored.owner, Owner("alice", "1", 2))
        await self.a.settled()
        self.assertEqual(self.a.peer.gone, [owner])
        session = session_of(owner)
        for late in (
            self.a.store.suspend(owner, session, 0.0),
            self.a.store.withdraw(owner, session),
            self.a.store.touch(owner, True),
            self.a.store.forget(owner, session),
            self.a.store.leave(owner, session, "lobby"),
        ):
            await late
        await self.assertFailure(self.a.store.join(owner, session, "x", True, 9), SessionReplaced)
        self.assertEqual((await self.record(self.a, owner)).owner, restored.owner)
        self.assertEqual(await self.members(self.a, "lobby"), ["alice"])
        self.assertEqual(await self.heard(self.a), [])
        self.assertEqual(await self.told_services(), ["socket:disconnect 1 replaced", "socket:reconnect 1"])

    async def test_waiting_session(self) -> None:
        """One whose transport is gone is taken up without a word to the node that had it."""
        owner = await self.begin(self.a, "alice", "1", "lobby")
        await self.a.store.suspend(owner, session_of(owner), 5.0)
        await self.take_over(self.b, owner)
        await self.a.settled()
        self.assertEqual(self.a.peer.gone, [])
        # the timer of the node that had it
        await self.a.store.withdraw(owner, session_of(owner))
        self.assertEqual(await self.members(self.b, "lobby"), ["alice"])

    async def test_taken_up_once(self) -> None:
        """Of two that take a session up at once, one has it."""
        owner = await self.begin(self.a, "alice", "1", "lobby")
        await self.a.store.suspend(owner, session_of(owner), 5.0)
        both = [self.take_over_now(node, owner) for node in (self.a, self.b)]
        got = await gatherResults([Deferred.fromCoroutine(one) for one in both])
        self.assertEqual(sorted(one is None for one in got), [False, True])

    take_over_now = take_over = NodesCase.take_over

    async def test_nothing_lost_nothing_twice(self) -> None:
        """What is published all the while is missed or heard live, each once, in order."""
        owner = await self.begin(self.a, "alice", "1", "lobby", "event:7")
        await self.a.store.suspend(owner, session_of(owner), 5.0)
        sent: list[str] = []
        rng = random.Random(7)

        def publish() -> Deferred[Any]:
            audience = rng.choice(
                [
                    Audience(rooms=frozenset(("lobby",))),
                    Audience(rooms=frozenset(("event:7",))),
                    Audience(everyone=True),
                    Audience(rooms=frozenset(("lobby", "event:7"))),
                ]
            )
            one = publication(audience=audience)
            sent.append(one.id)
            return self.a.broker.publish(one)

        record = await self.record(self.b, owner)
        for _ in range(3):
            await publish()
        read = await self.b.broker.recover(record, record.opened, 10**6)
        assert read is not None
        waiting = [publish() for _ in range(5)]
        self.b.delivered.publications.clear()
        taking = self.b.store.take_over(record, read, 0, MANY)
        entered: list[int] = []
        taking.addCallback(lambda got: (entered.append(len(self.b.delivered.publications)), got)[1])
        waiting += [publish() for _ in range(10)]
        await gatherResults(waiting)
        restored = await taking
        for _ in range(3):
            await publish()
        await self.b.settled()
        live = self.b.delivered.publications[entered[0] :]
        got = [*read.publications, *restored.missed, *live]
        numbers = [one.sequence.number for one in got]
        self.assertEqual(numbers, sorted(set(numbers)))
        self.assertEqual(len(got), len(sent))
        self.assertEqual({one.id for one in got}, set(sent))
        self.assertTrue(restored.missed)

    async def test_more_than_a_marker_carries(self) -> None:
        """What is too much for the marker is read from the log first, in several rounds if need be."""
        self.patch(redis_state, "MARKER_BYTES", 500)
        owner = await self.begin(self.a, "alice", "1", "lobby")
        await self.a.store.suspend(owner, session_of(owner), 5.0)
        record = await self.record(self.b, owner)
        read = await self.b.broker.recover(record, record.opened, 10**6)
        assert read is not None
        sent = [(await self.a.broker.publish(publication("lobby"))).id for _ in range(20)]
        recover, rounds = self.b.broker.recover, []

        def recovering(*args: Any) -> Deferred[Any]:
            # and more comes before it is taken up
            rounds.append(args)
            found = recover(*args)
            if len(rounds) == 1:
                more = [self.a.broker.publish(publication("lobby")) for _ in range(9)]
                sending = gatherResults(more).addCallback(lambda all_: sent.extend(one.id for one in all_))
                return sending.addCallback(lambda _: found)
            return found

        self.patch(self.b.broker, "recover", recovering)
        restored = await self.b.store.take_over(record, read, 0, MANY)
        self.assertEqual([one.id for one in restored.missed], sent)
        self.assertEqual(len(rounds), 2)

    async def test_log_that_can_not_prove_it(self) -> None:
        """A session whose log was trimmed between reading and taking up is not taken up."""
        owner = await self.begin(self.a, "alice", "1", "lobby")
        await self.a.store.suspend(owner, session_of(owner), 5.0)
        record = await self.record(self.b, owner)
        read = await self.b.broker.recover(record, record.opened, 10**6)
        assert read is not None
        for _ in range(60):
            await self.a.broker.publish(publication("lobby"))
        self.assertIsNone(await self.b.store.take_over(record, read, 0, MANY))
        self.assertEqual((await self.record(self.b, owner)).owner, owner)

    async def test_place_of_another_log(self) -> None:
        """A place of another epoch, or of what the server forgot, proves nothing."""
        owner = await self.begin(self.a, "alice", "1", "lobby")
        record = await self.record(self.b, owner)
        now = self.b.broker.sequence()
        for wrong in (
            msgspec.structs.replace(now, epoch="other"),
            msgspec.structs.replace(now, generation=now.generation - 1, number=now.number + 5),
            msgspec.structs.replace(now, generation=now.generation + 1),
            msgspec.structs.replace(now, number=now.number + 5),
        ):
            got = await self.b.store.take_over(record, Recovered([], wrong), 0, MANY)
            self.assertIsNone(got, wrong)

    async def test_expired(self) -> None:
        """A session whose time is over can't be taken up, also when no sweep has come by yet."""
        owner = await self.begin(self.a, "alice", "1", "lobby")
        await self.a.store.suspend(owner, session_of(owner), 5.0)
        record = await self.record(self.b, owner)
        self.server.advance(WINDOW + 1)
        await self.server.command("ZADD", PREFIX + "nodes", 10**14, self.b.broker.node)
        self.assertIsNone(await self.record(self.b, owner))
        read = Recovered([], self.b.broker.sequence())
        self.assertIsNone(await self.b.store.take_over(record, read, 0, MANY))


class ServicesTests(NodesCase):
    """What other services are told, each once per change over all nodes."""

    a: Node
    b: Node

    async def test_life_of_a_session(self) -> None:
        """From its beginning to its end; what is said again is not told again."""
        owner = await self.begin(self.a, "alice", "1", "lobby")
        self.assertEqual(await self.told_services(), ["user:online alice", "socket:connect 1"])
        for _ in range(2):
            await self.a.store.suspend(owner, session_of(owner), 0.0)
        self.assertEqual(await self.told_services(), ["socket:disconnect 1 closed"])
        for _ in range(2):
            await self.a.store.withdraw(owner, session_of(owner))
        self.assertEqual(await self.told_services(), ["user:offline alice"])
        owner = (await self.take_over(self.b, owner)).owner
        self.assertEqual(await self.told_services(), ["user:online alice", "socket:reconnect 1"])
        for _ in range(2):
            await self.b.store.choose("alice", "busy", None)
            await self.b.store.touch(owner, True)
        self.assertEqual(await self.told_services(), ["user:status_change alice"])
        for _ in range(2):
            await self.b.store.forget(owner, session_of(owner))
        self.assertEqual(await self.told_services(), ["user:offline alice", "socket:disconnect 1 left"])

    async def test_several_connections(self) -> None:
        """A user comes with the first connection, and goes with the last, whatever nodes they are on."""
        one = await self.begin(self.a, "alice", "1")
        two = await self.begin(self.b, "alice", "2")
        self.assertEqual(
            await self.told_services(), ["user:online alice", "socket:connect 1", "socket:connect 2"]
        )
        await self.a.store.forget(one, session_of(one))
        self.assertEqual(await self.told_services(), ["socket:disconnect 1 left"])
        await self.b.store.suspend(two, session_of(two), 0.0)
        self.assertEqual(await self.a.store.forget_user("alice"), frozenset())
        self.assertEqual(await self.told_services(), ["socket:disconnect 2 closed", "user:offline alice"])

    async def test_expired(self) -> None:
        """What nobody takes up ends without a further word."""
        owner = await self.begin(self.a, "alice", "1")
        await self.a.store.suspend(owner, session_of(owner), 0.0)
        await self.told_services()
        await self.advance(WINDOW + 1)
        self.assertEqual(await self.told_services(), ["user:offline alice"])
        self.assertIsNone(await self.record(self.a, owner))


class LostMarkerTests(NodesCase):
    """A marker that is lost with the connection: the line is past the point when it is noticed."""

    a: Node
    b: Node

    async def lose(self, start: Any) -> Any:
        """Run something at a point whose marker is lost; meanwhile others publish."""
        node = self.b
        line = node.broker.hearing.line
        lost: list[Any] = []
        self.patch(line, "mark", lost.append)
        doing = start()

        async def marked() -> bool:
            return bool(lost)

        await until(marked, "the marker")
        sent = [(await self.a.broker.publish(publication("lobby"))).id for _ in range(3)]
        self.patch(line, "mark", type(line).mark.__get__(line))
        node.broker._links.subscriber.drop("test")
        return await doing, sent

    async def test_join(self) -> None:
        """The position that the caller is told is that at which it has really entered."""
        owner = await self.begin(self.b, "bob", "1")
        await self.begin(self.a, "alice", "2", "lobby")
        joined, _ = await self.lose(lambda: self.b.store.join(owner, session_of(owner), "lobby", True, 9))
        page = await self.b.broker.history("lobby", None, None, 9)
        self.assertEqual(joined.position, page.position)
        self.assertTrue(joined.first)

    async def test_take_over(self) -> None:
        """What the line has delivered before the session was there again is among the missed."""
        owner = await self.begin(self.a, "alice", "1", "lobby")
        await self.a.store.suspend(owner, session_of(owner), 5.0)
        record = await self.record(self.b, owner)
        read = await self.b.broker.recover(record, record.opened, 10**6)
        assert read is not None
        await self.told_services()
        restored, sent = await self.lose(lambda: self.b.store.take_over(record, read, 0, MANY))
        self.assertEqual([one.id for one in restored.missed], sent)
        self.assertEqual((await self.record(self.a, owner)).owner, restored.owner)
        self.assertEqual(await self.told_services(), ["socket:reconnect 1"])


class CapTests(NodesCase):
    """Limits over the whole deployment."""

    count = 3
    a: Node
    b: Node
    c: Node

    async def race(self, starts: list[Any], refused: type[Exception]) -> int:
        """How many got through."""
        results = await DeferredList([start() for start in starts], consumeErrors=True)
        for good, result in results:
            if not good:
                result.trap(refused)
        return sum(good for good, _ in results)

    async def test_members(self) -> None:
        """A room takes exactly so many users however many nodes race, whether they join or begin."""
        starts = []
        for n in range(30):
            node = self.nodes[n % 3]
            owner = await self.begin(node, f"u{n}", str(n))
            starts.append(
                lambda node=node, owner=owner: node.store.join(owner, session_of(owner), "lobby", True, 7)
            )
        random.Random(1).shuffle(starts)
        self.assertEqual(await self.race(starts, RoomFull), 7)
        self.assertEqual(len(await self.members(self.a, "lobby")), 7)
        begun = await gatherResults(
            [
                node.store.begin(Owner(f"v{n}", f"v{n}", 1), f"v{n}", {"new": True}, 0, Limits(5, 7))
                for n in range(30)
                for node in (self.nodes[n % 3],)
            ]
        )
        self.assertEqual(sum("new" not in one.full for one in begun), 7)

    async def test_connections(self) -> None:
        """A user has exactly so many connections, however many nodes race."""
        starts = [
            lambda node=self.nodes[n % 3], n=n: node.store.begin(
                Owner("alice", str(n), 1), f"s{n}", {"lobby": True}, 0, Limits(4, 9)
            )
            for n in range(20)
        ]
        self.assertEqual(await self.race(starts, TooManyConnections), 4)
        self.assertEqual(len((await self.a.store.presence("alice")).metas), 4)

    async def test_dead_nodes_count_to_the_end_of_the_lease(self) -> None:
        """What a dead node has left blocks nobody past its lease, whoever asks first."""
        one = Limits(1, 1)
        await self.begin(self.a, "alice", "1", "lobby", limits=one)
        await self.a.die()
        bob = await self.begin(self.b, "bob", "2")
        self.server.advance(LEASE - 1)
        for node in (self.b, self.c):
            await self.server.command("ZADD", PREFIX + "nodes", 10**14, node.broker.node)
        again = Owner("alice", "3", 1)

        def begin() -> Deferred[Any]:
            return self.c.store.begin(again, session_of(again), {}, 0, one)

        def join() -> Deferred[Any]:
            return self.b.store.join(bob, session_of(bob), "lobby", True, 1)

        await self.assertFailure(begin(), TooManyConnections)
        await self.assertFailure(join(), RoomFull)
        self.server.advance(2)
        await begin()
        await join()
        self.assertEqual(await self.members(self.b, "lobby"), ["bob"])
