"""What every `IQueues` must do. A test case mixes it in and gives what `broker.contract.Bus` says."""

from __future__ import annotations

from typing import Any

import msgspec
from zope.interface.verify import verifyObject

from realtime.errors import (
    PastTime,
    QueueConflict,
    QueueFull,
    RealtimeError,
    TooManyQueues,
    UnknownProceed,
    WorkerReplaced,
)
from realtime.ids import session_number
from realtime.messages import Publication, Sequence
from realtime.queues.interface import LEASE, RETENTION, Change, IQueues, Proceed, QueueLimits
from realtime.queues.payloads import position_payload

from ..broker.contract import Bus

TTL = 60.0
LIMITS = QueueLimits(ttl=TTL, waiting=4, per_user=3, events=5)
TOKEN = "the secret of alice"


def short(change: Change) -> str:
    """A change in few words."""
    words = [change.kind, change.event_id, change.user_id, change.reason, change.proceed_id, change.state]
    return " ".join(word for word in words if word)


class QueuesCase(Bus):
    """What the tests of an `IQueues` ask it with."""

    #: trial's own methods, as the mixin uses them.
    assertEqual: Any
    assertTrue: Any
    assertFalse: Any
    assertIn: Any
    assertNotIn: Any
    assertGreater: Any
    assertRaises: Any

    queues: Any

    async def told(self) -> list[Change | None]:
        """What all nodes were told since it was last asked."""
        raise NotImplementedError

    async def later(self, seconds: float) -> int:
        """That many seconds from now, in milliseconds since the epoch."""
        return int((await self.now() + seconds) * 1000)

    async def refused(self, error: type[RealtimeError], doing: Any) -> None:
        try:
            await doing
        except error:
            return
        self.assertTrue(False, f"no {error.__name__}")

    async def pull(
        self, worker: str = "w", session: str = "1", begin: str = "", limit: int = 100, replay: bool = False
    ) -> list[Change]:
        pulled = await self.queues.pull(worker, session, replay, begin, limit)
        self.assertEqual(pulled.begun, bool(begin), "begun")
        return list(pulled.changes)

    async def begin(self, worker: str = "w", session: str = "1", replay: bool = False) -> list[str]:
        return [short(change) for change in await self.pull(worker, session, "first", replay=replay)]

    async def heard(self, event: str = "") -> list[Publication]:
        """The publications since it was last asked, of one event."""
        await self.settled()
        found = [one for one in self.delivered.publications if not event or one.event == event]
        self.delivered.publications.clear()
        return found

    async def turn(self, user: str = "alice", made: str = "", event: str = "7", seconds: float = 30) -> Any:
        expires = await self.later(seconds)
        return await self.queues.proceed(Proceed(event, user, made, TOKEN, expires))


class QueuesContract(QueuesCase):
    """The contract."""

    async def test_interface(self) -> None:
        self.assertTrue(verifyObject(IQueues, self.queues))

    async def test_join_and_leave(self) -> None:
        """Changes come in order, each until it is acknowledged; who joins again keeps the place."""
        await self.hear("user:alice", "user:bob")
        self.assertEqual(await self.begin(), [])
        alice = await self.queues.join("7", "alice", "c1")
        bob = await self.queues.join("7", "bob", "c2")
        self.assertGreater(bob.number, alice.number)
        again = await self.queues.join("7", "alice", "c3")
        self.assertEqual((again.number, again.known, again.position), (alice.number, True, None))
        first, second = await self.pull()
        self.assertEqual([short(first), short(second)], ["joined 7 alice", "joined 7 bob"])
        self.assertEqual((first.id, first.connection_id), (alice.number, "c1"))
        self.assertTrue(abs(first.time - await self.later(0)) < 5000)
        self.assertEqual(await self.pull(), [])
        self.assertTrue(await self.queues.leave("7", "alice", "left"))
        self.assertFalse(await self.queues.leave("7", "alice", "left"))
        self.assertFalse(await self.queues.leave("8", "alice", "left"))
        (left,) = await self.pull()
        self.assertEqual(short(left), "left 7 alice left")
        (said,) = await self.heard()
        self.assertEqual((said.event, said.audience.rooms), ("queue:left", frozenset(["user:alice"])))
        payload = msgspec.json.decode(said.data)
        self.assertEqual((payload["eventId"], payload["reason"]), ("7", "left"))
        self.assertTrue(said.logged)
        # An acknowledgement of what was changed since is none.
        await self.queues.acknowledge([first, second])
        self.assertEqual([short(one) for one in await self.pull(begin="anew")], ["left 7 alice left"])
        await self.queues.acknowledge([left])
        self.assertEqual(await self.pull(begin="anew"), [])
        told = [None if one is None else short(one) for one in await self.told()]
        self.assertEqual(told, ["joined 7 alice", "joined 7 bob", "left 7 alice left"])
        members, count = await self.queues.members("7", 0, 10)
        self.assertEqual(([one.user for one in members], count), (["bob"], 1))
        self.assertEqual(await self.queues.members("8", 0, 10), ([], 0))

    async def test_unheard(self) -> None:
        """Of who leaves before a worker has heard that they came, none hears; nothing is left of them."""
        for n in range(20):
            await self.queues.join(f"{n}", "alice", "c")
            await self.queues.leave(f"{n}", "alice", "left")
        self.assertEqual(await self.begin(), [])
        kinds = [one.kind for one in await self.told() if one is not None]
        self.assertEqual(kinds, ["joined", "left"] * 20)
        # Who was heard of, by a worker that is gone, is told to leave.
        await self.queues.join("7", "alice", "c")
        self.assertEqual(len(await self.pull()), 1)
        await self.queues.release("w", "1")
        await self.queues.leave("7", "alice", "left")
        self.assertEqual(await self.begin("v"), ["left 7 alice left"])

    async def test_limits(self) -> None:
        """Of a queue, of a user, of all; what is left makes room."""
        for user in "abcd":
            await self.queues.join("7", user, "c")
        await self.refused(QueueFull, self.queues.join("7", "e", "c"))
        for event in ("8", "9"):
            await self.queues.join(event, "a", "c")
        await self.refused(TooManyQueues, self.queues.join("10", "a", "c"))
        self.assertTrue((await self.queues.join("9", "a", "c")).known)
        await self.queues.join("10", "b", "c")
        await self.queues.join("11", "b", "c")
        await self.refused(QueueFull, self.queues.join("12", "c", "c"))
        await self.queues.leave("11", "b", "left")
        await self.queues.join("12", "c", "c")
        await self.queues.leave("7", "b", "left")
        await self.queues.join("7", "e", "c")

    async def test_positions(self) -> None:
        """To those who wait; kept, and told again to who comes back, and to no other connection."""
        await self.hear("user:alice", "user:bob")
        await self.queues.join("7", "alice", "c1")
        said = [(user, 3, position_payload("7", 3, 9, None, 1)) for user in ("alice", "bob")]
        self.assertEqual(await self.queues.positions("7", said), ["bob"])
        (position,) = await self.heard()
        self.assertEqual((position.event, position.logged), ("queue:position", False))
        self.assertEqual(
            msgspec.json.decode(position.data), {"eventId": "7", "position": 3, "total": 9, "timestamp": 1}
        )
        self.assertEqual((await self.queues.join("7", "alice", "c1")).position, 3)
        members, _ = await self.queues.members("7", 0, 10)
        self.assertEqual(members[0].position, 3)
        place = Sequence("", 0, 0)
        self.assertEqual(await self.queues.greet("bob", "c2", place), frozenset())
        self.assertEqual(await self.queues.greet("alice", "c2", place), frozenset(["7"]))
        (again,) = await self.heard()
        self.assertEqual(again.data, position.data)
        self.assertEqual(again.audience.only_sessions, frozenset([session_number("c2")]))
        (change,) = await self.pull(begin="first")
        self.assertEqual(change.position, 3)

    async def test_proceed(self) -> None:
        """Once for each id; logged; confirmed once; the worker gets the receipt."""
        await self.hear("user:alice", "user:bob")
        joined = await self.queues.join("7", "alice", "c1")
        await self.queues.join("7", "bob", "c1")
        await self.begin()
        self.assertEqual((await self.turn("carol")).state, "not_waiting")
        await self.refused(PastTime, self.turn(seconds=-5))
        sent = await self.turn()
        self.assertEqual((sent.id, sent.state, sent.repeated), (str(joined.number), "sent", False))
        self.assertTrue(abs(sent.since - await self.later(0)) < 5000)
        (proceed,) = await self.heard()
        self.assertEqual((proceed.event, proceed.logged), ("queue:proceed", True))
        payload = msgspec.json.decode(proceed.data)
        self.assertEqual((payload["token"], payload["proceedId"]), (TOKEN, str(joined.number)))
        self.assertEqual(payload["expiresAt"], proceed.expires)
        for made in ("", sent.id):
            repeated = await self.turn(made=made)
            self.assertEqual((repeated.id, repeated.state, repeated.repeated), (sent.id, "sent", True))
        self.assertEqual((await self.turn(made="other")).state, "not_waiting")
        await self.refused(QueueConflict, self.turn("bob", sent.id))
        self.assertEqual(await self.heard(), [])
        self.assertEqual(await self.pull(), [])
        for user, made in (("bob", sent.id), ("alice", "none")):
            await self.refused(UnknownProceed, self.queues.confirm("7", user, made))
        await self.refused(UnknownProceed, self.queues.confirm("8", "alice", sent.id))
        for _ in range(2):
            await self.queues.confirm("7", "alice", sent.id)
        (receipt,) = await self.pull()
        self.assertEqual(short(receipt), f"receipt 7 alice {sent.id} acknowledged")
        self.assertEqual((await self.turn()).state, "acknowledged")
        await self.queues.acknowledge([receipt])
        self.assertEqual((await self.turn()).state, "acknowledged")
        self.assertEqual((await self.queues.members("7", 0, 9))[1], 1)
        self.assertNotIn(TOKEN, repr(Proceed("7", "alice", "", TOKEN, 1)))

    async def test_proceed_again(self) -> None:
        """Who comes without having confirmed gets it again, unless their session's log holds it."""
        await self.hear("user:alice")
        await self.queues.join("7", "alice", "c1")
        before = self.broker.sequence()
        await self.turn()
        await self.heard()
        after = self.broker.sequence()
        self.assertEqual(await self.queues.greet("alice", "c1", before), frozenset())
        self.assertEqual(await self.heard(), [])
        await self.queues.greet("alice", "c2", after)
        (again,) = await self.heard()
        self.assertEqual((again.event, again.logged), ("queue:proceed", False))
        self.assertEqual(again.audience.only_sessions, frozenset([session_number("c2")]))
        self.assertIn(TOKEN.encode(), again.data)
        self.assertGreater(again.expires, 0)
        joined = await self.queues.join("7", "alice", "c3")
        self.assertTrue(joined.proceed)
        (again,) = await self.heard()
        self.assertEqual(again.audience.only_sessions, frozenset([session_number("c3")]))
        await self.queues.confirm("7", "alice", msgspec.json.decode(again.data)["proceedId"])
        await self.queues.greet("alice", "c4", after)
        self.assertEqual(await self.heard(), [])

    async def test_absent(self) -> None:
        """A place that nobody keeps ends; one that is kept does not."""
        await self.hear("user:alice", "user:bob")
        for user in ("alice", "bob"):
            await self.queues.join("7", user, "c")
        await self.begin()
        await self.advance(TTL - 5)
        places = [("7", "bob"), ("8", "bob"), ("7", "carol")]
        self.assertEqual(sorted(await self.queues.touch(places)), [("7", "carol"), ("8", "bob")])
        self.assertEqual(await self.queues.sweep(), 0)
        await self.advance(6)
        self.assertEqual(await self.queues.sweep(), 1)
        (left,) = await self.heard()
        self.assertEqual(msgspec.json.decode(left.data)["reason"], "absent")
        self.assertEqual(left.audience.rooms, frozenset(["user:alice"]))
        changes = [short(one) for one in (await self.queues.pull("w", "1", False, "anew", 9)).changes]
        self.assertEqual(changes, ["joined 7 bob", "left 7 alice absent"])

    async def test_expired(self) -> None:
        """A proceed that nobody confirms ends, and so the worker hears; the user may wait anew."""
        await self.hear("user:alice")
        for user in ("alice", "bob"):
            await self.queues.join("7", user, "c")
        await self.begin()
        sent = await self.turn()
        other = await self.turn("bob")
        await self.queues.confirm("7", "bob", other.id)
        await self.advance(31)
        await self.refused(UnknownProceed, self.queues.confirm("7", "alice", sent.id))
        self.assertEqual(await self.queues.sweep(), 2)
        changes = (await self.queues.pull("w", "1", False, "anew", 9)).changes
        self.assertEqual(
            [short(one) for one in changes],
            [f"receipt 7 bob {other.id} acknowledged", f"receipt 7 alice {sent.id} expired"],
        )
        self.assertEqual((await self.turn(made=sent.id)).state, "expired")
        self.assertFalse((await self.queues.join("7", "alice", "c")).proceed)
        await self.queues.acknowledge(changes)
        self.assertEqual([short(one) for one in await self.pull(begin="anew")], ["joined 7 alice"])

    async def test_declined(self) -> None:
        """Who leaves instead of proceeding declines; likewise afterwards; or a service takes it away."""
        await self.hear("user:alice")
        await self.queues.join("7", "alice", "c")
        await self.begin()
        sent = await self.turn()
        self.assertTrue(await self.queues.leave("7", "alice", "left"))
        self.assertEqual([short(one) for one in await self.pull()], [f"receipt 7 alice {sent.id} declined"])
        await self.refused(UnknownProceed, self.queues.confirm("7", "alice", sent.id))
        for reason, state in (("left", "declined"), ("removed", "removed")):
            await self.queues.join("7", "alice", "c")
            sent = await self.turn()
            await self.queues.confirm("7", "alice", sent.id)
            self.assertTrue(await self.queues.leave("7", "alice", reason))
            self.assertEqual(
                [short(one) for one in await self.pull()], [f"receipt 7 alice {sent.id} {state}"]
            )
            self.assertFalse(await self.queues.leave("7", "alice", reason))

    async def test_kept_for_workers(self) -> None:
        """What no worker acknowledges is kept, and in the end forgotten."""
        await self.hear("user:alice")
        await self.queues.join("7", "alice", "c")
        await self.queues.join("7", "bob", "c")
        await self.begin()
        await self.queues.leave("7", "alice", "left")
        sent = await self.turn("bob")
        await self.advance(31)
        await self.queues.sweep()
        wanted = ["left 7 alice left", f"receipt 7 bob {sent.id} expired"]
        self.assertEqual([short(one) for one in await self.pull(begin="anew")], wanted)
        await self.advance(RETENTION + 31)
        self.assertEqual(await self.queues.sweep(), 2)
        self.assertEqual(await self.queues.sweep(), 0)
        changes = (await self.queues.pull("w", "1", False, "anew", 9)).changes
        self.assertEqual(changes, [])

    async def test_died(self) -> None:
        """A worker that says nothing is no more; another takes over, what was not acknowledged too."""
        for user in ("alice", "bob"):
            await self.queues.join("7", user, "c")
        first, _ = await self.pull("a", begin="first")
        await self.queues.acknowledge([first])
        self.assertEqual(await self.begin("b"), [])
        await self.advance(LEASE - 1)
        self.assertEqual(await self.pull("b"), [])
        await self.advance(2)
        self.assertEqual([short(one) for one in await self.pull("b")], ["joined 7 bob"])
        # It comes back, and leads nothing.
        pulled = await self.queues.pull("a", "1", False, "", 9)
        self.assertEqual((pulled.begun, pulled.changes), (True, []))

    async def test_replay(self) -> None:
        """A worker that asks for it hears all who wait, page by page, each once."""
        for user in ("alice", "bob", "carol"):
            await self.queues.join("7", user, "c")
        changes = await self.pull(begin="first")
        await self.queues.acknowledge(changes[:2])
        await self.queues.release("w", "1")
        found = [short(one) for one in await self.pull("v", begin="first", limit=2, replay=True)]
        self.assertEqual(found, ["joined 7 alice", "joined 7 bob"])
        await self.queues.join("7", "dora", "c")
        pulled = await self.queues.pull("v", "1", True, "", 1)
        self.assertEqual([short(one) for one in pulled.changes], ["joined 7 carol"])
        self.assertTrue(pulled.more)
        self.assertEqual([short(one) for one in await self.pull("v", replay=True)], ["joined 7 dora"])
        await self.queues.join("8", "dora", "c")
        await self.queues.leave("7", "bob", "left")
        found = sorted(short(one) for one in await self.pull("v", replay=True))
        self.assertEqual(found, ["joined 8 dora", "left 7 bob left"])

    async def test_window(self) -> None:
        """No more than is asked for; a pull for nothing renews the lease alone."""
        for event in ("7", "8"):
            for user in ("alice", "bob"):
                await self.queues.join(event, user, "c")
        self.assertEqual(await self.pull(begin="first", limit=0), [])
        found = []
        for _ in range(4):
            pulled = await self.queues.pull("w", "1", False, "", 1)
            found += [short(one) for one in pulled.changes]
        self.assertEqual(len(found), 4)
        self.assertEqual(len(set(found)), 4)
        self.assertEqual(await self.pull(), [])

    async def test_replaced(self) -> None:
        """A later session of a worker puts the earlier one out, and has its queues at once."""
        await self.queues.join("7", "alice", "c")
        self.assertEqual(await self.begin(session="1"), ["joined 7 alice"])
        self.assertEqual(await self.begin(session="2"), ["joined 7 alice"])
        for begin in ("", "anew"):
            await self.refused(WorkerReplaced, self.queues.pull("w", "1", False, begin, 9))
        await self.queues.release("w", "1")
        self.assertEqual(await self.pull(session="2"), [])

    async def test_two_workers(self) -> None:
        """Each queue is one worker's; each worker has its share."""
        await self.begin("a")
        await self.begin("b")
        for event in ("1", "2", "3", "4"):
            await self.queues.join(event, "u" + event, "c")
        heard: dict[str, set[str]] = {"a": set(), "b": set()}
        for _ in range(2):
            for worker in ("a", "b"):
                heard[worker] |= {change.event_id for change in await self.pull(worker)}
        self.assertEqual([len(events) for events in heard.values()], [2, 2])
        self.assertEqual(heard["a"] & heard["b"], set())
        await self.queues.release("a", "1")
        pulled = await self.queues.pull("b", "1", False, "", 9)
        self.assertEqual({change.event_id for change in pulled.changes}, heard["a"])
        self.assertIn(None, await self.told())
