"""Tests for realtime.ingress.site."""

from __future__ import annotations

import tempfile

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from realtime.ingress.site import BODY_IGNORED, BODY_LIMIT, REQUEST_DEADLINE, Site

from .exchange import Exchange


class Measure(Resource):
    """Answers with the size of the body, the number of form fields, and the path."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.rendered = 0

    def render(self, request: Request) -> bytes | int:
        self.rendered += 1
        if request.path == b"/broken":
            raise ZeroDivisionError("hunter2")
        if request.path == b"/half":
            request.write(b"half")
            raise ZeroDivisionError("hunter2")
        if request.path == b"/slow":
            return NOT_DONE_YET
        return b"%d %d %b" % (len(request.content.read()), len(request.args), request.path)


class SiteTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.resource = Measure()
        self.exchange = Exchange(Site(self.resource, self.clock))
        self.transport = self.exchange.transport

    def head(self, *lines: str) -> bytes:
        return "\r\n".join(("POST / HTTP/1.1", "Host: a", *lines, "", "")).encode()

    def test_a_body_up_to_the_limit(self) -> None:
        answer = self.exchange.ask("POST", "/", {}, b"x" * BODY_LIMIT)
        self.assertEqual(answer.body, b"%d 0 /" % BODY_LIMIT)

    def test_a_body_above_the_limit_is_refused_and_the_connection_stays(self) -> None:
        answer = self.exchange.ask("POST", "/", {}, b"x" * (BODY_LIMIT + 1))
        self.assertEqual((answer.status, answer.json["error"]["code"]), (413, "message.too_large"))
        self.assertEqual(self.resource.rendered, 0)
        self.assertEqual(self.exchange.ask("GET", "/", {}).status, 200)

    def test_a_chunked_body_above_the_limit(self) -> None:
        self.exchange.send(self.head("Transfer-Encoding: chunked"))
        for _ in range(5):
            self.exchange.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        self.exchange.send(b"0\r\n\r\n")
        self.assertEqual(self.exchange.read().status, 413)

    def test_what_is_above_the_limit_is_not_kept(self) -> None:
        self.exchange.send(self.head(f"Content-Length: {BODY_LIMIT * 3}"))
        for _ in range(BODY_LIMIT * 3 // 65536):
            self.exchange.send(b"x" * 65536)
        (request,) = self.exchange.channel.requests
        self.assertLessEqual(len(request.content.getvalue()), BODY_LIMIT)

    def test_nothing_is_written_to_disk(self) -> None:
        def no_file(*args: object, **kwargs: object) -> None:
            raise AssertionError("a temporary file")

        self.patch(tempfile, "TemporaryFile", no_file)
        self.assertEqual(self.exchange.ask("POST", "/", {}, b"x" * 150_000).status, 200)

    def test_a_body_far_above_the_limit_ends_the_connection(self) -> None:
        self.exchange.send(self.head(f"Content-Length: {BODY_IGNORED + 1}"))
        self.assertEqual(self.exchange.read().status, 413)
        self.assertFalse(self.transport.connected)

    def test_a_chunked_body_far_above_the_limit_ends_the_connection(self) -> None:
        self.exchange.send(self.head("Transfer-Encoding: chunked"))
        for _ in range(BODY_IGNORED // 65536):
            self.exchange.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        self.assertTrue(self.transport.connected)
        self.exchange.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        self.assertEqual(self.exchange.read().status, 413)
        self.assertFalse(self.transport.connected)
        self.assertEqual(self.resource.rendered, 0)

    def test_what_comes_after_the_cut_is_not_answered_again(self) -> None:
        """A socket takes a moment to close; until then what it holds is still handed over."""
        self.transport.loseConnection = lambda: None
        self.exchange.send(self.head("Transfer-Encoding: chunked"))
        for _ in range(BODY_IGNORED // 65536 + 2):
            self.exchange.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        self.exchange.send(b"0\r\n\r\n")
        self.assertEqual(self.transport.value().count(b"HTTP/1.1"), 1)
        self.assertEqual(self.resource.rendered, 0)

    def test_forms_are_not_parsed(self) -> None:
        for kind in ("application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
            answer = self.exchange.ask("POST", "/", {"Content-Type": kind}, b"a=1&b=2&c=3")
            self.assertEqual(answer.body, b"11 0 /")

    def test_trickling_does_not_move_the_deadline(self) -> None:
        self.exchange.send(self.head(f"Content-Length: {REQUEST_DEADLINE * 2}"))
        for _ in range(REQUEST_DEADLINE - 1):
            self.clock.advance(1)
            self.exchange.send(b"x")
        self.assertTrue(self.transport.connected)
        self.clock.advance(1)
        self.assertFalse(self.transport.connected)

    def test_the_deadline_starts_again_with_the_answer(self) -> None:
        for _ in range(3):
            self.clock.advance(REQUEST_DEADLINE - 1)
            self.assertEqual(self.exchange.ask("GET", "/", {}).status, 200)
        self.clock.advance(REQUEST_DEADLINE)
        self.assertFalse(self.transport.connected)

    def test_an_answer_has_no_deadline(self) -> None:
        self.exchange.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        self.clock.advance(REQUEST_DEADLINE * 3)
        self.assertTrue(self.transport.connected)

    def test_two_hosts_are_refused(self) -> None:
        self.assertEqual(self.exchange.ask("GET", "/", {"Host": "b"}).status, 400)
        self.assertEqual(self.resource.rendered, 0)

    def test_our_bug_is_said_without_details(self) -> None:
        answer = self.exchange.ask("GET", "/broken", {})
        self.assertEqual((answer.status, answer.json["error"]["code"]), (500, "internal.error"))
        self.assertNotIn(b"hunter2", answer.body)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_a_bug_amid_an_answer_ends_the_connection(self) -> None:
        self.exchange.send(b"GET /half HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertFalse(self.transport.connected)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_asterisk_is_a_path_like_others(self) -> None:
        self.assertEqual(self.exchange.ask("OPTIONS", "*", {}).body, b"0 0 /")

    def test_versions_are_not_told(self) -> None:
        self.assertNotIn("server", self.exchange.ask("GET", "/", {}).headers)

    def test_no_timer_is_left(self) -> None:
        site = Site(self.resource, self.clock)
        site.doStart()
        site.doStop()
        self.transport.loseConnection()
        self.assertEqual(self.clock.getDelayedCalls(), [])
