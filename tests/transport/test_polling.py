from __future__ import annotations

import gzip

from twisted.trial.unittest import SynchronousTestCase

from realtime.errors import Close
from realtime.transport.polling_carrier import BURST, RATE, accepts_gzip
from realtime.wire.session import Frame

from .peer import Answer, Poller, World

OPEN = "/engine.io/?EIO=4&transport=polling"


class Exchange(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = World()
        self.poller = self.world.poller()
        self.recorder = self.poller.recorder
        self.socket = self.poller.socket

    def given(self, answer: Answer | None) -> Answer:
        assert answer is not None, "no answer"
        return answer

    def assert_ended(self, reason: str, poller: Poller | None = None) -> None:
        poller = poller or self.poller
        self.assertEqual(poller.recorder.ends, [reason])
        answer = self.world.peer().ask("GET", poller.target)
        self.assertEqual((answer.status, answer.json["code"]), (400, 1))


class FetchTests(Exchange):
    """Requests that fetch packets."""

    def test_what_waits_leaves_in_one_answer(self) -> None:
        self.socket.write(Frame(b"41"))
        self.socket.write(Frame(b"451-2", (b"\x01\x02\x03\x04",)))
        self.assertEqual(self.socket.buffered, 11)
        answer = self.given(self.poller.poll())
        self.assertEqual(answer.body, b"41\x1e451-2\x1ebAQIDBA==")
        self.assertEqual(answer.headers["content-type"], "text/plain; charset=UTF-8")
        self.assertEqual(answer.headers["cache-control"], "no-store")
        self.assertEqual(self.socket.buffered, 0)

    def test_a_poll_that_waits_gets_all_of_one_turn(self) -> None:
        self.assertIsNone(self.poller.poll())
        self.socket.write(Frame(b"41"))
        self.socket.write(Frame(b"42"))
        self.assertIsNone(self.poller.fetching.answer())
        self.assertEqual(self.given(self.poller.fetched()).body, b"41\x1e42")
        self.socket.write(Frame(b"43"))
        self.assertEqual(self.given(self.poller.poll()).body, b"43")

    def test_ended_by_our_own_timer(self) -> None:
        """Also where no ping comes to end it, since a pong is owed."""
        world = World(ping_interval=100.0)
        poller = world.poller()
        self.assertIsNone(poller.poll())
        world.clock.advance(24.9)
        self.assertIsNone(poller.fetching.answer())
        world.clock.advance(0.1)
        self.assertEqual(self.given(poller.fetched()).body, b"6")
        self.assertEqual(poller.recorder.ends, [])

    def test_two_at_a_time_end_the_session(self) -> None:
        self.assertIsNone(self.poller.poll())
        second = self.world.peer().ask("GET", self.poller.target)
        self.assertEqual(second.status, 400)
        self.assertEqual(self.given(self.poller.fetching.answer()).body, b"1")
        self.assert_ended("transport_error")

    def test_an_aborted_one_ends_the_session(self) -> None:
        self.assertIsNone(self.poller.poll())
        self.poller.fetching.wire.hang_up()
        self.assert_ended("transport_error")

    def test_an_answered_one_may_hang_up(self) -> None:
        self.socket.write(Frame(b"41"))
        self.assertIsNotNone(self.poller.poll())
        self.poller.fetching.wire.hang_up()
        self.assertEqual(self.recorder.ends, [])

    def test_more_than_may_wait(self) -> None:
        for _ in range(6):
            self.socket.write(Frame(b"4" + b"x" * 9999))
        self.assertEqual((self.socket.buffered, self.world.counters.slow), (0, 1))
        self.assertEqual(self.given(self.poller.poll()).body, b"1")
        self.world.turn()
        self.assert_ended("slow_consumer")


class CompressionTests(Exchange):
    """Answers from a size on are compressed for who takes it."""

    def fetch(self, size: int, accept: str | None) -> Answer:
        self.socket.write(Frame(b"4" + b"x" * (size - 1)))
        headers = {} if accept is None else {"Accept_Encoding": accept}
        return self.poller.fetching.ask("GET", self.poller.target, **headers)

    def test_threshold(self) -> None:
        for size, coded in ((1023, False), (1024, True), (5000, True)):
            answer = self.fetch(size, "gzip, deflate")
            self.assertEqual(answer.headers.get("content-encoding") == "gzip", coded)
            body = gzip.decompress(answer.body) if coded else answer.body
            self.assertEqual(body, b"4" + b"x" * (size - 1))

    def test_who_takes_it(self) -> None:
        for accept, coded in (
            (None, False),
            ("", False),
            ("identity", False),
            ("br, GZIP;q=0.5", True),
            ("gzip;q=0", False),
            ("gzip; q=0.0", False),
            ("*", True),
            ("*;q=0", False),
            ("xgzip", False),
        ):
            answer = self.fetch(2000, accept)
            self.assertEqual("content-encoding" in answer.headers, coded, accept)

    def test_nothing_said(self) -> None:
        class Silent:
            class requestHeaders:  # noqa: N801
                @staticmethod
                def getRawHeaders(name: bytes, default: object) -> object:
                    return default

        self.assertFalse(accepts_gzip(Silent()))  # type: ignore[arg-type]


class BringTests(Exchange):
    """Requests that bring packets."""

    def test_packets(self) -> None:
        answer = self.given(self.poller.bring("4hällo\x1ebAQIDBA==\x1e4".encode()))
        self.assertEqual((answer.status, answer.body), (200, b"ok"))
        self.assertEqual(answer.headers["content-type"], "text/html")
        self.assertEqual(answer.headers["cache-control"], "no-store")
        self.assertEqual(self.recorder.messages, ["hällo", b"\x01\x02\x03\x04", ""])

    def test_any_text_content_type(self) -> None:
        for content_type in ("text/plain;charset=UTF-8", "application/x-www-form-urlencoded", "text/html"):
            self.assertEqual(self.given(self.poller.bring(b"4a=b", Content_Type=content_type)).body, b"ok")
        self.assertEqual(self.recorder.messages, ["a=b"] * 3)

    def test_wrong_packets_end_the_session(self) -> None:
        for body, messages in (
            (b"abc", []),
            (b"4x\x1e", ["x"]),
            (b"4x\x1e9\x1e4y", ["x"]),
            (b"b!!", []),
            (b"bAQIDBA", []),
            (b"4\xff", []),
        ):
            poller = self.world.poller()
            self.assertIsNone(poller.poll())
            self.assertEqual(self.given(poller.bring(body)).status, 400)
            self.assertEqual(poller.recorder.messages, messages)
            self.assertEqual(self.given(poller.fetching.answer()).body, b"1")
            self.assert_ended("parse_error", poller)

    def test_an_empty_body_ends_the_session(self) -> None:
        answer = self.poller.bringing.ask("POST", self.poller.target)
        self.assertEqual(answer.status, 400)
        self.assert_ended("parse_error")

    def test_a_ping_ends_the_session(self) -> None:
        self.assertEqual(self.given(self.poller.bring(b"2\x1e4x")).status, 400)
        self.assertEqual(self.recorder.messages, [])
        self.assert_ended("transport_error")

    def test_a_close_packet(self) -> None:
        self.assertIsNone(self.poller.poll())
        answer = self.given(self.poller.bring(b"4x\x1e1\x1e4y"))
        self.assertEqual((answer.body, self.recorder.messages), (b"ok", ["x"]))
        self.assertEqual(self.given(self.poller.fetching.answer()).body, b"6")
        self.assert_ended("transport_close")

    def test_octets_are_refused(self) -> None:
        answer = self.given(self.poller.bring(b"4x", Content_Type="application/octet-stream"))
        self.assertEqual((answer.status, self.recorder.messages), (400, []))
        self.assert_ended("transport_error")

    def test_too_much_is_refused_before_it_is_read(self) -> None:
        head = f"POST {self.poller.target} HTTP/1.1\r\nHost: x\r\nContent-Length: 100001\r\n\r\n"
        self.poller.bringing.send(head.encode())
        answer = self.given(self.poller.bringing.answer())
        self.assertEqual((answer.status, answer.json["code"]), (413, "request.too_large"))
        self.assertTrue(self.poller.bringing.gone)
        self.assertEqual(self.recorder.ends, [])

    def test_two_at_a_time_end_the_session(self) -> None:
        head = f"POST {self.poller.target} HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n"
        self.poller.bringing.send(head.encode() + b"4a")
        second = self.world.peer().ask("POST", self.poller.target, b"4b")
        self.assertEqual(second.status, 400)
        self.assertEqual(self.given(self.poller.bringing.answer()).status, 400)
        self.poller.bringing.send(b"bc")
        self.assertEqual(self.recorder.messages, [])
        self.assert_ended("transport_error")

    def test_one_that_is_cut_off_ends_the_session(self) -> None:
        head = f"POST {self.poller.target} HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n"
        self.poller.bringing.send(head.encode() + b"4a")
        self.poller.bringing.wire.hang_up()
        self.assert_ended("transport_error")

    def test_one_that_does_not_come_to_its_end(self) -> None:
        head = f"POST {self.poller.target} HTTP/1.1\r\nHost: x\r\nContent-Length: 40\r\n\r\n"
        self.poller.bringing.send(head.encode())
        for _ in range(10):
            self.world.clock.advance(1)
            self.poller.bringing.send(b"x")
        answer = self.given(self.poller.bringing.answer())
        self.assertEqual(answer.status, 408)
        self.assert_ended("transport_error")

    def test_in_chunks(self) -> None:
        head = f"POST {self.poller.target} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        data = head.encode() + b"3\r\n4ab\r\n1\r\nc\r\n0\r\n\r\n"
        for place in range(len(data)):
            self.poller.bringing.send(data[place : place + 1])
        self.assertEqual(self.given(self.poller.bringing.answer()).body, b"ok")
        self.assertEqual(self.given(self.poller.bring(b"4again")).body, b"ok")
        self.assertEqual(self.recorder.messages, ["abc", "again"])

    def test_in_too_many_chunks(self) -> None:
        head = f"POST {self.poller.target} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        self.poller.bringing.send(head.encode() + b"186a1\r\n")
        self.assertEqual(self.given(self.poller.bringing.answer()).status, 413)
        self.assert_ended("transport_error")


class PaceTests(Exchange):
    """Requests of one session that come faster than any client has a use for."""

    def test_bringing(self) -> None:
        """Past what may come at once each is answered later, as many in a second as there may be."""
        answered = 0
        while self.poller.bring(b"6") is not None:
            answered += 1
        self.assertEqual(answered, BURST)
        for _ in range(5):
            self.world.clock.advance(1 / RATE)
            self.assertIsNotNone(self.poller.bringing.answer())
            self.assertIsNone(self.poller.bring(b"6"))

    def test_fetching(self) -> None:
        """Likewise those that fetch; what there is to say waits as long."""
        for _ in range(BURST):
            self.poller.socket.write(Frame(b"4x"))
            self.assertIsNotNone(self.poller.poll())
        self.poller.socket.write(Frame(b"4x"))
        self.assertIsNone(self.poller.poll())
        self.assertIsNone(self.poller.fetched())
        self.world.clock.advance(1 / RATE)
        self.assertIsNotNone(self.poller.fetching.answer())

    def test_a_rest(self) -> None:
        """Who waits may go on at once."""
        while self.poller.bring(b"6") is not None:
            pass
        self.world.clock.advance(BURST / RATE)
        self.poller.bringing.answer()
        self.assertIsNotNone(self.poller.bring(b"6"))

    def test_over_meanwhile(self) -> None:
        """A session that ends while its request waits takes nothing of it."""
        while self.poller.bring(b"6") is not None:
            pass
        self.poller.socket.end("transport_close")
        self.world.clock.advance(1)
        self.assertEqual(self.poller.recorder.messages, [])


class CloseTests(Exchange):
    """A session that we close still gets what was written before, and then, alone, the close packet."""

    def assert_closes(self, reason: str) -> None:
        self.assertEqual(self.recorder.ends, [])
        self.assertEqual(self.given(self.poller.poll()).body, b"1")
        self.world.turn()
        self.assert_ended(reason)

    def test_with_a_poll_that_waits(self) -> None:
        self.assertIsNone(self.poller.poll())
        self.socket.write(Frame(b"441"))
        self.socket.close(Close.KICKED)
        self.assertEqual(self.recorder.ends, [])
        self.assertEqual(self.given(self.poller.fetching.answer()).body, b"441")
        self.assert_closes("kicked")

    def test_with_the_next_poll(self) -> None:
        self.socket.write(Frame(b"441"))
        self.socket.close(Close.KICKED)
        self.socket.write(Frame(b"4never"))
        self.assertEqual(self.given(self.poller.bring(b"4ignored")).body, b"ok")
        self.assertEqual(self.given(self.poller.poll()).body, b"441")
        self.assert_closes("kicked")
        self.assertEqual(self.recorder.messages, [])

    def test_with_nothing_to_say(self) -> None:
        self.assertIsNone(self.poller.poll())
        self.socket.close(Close.KICKED)
        self.assertEqual(self.recorder.ends, [])
        self.assertEqual(self.given(self.poller.fetching.answer()).body, b"1")
        self.world.turn()
        self.assert_ended("kicked")

    def test_no_more_pings(self) -> None:
        world = World(ping_interval=1.0, ping_timeout=1.0)
        poller = world.poller()
        poller.socket.close(Close.DRAIN)
        world.clock.pump([1.0] * 10)
        self.assertEqual(poller.recorder.ends, ["drain"])

    def test_if_none_comes(self) -> None:
        self.socket.close(Close.DRAIN)
        self.world.clock.advance(10)
        self.assert_ended("drain")

    def test_with_a_replay_that_is_not_through(self) -> None:
        self.socket.replay(Frame(b"4" + b"x" * 39999) for _ in range(3))
        self.socket.close(Close.DRAIN)
        first = self.given(self.poller.poll())
        last = self.given(self.poller.poll())
        self.assertEqual((first.body + last.body).count(b"4x"), 3)
        self.assert_closes("drain")

    def test_the_poll_goes_while_closing(self) -> None:
        self.socket.replay(Frame(b"4" + b"x" * 39999) for _ in range(3))
        self.socket.close(Close.DRAIN)
        self.given(self.poller.poll())
        self.world.clock.advance(9)
        self.assertEqual(self.recorder.ends, [])

    def test_from_inside_a_message(self) -> None:
        self.recorder.on_message = lambda data: self.socket.close(Close.KICKED)
        self.assertEqual(self.given(self.poller.bring(b"4x\x1e4y")).body, b"ok")
        self.assertEqual((self.recorder.messages, self.recorder.ends), (["x"], []))

    def test_twice(self) -> None:
        self.socket.close(Close.KICKED)
        self.socket.close(Close.DRAIN)
        self.poller.poll()
        self.world.turn()
        self.assert_ended("kicked")


class RefusalTests(SynchronousTestCase):
    """Requests that are refused, with the protocol's own errors."""

    def setUp(self) -> None:
        self.world = World()

    def assert_refused(self, method: str, target: str, status: int, code: int, **headers: str) -> Answer:
        answer = self.world.peer().ask(method, target, **headers)
        self.assertEqual((answer.status, answer.json["code"]), (status, code), target)
        self.assertEqual(answer.headers["content-type"], "application/json")
        return answer

    def test_each(self) -> None:
        sid = self.world.poller().sid
        self.assert_refused("GET", "/engine.io/?EIO=4", 400, 0)
        self.assert_refused("GET", "/engine.io/?EIO=4&transport=abc", 400, 0)
        self.assert_refused("GET", f"{OPEN}&sid=nobody", 400, 1)
        self.assert_refused("POST", f"{OPEN}&sid=nobody", 400, 1)
        self.assert_refused("POST", OPEN, 400, 2)
        self.assert_refused("PUT", OPEN, 400, 2)
        self.assert_refused("DELETE", f"{OPEN}&sid={sid}", 400, 3)
        self.assert_refused("GET", "/engine.io/?EIO=4&transport=websocket", 400, 3)
        self.assert_refused("GET", f"/engine.io/?EIO=4&transport=websocket&sid={sid}", 400, 3)
        self.assert_refused("GET", f"/engine.io/?EIO=3&transport=polling&sid={sid}", 400, 3)
        self.assert_refused("GET", OPEN, 403, 4, Origin="https://evil.example")
        self.assert_refused("GET", "/engine.io/?transport=polling", 400, 5)
        self.assert_refused("GET", "/engine.io/?EIO=3&transport=polling", 400, 5)
        self.assertEqual(
            self.world.counters.refused,
            ["unknown_transport"] * 2
            + ["bad_handshake_method"] * 2
            + ["bad_request", "forbidden"]
            + ["unsupported_version"] * 2,
        )

    def test_text(self) -> None:
        answer = self.assert_refused("GET", "/engine.io/?EIO=3&transport=polling", 400, 5)
        self.assertEqual(answer.json["message"], "Unsupported protocol version")

    def test_a_websocket_session_is_not_polled(self) -> None:
        self.world.websocket()
        sid = next(iter(self.world.engine.sessions))
        self.assert_refused("GET", f"{OPEN}&sid={sid}", 400, 3)

    def test_a_refused_body_is_skipped_and_the_connection_stays(self) -> None:
        peer = self.world.peer()
        answer = peer.ask("POST", f"{OPEN}&sid=nobody", b"4" * 5000)
        self.assertEqual(answer.status, 400)
        self.assertEqual(peer.ask("GET", OPEN).status, 200)

    def test_with_and_without_the_last_slash(self) -> None:
        self.assertEqual(self.world.peer().ask("GET", "/engine.io?EIO=4&transport=polling").status, 200)
        self.assertEqual(self.world.peer().ask("GET", "/engine.io/x?EIO=4&transport=polling").status, 404)
        self.assertEqual(self.world.peer().ask("GET", "/engine.iox?EIO=4&transport=polling").status, 404)


class CorsTests(SynchronousTestCase):
    """Pages of allowed origins read the answers; others don't."""

    def setUp(self) -> None:
        self.world = World()

    def ask(self, method: str, origin: str | None, **headers: str) -> Answer:
        if origin is not None:
            headers["Origin"] = origin
        return self.world.peer().ask(method, OPEN, **headers)

    def test_allowed(self) -> None:
        answer = self.ask("GET", "https://app.example.com")
        self.assertEqual(answer.status, 200)
        self.assertEqual(answer.headers["access-control-allow-origin"], "https://app.example.com")
        self.assertEqual(answer.headers["access-control-allow-credentials"], "true")
        self.assertEqual(answer.headers["vary"], "Origin")

    def test_errors_too(self) -> None:
        answer = self.world.peer().ask("GET", f"{OPEN}&sid=x", Origin="https://app.example.com")
        self.assertEqual(answer.headers["access-control-allow-origin"], "https://app.example.com")

    def test_none(self) -> None:
        answer = self.ask("GET", None)
        self.assertEqual((answer.status, answer.headers["vary"]), (200, "Origin"))
        self.assertNotIn("access-control-allow-origin", answer.headers)

    def test_others(self) -> None:
        for origin in ("null", "https://evil.example", "http://app.example.com", "*"):
            for method in ("GET", "OPTIONS"):
                answer = self.ask(method, origin)
                self.assertEqual((answer.status, answer.json["code"]), (403, 4))
                self.assertFalse([name for name in answer.headers if name.startswith("access-control")])

    def test_preflight(self) -> None:
        answer = self.ask(
            "OPTIONS",
            "https://app.example.com",
            Access_Control_Request_Method="POST",
            Access_Control_Request_Headers="authorization, x-custom",
        )
        self.assertEqual((answer.status, answer.body), (204, b""))
        self.assertEqual(answer.headers["access-control-allow-origin"], "https://app.example.com")
        self.assertEqual(answer.headers["access-control-allow-credentials"], "true")
        self.assertEqual(answer.headers["access-control-allow-methods"], "GET, POST")
        self.assertEqual(answer.headers["access-control-allow-headers"], "authorization, x-custom")
        self.assertEqual(self.world.recorders, [])

    def test_preflight_echoes_no_nonsense(self) -> None:
        answer = self.ask(
            "OPTIONS", "https://app.example.com", Access_Control_Request_Headers='<script>, "x"'
        )
        self.assertNotIn("access-control-allow-headers", answer.headers)
