"""Tests for realtime.routing."""

import contextlib
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from realtime.errors import (
    InvalidPublication,
    MessageTooLarge,
    NoOwner,
    RealtimeError,
    UnknownChannel,
)
from realtime.events import Loss
from realtime.messages import Audience
from realtime.routing import MAX_PAYLOAD, Route, Routing, Target

from .generated import unhurried

NOW = 1_700_000_000_000

EVERYONE = Audience(everyone=True)


def users(*names: str) -> Audience:
    return Audience(users=frozenset(names))


def rooms(*names: str) -> Audience:
    return Audience(rooms=frozenset(names))


class RoutingCase(SynchronousTestCase):
    routing = Routing(["invoice"])

    def route(self, channel: str, **payload: Any) -> Route:
        return self.routing.route(channel, json.dumps(payload).encode(), NOW)

    def refusal(self, channel: str, data: bytes) -> RealtimeError:
        return self.assertRaises(RealtimeError, self.routing.route, channel, data, NOW)


class TableTests(RoutingCase):
    """Each row of the table in DESIGN.md section 6."""

    def test_who_gets_what(self) -> None:
        table: list[tuple[str, dict[str, Any], str, Audience]] = [
            ("booking:confirmed", {"userId": "u1"}, "booking:confirmed", users("u1")),
            ("payment:failed", {"userId": "u1"}, "payment:failed", users("u1")),
            ("notification:new", {"userId": "u1"}, "notification:new", users("u1")),
            ("booking:confirmed", {"userId": 42}, "booking:confirmed", users("42")),
            ("booking:confirmed", {"userId": "u1", "eventId": 7}, "booking:confirmed", users("u1")),
            ("booking:seat:moved", {"userId": "u1"}, "booking:seat:moved", users("u1")),
            ("ticket:sold", {"eventId": "e1"}, "ticket:sold", rooms("event:e1")),
            ("ticket:sold", {"eventId": 42}, "ticket:sold", rooms("event:42")),
            ("ticket:sold", {}, "ticket:sold", EVERYONE),
            ("ticket:sold", {"eventId": None}, "ticket:sold", EVERYONE),
            ("system:maintenance", {}, "system:maintenance", EVERYONE),
            ("user:42:notification:new", {}, "notification:new", users("42")),
            ("user:42:greeting", {}, "user:greeting", users("42")),
            ("user:a@b.c:queue:position", {}, "queue:position", users("a@b.c")),
            ("user:online:greeting", {}, "user:greeting", users("online")),
            ("event:42:doors", {}, "event:doors", rooms("event:42")),
            ("event:a:b:doors", {}, "event:doors", rooms("event:a:b")),
            ("room:lobby:closed", {}, "room:closed", rooms("lobby")),
            ("room:event:42:closed", {}, "room:closed", rooms("event:42")),
            ("room:lobby:message", {}, "room:message", rooms("lobby")),
            ("invoice:sent", {"userId": "u1", "eventId": "e", "roomId": "r"}, "invoice:sent", users("u1")),
            ("invoice:sent", {"eventId": 5, "roomId": "r"}, "invoice:sent", rooms("event:5")),
            ("invoice:sent", {"roomId": "a:b"}, "invoice:sent", rooms("a:b")),
            ("invoice:sent", {"roomId": 5}, "invoice:sent", rooms("5")),
        ]
        for channel, payload, event, audience in table:
            route = self.route(channel, **payload)
            self.assertEqual((route.event, route.audience), (event, audience), channel)
            self.assertTrue(route.logged, channel)
            self.assertIsNone(route.sharing)

    def test_presence_goes_to_those_who_share_a_room(self) -> None:
        for action in ("online", "offline", "status_change"):
            route = self.route(f"user:{action}", userId=42)
            self.assertEqual((route.event, route.audience, route.sharing), (f"user:{action}", None, "42"))
            self.assertFalse(route.logged)

    def test_what_belongs_to_a_user_and_names_none_is_refused(self) -> None:
        for channel in (
            "booking:confirmed",
            "payment:failed",
            "notification:new",
            "user:online",
            "invoice:sent",
        ):
            for data in (b"{}", b'{"userId":null}', b'{"userid":"u1"}', b'{"user":{"userId":"u1"}}'):
                self.assertIsInstance(self.refusal(channel, data), NoOwner)

    def test_the_refusal_says_what_is_missing(self) -> None:
        self.assertIn("userId", self.refusal("booking:confirmed", b"{}").message)
        self.assertIn("roomId", self.refusal("invoice:sent", b"{}").message)

    def test_loss_class(self) -> None:
        self.assertIs(self.route("booking:confirmed", userId="u").loss, Loss.MUST)
        self.assertIs(self.route("ticket:sold").loss, Loss.LATEST)
        self.assertIs(self.route("user:7:queue:position").loss, Loss.LATEST)

    def test_what_may_be_dropped_is_not_logged(self) -> None:
        route = self.route("room:lobby:typing", userId="u")
        self.assertIs(route.loss, Loss.DROP)
        self.assertFalse(route.logged)

    def test_only_messages_of_rooms_are_history(self) -> None:
        self.assertTrue(self.route("room:lobby:message").history)
        self.assertFalse(self.route("room:lobby:closed").history)
        self.assertFalse(self.route("event:42:message").history)

    def test_a_deployment_may_change_the_table(self) -> None:
        routing = Routing(rules={"booking": Target.EVERYONE})
        self.assertEqual(routing.route("booking:created", b"{}", NOW).audience, EVERYONE)
        self.assertRaises(UnknownChannel, routing.route, "ticket:sold", b"{}", NOW)

    def test_no_service_can_take_the_name_of_another_channel(self) -> None:
        routing = Routing(["user", "room", "event", "booking"])
        self.assertRaises(UnknownChannel, routing.route, "user:deleted", b'{"userId":"u"}', NOW)
        self.assertRaises(UnknownChannel, routing.route, "room:closed", b'{"roomId":"r"}', NOW)
        self.assertRaises(NoOwner, routing.route, "booking:created", b'{"roomId":"r"}', NOW)


class ChannelTests(RoutingCase):
    def test_refused(self) -> None:
        for channel in (
            "",
            "booking",
            "booking:",
            ":confirmed",
            "Booking:confirmed",
            "booking:*",
            "booking:con firmed",
            "booking:confirmed\n",
            "warehouse:moved",
            "user",
            "user:deleted",
            "user:42:",
            "user::greeting",
            "user:a b:greeting",
            "user:*:greeting",
            "user:42:notification:",
            "event:42",
            "event:42:",
            "room:lobby",
            "room:lobby:",
            "room",
            "*",
            "x" * 301,
            "booking:" + "x" * 200,
        ):
            self.assertIsInstance(self.refusal(channel, b'{"userId":"u"}'), UnknownChannel, channel)

    def test_length(self) -> None:
        self.assertIn("300", self.refusal("x" * 301, b"{}").message)

    def test_bad_room_ids_are_refused(self) -> None:
        for channel in ("event::doors", "room::doors", "room:a b:doors", "room:*:doors", "room:é:doors"):
            self.assertIsInstance(self.refusal(channel, b"{}"), InvalidPublication, channel)
        self.assertIsInstance(self.refusal(f"room:{'x' * 129}:doors", b"{}"), InvalidPublication)

    def test_the_refusal_says_what_is_accepted(self) -> None:
        message = self.refusal("warehouse:moved", b"{}").message
        for accepted in ("booking", "invoice", "user:{userId}:{event}", "room:{roomId}:{action}"):
            self.assertIn(accepted, message)
        self.assertNotIn("warehouse", message)


class PayloadTests(RoutingCase):
    def data(self, channel: str, data: bytes) -> bytes:
        return self.routing.route(channel, data, NOW).data

    def test_a_timestamp_is_added_where_there_is_none(self) -> None:
        self.assertEqual(self.data("system:x", b'{"a":1}'), b'{"a":1,"timestamp":%d}' % NOW)
        self.assertEqual(self.data("system:x", b'{"timestamp":5}'), b'{"timestamp":5}')
        self.assertEqual(self.data("system:x", b'{"time\\u0073tamp":5}'), b'{"time\\u0073tamp":5}')

    def test_the_rest_stays_as_it_was_written(self) -> None:
        data = (
            b'{"price": 12.50, "big":123456789012345678901234567890,"n":"\\u00e9 \xc3\xa9","timestamp":1}'
        )
        self.assertEqual(self.data("system:x", data), data)

    def test_white_space_around(self) -> None:
        for data in (b"{}", b" { } ", b"\r\n{\t}\n"):
            self.assertEqual(self.data("system:x", data), b'{"timestamp":%d}' % NOW)
        self.assertEqual(self.data("system:x", b' {"timestamp":1 }\n'), b'{"timestamp":1 }')

    def test_the_id_of_the_channel_is_added(self) -> None:
        self.assertEqual(
            json.loads(self.data("event:42:doors", b"{}")), {"eventId": "42", "timestamp": NOW}
        )
        self.assertEqual(
            json.loads(self.data("room:event:42:closed", b'{"a":1}')),
            {"a": 1, "roomId": "event:42", "timestamp": NOW},
        )

    def test_an_equal_id_is_left(self) -> None:
        self.assertEqual(
            self.data("event:42:doors", b'{"eventId":42,"timestamp":1}'), b'{"eventId":42,"timestamp":1}'
        )
        self.assertEqual(
            self.data("room:r:closed", b'{"roomId":"r","timestamp":1}'), b'{"roomId":"r","timestamp":1}'
        )

    def test_a_different_id_is_refused(self) -> None:
        for channel, data in (
            ("event:42:doors", b'{"eventId":43}'),
            ("event:42:doors", b'{"eventId":null}'),
            ("room:r:closed", b'{"roomId":"s"}'),
            ("room:r:message", b'{"roomId":"s"}'),
        ):
            error = self.refusal(channel, data)
            self.assertIsInstance(error, InvalidPublication)
            self.assertIn("differs", error.message)

    def test_a_room_message_gets_what_it_lacks(self) -> None:
        route = self.route("room:lobby:message", text="hi")
        self.assertEqual(json.loads(route.data), {"text": "hi", "roomId": "lobby"})
        self.assertEqual(route.splice, ("id", "timestamp", "offset"))
        route = self.route("room:lobby:message", text="hi", timestamp=5, id="m1")
        self.assertEqual(route.splice, ("offset",))
        self.assertEqual(self.route("room:lobby:closed").splice, ())

    def test_refused(self) -> None:
        for data in (
            b"",
            b"null",
            b"[]",
            b'"text"',
            b"{",
            b'{"a":1}{}',
            b'{"a":NaN}',
            b'{"a":\x1e}',
            b'{"a":"\x1e"}',
            b'{"a":"\xff"}',
            b'{"a":"\\ud800"}',
            b"\xef\xbb\xbf{}",
            b'{"a":' + b"[" * 32 + b"]" * 32 + b"}",
            b'{"a":' + b"[" * 60_000 + b"]" * 60_000 + b"}",
            b'{"userId":' + b"[" * 60_000 + b"]" * 60_000 + b"}",
            b'{"userId":%b}' % (b"9" * 5000),
        ):
            self.assertIsInstance(self.refusal("system:x", data), InvalidPublication, data[:40])

    def test_size(self) -> None:
        largest = b'{"a":"%b"}' % (b"x" * (MAX_PAYLOAD - 8))
        self.assertEqual(len(largest), MAX_PAYLOAD)
        self.routing.route("system:x", largest, NOW)
        self.assertIsInstance(self.refusal("system:x", largest + b" "), MessageTooLarge)

    def test_ids_that_are_no_ids(self) -> None:
        for field, channel in (("userId", "booking:x"), ("eventId", "ticket:x"), ("roomId", "invoice:x")):
            for value in (
                b"1.5",
                b"1e300",
                b"true",
                b"[]",
                b"{}",
                b'""',
                b'"a b"',
                b'"*"',
                b"9" * 200,
                b"9" * 4300,
            ):
                error = self.refusal(channel, b'{"%b":%b}' % (field.encode(), value))
                self.assertIsInstance(error, InvalidPublication, (field, value))
                self.assertIn(field, error.message)

    def test_ids_are_not_repeated_in_refusals(self) -> None:
        self.assertNotIn("hunter2", self.refusal("booking:x", b'{"userId":"hunter2 "}').message)


CHANNELS = st.text(max_size=320) | st.lists(
    st.sampled_from(["booking", "payment", "notification", "ticket", "system", "user", "event", "room"])
    | st.sampled_from(["online", "message", "typing", "42", "a@b", "*", "", " ", "x" * 130]),
    max_size=5,
).map(":".join)
IDS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("42")
PAYLOADS = st.dictionaries(
    st.sampled_from(["userId", "eventId", "roomId", "timestamp", "id", "offset", "x"]), IDS
).map(lambda value: json.dumps(value).encode())


class GeneratedTests(RoutingCase):
    @unhurried
    @given(CHANNELS, PAYLOADS | st.binary(max_size=60))
    def test_routed_or_refused(self, channel: str, data: bytes) -> None:
        try:
            route = self.routing.route(channel, data, NOW)
        except RealtimeError as error:
            self.assertIsInstance(error, (UnknownChannel, NoOwner, InvalidPublication))
            return
        self.assertIsInstance(json.loads(route.data), dict)
        self.assertEqual(route.data[:1] + route.data[-1:], b"{}")
        self.assertNotEqual(route.audience is None, route.sharing is None)

    @unhurried
    @given(
        st.sampled_from(["booking", "payment", "notification", "user", "event", "room"]), CHANNELS, PAYLOADS
    )
    def test_what_has_an_owner_never_goes_to_everyone(self, kind: str, rest: str, data: bytes) -> None:
        with contextlib.suppress(RealtimeError):
            route = self.routing.route(f"{kind}:{rest}", data, NOW)
            if route.audience is not None:
                self.assertFalse(route.audience.everyone)
                self.assertEqual(len(route.audience.targets), 1)
