"""Tests for realtime.wire.wamp_topics: topics of events, and what subscriptions match and need."""

from __future__ import annotations

import gc

from twisted.trial.unittest import SynchronousTestCase

from realtime.errors import InvalidMessage, InvalidRoom, RealtimeError, RoomForbidden
from realtime.messages import Audience, Publication
from realtime.wire.wamp_topics import (
    EXACT,
    PREFIX,
    WILDCARD,
    Interests,
    Place,
    Subscription,
    Subscriptions,
    channel_of,
    check,
    named_room,
    personal_topic,
    place_of,
    topic_of,
)


def publication(event: str, *rooms: str, users: tuple[str, ...] = ()) -> Publication:
    audience = Audience(rooms=frozenset(rooms), users=frozenset(users), everyone=not (rooms or users))
    return Publication(event, b"{}", audience, "id", 1)


class TopicTests(SynchronousTestCase):
    def test_topics(self) -> None:
        for event, rooms, topic in [
            ("room:message", ("42",), "room.42.message"),
            ("room:message", ("event:42",), "room.event:42.message"),
            ("room:user_joined", ("a:b",), "room.a:b.user_joined"),
            ("event:sold_out", ("event:42",), "event.42.sold_out"),
            ("event:x", ("event:4:2",), "event.4:2.x"),
            ("ticket:sold", ("event:42",), "ticket.sold"),
            ("user:online", ("a", "b"), "user.online"),
            ("booking:confirmed", (), "booking.confirmed"),
            ("custom:a:b", (), "custom.a.b"),
        ]:
            self.assertEqual(topic_of(publication(event, *rooms)), topic)

    def test_personal(self) -> None:
        for event, user, topic in [
            ("notification:new", "alice", "user.alice.notification.new"),
            ("user:greeting", "alice", "user.alice.greeting"),
            ("booking:created", "a.b%c#d", "user.a%2Eb%25c%23d.booking.created"),
        ]:
            self.assertEqual(personal_topic(publication(event, users=(user,)), user), topic)
            self.assertIsNone(personal_topic(publication(event, users=("other",)), user))
            self.assertIsNone(personal_topic(publication(event), user))
        self.assertIsNone(personal_topic(publication("x:y", users=("",)), ""))

    def test_matches(self) -> None:
        for match, uri, yes, no in [
            (EXACT, "a.b", "a.b", "a.b.c"),
            (PREFIX, "a.b", "a.bc.d", "a.c"),
            (PREFIX, "", "anything", None),
            (WILDCARD, "a..c", "a.b.c", "a.b.d"),
            (WILDCARD, "a..c", "a.x.c", "a.x.y.c"),
            (WILDCARD, "..", "x.y.z", "x.y"),
        ]:
            one = Subscription(1, match, uri)
            self.assertTrue(one.matches(yes), (match, uri))
            if no is not None:
                self.assertFalse(one.matches(no), (match, uri))

    def test_the_room_that_is_named(self) -> None:
        for match, uri, room in [
            (EXACT, "room.42.message", "42"),
            (EXACT, "event.42.x", "event:42"),
            (EXACT, "booking.42.x", None),
            (PREFIX, "room.42.", "42"),
            (PREFIX, "room.42.mess", "42"),
            (PREFIX, "room.42", None),
            (PREFIX, "room.", None),
            (PREFIX, "event.7.", "event:7"),
            (WILDCARD, "room.42.", "42"),
            (WILDCARD, "room..message", None),
            (WILDCARD, "..message", None),
        ]:
            self.assertEqual(named_room(match, uri), room, (match, uri))

    def test_check(self) -> None:
        for match, uri, refusal in [
            (EXACT, "room.42.message", None),
            (EXACT, "user.online", None),
            (EXACT, "user.alice.x", None),
            (EXACT, "user.al%69ce.x", None),
            (PREFIX, "user.alice.", None),
            (PREFIX, "user.b", None),
            (PREFIX, "", None),
            (WILDCARD, "user..x", None),
            (EXACT, "user.bob.x", RoomForbidden),
            (PREFIX, "user.bob.", RoomForbidden),
            (WILDCARD, "user.bob.", RoomForbidden),
            (EXACT, "role.x.y", RoomForbidden),
            (PREFIX, "role.x.", RoomForbidden),
            (EXACT, "room.a b.x", InvalidRoom),
            (PREFIX, "room.a*.", InvalidRoom),
            (EXACT, "event.a::b.x", InvalidRoom),
            (EXACT, "room.42", InvalidMessage),
            (EXACT, "x", InvalidMessage),
            (EXACT, "x" * 600, InvalidMessage),
        ]:
            try:
                check(match, uri, "alice")
                found: type[RealtimeError] | None = None
            except RealtimeError as error:
                found = type(error)
            self.assertEqual(found, refusal, (match, uri))

    def test_place(self) -> None:
        self.assertEqual(place_of("room.a:b.message"), Place("a:b", "room:message"))
        self.assertEqual(place_of("room.a.typing"), Place("a", "user:typing"))
        for topic in (
            "room.a.user_joined",
            "booking.confirmed",
            "event.1.message",
            "room.a",
            "room",
            "x.a.message",
        ):
            self.assertIsNone(place_of(topic))

    def test_channel(self) -> None:
        """What is published to a channel has the topic that this channel is found by."""
        for topic, channel in [
            ("booking.confirmed", "booking:confirmed"),
            ("tour.date.moved", "tour:date:moved"),
            ("room.42.message", "room:42:message"),
            ("room.event:42.doors", "room:event:42:doors"),
            ("event.42.doors", "event:42:doors"),
            ("user.a%2Eb%25.notification.new", "user:a.b%:notification:new"),
            ("user.online", "user:online"),
            ("system", "system"),
        ]:
            self.assertEqual(channel_of(topic), channel)
        for topic in ("room.42", "room.42.a.b", "event.42.a:b", "room"):
            self.assertRaises(InvalidMessage, channel_of, topic)


class InterestTests(SynchronousTestCase):
    def test_shared(self) -> None:
        """One object for the same subscriptions; of each user, where topics of one user may match."""
        subscriptions, interests = Subscriptions(), Interests()
        room = subscriptions.get(EXACT, "room.a.message")
        self.assertIs(subscriptions.get(EXACT, "room.a.message"), room)
        self.assertIsNot(subscriptions.get(PREFIX, "room.a.message"), room)
        one = interests.get(frozenset((room,)), "alice")
        self.assertIs(interests.get(frozenset((room,)), "bob"), one)
        for match, uri in [
            (PREFIX, ""),
            (PREFIX, "us"),
            (PREFIX, "user.alice."),
            (WILDCARD, ".."),
            (EXACT, "user.a.b"),
        ]:
            personal = frozenset((subscriptions.get(match, uri),))
            self.assertIsNot(interests.get(personal, "alice"), interests.get(personal, "bob"))

    def test_matching(self) -> None:
        """Each subscription once, by its id."""
        subscriptions, interests = Subscriptions(), Interests()
        keys = [(PREFIX, ""), (EXACT, "a.b"), (WILDCARD, "a."), (EXACT, "user.u.a.b"), (EXACT, "c.d")]
        held = [subscriptions.get(*key) for key in keys]
        interest = interests.get(frozenset(held), "u")
        self.assertEqual(interest.matching("a.b", "user.u.a.b"), tuple(held[:4]))
        self.assertEqual(interest.matching("a.b", None), tuple(held[:3]))
        self.assertEqual(interest.matching("x", None), (held[0],))
        self.assertEqual(interests.get(frozenset(), "u").matching("a.b", None), ())

    def test_forgotten(self) -> None:
        """What nobody has any more takes no room."""
        subscriptions, interests = Subscriptions(), Interests()
        one = interests.get(frozenset((subscriptions.get(EXACT, "a.b"),)), "u")
        self.assertEqual(len(subscriptions), 1)
        del one
        gc.collect()
        self.assertEqual(len(subscriptions), 0)
