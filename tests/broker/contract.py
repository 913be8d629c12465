"""What every broker and every state store promises: mixins that each implementation runs.

A subclass's `setUp` makes what `Bus` says, and a subclass is a trial TestCase.
"""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from zope.interface import implementer
from zope.interface.verify import verifyObject

from realtime.broker.interface import (
    IBroker,
    IDelivery,
    IPeer,
    IStateStore,
    Limits,
    Preferences,
    Recovered,
)
from realtime.errors import BrokerUnavailable, RoomFull, SessionReplaced, TooManyConnections
from realtime.messages import Audience, Membership, Owner, Position, Publication, Sequence, SessionRecord

WINDOW = 120.0
GRACE = 5.0
RETENTION = 205.0
MAX_MESSAGES = 50
MAX_BYTES = 20_000
HISTORY = 10
HISTORY_TTL = 1000.0

_ids = iter(range(10**9))


def publication(room: str = "lobby", event: str = "room:message", **fields: Any) -> Publication:
    made = {
        "event": event,
        "data": b'{"n":1}',
        "audience": Audience(rooms=frozenset((room,))),
        "id": f"p{next(_ids)}",
        "time": 1000,
        "history": event == "room:message",
    }
    return Publication(**{**made, **fields})


@implementer(IDelivery)
class Delivered:
    """Collects what is delivered; `during` is called in the middle of a delivery, once."""

    def __init__(self) -> None:
        self.publications: list[Publication] = []
        self.during: Any = None

    def deliver(self, publication: Publication) -> None:
        during, self.during = self.during, None
        if during is not None:
            during()
        self.publications.append(publication)

    def wants(self, channel: str) -> bool:
        return True

    @property
    def events(self) -> list[str]:
        return [entry.event for entry in self.publications]


@implementer(IPeer)
class Peer:
    """Collects what a node is told."""

    def __init__(self) -> None:
        self.resets: list[frozenset[str] | None] = []
        self.signals: list[tuple[str, bytes]] = []
        self.gone: list[Owner] = []
        self.returns: list[bool] = []

    def reset(self, channels: frozenset[str] | None) -> None:
        self.resets.append(channels)

    def signalled(self, name: str, data: bytes) -> None:
        self.signals.append((name, data))

    def displaced(self, owner: Owner) -> None:
        self.gone.append(owner)

    def returned(self, lost: bool) -> None:
        self.returns.append(lost)


def session_of(owner: Owner) -> str:
    return f"secret-{owner.user}-{owner.connection}"


def said(publication: Publication) -> str:
    """An announcement in short: the event, who, and the status if it is of one."""
    payload = msgspec.json.decode(publication.data)
    words = [publication.event, payload["userId"], payload.get("status")]
    return " ".join(word for word in words if word)


class Bus:
    """What a contract is held against.

    `advance` and `settled` are a subclass's own.
    """

    broker: Any
    store: Any
    delivered: Delivered
    peer: Peer

    async def advance(self, seconds: float) -> None:
        """Let time pass, for the store and the broker as for the log."""
        raise NotImplementedError

    async def settled(self) -> None:
        """All that was published so far has been delivered."""
        raise NotImplementedError

    async def now(self) -> float:
        """The time on the wall, as the store has it; seconds since the epoch."""
        raise NotImplementedError

    async def hear(self, *rooms: str) -> None:
        """Have a connection here in some rooms, and in nobody's sight."""
        owner = Owner("listener", f"l{next(_ids)}", 1)
        await self.store.begin(owner, session_of(owner), dict.fromkeys(rooms, False), 0, Limits(100, 100))
        self.delivered.publications.clear()


class BrokerContract(Bus):
    """IBroker."""

    async def record(self, since: int = 0, **rooms: int) -> SessionRecord:
        """A record of a session in rooms, each joined at a sequence number."""
        owner = Owner("alice", "c1", 1)
        memberships = {
            room: Membership(number, await self._epoch(room), True) for room, number in rooms.items()
        }
        now = self.broker.sequence()
        opened = Sequence(now.epoch, now.generation, since)
        return SessionRecord("secret", owner, memberships, opened)

    async def _epoch(self, room: str) -> str:
        return str((await self.broker.history(room, None, None, 1)).position.epoch)

    def at(self, number: int) -> Sequence:
        now = self.broker.sequence()
        return Sequence(now.epoch, now.generation, number)

    async def publish(self, *args: Any, key: str | None = None, **fields: Any) -> Any:
        told = await self.broker.publish(publication(*args, **fields), key)
        await self.settled()
        return told

    async def recovered(self, record: SessionRecord, number: int, limit: int = 10**6) -> list[str] | None:
        found = await self.broker.recover(record, self.at(number), limit)
        return None if found is None else [entry.id for entry in found.publications]

    async def test_interface(self) -> None:
        """It provides ``IBroker``."""
        verifyObject(IBroker, self.broker)

    async def test_offsets_count_per_channel(self) -> None:
        """Offsets count 1, 2, 3… in each channel, the sequence over all of them."""
        places = [await self.publish(room) for room in "aba"]
        self.assertEqual([place.position.offset for place in places], [1, 1, 2])
        numbers = [place.sequence.number for place in places]
        self.assertEqual(numbers, [numbers[0], numbers[0] + 1, numbers[0] + 2])
        self.assertEqual(places[0].position.epoch, places[2].position.epoch)

    async def test_delivered_as_published(self) -> None:
        """What is delivered is what was published, at the place that its publisher is told."""
        await self.hear("a")
        audience = Audience(
            rooms=frozenset("a"), except_users=frozenset(("bob",)), except_connections=frozenset(("c9",))
        )
        given = publication(
            data='{"text":"schön\\n"}'.encode(),
            audience=audience,
            history=True,
            binary=True,
            splice=("id", "offset"),
        )
        told = await self.broker.publish(given)
        await self.settled()
        (got,) = self.delivered.publications
        wanted = msgspec.structs.replace(given, position=told.position, sequence=told.sequence)
        self.assertEqual(got, wanted)

    async def test_audiences(self) -> None:
        """Whoever it is for, a publication is delivered once."""
        await self.hear("user:bob", "a", "b")
        audiences = [
            Audience(everyone=True),
            Audience(users=frozenset(("bob",))),
            Audience(users=frozenset(("bob", "alice")), rooms=frozenset("ab")),
            Audience(rooms=frozenset("ab"), except_users=frozenset(("bob",))),
        ]
        for audience in audiences:
            await self.publish(audience=audience)
        self.assertEqual([entry.audience for entry in self.delivered.publications], audiences)

    async def test_not_logged(self) -> None:
        """What is not to be logged is delivered, and has no place."""
        await self.hear("a")
        told = await self.publish("a", "room:typing", logged=False)
        self.assertEqual((told.position, told.sequence), (None, None))
        self.assertEqual(self.delivered.events, ["room:typing"])

    async def test_published_during_delivery(self) -> None:
        """What is published during a delivery comes after it, to every receiver."""
        await self.hear("a")
        made: list[Any] = []
        self.delivered.during = lambda: made.append(self.broker.publish(publication("a", "second")))
        await self.publish("a", "first")
        await made[0]
        await self.settled()
        self.assertEqual(self.delivered.events, ["first", "second"])
        numbers = [entry.sequence.number for entry in self.delivered.publications]
        self.assertEqual(numbers, sorted(numbers))

    async def test_idempotency(self) -> None:
        """A repetition under the same key is not delivered, and answers the first one's values."""
        await self.hear("a")
        first = await self.publish("a", key="k")
        again = await self.publish("a", key="k")
        self.assertTrue(again.repeated)
        self.assertEqual((again.id, again.position, again.time), (first.id, first.position, first.time))
        self.assertEqual(again.sequence, first.sequence)
        self.assertEqual(len(self.delivered.publications), 1)

    async def test_idempotency_without_log(self) -> None:
        """A key holds for what is not logged too."""
        await self.hear("a")
        for _ in range(2):
            again = await self.publish("a", "room:typing", logged=False, key="k")
        self.assertEqual((again.repeated, again.position), (True, None))
        self.assertEqual(len(self.delivered.publications), 1)

    async def test_idempotency_ends(self) -> None:
        """A key is forgotten after the window."""
        await self.publish("a", key="k")
        await self.advance(WINDOW + 1)
        self.assertFalse((await self.publish("a", key="k")).repeated)

    async def test_history(self) -> None:
        """History shows messages only, the newest, oldest first, in both directions."""
        ids = []
        for _ in range(12):
            await self.publish("a", "room:user_joined")
            ids.append((await self.publish("a")).id)
        page = await self.broker.history("a", None, None, 100)
        self.assertEqual([entry.id for entry in page.publications], ids[-HISTORY:])
        self.assertEqual(page.position.offset, 24)
        offsets = [entry.position.offset for entry in page.publications]
        page = await self.broker.history("a", offsets[2], None, 2)
        self.assertEqual([entry.position.offset for entry in page.publications], offsets[3:5])
        page = await self.broker.history("a", None, offsets[4], 2)
        self.assertEqual([entry.position.offset for entry in page.publications], offsets[2:4])
        page = await self.broker.history("a", None, None, 0)
        self.assertEqual(page.publications, [])

    async def test_remove(self) -> None:
        """What is taken out of the history is not shown any more; who comes back gets it all the same."""
        first = (await self.publish("a")).position
        kept = [(await self.publish("a")).position.offset for _ in range(3)]
        self.assertEqual(await self.broker.remove("a", kept[1]), 1)
        self.assertEqual(await self.broker.remove("a", kept[1]), 0)
        page = await self.broker.history("a", first.offset, None, 100)
        self.assertEqual([entry.position.offset for entry in page.publications], [kept[0], kept[2]])
        found = await self.broker.missed("a", first)
        self.assertEqual([entry.position.offset for entry in found], [kept[0], kept[2]])
        self.assertEqual(await self.broker.remove("a", None), 3)
        page = await self.broker.history("a", None, None, 100)
        self.assertEqual((page.publications, page.position.offset), ([], kept[2]))
        again = (await self.publish("a")).position.offset
        page = await self.broker.history("a", None, None, 100)
        self.assertEqual([entry.position.offset for entry in page.publications], [again])
        self.assertEqual(await self.broker.remove("silent", None), 0)

    async def test_no_history(self) -> None:
        """A room in which nothing was ever said has an empty history."""
        page = await self.broker.history("a", None, None, 10)
        self.assertEqual((page.publications, page.position), ([], Position(0, "")))

    async def test_missed(self) -> None:
        """All messages after a position; None where some may be gone, or the epoch is another."""
        first = (await self.publish("a")).position
        second = await self.publish("a")
        found = await self.broker.missed("a", first)
        self.assertEqual([entry.id for entry in found], [second.id])
        for wrong in (Position(1, "other"), Position(99, first.epoch)):
            self.assertIsNone(await self.broker.missed("a", wrong))
        for _ in range(HISTORY):
            await self.publish("a")
        self.assertIsNone(await self.broker.missed("a", first))

    async def test_recover(self) -> None:
        """What came after the offset in the session's rooms, in sequence order."""
        joined = [(await self.publish(room)).sequence.number for room in "abc"]
        start = self.broker.sequence().number
        record = await self.record(a=joined[0], b=joined[1])
        wanted = [(await self.publish(room)).id for room in ("a", "b", "a")]
        await self.publish("c")
        self.assertEqual(await self.recovered(record, start), wanted)
        self.assertEqual(await self.recovered(record, start + 1), wanted[1:])

    async def test_recovered_until(self) -> None:
        """What is recovered reaches to a place that is told, and what comes after it is still to come."""
        joined = (await self.publish("a")).sequence.number
        record = await self.record(a=joined)
        wanted = (await self.publish("a")).sequence
        found = await self.broker.recover(record, self.at(joined), 10**6)
        self.assertEqual(found.until, wanted)
        late = await self.publish("a")
        again = await self.broker.recover(record, found.until, 10**6)
        self.assertEqual([entry.id for entry in again.publications], [late.id])

    async def test_recover_from_join(self) -> None:
        """A room's recovery starts where it was joined, if that is later than the offset."""
        first = (await self.publish("a")).sequence.number
        later = (await self.publish("a")).id
        self.assertEqual(await self.recovered(await self.record(a=first), first - 1), [later])

    async def test_recover_everyone_and_unions(self) -> None:
        """What travels on everyone's channel is recovered by those it was for, once."""
        await self.publish("a")
        await self.publish("b")
        start = self.broker.sequence().number
        record = await self.record(a=start, b=start)
        all_ = (await self.publish(audience=Audience(everyone=True))).id
        both = (await self.publish(audience=Audience(rooms=frozenset("ab")))).id
        await self.publish(audience=Audience(rooms=frozenset("xy")))
        self.assertEqual(await self.recovered(record, start), [all_, both])
        late = await self.record(since=start, b=start + 3)
        self.assertEqual(await self.recovered(late, start), [all_])

    async def test_recover_exceptions(self) -> None:
        """Who was left out is left out of the replay too."""
        start = (await self.publish("a")).sequence.number
        record = await self.record(a=start)
        for field in ({"except_users": frozenset(("alice",))}, {"except_connections": frozenset(("c1",))}):
            await self.publish(audience=Audience(rooms=frozenset("a"), **field))
        self.assertEqual(await self.recovered(record, start), [])

    async def test_recover_needs_whole_log(self) -> None:
        """A log that begins after the offset recovers nothing."""
        start = (await self.publish("a")).sequence.number
        record = await self.record(a=start)
        for _ in range(MAX_MESSAGES):
            await self.publish("a")
        self.assertEqual(len(await self.recovered(record, start) or ()), MAX_MESSAGES)
        await self.publish("a")
        self.assertIsNone(await self.recovered(record, start))
        self.assertEqual(len(await self.recovered(record, start + 1) or ()), MAX_MESSAGES)

    async def test_recover_needs_its_log(self) -> None:
        """A room whose log is another one by now recovers nothing."""
        start = (await self.publish("a")).sequence.number
        record = await self.record(a=start)
        record.rooms["a"] = msgspec.structs.replace(record.rooms["a"], epoch="other")
        self.assertIsNone(await self.recovered(record, start))
        del record.rooms["a"]
        record.rooms["never"] = Membership(start, "other", True)
        self.assertIsNone(await self.recovered(record, start))

    async def test_recover_limit(self) -> None:
        """More bytes than allowed are not replayed in part."""
        start = (await self.publish("a")).sequence.number
        record = await self.record(a=start)
        for _ in range(3):
            await self.publish("a", data=b'{"x":"%b"}' % (b"x" * 1000))
        self.assertIsNone(await self.recovered(record, start, limit=2900))
        self.assertEqual(len(await self.recovered(record, start, limit=4500) or ()), 3)

    async def test_recover_foreign_offsets(self) -> None:
        """Offsets of another epoch or generation, or from the future, recover nothing."""
        start = (await self.publish("a")).sequence.number
        record = await self.record(a=start)
        now = self.broker.sequence()
        for wrong in (
            Sequence("other", now.generation, start),
            Sequence(now.epoch, now.generation + 1, start),
            Sequence(now.epoch, now.generation, now.number + 1),
        ):
            self.assertIsNone(await self.broker.recover(record, wrong, 10**6))

    async def test_recover_old_entries_are_gone(self) -> None:
        """Entries older than the retention are not proof any more."""
        start = (await self.publish("a")).sequence.number
        record = await self.record(a=start)
        await self.publish("a")
        await self.advance(RETENTION + 5)
        await self.publish("b")
        await self.store.sweep()
        self.assertIsNone(await self.recovered(record, start))

    async def test_signal(self) -> None:
        """A signal reaches this node too."""
        await self.broker.signal("refresh", b"alice\nbob")
        await self.settled()
        self.assertEqual(self.peer.signals, [("refresh", b"alice\nbob")])

    async def test_stop(self) -> None:
        """A stopped broker takes nothing and says so."""
        self.assertTrue(self.broker.alive())
        self.assertEqual(self.broker.causes(), [])
        await self.broker.stop()
        self.assertFalse(self.broker.alive())
        self.assertNotEqual(self.broker.causes(), [])
        await self.assertFailure(self.broker.publish(publication()), BrokerUnavailable)
        self.assertEqual(self.delivered.publications, [])


class StoreContract(Bus):
    """IStateStore."""

    async def arrive(
        self, user: str, connection: str, *rooms: str, limit: int = 5, members: int = 100
    ) -> Owner:
        owner = Owner(user, connection, 1)
        since = 1000 + int(connection)
        await self.store.begin(
            owner, session_of(owner), dict.fromkeys(rooms, True), since, Limits(limit, members)
        )
        return owner

    async def record(self, owner: Owner) -> Any:
        return await self.store.record(session_of(owner))

    async def take_over(
        self, record: SessionRecord, limit: int = 5, members: int = 100, since: int = 2000
    ) -> Any:
        await self.settled()
        read = await self.broker.recover(record, record.opened, 10**6)
        assert read is not None
        return await self.store.take_over(record, read, since, Limits(limit, members))

    async def join(self, owner: Owner, room: str, limit: int = 100) -> Any:
        return await self.store.join(owner, session_of(owner), room, True, limit)

    async def members(self, room: str) -> list[str]:
        return [presence.user for presence in await self.store.members(room)]

    async def publications(self) -> list[Publication]:
        """What was delivered to anyone since it was last asked."""
        await self.settled()
        told = [one for one in self.delivered.publications if one.audience.everyone or one.audience.targets]
        self.delivered.publications.clear()
        return told

    async def announced(self) -> list[str]:
        """What was announced since it was last asked."""
        return [said(one) for one in await self.publications()]

    async def test_interface(self) -> None:
        """It provides ``IStateStore``."""
        verifyObject(IStateStore, self.store)

    async def test_joined_and_left_once_per_user(self) -> None:
        """A user enters a room with the first connection and leaves it with the last."""
        await self.hear("lobby")
        first = await self.arrive("alice", "1", "lobby")
        second = await self.arrive("alice", "2", "lobby")
        await self.arrive("bob", "3", "lobby")
        self.assertEqual(await self.members("lobby"), ["alice", "bob"])
        await self.store.leave(first, session_of(first), "lobby")
        await self.store.leave(second, session_of(second), "lobby")
        told = [line for line in await self.announced() if line.startswith("room:")]
        self.assertEqual(told, ["room:user_joined alice", "room:user_joined bob", "room:user_left alice"])
        self.assertEqual(await self.members("lobby"), ["bob"])

    async def test_announcements(self) -> None:
        """What others are told, to the byte; user ids and texts may hold any printable character."""
        await self.hear("lobby")
        user, text = 'ä"\\/é', 'a "text"\\\n/ü'
        started = await self.now()
        owner = await self.arrive(user, "1", "lobby")
        await self.store.choose(user, "busy", text)
        await self.store.forget(owner, session_of(owner))
        got = await self.publications()
        ended = await self.now()
        name, said_text = (msgspec.json.encode(word).decode() for word in (user, text))
        in_room = Audience(rooms=frozenset(("lobby",)), except_users=frozenset((user,)))
        to_room = Audience(rooms=frozenset(("lobby",)))
        expected = [
            ("room:user_joined", f'{{"roomId":"lobby","userId":{name},"timestamp":0}}', in_room, True),
            ("user:online", f'{{"userId":{name},"status":"online","timestamp":0}}', to_room, False),
            (
                "user:status_change",
                f'{{"userId":{name},"status":"busy","text":{said_text},"timestamp":0}}',
                to_room,
                False,
            ),
            ("user:offline", f'{{"userId":{name},"status":"offline","timestamp":0}}', in_room, False),
            ("room:user_left", f'{{"roomId":"lobby","userId":{name},"timestamp":0}}', in_room, True),
        ]
        seen = []
        for one in got:
            stamp = msgspec.json.decode(one.data)["timestamp"]
            self.assertTrue(int(started * 1000) <= stamp <= int(ended * 1000) + 1, stamp)
            self.assertEqual((one.time, one.history, len(one.id)), (stamp, False, 28))
            data = one.data.decode().replace(f'"timestamp":{stamp}', '"timestamp":0')
            seen.append((one.event, data, one.audience, one.logged))
        self.assertEqual(seen, expected)
        self.assertEqual([one.sequence is not None for one in got], [True, False, False, False, True])

    async def test_begin(self) -> None:
        """A session is in its rooms, at one point, after the announcements; full rooms are told."""
        await self.arrive("bob", "9", "full")
        owner = Owner("alice", "1", 1)
        rooms = {"user:alice": False, "lobby": True, "full": True}
        begun = await self.store.begin(owner, session_of(owner), rooms, 1234, Limits(5, 1))
        self.assertEqual(begun.full, {"full"})
        self.assertEqual(begun.preferences, Preferences())
        self.assertEqual(begun.sequence, self.broker.sequence())
        record = await self.record(owner)
        self.assertEqual(record.opened.epoch, begun.sequence.epoch)
        self.assertEqual(
            {room: entry.joined for room, entry in record.rooms.items()},
            {"user:alice": False, "lobby": True},
        )
        self.assertLessEqual(max(entry.sequence for entry in record.rooms.values()), begun.sequence.number)
        self.assertEqual((record.owner, record.last_seen), (owner, 0.0))
        (meta,) = (await self.store.presence("alice")).metas
        self.assertEqual((meta.connection, meta.since, meta.idle), ("1", 1234, False))
        self.assertEqual(await self.store.rooms_of("alice"), {"lobby"})
        read = await self.broker.recover(record, record.opened, 10**6)
        self.assertEqual(read.publications, [])

    async def test_begin_again(self) -> None:
        """A session that begins while the store still has an earlier one of its id takes its place."""
        await self.hear("lobby")
        await self.arrive("alice", "1", "lobby")
        owner = Owner("bob", "1", 1)
        await self.announced()
        await self.store.begin(owner, session_of(Owner("alice", "1", 1)), {}, 0, Limits(5, 5))
        self.assertEqual(await self.members("lobby"), [])
        self.assertEqual((await self.store.presence("alice")).metas, ())
        self.assertEqual((await self.store.record(session_of(Owner("alice", "1", 1)))).owner, owner)
        self.assertEqual(await self.announced(), ["user:offline alice offline", "room:user_left alice"])

    async def test_join_point(self) -> None:
        """The point of joining is after the announcement; joining again moves nothing."""
        owner = await self.arrive("alice", "1")
        joined = await self.join(owner, "lobby")
        self.assertEqual(joined.membership.sequence, self.broker.sequence().number)
        self.assertEqual(joined.position.offset, 1)
        self.assertTrue(joined.first)
        await self.broker.publish(publication("lobby"))
        again = await self.join(owner, "lobby")
        self.assertEqual(again.membership, joined.membership)
        self.assertEqual(again.position, Position(2, joined.membership.epoch))
        self.assertFalse(again.first)
        other = await self.arrive("alice", "2")
        self.assertFalse((await self.join(other, "lobby")).first)

    async def test_room_limit(self) -> None:
        """A room takes so many users, and any number of their connections."""
        owners = [
            await self.arrive("alice", "2"),
            await self.arrive("alice", "3"),
            await self.arrive("bob", "4"),
        ]
        await self.join(owners[0], "lobby", limit=1)
        await self.join(owners[1], "lobby", limit=1)
        await self.assertFailure(self.join_of(owners[2], "lobby", 1), RoomFull)
        self.assertEqual(await self.members("lobby"), ["alice"])

    def join_of(self, owner: Owner, room: str, limit: int = 100) -> Deferred[Any]:
        return self.store.join(owner, session_of(owner), room, True, limit)

    async def test_connection_limit(self) -> None:
        """A user has so many connections; suspended ones do not count."""
        owners = [await self.arrive("alice", str(n), limit=2) for n in range(2)]
        third = Owner("alice", "9", 1)

        def begin() -> Deferred[Any]:
            return self.store.begin(third, "s9", {"lobby": True}, 0, Limits(2, 5))

        await self.assertFailure(begin(), TooManyConnections)
        self.assertIsNone(await self.store.record("s9"))
        await self.store.suspend(owners[0], session_of(owners[0]), 0.0)
        await begin()

    async def test_presence_first_and_last(self) -> None:
        """Others learn of a user's first and last connection, and only those who share a room."""
        await self.arrive("bob", "9", "lobby")
        await self.announced()
        first = await self.arrive("alice", "1", "lobby")
        second = await self.arrive("alice", "2", "lobby")
        self.assertEqual(await self.announced(), ["room:user_joined alice", "user:online alice online"])
        await self.store.withdraw(first, session_of(first))
        self.assertEqual(await self.announced(), [])
        await self.store.withdraw(second, session_of(second))
        (offline, left) = await self.publications()
        self.assertEqual(said(offline), "user:offline alice offline")
        self.assertEqual(offline.audience.rooms, frozenset(("lobby",)))
        self.assertEqual(left.event, "room:user_left")
        self.assertEqual(await self.members("lobby"), ["bob"])

    async def test_changed(self) -> None:
        """Of the members of some rooms, those whose status others saw change since then; each once."""
        await self.arrive("alice", "1", "lobby", "event:7")
        await self.advance(10)
        since = await self.now()
        await self.arrive("bob", "2", "lobby", "event:7")
        await self.arrive("carol", "3", "event:8")

        async def changed(since: float, *rooms: str) -> list[str]:
            found = await self.store.changed(frozenset(rooms), since)
            return sorted(presence.user for presence in found)

        self.assertEqual(await changed(0.0, "lobby", "event:7", "none"), ["alice", "bob"])
        self.assertEqual(await changed(since, "lobby", "event:7"), ["bob"])
        await self.advance(10)
        since = await self.now()
        await self.store.choose("alice", "busy", None)
        await self.store.choose("bob", "online", None)
        self.assertEqual(await changed(since, "lobby", "event:8"), ["alice"])
        self.assertEqual(await changed(0.0, *(f"event:{n}" for n in range(50))), ["alice", "bob", "carol"])

    async def test_idle(self) -> None:
        """A user is away when all connections are idle, and back with the first that is not."""
        first = await self.arrive("alice", "1", "lobby")
        second = await self.arrive("alice", "2")
        await self.announced()
        await self.store.touch(first, True)
        self.assertEqual(await self.announced(), [])
        await self.store.touch(second, True)
        self.assertEqual(await self.announced(), ["user:status_change alice away"])
        await self.store.touch(second, True)
        self.assertEqual([meta.idle for meta in (await self.store.presence("alice")).metas], [True, True])
        await self.store.touch(first, False)
        self.assertEqual(await self.announced(), ["user:status_change alice online"])

    async def test_chosen_status(self) -> None:
        """A chosen status holds over idleness; invisible looks offline."""
        owner = await self.arrive("alice", "1", "lobby")
        await self.announced()
        busy = await self.store.choose("alice", "busy", "in a meeting")
        self.assertEqual((busy.status, busy.text, busy.shown), ("busy", "in a meeting", "busy"))
        await self.store.touch(owner, True)
        await self.store.choose("alice", "invisible", None)
        self.assertEqual(
            await self.announced(), ["user:status_change alice busy", "user:offline alice offline"]
        )
        presence = await self.store.presence("alice")
        self.assertEqual((presence.status, presence.text, presence.shown), ("invisible", None, "offline"))

    async def test_status_ends_with_presence(self) -> None:
        """What a user chose is forgotten with the last connection; who is not here can't choose."""
        owner = await self.arrive("alice", "1", "lobby")
        await self.store.choose("alice", "busy", "x")
        await self.store.suspend(owner, session_of(owner), 0.0)
        await self.store.withdraw(owner, session_of(owner))
        gone = await self.store.choose("alice", "busy", "x")
        self.assertEqual((gone.status, gone.text, gone.metas), ("online", None, ()))
        await self.arrive("alice", "2", "lobby")
        self.assertEqual((await self.store.presence("alice")).shown, "online")

    async def test_suspended_session_stays(self) -> None:
        """A lost connection is still present until it is withdrawn; its record outlives that."""
        owner = await self.arrive("alice", "1", "lobby")
        await self.announced()
        await self.store.suspend(owner, session_of(owner), 7.0)
        self.assertEqual(await self.members("lobby"), ["alice"])
        await self.store.withdraw(owner, session_of(owner))
        self.assertEqual(await self.members("lobby"), [])
        record = await self.record(owner)
        self.assertEqual((record.owner, record.last_seen), (owner, 7.0))
        self.assertEqual(set(record.rooms), {"lobby"})

    async def test_record_expires(self) -> None:
        """A suspended session can be taken up for the window, and no longer."""
        owner = await self.arrive("alice", "1", "lobby")
        await self.store.suspend(owner, session_of(owner), 0.0)
        await self.advance(WINDOW - 2)
        self.assertIsNotNone(await self.record(owner))
        await self.advance(3)
        self.assertIsNone(await self.record(owner))
        self.assertEqual(await self.members("lobby"), [])

    async def test_live_record_does_not_expire(self) -> None:
        """A session whose connection lives is kept, also one that was taken up again."""
        owner = await self.arrive("alice", "1", "lobby")
        await self.store.suspend(owner, session_of(owner), 0.0)
        await self.take_over(await self.record(owner))
        await self.advance(WINDOW * 3)
        self.assertIsNotNone(await self.record(owner))
        self.assertEqual(await self.members("lobby"), ["alice"])

    async def test_take_over_in_grace(self) -> None:
        """Taking up a session that is still present changes nothing that others see."""
        owner = await self.arrive("alice", "1", "lobby")
        await self.store.touch(owner, False)
        await self.store.suspend(owner, session_of(owner), 0.0)
        await self.announced()
        restored = await self.take_over(await self.record(owner))
        self.assertEqual(restored.owner, Owner("alice", "1", 2))
        self.assertEqual(restored.missed, [])
        self.assertEqual(await self.announced(), [])
        (meta,) = (await self.store.presence("alice")).metas
        self.assertEqual((meta.connection, meta.since), ("1", 1001))
        record = await self.record(owner)
        self.assertEqual((record.owner, record.last_seen), (restored.owner, 0.0))

    async def test_take_over_after_withdrawal(self) -> None:
        """Taking up a withdrawn session brings it back into its rooms and into presence."""
        owner = await self.arrive("alice", "1", "lobby")
        await self.store.suspend(owner, session_of(owner), 0.0)
        await self.store.withdraw(owner, session_of(owner))
        await self.announced()
        await self.take_over(await self.record(owner))
        self.assertEqual(await self.announced(), ["room:user_joined alice", "user:online alice online"])
        (meta,) = (await self.store.presence("alice")).metas
        self.assertEqual(meta.since, 2000)

    async def test_take_over_reads_the_rest(self) -> None:
        """What comes between reading the logs and taking up is among the missed, in order, once."""
        owner = await self.arrive("alice", "1", "lobby", "event:7")
        await self.store.suspend(owner, session_of(owner), 0.0)
        record = await self.record(owner)
        first = await self.broker.publish(publication("lobby"))
        await self.settled()
        read = await self.broker.recover(record, record.opened, 10**6)
        later = [
            await self.broker.publish(publication("event:7")),
            await self.broker.publish(publication(audience=Audience(everyone=True))),
            await self.broker.publish(publication("lobby")),
            await self.broker.publish(publication(audience=Audience(rooms=frozenset(("lobby", "x"))))),
        ]
        await self.broker.publish(publication(audience=Audience(rooms=frozenset(("x", "y")))))
        await self.broker.publish(
            publication(audience=Audience(rooms=frozenset(("lobby",)), except_users=frozenset(("alice",))))
        )
        await self.settled()
        restored = await self.store.take_over(record, read, 0, Limits(5, 5))
        self.assertEqual([one.id for one in read.publications], [first.id])
        self.assertEqual([one.id for one in restored.missed], [one.id for one in later])
        self.assertEqual([one.sequence for one in restored.missed], [one.sequence for one in later])
        self.assertGreaterEqual(restored.sequence.number, later[-1].sequence.number)

    async def test_take_over_changed_meanwhile(self) -> None:
        """A record that is not as it was read is not taken up."""
        owner = await self.arrive("alice", "1", "lobby")
        for change in ("join", "leave", "forget"):
            record = await self.record(owner)
            read = Recovered([], self.broker.sequence())
            if change == "join":
                # what the memory has is the record itself
                record = msgspec.structs.replace(record, rooms=dict(record.rooms))
                await self.join(owner, "event:7")
            elif change == "leave":
                record = msgspec.structs.replace(record, rooms=dict(record.rooms))
                await self.store.leave(owner, session_of(owner), "event:7")
            else:
                await self.store.forget(owner, session_of(owner))
            self.assertIsNone(await self.store.take_over(record, read, 0, Limits(5, 5)), change)

    async def test_fencing(self) -> None:
        """What the earlier generation still does has no effect."""
        owner = await self.arrive("alice", "1", "lobby")
        record = await self.record(owner)
        new = (await self.take_over(record)).owner
        await self.announced()
        session = session_of(owner)
        await self.store.suspend(owner, session, 0.0)
        await self.store.withdraw(owner, session)
        await self.store.forget(owner, session)
        await self.store.touch(owner, True)
        self.assertFalse(await self.store.leave(owner, session, "lobby"))
        await self.assertFailure(self.join_of(owner, "x", 9), SessionReplaced)
        read = Recovered([], self.broker.sequence())
        self.assertIsNone(await self.store.take_over(record, read, 0, Limits(5, 5)))
        self.assertEqual(await self.announced(), [])
        self.assertEqual(await self.members("lobby"), ["alice"])
        self.assertEqual((await self.record(owner)).owner, new)
        self.assertFalse((await self.store.presence("alice")).metas[0].idle)

    async def test_take_over_limits(self) -> None:
        """A session that was given up comes back only under its user's and its rooms' limits."""
        owner = await self.arrive("alice", "1", "lobby")
        await self.store.suspend(owner, session_of(owner), 0.0)
        record = await self.record(owner)
        await self.arrive("alice", "2")
        read = await self.broker.recover(record, record.opened, 10**6)

        def take_over(connections: int, members: int) -> Deferred[Any]:
            return self.store.take_over(record, read, 0, Limits(connections, members))

        await self.assertFailure(take_over(1, 100), TooManyConnections)
        await self.store.withdraw(owner, session_of(owner))
        await self.arrive("bob", "3", "lobby")
        await self.assertFailure(take_over(5, 1), RoomFull)
        self.assertIsNotNone(await take_over(5, 2))

    async def test_forget(self) -> None:
        """A session that ended can't be taken up, and its user has left."""
        owner = await self.arrive("alice", "1", "lobby")
        await self.store.forget(owner, session_of(owner))
        self.assertIsNone(await self.record(owner))
        self.assertEqual(await self.members("lobby"), [])
        self.assertEqual((await self.store.presence("alice")).metas, ())

    async def test_forgotten_user_goes_once(self) -> None:
        """A user whose sessions all end is offline for all who shared a room with any of them."""
        for n, rooms in enumerate((["lobby"], [], ["lobby", "event:7"])):
            owner = await self.arrive("alice", str(n), *rooms)
        await self.store.suspend(owner, session_of(owner), 0.0)
        await self.announced()
        self.assertEqual(await self.store.forget_user("alice"), {"0", "1"})
        told = [(entry.event, entry.audience.rooms) for entry in await self.publications()]
        self.assertEqual(told[0], ("user:offline", {"lobby", "event:7"}))
        self.assertCountEqual(told[1:], [("room:user_left", {"lobby"}), ("room:user_left", {"event:7"})])
        self.assertEqual(await self.store.forget_user("alice"), frozenset())
        self.assertEqual(await self.announced(), [])

    async def test_sessions_that_wait(self) -> None:
        """Of one user no more sessions wait than it may have connections: the oldest end."""
        owners = []
        for n in range(9):
            owners.append(await self.arrive("alice", str(n), "lobby", limit=3))
            await self.store.suspend(owners[-1], session_of(owners[-1]), 0.0)
            await self.advance(0.01)
        kept = [n for n, owner in enumerate(owners) if await self.record(owner) is not None]
        self.assertEqual(kept, [5, 6, 7, 8])
        self.assertEqual(await self.members("lobby"), ["alice"])

    async def test_join_of_one_who_was_given_up(self) -> None:
        """A room that a session enters after it was withdrawn has the user once that is taken up."""
        owner = await self.arrive("alice", "1")
        await self.store.suspend(owner, session_of(owner), 0.0)
        await self.store.withdraw(owner, session_of(owner))
        await self.join(owner, "lobby")
        self.assertEqual(await self.members("lobby"), [])
        owner = (await self.take_over(await self.record(owner))).owner
        self.assertEqual(await self.members("lobby"), ["alice"])
        await self.store.forget(owner, session_of(owner))
        self.assertEqual(await self.members("lobby"), [])

    async def test_forget_user(self) -> None:
        """All sessions of a user end, suspended and withdrawn ones too; nobody else's do."""
        owners = [await self.arrive("alice", str(n), "lobby") for n in range(3)]
        bob = await self.arrive("bob", "9", "lobby")
        for owner in owners[1:]:
            await self.store.suspend(owner, session_of(owner), 0.0)
        await self.store.withdraw(owners[2], session_of(owners[2]))
        await self.store.forget_user("alice")
        for owner in owners:
            self.assertIsNone(await self.record(owner))
        self.assertIsNotNone(await self.record(bob))
        self.assertEqual(await self.members("lobby"), ["bob"])

    async def test_expel(self) -> None:
        """All sessions of a user are out of a room, in one step: others are told once."""
        owners = [await self.arrive("alice", str(n), "lobby", "event:7") for n in range(3)]
        bob = await self.arrive("bob", "9", "lobby")
        await self.store.suspend(owners[1], session_of(owners[1]), 0.0)
        await self.store.suspend(owners[2], session_of(owners[2]), 0.0)
        await self.store.withdraw(owners[2], session_of(owners[2]))
        await self.publications()
        self.assertEqual(await self.store.expel("alice", "lobby"), {"0"})
        told = [(entry.event, entry.audience.rooms) for entry in await self.publications()]
        self.assertEqual(told, [("room:user_left", {"lobby"})])
        self.assertEqual(await self.members("lobby"), ["bob"])
        self.assertEqual(await self.members("event:7"), ["alice"])
        for owner in owners:
            self.assertEqual(set((await self.record(owner)).rooms), {"event:7"})
        self.assertEqual(set((await self.record(bob)).rooms), {"lobby"})
        self.assertEqual(await self.store.expel("alice", "lobby"), frozenset())
        self.assertEqual(await self.store.expel("nobody", "lobby"), frozenset())

    async def test_leave_forgets_the_room(self) -> None:
        """A room that was left is not in the record any more."""
        owner = await self.arrive("alice", "1", "lobby")
        self.assertTrue(await self.store.leave(owner, session_of(owner), "lobby"))
        self.assertFalse(await self.store.leave(owner, session_of(owner), "lobby"))
        self.assertEqual((await self.record(owner)).rooms, {})

    async def test_rooms(self) -> None:
        """Rooms with their users; rooms joined for a user are not among them."""
        owner = await self.arrive("alice", "1", "lobby", "event:42")
        await self.store.join(owner, session_of(owner), "user:alice", False, 0)
        await self.arrive("bob", "2", "lobby")
        self.assertEqual(dict(await self.store.rooms()), {"lobby": 2, "event:42": 1})
        self.assertEqual(await self.store.rooms_of("alice"), {"lobby", "event:42"})
        await self.store.leave(owner, session_of(owner), "event:42")
        self.assertEqual(dict(await self.store.rooms()), {"lobby": 2})

    async def test_members_in_order_of_joining(self) -> None:
        """Whoever joined first comes first, and whoever left and came back comes last."""
        owners = [await self.arrive(user, str(n), "lobby") for n, user in enumerate("dbca")]
        await self.store.leave(owners[1], session_of(owners[1]), "lobby")
        await self.join(owners[1], "lobby")
        self.assertEqual(await self.members("lobby"), ["d", "c", "a", "b"])

    async def test_preferences(self) -> None:
        """Preferences outlive the user's connections, and come with the next."""
        self.assertEqual(await self.store.preferences("alice"), Preferences())
        wanted = Preferences(frozenset(("ticket:sold",)), frozenset(("lobby",)))
        await self.store.prefer("alice", wanted)
        self.assertEqual(await self.store.preferences("alice"), wanted)
        owner = Owner("alice", "1", 1)
        begun = await self.store.begin(owner, session_of(owner), {}, 0, Limits(5, 5))
        self.assertEqual(begun.preferences, wanted)
        self.assertEqual((await self.take_over(await self.record(owner))).preferences, wanted)
