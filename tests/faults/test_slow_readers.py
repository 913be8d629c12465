"""Clients that stop reading while messages flow: C1 and C2 of the plan, and what they see afterwards."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol

from tests.clients.case import LiveCase
from tests.clients.children import DEADLINE
from tests.clients.raw import Raw, frame, upgrade

from .scale import scaled

CLIENTS = scaled(10, 100)
#: Batches of 100 messages, of which 95 are values of five counters, and five must come.
BATCHES = scaled(30, 3000)
#: Bytes that may wait for one client; and of each message's text.
QUEUE = scaled(200_000, 5_000_000)
TEXT = "x" * scaled(1000, 200)


class Reader(Raw):
    """A client of Socket.IO that can stop reading.

    :ivar notes: the numbers that it has seen of what must come.
    :ivar counters: by type, the numbers that it has seen of what is a value.
    :ivar code: the code it was closed with.
    :ivar answered: acknowledgements.
    """

    def __init__(self, user: str) -> None:
        super().__init__()
        self.user = user
        self.notes: list[int] = []
        self.counters: dict[str, list[int]] = defaultdict(list)
        self.code: int | None = None
        self.recovered: bool | None = None
        self.pid = self.offset = ""
        self.answered = 0
        self._upgraded = False

    async def connect(self, port: int, token: str) -> None:
        """Connect, or take up the session of `pid`."""
        self.closed = self._upgraded = False
        self.data, self.code, self.recovered = b"", None, None
        await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port), self)
        auth = {"token": token, **({"pid": self.pid, "offset": self.offset} if self.pid else {})}
        self.send(upgrade() + frame(b"40" + json.dumps(auth).encode()))
        await self.sees(lambda: self.recovered is not None)

    async def sees(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds of what it has seen."""
        ends = reactor.seconds() + DEADLINE
        while not holds():
            await self._change(ends - reactor.seconds(), "to see it")

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        if not self._upgraded:
            _, end, rest = self.data.partition(b"\r\n\r\n")
            if not end:
                return
            self._upgraded, self.data = True, rest
        self._take()
        self._changed()

    def _take(self) -> None:
        data, at = self.data, 0
        while len(data) - at >= 10 or (len(data) - at >= 2 and data[at + 1] < 126):
            size, start = data[at + 1], at + 2
            if size > 125:
                start = at + (4 if size == 126 else 10)
                size = int.from_bytes(data[at + 2 : start], "big")
            if len(data) < start + size:
                break
            self._frame(data[at] & 15, data[start : start + size])
            at = start + size
        self.data = data[at:]

    def _frame(self, opcode: int, payload: bytes) -> None:
        if opcode == 8:
            self.code = int.from_bytes(payload[:2], "big")
            self.send(frame(payload, 8))
        elif payload == b"2":
            self.send(frame(b"3"))
        elif payload[:2] == b"43":
            self.answered += 1
        elif payload[:2] == b"40":
            self.pid = json.loads(payload[2:])["pid"]
        elif payload[:2] == b"42":
            self._event(*json.loads(payload[2:]))

    def newest(self) -> dict[str, int]:
        """What it has seen last, by type."""
        return {kind: numbers[-1] for kind, numbers in self.counters.items()}

    def _event(self, event: str, told: Any, offset: str = "") -> None:
        self.offset = offset or self.offset
        if event == "room:note":
            self.notes.append(told["n"])
        elif event == "ticket:available":
            self.counters[told["ticketType"]].append(told["n"])
        elif event == "system:connected":
            self.recovered = told["recovered"]


class SlowReaderTests(LiveCase):
    """They are bounded in memory, see the newest of what is a value, and lose nothing of the rest."""

    timeout = scaled(120, 900)

    async def test_stop_and_resume(self) -> None:
        await self.start_service(
            WS_MAX_QUEUE_BYTES=str(QUEUE),
            RECOVERY_MAX_MESSAGES="400000",
            RECOVERY_MAX_BYTES="100000000",
        )
        self.sent = 0
        self.notes: list[int] = []
        reading = await self._join("reader")
        stalled = [await self._join(f"user{number}") for number in range(CLIENTS)]
        for one in stalled:
            one.transport.pauseProducing()
        before = self.service.rss()
        for _ in range(BATCHES):
            await self._batch(values=True)
        await reading.sees(lambda: reading.notes == self.notes)
        # beside what waits there is the log of the embedded broker
        logged = await self.service.metric("realtime_log_bytes")
        self.assertLess(self.service.rss() - before - 3 * logged, CLIENTS * QUEUE * 1.1)
        self.assertEqual(await self.service.metric("realtime_slow_consumers_total"), 0)
        for one in stalled:
            one.transport.resumeProducing()
        newest = {str(kind): self.sent - 5 + kind for kind in range(5)}
        for one in (reading, *stalled):
            await one.sees(lambda one=one: one.notes == self.notes and one.newest() == newest)
            for numbers in one.counters.values():
                self.assertEqual(numbers, sorted(set(numbers)))
        seen = [sum(map(len, one.counters.values())) for one in (reading, *stalled)]
        self.assertEqual(seen[0], 95 * BATCHES)
        self.assertLess(max(seen[1:]), seen[0] * 0.9)
        await self._overflow(reading, stalled)

    async def _overflow(self, reading: Reader, stalled: list[Reader]) -> None:
        """More that must come than may wait: closed, back, and all there."""
        for one in stalled:
            one.transport.pauseProducing()
        while await self.service.metric("realtime_slow_consumers_total", loss="must") < CLIENTS:
            await self._batch(values=False)
        await reading.sees(lambda: reading.notes == self.notes)
        for one in stalled:
            one.transport.resumeProducing()
            await one.until_closed()
            self.assertEqual(one.code or 4003, 4003)
            self.assertLess(len(one.notes), len(self.notes))
            await one.connect(self.service.ports["PORT"], self.token(one.user))
            self.assertIs(one.recovered, True)
            self.assertEqual(one.notes, self.notes)

    async def _join(self, user: str) -> Reader:
        one = Reader(user)
        await one.connect(self.service.ports["PORT"], self.token(user))
        self.addCleanup(one.drop)
        for room in ("lobby", "event:1"):
            one.send(frame(b'420["room:join",{"roomId":"%b"}]' % room.encode()))
        await one.sees(lambda: one.answered == 2)
        return one

    async def _batch(self, values: bool) -> None:
        publications = []
        for n in range(self.sent, self.sent + 100):
            if values and n % 100 >= 5:
                told = {"eventId": "1", "ticketType": str(n % 5), "n": n, "text": TEXT}
                publications.append({"channel": "ticket:available", "data": told})
            else:
                self.notes.append(n)
                publications.append({"channel": "room:lobby:note", "data": {"n": n, "text": TEXT}})
        self.sent += 100
        answer = await self.service.request("POST", "/v1/batch", {"publications": publications})
        self.assertEqual(answer.status, 200)
