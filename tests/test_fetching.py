"""Asking other services over HTTP, on a real socket: what comes of answers good and bad."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import TestCase

from realtime.fetching import MAX_ANSWER, Fetcher, FetchFailed


class Stub(Protocol):
    """Answers each request head with fixed bytes, and stays open."""

    def dataReceived(self, data: bytes) -> None:
        self.factory.requests.append(data)
        self.transport.write(self.factory.answer)

    def connectionMade(self) -> None:
        self.factory.open += 1

    def connectionLost(self, reason: Any = None) -> None:
        self.factory.open -= 1
        self.factory.closed(None)


def http(body: bytes, status: str = "200 OK", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return f"HTTP/1.1 {status}\r\nContent-Length: {size}\r\n\r\n".encode() + body


class FetchingTests(TestCase):
    timeout = 20

    def setUp(self) -> None:
        self.factory: Any = Factory.forProtocol(Stub)
        self.factory.requests, self.factory.open = [], 0
        self.gone: Deferred[None] = Deferred()
        self.factory.closed = lambda result: self.gone.called or self.gone.callback(result)
        port = reactor.listenTCP(0, self.factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.url = f"http://127.0.0.1:{port.getHost().port}/keys"
        self.fetcher = Fetcher(reactor)

    async def fetch(self, answer: bytes, method: str = "GET", timeout: float = 5.0, **more: Any) -> bytes:
        self.factory.answer = answer
        return await self.fetcher.fetch(method, self.url, timeout=timeout, **more)

    async def failed(self, answer: bytes, timeout: float = 5.0) -> str:
        """Why it failed; its connection must be closed by then."""
        try:
            await self.fetch(answer, timeout=timeout)
        except FetchFailed as error:
            await self.gone
            return str(error)
        raise AssertionError("it did not fail")

    async def test_answer(self) -> None:
        """The body of an answer; the connection is used again."""
        for _ in range(2):
            self.assertEqual(await self.fetch(http(b'{"keys":[]}')), b'{"keys":[]}')
        self.assertEqual((self.factory.open, len(self.factory.requests)), (1, 2))
        await self.fetcher.stop()
        await self.gone

    async def test_form(self) -> None:
        """A token is sent in the body, never in the address."""
        answer = await self.fetch(
            http(b"{}"), "POST", headers={"Authorization": "Bearer k"}, form={"token": "a b"}
        )
        self.assertEqual(answer, b"{}")
        sent = b"".join(self.factory.requests)
        self.assertTrue(sent.startswith(b"POST /keys HTTP/1.1\r\n"), sent)
        self.assertIn(b"Authorization: Bearer k\r\n", sent)
        self.assertTrue(sent.endswith(b"token=a+b"), sent)
        await self.fetcher.stop()
        await self.gone

    async def test_other_status(self) -> None:
        endless = http(b"no", "500 Oh", length=10**9)
        self.assertEqual(await self.failed(endless), "status 500")

    async def test_redirects_are_not_followed(self) -> None:
        moved = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
        try:
            await self.fetch(moved)
        except FetchFailed as error:
            self.assertEqual(str(error), "status 302")
        await self.fetcher.stop()
        await self.gone

    async def test_huge_answer(self) -> None:
        """It is given up once it is too large, whatever it claimed."""
        huge = http(b"x" * (MAX_ANSWER + 1), length=10**9)
        self.assertIn(str(MAX_ANSWER), await self.failed(huge))

    async def test_slow_answers(self) -> None:
        """No answer, half a head, half a body: given up in time, with the connection."""
        for answer in (b"", b"HTTP/1.1 200 OK\r\n", http(b"x", length=5)):
            self.gone = Deferred()
            self.assertEqual(await self.failed(answer, timeout=0.2), "no answer within 0.2 s")

    async def test_rubbish(self) -> None:
        self.assertTrue(await self.failed(b"SSH-2.0-x\r\n\r\n"))

    async def test_nobody_there(self) -> None:
        self.url = "http://127.0.0.1:1/"
        try:
            await self.fetch(b"")
        except FetchFailed as error:
            self.assertEqual(str(error), "no connection")
