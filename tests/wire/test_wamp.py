"""Tests for realtime.wire.wamp: every type of message, right and wrong, in every state; and rubbish."""

from __future__ import annotations

import itertools
import json
from typing import Any

import cbor2
import msgpack
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from realtime.errors import Close
from realtime.wire.session import IDirectSession
from realtime.wire.wamp import WampSession
from realtime.wire.wamp_codecs import CODECS
from realtime.wire.wamp_realm import Realm

from ..generated import unhurried
from ..house import House
from ..wampclient import SERIALIZERS, WampClient

VIOLATION = "wamp.error.protocol_violation"
ROLES = {"roles": {"subscriber": {}, "caller": {}, "publisher": {}}}
MANY = [1] * 1001
HELLO = [1, "realtime", {**ROLES, "authmethods": ["ticket"]}]

#: What breaks the protocol before there is a session; then the transport is closed.
BEFORE: list[Any] = [
    # types that are none, or not a client's
    *([number] for number in (-1, 0, 2, 4, 7, 8, 9, 17, 33, 35, 36, 50, 68, 70, 99, 2**53, 2**70)),
    *([value] for value in ("1", None, 1.0, True, [1], {})),
    # nothing but HELLO may come
    [5, "ticket", {}],
    [6, {}, "wamp.close.normal"],
    [16, 1, {}, "room.a.message"],
    [32, 1, {}, "room.a.message"],
    [34, 1, 1],
    [48, 1, {}, "room.join"],
    [49, 1, {}],
    [64, 1, {}, "a.b"],
    [66, 1, 1],
    # HELLO of the wrong shape
    [1],
    [1, "realtime"],
    [1, "realtime", {}],
    [1, "realtime", []],
    [1, "realtime", {"roles": []}],
    [1, "realtime", {"roles": {}}],
    [1, "realtime", {"roles": {"wizard": {}}}],
    [1, "realtime", {"roles": {"broker": {}}}],
    [1, "realtime", {"roles": {"caller": 5}}],
    [1, "realtime", {"roles": {"caller": {"features": 5}}}],
    [1, "realtime", {**ROLES, "authmethods": "ticket"}],
    [1, "realtime", {**ROLES, "authmethods": [5]}],
    [1, "realtime", {**ROLES, "authid": 5}],
    [1, "realtime", {**ROLES, "authextra": 5}],
    [1, 5, ROLES],
    [1, "a b", ROLES],
    [1, "realtime", ROLES, 5],
    [1, "realtime", ROLES, 1, 2, 3, 4],
]

#: What breaks it where AUTHENTICATE has to follow.
CHALLENGED: list[Any] = [
    HELLO,
    [16, 1, {}, "a.b"],
    [48, 1, {}, "a.b"],
    [5],
    [5, 5, {}],
    [5, "x"],
    [5, "x", []],
    [5, None, {}],
]

#: What breaks it in a session.
DURING: list[Any] = [
    HELLO,
    [5, "ticket", {}],
    [2, 1, {}],
    [8, 68, 1, {}, "a.b"],
    [70, 1, {}],
    [36, 1, 1, {}],
    [6],
    [6, 5, "a.b"],
    [6, {}, 5],
    [6, {}, "a b"],
    [32, 1, {}],
    [32, 1, {}, "a.b", 5],
    [32, "1", {}, "a.b"],
    [32, -1, {}, "a.b"],
    [32, 1.5, {}, "a.b"],
    [32, True, {}, "a.b"],
    [32, None, {}, "a.b"],
    [32, 2**53 + 1, {}, "a.b"],
    [32, 2**64, {}, "a.b"],
    [32, 1, [], "a.b"],
    [32, 1, None, "a.b"],
    [32, 1, {"match": 5}, "a.b"],
    [32, 1, {"match": "regex"}, "a.b"],
    [34],
    [34, 1],
    [34, 1, "1"],
    [34, 1, -1],
    [34, 1, 2**60],
    [34, "1", 1],
    [16, 1, {}],
    [16, "1", {}, "a.b"],
    [16, 1, 5, "a.b"],
    [16, 1, {"acknowledge": 1}, "room.a.message"],
    [16, 1, {"exclude_me": "x"}, "room.a.message"],
    [16, 1, {"exclude": 5}, "room.a.message"],
    [16, 1, {"exclude": ["x"]}, "room.a.message"],
    [16, 1, {"eligible": [1.5]}, "room.a.message"],
    [16, 1, {"eligible_authid": [5]}, "room.a.message"],
    [16, 1, {"disclose_me": 5}, "room.a.message"],
    [16, 1, {}, "room.a.message", [], {}, 5],
    [48, 1, {}],
    [48, "1", {}, "a.b"],
    [48, 1, [], "a.b"],
    [48, 1, {"timeout": "x"}, "a.b"],
    [48, 1, {}, "a.b", [], {}, 5],
    [49, "1", {}],
    [49, 1],
    [64, 1, {}],
    [64, 1, {"invoke": 5}, "a.b"],
    [66, 1],
    [66, "1", 1],
]

#: What is wrong with one request: an ERROR for it, and the session goes on.
REQUESTS: list[tuple[Any, str]] = [
    ([32, 7, {}, "a b"], "wamp.error.invalid_uri"),
    ([32, 7, {}, "a#b.c"], "wamp.error.invalid_uri"),
    ([32, 7, {}, 5], "wamp.error.invalid_uri"),
    ([32, 7, {}, None], "wamp.error.invalid_uri"),
    ([32, 7, {}, ["a.b"]], "wamp.error.invalid_uri"),
    ([32, 7, {}, {"a": {"b": 1}}], "wamp.error.invalid_uri"),
    ([32, 7, {}, "a." * 3000 + "b"], "wamp.error.invalid_argument"),
    ([32, 7, {}, "room.user:bob.message"], "wamp.error.not_authorized"),
    ([34, 7, 2**53], "wamp.error.no_such_subscription"),
    ([34, 7, 0], "wamp.error.no_such_subscription"),
    ([16, 7, {"acknowledge": True}, "a..b"], "wamp.error.invalid_uri"),
    ([16, 7, {"acknowledge": True}, 5], "wamp.error.invalid_uri"),
    ([16, 7, {"acknowledge": True}, "room.a.message", 5], "wamp.error.invalid_argument"),
    ([16, 7, {"acknowledge": True}, "room.a.message", [], 5], "wamp.error.invalid_argument"),
    (
        [16, 7, {"acknowledge": True, "exclude": [1] * 1001}, "room.a.message"],
        "wamp.error.invalid_argument",
    ),
    ([48, 7, {}, "a..b"], "wamp.error.invalid_uri"),
    ([48, 7, {}, ""], "wamp.error.invalid_uri"),
    ([48, 7, {}, None], "wamp.error.invalid_uri"),
    ([48, 7, {}, "x" * 5000], "wamp.error.no_such_procedure"),
    ([48, 7, {}, "room.join", [], {"roomId": "a b"}], "wamp.error.invalid_argument"),
    ([48, 7, {}, "room.join", [1, 2]], "wamp.error.invalid_argument"),
    ([48, 7, {}, "room.join", "x"], "wamp.error.invalid_argument"),
    ([48, 7, {}, "room.join", [], []], "wamp.error.invalid_argument"),
    ([48, 7, {}, "room.join", {"roomId": "a"}], "wamp.error.invalid_argument"),
    ([48, 7, {}, "wamp.subscription.get_events", [2**60]], "wamp.error.invalid_argument"),
    ([64, 7, {}, "a.b"], "wamp.error.not_authorized"),
    ([64, 7, {}, "a b"], "wamp.error.invalid_uri"),
    ([66, 7, 1], "wamp.error.no_such_registration"),
]

#: What is no message in its serializer at all.
NO_MESSAGES: dict[str, list[Any]] = {
    "wamp.2.json": [
        *(
            "",
            "x",
            "{}",
            "[",
            "[]",
            "[1,",
            "5",
            b"[1]",
            "[" * 100_000,
            "[NaN]",
            '[["x"],"\\ud83d"]',
            '["\\ud83d"]',
        ),
    ],
    "wamp.2.cbor": [
        *(b"", b"\xff", b"\x80", b"\xa0", b"\x81", "[1]", b"\xd8\x1c\x81\x01", b"\x81" * 17_000),
    ],
    "wamp.2.msgpack": [
        *(b"", b"\xc1", b"\x90", b"\x80", b"\x91", "[1]", b"\x91" * 70_000, b"\xdd\xff\xff\xff\xff"),
    ],
}

DUMPS = {"wamp.2.json": json.dumps, "wamp.2.cbor": cbor2.dumps, "wamp.2.msgpack": msgpack.packb}

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
FRAMES = st.binary(max_size=60) | st.text(max_size=60) | VALUES
KINDS = st.sampled_from([1, 2, 3, 5, 6, 8, 16, 32, 34, 48, 49, 64, 66, 70])
OPTIONS = st.sampled_from(["match", "acknowledge", "exclude", "eligible_authid", "x"])
URIS = st.sampled_from(
    ["room.a.message", "room.join", "user.bob.x", "wamp.subscription.get_events", "a..b"]
)
NEAR = st.tuples(
    KINDS,
    st.integers(0, 10) | VALUES,
    st.dictionaries(
        st.sampled_from(["match", "acknowledge", "exclude", "eligible_authid", "x"]), VALUES, max_size=3
    )
    | VALUES,
    st.sampled_from(["room.a.message", "room.join", "user.bob.x", "wamp.subscription.get_events", "a..b"])
    | VALUES,
    st.lists(VALUES, max_size=2) | VALUES,
    st.dictionaries(st.sampled_from(["roomId", "text", "limit", "token"]), VALUES, max_size=3) | VALUES,
).flatmap(lambda whole: st.integers(1, 6).map(lambda size: list(whole[:size])))


def dump(subprotocol: str, message: Any) -> Any:
    return DUMPS[subprotocol](message)


class ConformanceTests(SynchronousTestCase):
    """ABORT or ERROR as the protocol says; never a traceback, and for one bad request never the end."""

    def setUp(self) -> None:
        self.house = House(rate_limit_max_connections=10_000, ws_max_connections=10_000)
        self.addCleanup(self.house.stop)

    def each(self, messages: Any) -> Any:
        for (number, message), subprotocol in itertools.product(enumerate(messages), SERIALIZERS):
            try:
                yield number, message, subprotocol, dump(subprotocol, message)
            except (OverflowError, ValueError):
                continue

    def aborted(self, client: WampClient, what: Any) -> None:
        """The session's last words are ABORT; the transport is closed with a code that says why."""
        self.assertIs(client.outlet.close_reason, Close.PROTOCOL_ERROR, what)
        frame = client.receiver._session.farewell(Close.PROTOCOL_ERROR)
        client.outlet.close_reason = None
        client.outlet.write(frame)
        abort = client.fresh()[-1]
        self.assertEqual((type(abort).__name__, abort.reason), ("Abort", VIOLATION), what)
        self.assertTrue(abort.message)
        self.assertEqual(client.send_raw(dump("wamp.2.json", HELLO)), [])

    def test_interface(self) -> None:
        verifyObject(IDirectSession, WampSession(Realm("realtime", 1).encoder(CODECS[0])))

    def test_before_hello(self) -> None:
        for _, message, subprotocol, frame in self.each(BEFORE):
            client = WampClient(self.house, subprotocol=subprotocol)
            self.assertEqual(client.send_raw(frame), [], message)
            self.aborted(client, (subprotocol, message))

    def test_while_challenged(self) -> None:
        for _, message, subprotocol, frame in self.each(CHALLENGED):
            client = WampClient(self.house, subprotocol=subprotocol)
            client.hello()
            client.send_raw(frame)
            self.aborted(client, (subprotocol, message))

    def test_during_a_session(self) -> None:
        for number, message, subprotocol, frame in self.each(DURING):
            client = WampClient(self.house, f"u{number}", subprotocol=subprotocol)
            self.assertEqual(client.send_raw(frame), [], message)
            self.aborted(client, (subprotocol, message))

    def test_requests(self) -> None:
        for number, (message, uri), subprotocol, _ in (
            (n, REQUESTS[n], name, None) for n in range(len(REQUESTS)) for name in SERIALIZERS
        ):
            client = WampClient(self.house, f"r{number}", subprotocol=subprotocol)
            (error,) = client.send_raw(dump(subprotocol, message))
            told = (type(error).__name__, error.request_type, error.request, error.error)
            self.assertEqual(told, ("Error", message[0], 7, uri), (subprotocol, message))
            self.assertIsNone(client.outlet.close_reason)
            self.assertEqual(type(client.call("room.join", roomId="lobby")).__name__, "Result")

    def test_after_goodbye(self) -> None:
        """Only HELLO may come; a new session begins with it."""
        for message in [*DURING[1:], [6, {}, "wamp.close.normal"], [16, 1, {}, "room.a.message"]]:
            client = WampClient(self.house, "alice")
            client.send_raw(json.dumps([6, {}, "wamp.close.normal"]))
            try:
                frame = json.dumps(message)
            except ValueError:
                continue
            client.send_raw(frame)
            self.aborted(client, message)

    def test_no_messages(self) -> None:
        """What is no message in the serializer at all."""
        for subprotocol, frames in NO_MESSAGES.items():
            for frame in frames:
                for user in (None, "alice"):
                    client = WampClient(self.house, user, subprotocol=subprotocol)
                    client.send_raw(frame)
                    self.aborted(client, (subprotocol, frame[:20]))

    def test_nothing_is_repeated(self) -> None:
        """No refusal says back what was sent."""
        client = WampClient(self.house)
        client.send_raw(json.dumps([1, "secret realm", {"roles": {"secret": {}}}]))
        said = client.receiver._session.farewell(Close.PROTOCOL_ERROR)
        self.assertNotIn(b"secret", said.text)
        client = WampClient(self.house)
        client.hello()
        client.send_raw(json.dumps([5, "secret", {}]))
        self.assertNotIn(b"secret", client.outlet.frames[-1].text)

    @unhurried
    @given(st.lists(NEAR, max_size=4), st.sampled_from(sorted(SERIALIZERS)), st.booleans())
    def test_nearly_right(self, messages: list[Any], subprotocol: str, joined: bool) -> None:
        """Messages that are nearly right: an answer for each request, or the end."""
        client = WampClient(self.house, "alice" if joined else None, subprotocol=subprotocol)
        for message in messages:
            client.send_raw(dump(subprotocol, message))
        client.cut()

    @unhurried
    @given(st.lists(FRAMES, max_size=3), st.sampled_from(sorted(SERIALIZERS)))
    def test_rubbish(self, frames: list[Any], subprotocol: str) -> None:
        client = WampClient(self.house, "alice", subprotocol=subprotocol)
        for frame in frames:
            client.send_raw(frame if isinstance(frame, str | bytes) else dump(subprotocol, frame))
        client.cut()


class AnnouncedTests(SynchronousTestCase):
    def test_features(self) -> None:
        """Roles and features are those that work; see tests/test_wamp.py for each."""
        house = House()
        self.addCleanup(house.stop)
        client = WampClient(house)
        client.hello()
        client.receiver.received(json.dumps([5, house.token("alice"), {}]))
        welcome = json.loads(client.outlet.frames[-1].text)
        self.assertEqual(
            welcome[2]["roles"],
            {
                "broker": {
                    "features": dict.fromkeys(
                        [
                            "event_history",
                            "pattern_based_subscription",
                            "publisher_exclusion",
                            "publisher_identification",
                            "subscriber_blackwhite_listing",
                            "subscription_revocation",
                        ],
                        True,
                    )
                },
                "dealer": {"features": {}},
            },
        )
