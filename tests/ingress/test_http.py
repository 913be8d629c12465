"""Tests for realtime.ingress.http."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from realtime.api_keys import ApiKeys, master_key
from realtime.broker.interface import IStateStore
from realtime.errors import Close
from realtime.ingress.http import BODY_LIMIT, BODY_READ, Api
from realtime.ingress.look import Look
from realtime.ingress.openapi import document
from realtime.ingress.publish import Ingest
from realtime.ingress.queue_verbs import QueueVerbs
from realtime.ingress.verbs import Verbs
from realtime.inquiries import Inquiries
from realtime.pace import Pace
from realtime.queues.interface import QueueLimits
from realtime.queues.memory import MemoryQueues
from realtime.routing import RULES
from realtime.security import Security
from realtime.trust.memory import MemoryTrust

from ..generated import unhurried
from .bus import START, Bus
from .exchange import Answer, Exchange

KEY = "the key of the API"


class Told:
    """What is told of sessions and of moving; stands for `Sessions` and `Moving`."""

    def __init__(self) -> None:
        self.disconnected: list[str] = []
        self.calls: list[tuple[Any, ...]] = []

    async def disconnect_user(self, user: str, close: Close = Close.KICKED, message: str = "") -> int:
        self.disconnected.append(user)
        self.calls.append((user, close, message))
        return 2

    async def disconnect(self, user: str, connection: str, close: Close, message: str = "") -> int:
        self.calls.append((user, connection, close, message))
        return 1

    async def kick(self, user: str, room: str, reason: str = "", to: str = "") -> int:
        self.calls.append((user, room, reason, to))
        return 3


class FixedCensus:
    """Seven connections of three users."""

    users = 3

    def __len__(self) -> int:
        return 7

    def transports(self) -> dict[str, int]:
        return {"websocket": 5, "polling": 2}


class ApiCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.bus = Bus()
        self.told = Told()
        self.disconnected = self.told.disconnected
        self.keys = ApiKeys([master_key(KEY)], self.bus.wall)
        self.trust = MemoryTrust(self.bus.wall)
        self.connect()

    def connect(self, store: IStateStore | None = None) -> None:
        """Speak to the API over a new connection, perhaps to one that has another store."""
        api = self.api(self.bus.ingest, store or self.bus.store)
        self.exchange = Exchange(api.resource, self.bus.clock)

    def api(self, ingest: Ingest, store: IStateStore) -> Api:
        security = Security(self.bus.clock.seconds)
        queues = MemoryQueues(self.bus.broker, QueueLimits(), self.bus.wall, lambda data: None)
        verbs = Verbs(
            ingest=ingest,
            broker=self.bus.broker,
            store=store,
            trust=self.trust,
            security=security,
            connections=FixedCensus(),
            endings=self.told,  # type: ignore[arg-type]
            moving=self.told,  # type: ignore[arg-type]
            queues=QueueVerbs(queues, self.bus.metrics, self.bus.wall),
            wall=self.bus.wall,
            max_history=10,
            max_history_bytes=1000,
            node=("n1", "1.0"),
            receipts=self.bus.receipts,
        )
        inquiries = Inquiries(self.bus.clock, "n1", self.bus.broker, {}, alone=True)
        return Api(
            keys=self.keys,
            security=security,
            verbs=verbs,
            document=lambda: document(RULES),
            operators=Look(self.bus.clock, inquiries, self.bus.broker).routes(),
            pace=Pace(self.bus.clock),
        )

    def ask(self, method: str, target: str, body: bytes | None = None) -> Answer:
        return self.exchange.ask(method, target, {"Authorization": f"Bearer {KEY}"}, body)

    def publish(self, **body: Any) -> Answer:
        return self.ask("POST", "/v1/publish", json.dumps(body).encode())

    def refused(self, answer: Answer, status: int, code: str) -> str:
        """Check that an answer is a refusal; give its message."""
        self.assertEqual((answer.status, answer.json["error"]["code"]), (status, code))
        self.assertEqual(set(answer.json), {"error"})
        self.assertEqual(answer.headers["content-type"], "application/json")
        message: str = answer.json["error"]["message"]
        self.assertTrue(message)
        return message


class AuthorizationTests(ApiCase):
    PATHS = (
        ("POST", "/v1/publish"),
        ("GET", "/v1/rooms"),
        ("GET", "/v1/rooms/lobby/members"),
        ("GET", "/v1/users/u1/presence"),
        ("GET", "/v1/connections/count"),
        ("DELETE", "/v1/users/u1/connections"),
        ("GET", "/"),
        ("GET", "/nowhere"),
        ("PUT", "/v1/publish"),
    )

    def test_every_path_wants_the_key(self) -> None:
        for method, path in self.PATHS:
            for header in (
                {},
                {"Authorization": ""},
                {"Authorization": KEY},
                {"Authorization": "Bearer"},
                {"Authorization": "Bearer "},
                {"Authorization": "Bearer wrong"},
                {"Authorization": f"Bearer {KEY}x"},
                {"Authorization": f"Basic {KEY}"},
                {"Authorization": "Bearer \xff"},
            ):
                answer = self.exchange.ask(method, path, header, b"{}" if method == "POST" else None)
                self.refused(answer, 401, "api.unauthorized")
                self.assertEqual(answer.headers["www-authenticate"], 'Bearer realm="realtime"')
        self.assertEqual(self.disconnected, [])

    def test_two_keys_are_none(self) -> None:
        self.exchange.send(
            b"GET /v1/rooms HTTP/1.1\r\nHost: a\r\n"
            + b"Authorization: Bearer %b\r\n" % KEY.encode() * 2
            + b"\r\n"
        )
        self.assertEqual(self.exchange.read().status, 400)

    def test_the_scheme_is_written_as_one_likes(self) -> None:
        answer = self.exchange.ask("GET", "/v1/rooms", {"Authorization": f"bearer  {KEY}"})
        self.assertEqual(answer.status, 200)

    def test_there_is_no_api_without_a_key(self) -> None:
        self.assertRaises(ValueError, master_key, "")
        self.keys.replace([])
        self.refused(self.ask("GET", "/v1/rooms"), 401, "api.unauthorized")


class PublishTests(ApiCase):
    def test_published(self) -> None:
        answer = self.publish(channel="booking:confirmed", data={"userId": "u1", "bookingId": 7})
        (publication,) = self.bus.delivered
        self.assertEqual(answer.status, 200)
        self.assertEqual(
            answer.json,
            {
                "id": publication.id,
                "offset": 1,
                "audience": {"everyone": False, "users": ["u1"], "rooms": []},
            },
        )
        self.assertEqual(
            json.loads(publication.data), {"userId": "u1", "bookingId": 7, "timestamp": int(START * 1000)}
        )

    def test_the_data_is_not_rewritten(self) -> None:
        self.ask("POST", "/v1/publish", b'{"channel":"system:x","data": {"price": 1.50, "timestamp":1} }')
        self.assertEqual(self.bus.delivered[0].data, b'{"price": 1.50, "timestamp":1}')

    def test_to_everyone_and_to_rooms(self) -> None:
        self.assertEqual(
            self.publish(channel="system:x", data={}).json["audience"],
            {"everyone": True, "users": [], "rooms": []},
        )
        self.assertEqual(
            self.publish(channel="room:b:c:x", data={}).json["audience"],
            {"everyone": False, "users": [], "rooms": ["b:c"]},
        )

    def test_what_is_not_logged_has_no_offset(self) -> None:
        self.assertIsNone(self.publish(channel="user:online", data={"userId": "u1"}).json["offset"])

    def test_a_repetition_says_so(self) -> None:
        first = self.publish(channel="system:x", data={}, messageId="m1").json
        second = self.publish(channel="system:x", data={}, messageId="m1").json
        self.assertEqual(second, {**first, "repeated": True})
        self.assertEqual(len(self.bus.delivered), 1)

    def test_refused(self) -> None:
        for channel, data, code in (
            ("booking:confirmed", {}, "publish.no_owner"),
            ("warehouse:moved", {}, "publish.channel_unknown"),
            ("booking:confirmed", {"userId": 1.5}, "publish.invalid"),
            ("system:x", [], "publish.invalid"),
            ("system:x", None, "publish.invalid"),
        ):
            self.refused(self.publish(channel=channel, data=data), 400, code)
        self.assertEqual(self.bus.delivered, [])

    def test_bad_bodies(self) -> None:
        for body in (
            b"",
            b"{",
            b"[]",
            b"null",
            b"\xff",
            b"{}",
            b'{"channel":"system:x"}',
            b'{"data":{}}',
            b'{"channel":7,"data":{}}',
            b'{"channel":"system:x","data":{},"messageId":7}',
            b'{"channel":"system:x","data":{},"messageId":""}',
            b'{"channel":"system:x","data":{},"messageID":"m1"}',
            b'{"channel":"system:x","data":{},"%b":1}' % (b"x" * 5000),
            b'{"channel":"\xff","data":{}}',
            b'{"channel":"system:x","data":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
            b'{"channel":"system:x","data":{}} {}',
        ):
            message = self.refused(self.ask("POST", "/v1/publish", body), 400, "publish.invalid")
            self.assertLess(len(message), 300)
        self.assertEqual(self.bus.delivered, [])

    def test_the_refusal_names_the_field(self) -> None:
        self.assertIn("data", self.refused(self.publish(channel="system:x"), 400, "publish.invalid"))

    def test_a_form_is_no_publication(self) -> None:
        headers = {
            "Authorization": f"Bearer {KEY}",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        body = b"channel=system%3Ax&data=%7B%7D"
        self.refused(self.exchange.ask("POST", "/v1/publish", headers, body), 400, "publish.invalid")

    def test_the_content_type_does_not_matter(self) -> None:
        """curl sends a form's; the body is JSON all the same, and forms are never parsed."""
        headers = {
            "Authorization": f"Bearer {KEY}",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        body = b'{"channel":"system:x","data":{}}'
        self.assertEqual(self.exchange.ask("POST", "/v1/publish", headers, body).status, 200)

    def test_a_payload_that_is_too_large(self) -> None:
        data = {"a": "x" * (256 * 1024)}
        self.refused(self.publish(channel="system:x", data=data), 413, "message.too_large")
        self.assertEqual(self.publish(channel="system:x", data={}).status, 200)

    def test_the_largest_payload(self) -> None:
        around = len(json.dumps({"timestamp": 1, "a": ""}))
        data = {"timestamp": 1, "a": "x" * (256 * 1024 - around)}
        self.assertEqual(self.publish(channel="system:x", data=data).status, 200)

    def test_a_body_that_is_too_large(self) -> None:
        answer = self.ask("POST", "/v1/publish", b"x" * (BODY_LIMIT + 1))
        self.refused(answer, 413, "message.too_large")
        self.assertEqual(self.publish(channel="system:x", data={}).status, 200)

    def test_a_body_in_chunks_that_is_too_large(self) -> None:
        self.exchange.send(
            b"POST /v1/publish HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
            b"Authorization: Bearer %b\r\n\r\n" % KEY.encode()
        )
        for _ in range(5):
            self.exchange.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        self.exchange.send(b"0\r\n\r\n")
        self.refused(self.exchange.read(), 413, "message.too_large")

    def test_a_body_far_too_large_ends_the_connection(self) -> None:
        answer = self.ask("POST", "/v1/publish", b"x" * (BODY_READ + 1))
        self.assertEqual(answer.status, 413)
        self.assertFalse(self.exchange.transport.connected)

    def test_without_the_key_no_body_is_awaited(self) -> None:
        self.exchange.send(b"POST /v1/publish HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n")
        self.refused(self.exchange.read(), 401, "api.unauthorized")

    def test_a_bus_that_is_away(self) -> None:
        self.bus.broker.stop()
        self.refused(self.publish(channel="system:x", data={}), 503, "broker.unavailable")


class QuestionTests(ApiCase):
    def test_rooms(self) -> None:
        self.bus.present("u1", "a", "b")
        self.bus.present("u2", "b", connection="c2")
        answer = self.ask("GET", "/v1/rooms")
        self.assertEqual(
            answer.json,
            {"rooms": [{"roomId": "a", "users": 1}, {"roomId": "b", "users": 2}], "next": None},
        )

    def test_rooms_by_page(self) -> None:
        self.bus.present("u1", *(f"r{number}" for number in range(5)))
        pages = []
        target: str | None = ""
        while target is not None:
            told = self.ask("GET", f"/v1/rooms?limit=2{target and '&after=' + target}").json
            pages.append([room["roomId"] for room in told["rooms"]])
            target = told["next"]
        self.assertEqual(pages, [["r0", "r1"], ["r2", "r3"], ["r4"]])

    def test_bad_pages(self) -> None:
        for query in ("limit=0", "limit=1001", "limit=x", "limit=-1", "limit=%C2%B2", "after=a%20b"):
            self.refused(self.ask("GET", f"/v1/rooms?{query}"), 400, "message.invalid")
        self.refused(self.ask("GET", f"/v1/rooms?{'a=1&' * 20}"), 400, "message.invalid")

    def test_members(self) -> None:
        self.bus.present("u1", "event:7")
        self.bus.present("u2", "event:7", connection="c2")
        self.bus.store.choose("u2", "busy", "in a call")
        now = int(START * 1000)
        for target in ("/v1/rooms/event:7/members", "/v1/rooms/event%3A7/members"):
            self.assertEqual(
                self.ask("GET", target).json,
                {
                    "roomId": "event:7",
                    "members": [
                        {
                            "userId": "u1",
                            "status": "online",
                            "metas": [{"connectionId": "c1", "since": now}],
                        },
                        {
                            "userId": "u2",
                            "status": "busy",
                            "text": "in a call",
                            "metas": [{"connectionId": "c2", "since": now}],
                        },
                    ],
                },
            )

    def test_members_of_an_empty_room(self) -> None:
        self.assertEqual(
            self.ask("GET", "/v1/rooms/empty/members").json, {"roomId": "empty", "members": []}
        )

    def test_bad_room_ids(self) -> None:
        for room in ("a%20b", "a:", "%2A", "%C3%A9", "x" * 129):
            self.refused(self.ask("GET", f"/v1/rooms/{room}/members"), 400, "room.invalid_id")

    def test_presence(self) -> None:
        self.bus.present("u1")
        answer = self.ask("GET", "/v1/users/u1/presence")
        self.assertEqual((answer.json["userId"], answer.json["status"]), ("u1", "online"))
        self.assertEqual(
            self.ask("GET", "/v1/users/u2/presence").json,
            {"userId": "u2", "status": "offline", "metas": []},
        )

    def test_user_ids_are_decoded(self) -> None:
        for target, user in (("a%40b.c", "a@b.c"), ("a%2Fb", "a/b"), ("Zo%C3%AB", "Zoë"), ("%2e%2e", "..")):
            answer = self.ask("GET", f"/v1/users/{target}/presence")
            self.assertEqual(answer.json["userId"], user)

    def test_bad_user_ids(self) -> None:
        for user in ("a%20b", "a:b", "%2A", "%00", "%E2%80%A8", "x" * 129):
            self.refused(self.ask("GET", f"/v1/users/{user}/presence"), 400, "message.invalid")
            self.refused(self.ask("DELETE", f"/v1/users/{user}/connections"), 400, "message.invalid")
        self.assertEqual(self.disconnected, [])

    def test_count(self) -> None:
        self.assertEqual(
            self.ask("GET", "/v1/connections/count").json,
            {"connections": 7, "users": 3, "transports": {"websocket": 5, "polling": 2}},
        )

    def test_disconnect(self) -> None:
        self.assertEqual(self.ask("DELETE", "/v1/users/u%401/connections").json, {"disconnected": 2})
        self.assertEqual(self.disconnected, ["u@1"])


class ManyPathsTests(ApiCase):
    def test_headers(self) -> None:
        for answer in (self.ask("GET", "/v1/rooms"), self.ask("GET", "/nowhere")):
            self.assertEqual(answer.headers["content-type"], "application/json")
            self.assertEqual(answer.headers["x-content-type-options"], "nosniff")
            self.assertEqual(answer.headers["cache-control"], "no-store")
            self.assertNotIn("server", answer.headers)

    def test_unknown_paths(self) -> None:
        for path in ("/", "/v1", "/v1/", "/v1/publish/", "/v1//rooms", "/v2/rooms", "*"):
            self.refused(self.ask("GET", path), 404, "api.not_found")

    def test_other_methods(self) -> None:
        for method, path, allowed in (
            ("GET", "/v1/publish", "POST"),
            ("POST", "/v1/rooms", "GET, HEAD"),
            ("GET", "/v1/users/u1/connections", "DELETE"),
            ("OPTIONS", "/v1/rooms", "GET, HEAD"),
        ):
            answer = self.ask(method, path)
            self.refused(answer, 405, "api.method_not_allowed")
            self.assertEqual(answer.headers["allow"], allowed)
        self.refused(self.ask("get", "/v1/rooms"), 405, "api.method_not_allowed")

    def test_head(self) -> None:
        answer = self.ask("HEAD", "/v1/connections/count")
        self.assertEqual((answer.status, answer.body), (200, b""))
        self.assertGreater(int(answer.headers["content-length"]), 0)
        self.assertEqual(self.exchange.transport.value(), b"")

    def test_bytes_that_are_no_text(self) -> None:
        self.refused(self.ask("GET", "/v1/users/%FF/presence"), 400, "message.invalid")

    def test_hosts_that_are_no_names(self) -> None:
        authorization = b"Authorization: Bearer %b\r\n\r\n" % KEY.encode()
        for host in (b"\xff", b"a..b", b"x" * 300):
            self.connect()
            self.exchange.send(b"GET /v1/rooms HTTP/1.1\r\nHost: %b\r\n%b" % (host, authorization))
            self.assertEqual(self.exchange.read().status, 400)

    def test_several_requests_on_one_connection(self) -> None:
        for _ in range(3):
            self.assertEqual(self.ask("GET", "/v1/rooms").status, 200)
            self.assertEqual(self.publish(channel="system:x", data={}).status, 200)


@implementer(IStateStore)
class BrokenStore:
    """A store with a bug."""

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: fail(ZeroDivisionError("hunter2"))


class FaultTests(ApiCase):
    def test_our_bug_is_said_without_details_and_logged_once(self) -> None:
        self.connect(BrokenStore())
        for target in ("/v1/rooms", "/v1/rooms/a/members", "/v1/users/u1/presence"):
            message = self.refused(self.ask("GET", target), 500, "internal.error")
            self.assertNotIn("hunter2", message)
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_a_client_that_left_is_no_fault(self) -> None:
        waiting: Deferred[Any] = Deferred()

        class SlowStore(BrokenStore):
            def rooms(self) -> Deferred[Any]:
                return waiting

        self.connect(SlowStore())
        self.exchange.send(
            b"GET /v1/rooms HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %b\r\n\r\n" % KEY.encode()
        )
        self.exchange.transport.loseConnection()
        self.assertTrue(waiting.called)
        self.assertEqual(self.flushLoggedErrors(), [])


class GeneratedTests(ApiCase):
    JSON = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
        max_leaves=8,
    )
    CHANNELS = st.sampled_from(
        ["booking:x", "payment:x", "ticket:x", "user:1:x", "user:online", "event:1:x", "room:r:message"]
    )

    @unhurried
    @given(st.binary(max_size=80))
    def test_any_bytes_are_answered(self, body: bytes) -> None:
        self.refused(self.ask("POST", "/v1/publish", body), 400, "publish.invalid")

    @unhurried
    @given(
        st.fixed_dictionaries(
            {"channel": CHANNELS | JSON, "data": JSON | st.dictionaries(st.sampled_from(["userId"]), JSON)},
            optional={"messageId": JSON},
        )
    )
    def test_any_object_is_taken_or_refused(self, body: dict[str, Any]) -> None:
        answer = self.publish(**body)
        self.assertIn(answer.status, (200, 400))
        if answer.status == 200:
            self.assertEqual(set(answer.json) - {"repeated"}, {"id", "offset", "audience"})

    @unhurried
    @given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=30))
    def test_any_path_is_answered(self, path: str) -> None:
        self.connect()
        answer = self.ask("GET", f"/v1/{path}")
        self.assertIn(answer.status, (200, 400, 404, 405), path)
        json.loads(answer.body)
