from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from realtime.errors import Unauthorized
from realtime.transport.door import DoorFactory
from realtime.transport.site import Request, Site
from realtime.transport.websocket import WebSockets

from .peer import Answer, Peer


class Echo(Resource):
    """Says what was asked."""

    isLeaf = True

    def render_GET(self, request: Request) -> bytes:
        request.setHeader(b"Content-Type", b"text/plain")
        return b"GET %s %r" % (request.uri, request.args)  # type: ignore[str-bytes-safe]

    def render_POST(self, request: Request) -> bytes:
        return bytes(request.content.read())


class Faulty(Resource):
    """Fails in the way the path says."""

    isLeaf = True

    def render(self, request: Request) -> Any:
        if request.uri.endswith(b"refuse"):
            raise Unauthorized
        if request.uri.endswith(b"late"):
            request.write(b"begun")
        if request.uri.endswith(b"later"):
            return NOT_DONE_YET
        raise ZeroDivisionError("secret")


class SiteTests(SynchronousTestCase):
    """What is mounted is found; everything else, and every fault, is answered in JSON."""

    def setUp(self) -> None:
        clock = Clock()
        parent = Resource()
        parent.putChild(b"child", Echo())
        self.factory = DoorFactory(
            clock=clock,
            site=Site({"/leaf": Echo(), "/parent": parent, "/a/b": Faulty()}),
            upgrades={},
            websockets=WebSockets(clock, max_message=1000, message_timeout=10.0),
            head_timeout=5.0,
            body_timeout=10.0,
        )
        self.peer = Peer(self.factory, clock)

    def ask(self, method: str, target: str, body: bytes = b"", **headers: str) -> Answer:
        return self.peer.ask(method, target, body, **headers)

    def test_leaf(self) -> None:
        for target in ("/leaf", "/leaf/", "/leaf?x=1"):
            self.assertEqual(self.ask("GET", target).status, 200)
        answer = self.ask("GET", "/leaf?x=1&x=2")
        self.assertEqual(answer.body, b"GET /leaf?x=1&x=2 {b'x': [b'1', b'2']}")
        self.assertEqual(answer.headers["content-length"], str(len(answer.body)))

    def test_children(self) -> None:
        self.assertEqual(self.ask("GET", "/parent/child").status, 200)
        self.assertEqual(self.ask("GET", "/parent/nobody").status, 404)

    def test_nothing_there(self) -> None:
        for target in ("/", "/lea", "/leaf/more", "/a", "/%2e%2e/leaf", "//leaf", "*"):
            answer = self.ask("GET", target)
            self.assertEqual((answer.status, answer.json["code"]), (404, "api.not_found"), target)

    def test_at_the_root(self) -> None:
        root = Resource()
        root.putChild(b"health", Echo())
        self.factory.site = Site({"/": root})
        self.peer = Peer(self.factory, Clock())
        self.assertEqual(self.ask("GET", "/health").status, 200)

    def test_methods(self) -> None:
        answer = self.ask("PUT", "/leaf")
        self.assertEqual((answer.status, answer.json["code"]), (405, "api.method_not_allowed"))
        self.assertEqual(set(answer.headers["allow"].split(", ")), {"GET", "HEAD", "POST"})

    def test_head(self) -> None:
        self.peer.request("HEAD", "/leaf")
        head, _, body = self.peer.read().partition(b"\r\n\r\n")
        self.assertTrue(head.startswith(b"HTTP/1.1 200 OK"))
        self.assertEqual(body, b"")

    def test_forms_are_not_parsed(self) -> None:
        form = b"a=1&" * 1000
        answer = self.ask("POST", "/leaf", form, Content_Type="application/x-www-form-urlencoded")
        self.assertEqual(answer.body, form)
        parts = b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\nb\r\n--x--\r\n"
        answer = self.ask("POST", "/leaf", parts, Content_Type="multipart/form-data; boundary=x")
        self.assertEqual(answer.body, parts)

    def test_a_refusal(self) -> None:
        answer = self.ask("GET", "/a/b?refuse")
        self.assertEqual((answer.status, answer.json["code"]), (401, "api.unauthorized"))

    def test_a_fault(self) -> None:
        answer = self.ask("GET", "/a/b?token=hidden")
        self.assertEqual((answer.status, answer.json["code"]), (500, "internal.error"))
        self.assertNotIn(b"secret", answer.body)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_a_fault_after_the_answer_began(self) -> None:
        self.peer.request("GET", "/a/b?late")
        self.assertEqual(self.peer.read().count(b"HTTP/1.1"), 1)
        self.assertTrue(self.peer.gone)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_fields_of_every_answer(self) -> None:
        for target in ("/leaf", "/nowhere"):
            headers = self.ask("GET", target).headers
            self.assertEqual(headers["x-content-type-options"], "nosniff")
            self.assertEqual(headers["referrer-policy"], "no-referrer")
            self.assertEqual(
                headers["content-security-policy"], "default-src 'none'; frame-ancestors 'none'"
            )
            self.assertIn("date", headers)
            self.assertNotIn("server", headers)

    def test_an_answer_to_nobody(self) -> None:
        self.peer.request("GET", "/a/b?later")
        request = self.peer.door._request
        assert request is not None
        self.peer.wire.hang_up()
        request.answer(200, b"x")
        self.assertEqual(self.peer.read(), b"")

    def test_answered_twice(self) -> None:
        self.peer.request("GET", "/a/b?later")
        request = self.peer.door._request
        assert request is not None
        request.answer(200, b"x")
        request.answer(200, b"y")
        self.assertEqual(self.peer.read().count(b"HTTP/1.1"), 1)

    def test_fields_can_not_be_split(self) -> None:
        """twisted.web neutralises what a resource should not have written."""
        self.peer.request("GET", "/a/b?later")
        request = self.peer.door._request
        assert request is not None
        request.setHeader(b"X-A", b"a\r\nX-B: b")
        request.answer(200, b"x")
        self.assertNotIn(b"\r\nX-B", self.peer.read())
