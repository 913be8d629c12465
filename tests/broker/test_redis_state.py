"""The state of many nodes over one Redis: what no node alone could show."""

from __future__ import annotations

import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, DeferredList, gatherResults

from realtime.broker import redis_leases, redis_state
from realtime.broker.interface import Held, Kept, Limits, Preferences, Recovered
from realtime.errors import RoomFull, SessionReplaced, TooManyConnections
from realtime.messages import Audience, Owner

from ..redis_servers import Client, until
from .contract import GRACE, WINDOW, publication, said, session_of
from .redis_bus import LEASE, PREFIX, Node, RedisBus

MANY = Limits(1000, 1000)


class NodesCase(RedisBus):
    """Several nodes, ``self.a``, ``self.b``…; `plain` hears what other services hear."""

    count = 2

    async def setUp(self) -> None:
        await self.start_server()
        for name in "abc"[: self.count]:
            setattr(self, name, await self.start_node())
        self.services: Client = await self.server.client()
        self.addCleanup(self._leave_services)
        self.addCleanup(self.check_state)
        for pattern in ("user:*", "socket:*"):
            await self.services.command("PSUBSCRIBE", pattern)

    def _leave_services(self) -> Deferred[Any]:
        client = self.services
        client.transport.abortConnection()

        async def lost() -> bool:
            return client.lost

        return Deferred.fromCoroutine(until(lost, "the services' connection to end"))

    async def told_services(self) -> list[str]:
        """What other services were told since they were last asked: the channel and whom it is of."""
        await self.server.command("PUBLISH", "user:end", "")

        async def ended() -> bool:
            return any(push[2] == b"user:end" for push in self.services.pushed)

        await until(ended, "the end")
        pushed, self.services.pushed = self.services.pushed, []
        found = []
        for _, _, channel, text in pushed:
            if channel != b"user:end":
                payload = msgspec.json.decode(text)
                self.assertEqual(payload.pop("source"), "realtime")
                self.assertTrue(text.endswith(b',"source":"realtime"}'))
                who = payload.get("connectionId", payload["userId"])
                found.append(" ".join(filter(None, (channel.decode(), who, payload.get("reason")))))
        return found

    async def begin(
        self, node: Node, user: str, connection: str, *rooms: str, limits: Limits = MANY
    ) -> Owner:
        owner = Owner(user, connection, 1)
        await node.store.begin(owner, session_of(owner), dict.fromkeys(rooms, True), 1000, limits)
        return owner

    async def record(self, node: Node, owner: Owner) -> Any:
        return await node.store.record(session_of(owner))

    async def take_over(self, node: Node, owner: Owner) -> Any:
        record = await self.record(node, owner)
        read = await node.broker.recover(record, record.opened, 10**6)
        assert read is not None
        return await node.store.take_over(record, read, 2000, MANY)

    async def members(self, node: Node, room: str) -> list[str]:
        return [presence.user for presence in await node.store.members(room)]

    async def heard(self, node: Node) -> list[str]:
        """What was announced on a node since it was last asked."""
        await node.settled()
        told = [said(one) for one in node.delivered.publications]
        node.delivered.publications.clear()
        return told

    async def forget_told(self, *nodes: Node) -> None:
        for node in nodes:
            await self.heard(node)
        await self.told_services()


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


class LeaseTests(NodesCase):
    """A node that is gone without a word."""

    count = 3
    a: Node
    b: Node
    c: Node

    async def beat(self, *nodes: Node) -> None:
        await gatherResults([Deferred.fromCoroutine(node.store.leases.beat()) for node in nodes])

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
        kept = await self.a.store.compare(held, False)
        self.assertEqual(kept, [Kept(Owner("alice", "1", 2)), Kept(bob)])
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

    async def test_stopped_node(self) -> None:
        """A node that ends in order leaves its users their grace, and no lease."""
        await self.begin(self.a, "alice", "1", "lobby")
        await self.a.stop()
        self.assertEqual(await self.server.command("ZCARD", PREFIX + "nodes"), 2)
        self.assertEqual(await self.members(self.b, "lobby"), ["alice"])
        await self.advance(GRACE + 1)
        self.assertEqual(await self.members(self.b, "lobby"), [])


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


class CompareTests(NodesCase):
    """A store that was away, or went back, is put in step with the nodes."""

    a: Node
    b: Node

    @staticmethod
    def held(owner: Owner, *rooms: str, idle: bool = False) -> Held:
        return Held(owner, session_of(owner), dict.fromkeys(rooms, True), 1000, idle)

    async def test_in_step(self) -> None:
        """What is in step stays as it is, and nobody hears of it."""
        owner = await self.begin(self.a, "alice", "1", "lobby")
        before = await self.record(self.a, owner)
        await self.forget_told(self.a)
        for lost in (False, True):
            self.assertEqual(await self.a.store.compare([self.held(owner, "lobby")], lost), [Kept(owner)])
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
            held = [self.held(one, "lobby", f"event:{int(one.connection[1:]) % 7}") for one in its]
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
        await self.a.store.compare([self.held(owner, "lobby")], True)
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
            self.assertEqual(await self.a.store.compare([self.held(owner, "lobby")], lost), [Kept(None)])
        self.assertEqual((await self.record(self.a, owner)).owner, new)
        # also where both go by the same generation, as after data that went back
        for lost in (False, True):
            self.assertEqual(await self.a.store.compare([self.held(new, "lobby")], lost), [Kept(None)])
        self.assertEqual((await self.record(self.a, owner)).last_seen, 0.0)

    async def test_ended_meanwhile(self) -> None:
        """A session that was ended while the store was away for this node has ended."""
        owner = await self.begin(self.a, "alice", "1", "lobby")
        await self.b.store.forget_user("alice")
        self.assertEqual(await self.a.store.compare([self.held(owner, "lobby")], False), [Kept(None)])
        self.assertIsNone(await self.record(self.a, owner))

    async def test_swept_in_grace_and_after(self) -> None:
        """A swept session comes back under a new generation; only what others saw is announced."""
        waiting, gone = [await self.begin(self.a, user, user, "lobby") for user in ("alice", "bob")]
        await self.begin(self.b, "carol", "3", "lobby")
        await self.a.store.suspend(waiting, session_of(waiting), 0.0)
        await self.a.store.suspend(gone, session_of(gone), 0.0)
        await self.a.store.withdraw(gone, session_of(gone))
        await self.forget_told(self.b)
        held = [self.held(one, "lobby") for one in (waiting, gone)]
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

    async def test_room_that_is_full(self) -> None:
        """Who has no place any more is told, and is not in the room; exactly as many as may are."""
        owners = [await self.begin(self.a, f"u{n}", str(n), "lobby", "event:7") for n in range(5)]
        self.a.store._comparing._members = 100
        await self.server.command("FLUSHALL")
        await self.a.store.leases.beat()
        await self.b.store.leases.beat()
        for n in range(98):
            await self.begin(self.b, f"v{n}", f"v{n}", "lobby")
        kept = await self.a.store.compare([self.held(one, "lobby", "event:7") for one in owners], True)
        self.assertEqual(kept[:2], [Kept(one) for one in owners[:2]])
        self.assertEqual(kept[2:], [Kept(one, frozenset(("lobby",))) for one in owners[2:]])
        self.assertEqual(len(await self.members(self.a, "lobby")), 100)
        self.assertEqual(set((await self.record(self.a, owners[4])).rooms), {"event:7"})

    async def test_rooms_that_differ(self) -> None:
        """The node is right about the rooms of its sessions."""
        owner = await self.begin(self.a, "alice", "1", "left", "kept")
        await self.a.store.compare([self.held(owner, "kept", "new", idle=True)], False)
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
        await self.a.store.compare([self.held(owners[0], "lobby")], False)
        told = await self.told_services()
        self.assertEqual(Counter(told), Counter(f"socket:disconnect {n} closed" for n in range(1, 230)))
        record = await self.record(self.a, owners[7])
        self.assertGreater(record.last_seen, 0)
        await self.advance(GRACE + 1)
        self.assertEqual(sorted(await self.members(self.b, "lobby")), ["bob", "u0"])
        self.assertEqual((await self.record(self.b, other)).last_seen, 0.0)

    async def test_begun_meanwhile(self) -> None:
        """A session that begins while the store is compared is no orphan."""
        new = Owner("alice", "1", 1)
        held = [self.held(await self.begin(self.a, f"u{n}", str(n)), "lobby") for n in range(2, 5)]
        beginning = self.a.store.begin(new, session_of(new), {"lobby": True}, 0, MANY)
        comparing = self.a.store.compare(held, False)
        later = Owner("alice", "9", 1)
        beginning_later = self.a.store.begin(later, session_of(later), {"lobby": True}, 0, MANY)
        await gatherResults([beginning, comparing, beginning_later])
        for owner in (new, later):
            self.assertEqual((await self.record(self.a, owner)).last_seen, 0.0)

    async def test_ended_here_meanwhile(self) -> None:
        """A session that ends while it is written anew does not stay."""
        owners = [await self.begin(self.a, f"u{n}", str(n), "lobby") for n in range(3)]
        await self.server.command("FLUSHALL")
        await self.a.store.leases.beat()
        comparing = self.a.store.compare([self.held(one, "lobby") for one in owners], True)
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
        comparing = self.a.store.compare([self.held(owner, "lobby")], False)
        await gatherResults([comparing, self.a.store.suspend(owner, session_of(owner), 7.0)])
        record = await self.record(self.a, owner)
        self.assertEqual((record.owner.generation, record.last_seen), (2, 7.0))

    async def test_rooms_that_change_meanwhile(self) -> None:
        """What is joined or left while the store is compared is joined or left in the end."""
        # in which this node has somebody, so that the script is run at once
        await self.begin(self.a, "bob", "2", "new")
        owner = await self.begin(self.a, "alice", "1", "kept", "left", "back")
        session = session_of(owner)
        held = self.held(owner, "kept", "left", "back", "left later")
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
        comparing = self.a.store.compare([self.held(owner, "lobby")], True)
        choosing = self.a.store.choose("alice", "busy", None)
        await comparing
        self.assertEqual((await choosing).shown, "busy")
        # in which this node has somebody, so that the script is run at once
        await self.begin(self.a, "bob", "2", "x")
        await self.server.command("FLUSHALL")
        await self.a.store.leases.beat()
        joining = self.a.store.join(owner, session_of(owner), "x", True, 9)
        comparing = self.a.store.compare([self.held(owner, "lobby")], True)
        await gatherResults([joining, comparing])
        self.assertEqual(set((await self.record(self.a, owner)).rooms), {"lobby", "x"})
        # and for one that is raised, or is another's by now
        await self.a.store.suspend(owner, session_of(owner), 0.0)
        joining = self.a.store.join(owner, session_of(owner), "lobby", True, 9)
        comparing = self.a.store.compare([self.held(owner, "lobby", "x")], False)
        await gatherResults([joining, comparing])
        taken = (await self.take_over(self.b, owner)).owner
        self.assertEqual(taken.generation, 3)
        joining = self.a.store.join(owner, session_of(owner), "lobby", True, 9)
        comparing = self.a.store.compare([self.held(owner, "lobby")], False)
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
            nodes = [(self.a, []), (self.b, [self.held(new, "lobby")])]
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
                held[node][session_of(owner)] = CompareTests.held(owner, *entered)

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
                held[node][record.session] = CompareTests.held(restored.owner, *record.rooms)

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


class KeyTests(NodesCase):
    """What is kept is bounded, in time and in number."""

    a: Node
    b: Node

    async def busy(self) -> None:
        """A bit of everything."""
        owners = [await self.begin(self.a, f"u{n % 5}", str(n), "lobby", "event:7") for n in range(9)]
        await self.b.store.prefer("u1", Preferences(frozenset(("a:b",))))
        await self.b.store.choose("u1", "busy", "text")
        await self.begin(self.b, "u1", "x")
        await self.a.store.touch(owners[2], True)
        await self.a.store.join(owners[3], session_of(owners[3]), "third", True, 9)
        await self.a.broker.publish(publication("lobby"), "key")
        await self.a.store.suspend(owners[0], session_of(owners[0]), 0.0)
        await self.a.store.withdraw(owners[0], session_of(owners[0]))
        await self.take_over(self.b, owners[0])
        await self.a.store.suspend(owners[1], session_of(owners[1]), 0.0)
        await self.a.store.forget(owners[4], session_of(owners[4]))
        await self.a.store.compare([CompareTests.held(owners[5], "lobby")], False)

    async def test_every_key_ends(self) -> None:
        """Every key has a time to live, also when renewed and compared, and is in docs/redis.rst."""
        await self.busy()
        for node in self.nodes:
            await node.store.leases.keep()
        keys = await self.server.command("KEYS", "*")
        self.assertGreater(len(keys), 20)
        page = (Path(__file__).parents[2] / "docs" / "redis.rst").read_text("utf-8")
        documented = set(re.findall(r"^``P:(\w+)", page, re.MULTILINE))
        for key in keys:
            self.assertTrue(key.startswith(PREFIX.encode()), key)
            self.assertIn(key.decode().removeprefix(PREFIX).partition(":")[0], documented)
            self.assertGreater(await self.server.command("PTTL", key), 0, key)

    async def test_nothing_stays(self) -> None:
        """Once all sessions have ended nothing is left of them."""
        await self.busy()
        for n in range(5):
            await self.b.store.forget_user(f"u{n}")
        self.assertEqual(await self.server.command("ZCARD", PREFIX + "waiting"), 0)
        await self.advance(WINDOW + 1)
        keys = {key.decode() for key in await self.server.command("KEYS", "*")}
        kinds = {key.removeprefix(PREFIX).partition(":")[0] for key in keys}
        self.assertEqual(kinds & {"session", "user", "room", "rooms", "node", "waiting"}, set(), keys)

    async def test_live_sessions_are_kept(self) -> None:
        """However long they are silent, what belongs to live sessions stays."""
        await self.begin(self.a, "alice", "1", "lobby")
        for _ in range(8):
            for key in await self.server.command("KEYS", PREFIX + "*"):
                await self.server.command("PEXPIRE", key, 1_000_000)
            await self.advance(900)
            for node in self.nodes:
                await node.store.leases.keep()
        self.assertEqual(await self.members(self.a, "lobby"), ["alice"])
        self.assertEqual(dict(await self.a.store.rooms()), {"lobby": 1})

    async def test_read_before_written(self) -> None:
        """A script has read all keys that it writes before it writes the first.

        While a Cluster's slot moves, a script fails where it first meets a key that is not there; what
        it had written by then would stay half done.
        """
        monitor = await self.server.client()
        self.addCleanup(monitor.transport.abortConnection)
        await monitor.command("MONITOR")
        await self.busy()
        owner = await self.begin(self.b, "dora", "d", "lobby", "event:9")
        await self.b.store.leave(owner, session_of(owner), "lobby")
        await self.b.store.forget_user("u2")
        await self.b.die()
        await self.begin(self.a, "dora", "a", "lobby")
        await self.advance(LEASE + 1)
        await self.a.broker.publish(publication("lobby"), "other key")
        await self.advance(WINDOW + 1)
        await self.a.store.leases.keep()
        await self.server.command("FLUSHALL")
        await self.a.store.leases.beat()
        await self.server.command("ECHO", "the end")

        async def ended() -> bool:
            return any(b"the end" in line for line in monitor.pushed)

        await until(ended, "the end of the commands")
        seen: Counter[str] = Counter()
        for name, commands in _scripts(monitor.pushed):
            read: set[str] = set()
            writing = False
            for command, keys in commands:
                if command in _WRITES:
                    writing = True
                    self.assertLessEqual(set(keys), read, f"{name}: {command}")
                elif not writing:
                    read.update(keys)
            seen[name] += writing
        self.assertGreater(len([name for name, wrote in seen.items() if wrote]), 12, seen)


#: What scripts write with.
_WRITES = frozenset(
    (
        "HSET",
        "HDEL",
        "ZADD",
        "ZREM",
        "SADD",
        "SREM",
        "DEL",
        "PEXPIRE",
        "XADD",
        "XTRIM",
        "SET",
        "ZREMRANGEBYSCORE",
    )
)


def _scripts(lines: list[bytes]) -> list[tuple[str, list[tuple[str, list[str]]]]]:
    """Of what MONITOR says: for each script that was run its digest, and its commands with their keys."""
    found: list[tuple[str, list[tuple[str, list[str]]]]] = []
    for line in lines:
        head, _, rest = line.decode(errors="replace").partition("] ")
        words = [word.strip('"') for word in rest.split(" ")]
        command = words[0].upper()
        if command in ("EVALSHA", "EVAL"):
            found.append((words[1][:12], []))
        elif head.endswith(" lua") and command not in ("TIME", "PUBLISH"):
            keys = words[1:] if command in ("EXISTS", "DEL") else words[1:2]
            found[-1][1].append((command, keys))
    return found
