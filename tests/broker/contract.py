"""What every broker and every state store promises: mixins that each implementation runs.

A subclass's `setUp` makes ``self.clock`` (task.Clock), ``self.broker``, ``self.store`` and
``self.delivered`` (a list that the broker delivers into).
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from zope.interface import implementer
from zope.interface.verify import verifyObject

from realtime.broker.interface import (
    IAnnouncer,
    IBroker,
    IDelivery,
    IStateStore,
    Preferences,
    Presence,
)
from realtime.errors import RoomFull, SessionReplaced, TooManyConnections
from realtime.messages import Audience, Membership, Owner, Position, Publication, Sequence, SessionRecord

WINDOW = 120.0
RETENTION = 205.0
MAX_MESSAGES = 50
MAX_BYTES = 4000
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

    @property
    def events(self) -> list[str]:
        return [entry.event for entry in self.publications]


@implementer(IAnnouncer)
class Announced:
    """Announcements that say in their data what changed."""

    def entered(self, user: str, room: str) -> Publication:
        return publication(room, "room:user_joined", data=user.encode())

    def left(self, user: str, room: str) -> Publication:
        return publication(room, "room:user_left", data=user.encode())

    def presence(self, before: Presence, after: Presence, rooms: frozenset[str]) -> Publication | None:
        if before.shown == after.shown:
            return None
        return Publication(
            "presence",
            f"{after.user} {before.shown} {after.shown}".encode(),
            Audience(rooms=rooms),
            f"p{next(_ids)}",
            1000,
            logged=False,
        )


class BrokerContract:
    """IBroker."""

    clock: Clock
    broker: Any
    delivered: Delivered

    def record(self, since: int = 0, **rooms: int) -> SessionRecord:
        """A record of a session in rooms, each joined at a sequence number."""
        owner = Owner("alice", "c1", 1)
        memberships = {room: Membership(number, self._epoch(room), True) for room, number in rooms.items()}
        now = self.broker.sequence()
        opened = Sequence(now.epoch, now.generation, since)
        return SessionRecord("secret", owner, memberships, opened)

    def _epoch(self, room: str) -> str:
        return self.successResultOf(self.broker.history(room, None, None, 1)).position.epoch

    def at(self, number: int) -> Sequence:
        now = self.broker.sequence()
        return Sequence(now.epoch, now.generation, number)

    def publish(self, *args: Any, key: str | None = None, **fields: Any) -> Any:
        return self.successResultOf(self.broker.publish(publication(*args, **fields), key))

    def recovered(self, record: SessionRecord, number: int, limit: int = 10**6) -> list[str] | None:
        found = self.successResultOf(self.broker.recover(record, self.at(number), limit))
        return None if found is None else [entry.id for entry in found]

    def test_interface(self) -> None:
        """It provides ``IBroker``."""
        verifyObject(IBroker, self.broker)

    def test_offsets_count_per_channel(self) -> None:
        """Offsets count 1, 2, 3… in each channel, the sequence over all of them."""
        places = [self.publish("a"), self.publish("b"), self.publish("a")]
        self.assertEqual([place.position.offset for place in places], [1, 1, 2])
        numbers = [place.sequence.number for place in places]
        self.assertEqual(numbers, [numbers[0], numbers[0] + 1, numbers[0] + 2])
        self.assertEqual(places[0].position.epoch, places[2].position.epoch)

    def test_delivered_with_place(self) -> None:
        """What is delivered carries the position and sequence that the publisher is told."""
        told = self.publish("a")
        (got,) = self.delivered.publications
        self.assertEqual((got.position, got.sequence), (told.position, told.sequence))

    def test_not_logged(self) -> None:
        """What is not to be logged is delivered, and has no place."""
        told = self.publish("a", "room:typing", logged=False)
        self.assertEqual((told.position, told.sequence), (None, None))
        self.assertEqual(self.delivered.events, ["room:typing"])

    def test_published_during_delivery(self) -> None:
        """What is published during a delivery comes after it, to every receiver."""
        self.delivered.during = lambda: self.publish("a", "second")
        self.publish("a", "first")
        self.assertEqual(self.delivered.events, ["first", "second"])
        numbers = [entry.sequence.number for entry in self.delivered.publications]
        self.assertEqual(numbers, sorted(numbers))

    def test_recovered_during_delivery(self) -> None:
        """What waits behind the publication that is being delivered is not recovered: it comes live."""
        self.publish("a")
        record = self.record(a=0)
        seen: list[Any] = []

        def meanwhile() -> None:
            behind = self.publish("a")
            seen.extend((behind.id, self.broker.sequence(), self.recovered(record, 1)))

        self.delivered.during = meanwhile
        told = self.publish("a")
        self.assertEqual(seen[1:], [told.sequence, [told.id]])
        self.assertEqual(self.recovered(record, told.sequence.number), [seen[0]])

    def test_idempotency(self) -> None:
        """A repetition under the same key is not delivered, and answers the first one's values."""
        first = self.publish("a", key="k")
        again = self.publish("a", key="k")
        self.assertTrue(again.repeated)
        self.assertEqual((again.id, again.position, again.time), (first.id, first.position, first.time))
        self.assertEqual(len(self.delivered.publications), 1)

    def test_idempotency_ends(self) -> None:
        """A key is forgotten after the window."""
        self.publish("a", key="k")
        self.clock.advance(WINDOW + 1)
        self.assertFalse(self.publish("a", key="k").repeated)

    def test_history(self) -> None:
        """History shows messages only, the newest, oldest first, in both directions."""
        ids = []
        for _ in range(12):
            self.publish("a", "room:user_joined")
            ids.append(self.publish("a").id)
        page = self.successResultOf(self.broker.history("a", None, None, 100))
        self.assertEqual([entry.id for entry in page.publications], ids[-HISTORY:])
        self.assertEqual(page.position.offset, 24)
        offsets = [entry.position.offset for entry in page.publications]
        page = self.successResultOf(self.broker.history("a", offsets[2], None, 2))
        self.assertEqual([entry.position.offset for entry in page.publications], offsets[3:5])
        page = self.successResultOf(self.broker.history("a", None, offsets[4], 2))
        self.assertEqual([entry.position.offset for entry in page.publications], offsets[2:4])
        page = self.successResultOf(self.broker.history("a", None, None, 0))
        self.assertEqual(page.publications, [])

    def test_missed(self) -> None:
        """All messages after a position; None where some may be gone, or the epoch is another."""
        first = self.publish("a").position
        second = self.publish("a")
        found = self.successResultOf(self.broker.missed("a", first))
        self.assertEqual([entry.id for entry in found], [second.id])
        for wrong in (Position(1, "other"), Position(99, first.epoch)):
            self.assertIsNone(self.successResultOf(self.broker.missed("a", wrong)))
        for _ in range(HISTORY):
            self.publish("a")
        self.assertIsNone(self.successResultOf(self.broker.missed("a", first)))

    def test_recover(self) -> None:
        """What came after the offset in the session's rooms, in sequence order."""
        self.publish("a")
        self.publish("b")
        self.publish("c")
        start = self.broker.sequence().number
        record = self.record(a=1, b=1)
        wanted = [self.publish(room).id for room in ("a", "b", "a")]
        self.publish("c")
        self.assertEqual(self.recovered(record, start), wanted)
        self.assertEqual(self.recovered(record, start + 1), wanted[1:])

    def test_recover_from_join(self) -> None:
        """A room's recovery starts where it was joined, if that is later than the offset."""
        self.publish("a")
        joined = self.broker.sequence().number
        later = self.publish("a").id
        self.assertEqual(self.recovered(self.record(a=joined), 0), [later])

    def test_recover_everyone_and_unions(self) -> None:
        """What travels on everyone's channel is recovered by those it was for, once."""
        self.publish("a")
        self.publish("b")
        start = self.broker.sequence().number
        record = self.record(a=start, b=start)
        all_ = self.publish(audience=Audience(everyone=True)).id
        both = self.publish(audience=Audience(rooms=frozenset("ab"))).id
        self.publish(audience=Audience(rooms=frozenset("xy")))
        self.assertEqual(self.recovered(record, start), [all_, both])
        late = self.record(since=start, b=start + 3)
        self.assertEqual(self.recovered(late, start), [all_])

    def test_recover_exceptions(self) -> None:
        """Who was left out is left out of the replay too."""
        self.publish("a")
        record = self.record(a=1)
        for field in ({"except_users": frozenset(("alice",))}, {"except_connections": frozenset(("c1",))}):
            self.publish(audience=Audience(rooms=frozenset("a"), **field))
        self.assertEqual(self.recovered(record, 1), [])

    def test_recover_needs_whole_log(self) -> None:
        """A log that begins after the offset recovers nothing."""
        self.publish("a")
        record = self.record(a=1)
        for _ in range(MAX_MESSAGES):
            self.publish("a")
        self.assertEqual(len(self.recovered(record, 1)), MAX_MESSAGES)
        self.publish("a")
        self.assertIsNone(self.recovered(record, 1))
        self.assertEqual(len(self.recovered(record, 2)), MAX_MESSAGES)

    def test_recover_limit(self) -> None:
        """More bytes than allowed are not replayed in part."""
        self.publish("a")
        record = self.record(a=1)
        for _ in range(3):
            self.publish("a", data=b"x" * 100)
        self.assertIsNone(self.recovered(record, 1, limit=299))
        self.assertEqual(len(self.recovered(record, 1, limit=300)), 3)

    def test_recover_foreign_offsets(self) -> None:
        """Offsets of another epoch or generation, or from the future, recover nothing."""
        self.publish("a")
        record = self.record(a=1)
        now = self.broker.sequence()
        for wrong in (
            Sequence("other", now.generation, 1),
            Sequence(now.epoch, now.generation + 1, 1),
            Sequence(now.epoch, now.generation, now.number + 1),
        ):
            self.assertIsNone(self.successResultOf(self.broker.recover(record, wrong, 10**6)))

    def test_recover_old_entries_are_gone(self) -> None:
        """Entries older than the retention are not proof any more."""
        self.publish("a")
        record = self.record(a=1)
        self.publish("a")
        self.clock.advance(RETENTION + 1)
        self.successResultOf(self.store.sweep())
        self.assertIsNone(self.recovered(record, 1))

    def test_stop(self) -> None:
        """A stopped broker takes nothing and says so."""
        self.assertTrue(self.broker.alive())
        self.successResultOf(self.broker.stop())
        self.assertFalse(self.broker.alive())
        failure = self.failureResultOf(self.broker.publish(publication()))
        self.assertEqual(failure.value.code, "broker.unavailable")
        self.assertEqual(self.delivered.publications, [])


class StoreContract:
    """IStateStore."""

    clock: Clock
    broker: Any
    store: Any
    delivered: Delivered

    def ok(self, result: Deferred[Any]) -> Any:
        return self.successResultOf(result)

    def arrive(self, user: str, connection: str, *rooms: str, limit: int = 5) -> Owner:
        owner = Owner(user, connection, 1)
        self.ok(self.store.open(owner, self.session(owner), limit))
        for room in rooms:
            self.join(owner, room)
        self.ok(self.store.attach(owner, 1000))
        return owner

    @staticmethod
    def session(owner: Owner) -> str:
        return f"secret-{owner.user}-{owner.connection}"

    def join(self, owner: Owner, room: str, limit: int = 100) -> Any:
        return self.ok(self.store.join(owner, self.session(owner), room, True, limit))

    def members(self, room: str) -> list[str]:
        return [presence.user for presence in self.ok(self.store.members(room))]

    def announced(self) -> list[str]:
        """What was announced since it was last asked."""
        told = [f"{entry.event} {entry.data.decode()}" for entry in self.delivered.publications]
        self.delivered.publications.clear()
        return told

    def test_interface(self) -> None:
        """It provides ``IStateStore``."""
        verifyObject(IStateStore, self.store)

    def test_joined_and_left_once_per_user(self) -> None:
        """A user enters a room with the first connection and leaves it with the last."""
        first = self.arrive("alice", "1", "lobby")
        second = self.arrive("alice", "2", "lobby")
        self.arrive("bob", "3", "lobby")
        self.assertEqual(self.members("lobby"), ["alice", "bob"])
        self.ok(self.store.leave(first, self.session(first), "lobby"))
        self.ok(self.store.leave(second, self.session(second), "lobby"))
        told = [line for line in self.announced() if line.startswith("room:")]
        self.assertEqual(told, ["room:user_joined alice", "room:user_joined bob", "room:user_left alice"])

    def test_join_point(self) -> None:
        """The point of joining is after the announcement; joining again moves nothing."""
        owner = self.arrive("alice", "1")
        joined = self.join(owner, "lobby")
        self.assertEqual(joined.membership.sequence, self.broker.sequence().number)
        self.assertEqual(joined.position.offset, 1)
        self.assertTrue(joined.first)
        self.ok(self.broker.publish(publication("lobby")))
        again = self.join(owner, "lobby")
        self.assertEqual(again.membership, joined.membership)
        self.assertEqual(again.position.offset, 2)

    def test_room_limit(self) -> None:
        """A room takes so many users, and any number of their connections."""
        self.arrive("alice", "1")
        owners = [self.arrive("alice", "2"), self.arrive("alice", "3"), self.arrive("bob", "4")]
        self.join(owners[0], "lobby", limit=1)
        self.join(owners[1], "lobby", limit=1)
        refused = self.store.join(owners[2], self.session(owners[2]), "lobby", True, 1)
        self.failureResultOf(refused, RoomFull)
        self.assertEqual(self.members("lobby"), ["alice"])

    def test_connection_limit(self) -> None:
        """A user has so many connections; suspended ones do not count."""
        owners = [self.arrive("alice", str(n), limit=2) for n in range(2)]
        third = Owner("alice", "9", 1)
        self.failureResultOf(self.store.open(third, "s9", 2), TooManyConnections)
        self.ok(self.store.suspend(owners[0], self.session(owners[0]), 0.0))
        self.ok(self.store.open(third, "s9", 2))

    def test_presence_first_and_last(self) -> None:
        """Others learn of a user's first and last connection, and only those who share a room."""
        self.arrive("bob", "9", "lobby")
        self.announced()
        first = self.arrive("alice", "1", "lobby")
        second = self.arrive("alice", "2", "lobby")
        self.assertEqual(self.announced(), ["room:user_joined alice", "presence alice offline online"])
        self.ok(self.store.withdraw(first, self.session(first)))
        self.assertEqual(self.announced(), [])
        self.ok(self.store.withdraw(second, self.session(second)))
        (offline, left) = self.delivered.publications
        self.assertEqual(offline.data, b"alice online offline")
        self.assertEqual(offline.audience.rooms, frozenset(("lobby",)))
        self.assertEqual(left.event, "room:user_left")
        self.assertEqual(self.members("lobby"), ["bob"])

    def test_changed(self) -> None:
        """Of the members of some rooms, those whose status others saw change since then; each once."""
        self.arrive("alice", "1", "lobby", "event:7")
        self.clock.advance(10)
        self.arrive("bob", "2", "lobby", "event:7")
        self.arrive("carol", "3", "event:8")

        def changed(since: float, *rooms: str) -> list[str]:
            found = self.ok(self.store.changed(frozenset(rooms), since))
            return sorted(presence.user for presence in found)

        self.assertEqual(changed(0.0, "lobby", "event:7", "none"), ["alice", "bob"])
        self.assertEqual(changed(10.0, "lobby", "event:7"), ["bob"])
        self.clock.advance(10)
        self.ok(self.store.choose("alice", "busy", None))
        self.ok(self.store.choose("bob", "online", None))
        self.assertEqual(changed(20.0, "lobby", "event:8"), ["alice"])

    def test_idle(self) -> None:
        """A user is away when all connections are idle, and back with the first that is not."""
        first = self.arrive("alice", "1", "lobby")
        second = self.arrive("alice", "2")
        self.announced()
        self.ok(self.store.touch(first, True))
        self.assertEqual(self.announced(), [])
        self.ok(self.store.touch(second, True))
        self.assertEqual(self.announced(), ["presence alice online away"])
        self.ok(self.store.touch(first, False))
        self.assertEqual(self.announced(), ["presence alice away online"])

    def test_chosen_status(self) -> None:
        """A chosen status holds over idleness; invisible looks offline."""
        owner = self.arrive("alice", "1", "lobby")
        self.announced()
        self.ok(self.store.choose("alice", "busy", "in a meeting"))
        self.ok(self.store.touch(owner, True))
        self.ok(self.store.choose("alice", "invisible", None))
        self.assertEqual(self.announced(), ["presence alice online busy", "presence alice busy offline"])
        self.assertEqual(self.ok(self.store.presence("alice")).status, "invisible")

    def test_suspended_session_stays(self) -> None:
        """A lost connection is still present until it is withdrawn; its record outlives that."""
        owner = self.arrive("alice", "1", "lobby")
        self.announced()
        self.ok(self.store.suspend(owner, self.session(owner), 7.0))
        self.assertEqual(self.members("lobby"), ["alice"])
        self.ok(self.store.withdraw(owner, self.session(owner)))
        self.assertEqual(self.members("lobby"), [])
        record = self.ok(self.store.record(self.session(owner)))
        self.assertEqual((record.owner, record.last_seen), (owner, 7.0))
        self.assertEqual(set(record.rooms), {"lobby"})

    def test_record_expires(self) -> None:
        """A suspended session can be taken up for the window, and no longer."""
        owner = self.arrive("alice", "1", "lobby")
        self.ok(self.store.suspend(owner, self.session(owner), 0.0))
        self.clock.advance(WINDOW - 1)
        self.assertIsNotNone(self.ok(self.store.record(self.session(owner))))
        self.clock.advance(2)
        self.assertIsNone(self.ok(self.store.record(self.session(owner))))
        self.assertEqual(self.members("lobby"), [])

    def test_live_record_does_not_expire(self) -> None:
        """A session whose connection lives is kept, also one that was taken up again."""
        owner = self.arrive("alice", "1")
        self.ok(self.store.suspend(owner, self.session(owner), 0.0))
        record = self.ok(self.store.record(self.session(owner)))
        self.ok(self.store.take_over(record, 5, 100))
        self.clock.advance(WINDOW * 3)
        self.assertIsNotNone(self.ok(self.store.record(self.session(owner))))

    def test_take_over_in_grace(self) -> None:
        """Taking up a session that is still present changes nothing that others see."""
        owner = self.arrive("alice", "1", "lobby")
        self.ok(self.store.suspend(owner, self.session(owner), 0.0))
        self.announced()
        record = self.ok(self.store.record(self.session(owner)))
        new = self.ok(self.store.take_over(record, 5, 100))
        self.assertEqual(new, Owner("alice", "1", 2))
        self.ok(self.store.attach(new, 2000))
        self.assertEqual(self.announced(), [])

    def test_take_over_after_withdrawal(self) -> None:
        """Taking up a withdrawn session brings it back into its rooms and into presence."""
        owner = self.arrive("alice", "1", "lobby")
        self.ok(self.store.suspend(owner, self.session(owner), 0.0))
        self.ok(self.store.withdraw(owner, self.session(owner)))
        self.announced()
        record = self.ok(self.store.record(self.session(owner)))
        new = self.ok(self.store.take_over(record, 5, 100))
        self.ok(self.store.attach(new, 2000))
        self.assertEqual(self.announced(), ["room:user_joined alice", "presence alice offline online"])

    def test_fencing(self) -> None:
        """What the earlier generation still does has no effect."""
        owner = self.arrive("alice", "1", "lobby")
        record = self.ok(self.store.record(self.session(owner)))
        new = self.ok(self.store.take_over(record, 5, 100))
        self.announced()
        session = self.session(owner)
        self.ok(self.store.suspend(owner, session, 0.0))
        self.ok(self.store.withdraw(owner, session))
        self.ok(self.store.forget(owner, session))
        self.assertFalse(self.ok(self.store.leave(owner, session, "lobby")))
        self.failureResultOf(self.store.join(owner, session, "x", True, 9), SessionReplaced)
        self.assertIsNone(self.ok(self.store.take_over(record, 5, 100)))
        self.assertEqual(self.announced(), [])
        self.assertEqual(self.members("lobby"), ["alice"])
        self.assertEqual(self.ok(self.store.record(session)).owner, new)

    def test_take_over_limits(self) -> None:
        """A session that was given up comes back only under its user's and its rooms' limits."""
        owner = self.arrive("alice", "1", "lobby")
        self.ok(self.store.suspend(owner, self.session(owner), 0.0))
        record = self.ok(self.store.record(self.session(owner)))
        self.arrive("alice", "2")
        self.failureResultOf(self.store.take_over(record, 1, 100), TooManyConnections)
        self.ok(self.store.withdraw(owner, self.session(owner)))
        self.arrive("bob", "3", "lobby")
        self.failureResultOf(self.store.take_over(record, 5, 1), RoomFull)
        self.assertIsNotNone(self.ok(self.store.take_over(record, 5, 2)))

    def test_forget(self) -> None:
        """A session that ended can't be taken up, and its user has left."""
        owner = self.arrive("alice", "1", "lobby")
        self.ok(self.store.forget(owner, self.session(owner)))
        self.assertIsNone(self.ok(self.store.record(self.session(owner))))
        self.assertEqual(self.members("lobby"), [])
        self.assertEqual(self.ok(self.store.presence("alice")).metas, ())

    def test_forgotten_user_goes_once(self) -> None:
        """A user whose sessions all end is offline for all who shared a room with any of them."""
        for n, rooms in enumerate((["lobby"], [], ["lobby", "event:7"])):
            owner = self.arrive("alice", str(n), *rooms)
        self.ok(self.store.suspend(owner, self.session(owner), 0.0))
        self.announced()
        self.ok(self.store.forget_user("alice"))
        told = [(entry.event, entry.audience.rooms) for entry in self.delivered.publications]
        self.assertEqual(told[0], ("presence", {"lobby", "event:7"}))
        self.assertCountEqual(told[1:], [("room:user_left", {"lobby"}), ("room:user_left", {"event:7"})])

    def test_sessions_that_wait(self) -> None:
        """Of one user no more sessions wait than it may have connections: the oldest end."""
        for n in range(9):
            owner = self.arrive("alice", str(n), limit=3)
            self.ok(self.store.suspend(owner, self.session(owner), 0.0))
        kept = [n for n in range(9) if self.ok(self.store.record(f"secret-alice-{n}")) is not None]
        self.assertEqual(kept, [5, 6, 7, 8])

    def test_join_of_one_who_was_given_up(self) -> None:
        """A room that a session enters after it was withdrawn has the user once that is taken up."""
        owner = self.arrive("alice", "1")
        self.ok(self.store.suspend(owner, self.session(owner), 0.0))
        self.ok(self.store.withdraw(owner, self.session(owner)))
        self.join(owner, "lobby")
        self.assertEqual(self.members("lobby"), [])
        record = self.ok(self.store.record(self.session(owner)))
        owner = self.ok(self.store.take_over(record, 5, 100))
        self.assertEqual(self.members("lobby"), ["alice"])
        self.ok(self.store.forget(owner, self.session(owner)))
        self.assertEqual(self.members("lobby"), [])

    def test_forget_user(self) -> None:
        """All sessions of a user end, suspended and withdrawn ones too; nobody else's do."""
        owners = [self.arrive("alice", str(n), "lobby") for n in range(3)]
        bob = self.arrive("bob", "9", "lobby")
        for owner in owners[1:]:
            self.ok(self.store.suspend(owner, self.session(owner), 0.0))
        self.ok(self.store.withdraw(owners[2], self.session(owners[2])))
        self.ok(self.store.forget_user("alice"))
        for owner in owners:
            self.assertIsNone(self.ok(self.store.record(self.session(owner))))
        self.assertIsNotNone(self.ok(self.store.record(self.session(bob))))
        self.assertEqual(self.members("lobby"), ["bob"])

    def test_leave_forgets_the_room(self) -> None:
        """A room that was left is not in the record any more."""
        owner = self.arrive("alice", "1", "lobby")
        self.assertTrue(self.ok(self.store.leave(owner, self.session(owner), "lobby")))
        self.assertFalse(self.ok(self.store.leave(owner, self.session(owner), "lobby")))
        self.assertEqual(self.ok(self.store.record(self.session(owner))).rooms, {})

    def test_rooms(self) -> None:
        """Rooms with their users; rooms joined for a user are not among them."""
        owner = self.arrive("alice", "1", "lobby", "event:42")
        self.ok(self.store.join(owner, self.session(owner), "user:alice", False, 0))
        self.arrive("bob", "2", "lobby")
        self.assertEqual(dict(self.ok(self.store.rooms())), {"lobby": 2, "event:42": 1})
        self.assertEqual(self.ok(self.store.rooms_of("alice")), {"lobby", "event:42"})

    def test_preferences(self) -> None:
        """Preferences outlive the user's connections."""
        self.assertEqual(self.ok(self.store.preferences("alice")), Preferences())
        wanted = Preferences(frozenset(("ticket:sold",)), frozenset(("lobby",)))
        self.ok(self.store.prefer("alice", wanted))
        self.assertEqual(self.ok(self.store.preferences("alice")), wanted)
