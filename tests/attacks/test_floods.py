"""Floods: while each lasts a well-behaved client is served as before, and memory comes back after it.

In full form (``FAULTS=full make faults``) each lasts ``FLOOD`` seconds, with the service on a processor of
its own; the p99 of the client's round trips, five hundred or more, must stay under twice its quiet value,
measured just before, and `NOISE`. Here they are short, and it must be served at all.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.internet.utils import getProcessOutputAndValue

from benchmarks.process import processors
from tests.clients.raw import Raw, frame, upgrade
from tests.clients.service import ROOT

from .case import SOON, AttackCase
from .test_tokens import forged

#: Seconds of each flood.
FLOOD = float(os.environ.get("FLOOD", "0"))
FULL = FLOOD > 0

#: What noise of the machine may add to a p99, in milliseconds: less than that of a client that is alone
#: differs from run to run, on two virtual processors. And what a flood may do to it where it is short.
NOISE = 1.0
BEARABLE = 1000.0

#: Bytes by which memory may be larger after a flood than before.
KEPT = 40_000_000


class FloodTests(AttackCase):
    """Each flood comes from this process and an address of its own; the bystander is another process."""

    timeout = 600
    #: Numbers of users: each measurement has one of its own, with a rate limit of its own.
    bystanders = itertools.count(1)
    attacker = "127.0.0.66"

    async def _start(self, **environ: str) -> None:
        await self.start_service(
            RATE_LIMIT_MAX_MESSAGES="100000",
            RATE_LIMIT_ADDRESS_HANDSHAKES="300",
            RATE_LIMIT_MAX_CONNECTIONS="100000",
            **environ,
        )
        self._apart()

    def _apart(self) -> None:
        """In full form the service has a processor of its own; flooder and bystander share the other."""
        self.flooding = False
        if FULL:
            server, load = processors()
            os.sched_setaffinity(self.service.pid, {server})
            self.addCleanup(os.sched_setaffinity, 0, os.sched_getaffinity(0))
            os.sched_setaffinity(0, {load})

    def _stand_back(self) -> None:
        """Let the bystander, which runs already, go before: what is measured is the service."""
        own = os.getpriority(os.PRIO_PROCESS, 0)
        if FULL:
            os.setpriority(os.PRIO_PROCESS, 0, 10)
            self.addCleanup(self._go_on, own)

    @staticmethod
    def _go_on(priority: int) -> None:
        # Only root may take it back.
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, priority)

    async def _bystander(self, seconds: float) -> dict[str, float]:
        arguments = ("-m", "tests.attacks.bystander", str(self.service.ports["PORT"]))
        done: Any = await getProcessOutputAndValue(
            sys.executable,
            (*arguments, self.token(f"bystander{next(self.bystanders)}"), str(seconds)),
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            path=str(ROOT),
        )
        out, err, status = done
        self.assertEqual(status, 0, err.decode())
        told: dict[str, float] = json.loads(out)
        return told

    async def _flood(self, name: str, attack: Callable[[], Awaitable[None]]) -> None:
        """Measure the bystander while it is quiet, and while an attack is repeated."""
        seconds = FLOOD or 1.0
        before = self.service.rss()
        quiet = await self._bystander(seconds)
        measuring = Deferred.fromCoroutine(self._bystander(seconds))
        self._stand_back()
        self.flooding = True
        rounds = 0

        async def go_on() -> None:
            nonlocal rounds
            while self.flooding:
                await attack()
                rounds += 1

        going = Deferred.fromCoroutine(go_on())
        flooded = await measuring
        self.flooding = False
        await going
        self.assertGreater(rounds, 0)
        limit = 2 * quiet["p99"] + NOISE if FULL else BEARABLE
        figures = (
            f"{name}: p99 {quiet['p99']:.2f} ms of {quiet['count']} quiet,"
            f" {flooded['p99']:.2f} ms of {flooded['count']} (median {flooded['median']:.2f},"
            f" worst {flooded['worst']:.2f}) in {rounds} rounds"
        )
        if FULL:
            print(f"\n    {figures}", file=sys.__stdout__, flush=True)
            self.assertGreaterEqual(min(quiet["count"], flooded["count"]), 500)
        self.assertLess(flooded["p99"], limit, figures)

        async def back() -> bool:
            return self.service.rss() - before < KEPT

        await self.until(back, f"memory to come back after {name}")

    async def test_messages_of_one_user(self) -> None:
        """One who sends without end is refused, slowed and closed, again and again."""
        await self.start_service(RATE_LIMIT_MAX_MESSAGES="2000", RATE_LIMIT_MAX_REFUSALS="40")
        self._apart()
        burst = frame(b'42["user:typing",{"roomId":"x","typing":true}]') * 500

        async def attack() -> None:
            raw, _ = await self.connected(self.token("mallory"))
            while self.flooding and not raw.closed:
                raw.send(burst)
                await deferLater(reactor, 0.02)
            raw.drop()

        await self._flood("messages", attack)
        refused = await self.service.metric("realtime_refusals_total", code="rate.limited")
        self.assertGreater(refused, 0)
        if FULL:
            ended = await self.service.metric("realtime_disconnects_total", reason="rate.limited")
            self.assertGreater(ended, 0)

    async def test_bad_tokens(self) -> None:
        """Connections with forged tokens, as many at a time as there are."""
        await self._start()
        token = forged({"alg": "HS256"}, b"x" * 32)
        packet = upgrade()
        connect = frame(b'40{"token":"%b"}' % token.encode())

        async def one() -> None:
            raw = await Raw.open(self.service.ports["PORT"], packet + connect, own=self.attacker)
            # the refusal, or the whole answer of one that was not let in
            await raw.until(b"}}" if b"101" in await raw.until(b"\r\n", SOON) else b"}", SOON)
            raw.drop()

        async def attack() -> None:
            await gatherResults([Deferred.fromCoroutine(one()) for _ in range(10)])

        await self._flood("bad tokens", attack)
        self.assertGreater(await self.service.metric("realtime_rate_limited_total", scope="handshake"), 0)

    async def test_nobodies(self) -> None:
        """Sockets that open a session and never log in: each makes room for the next."""
        await self._start(MAX_PENDING_LOGINS="200")
        sockets = 5000 if FULL else 300
        held: list[Raw] = []

        async def attack() -> None:
            if len(held) >= sockets:
                await deferLater(reactor, 0.05)
                return
            held.append(await self.raw(upgrade()))

        await self._flood("nobodies", attack)
        for raw in held:
            raw.drop()

    async def test_rubbish_frames(self) -> None:
        """Frames that are nothing: each ends its connection, and costs nobody else's."""
        await self._start()
        rubbish = [
            frame(b"\xff\xfe", 1),
            frame(b"x", 3),
            frame(b"4" * 70_000),
            frame(b"", 0),
            b"\xff" * 5000,
        ]

        async def attack() -> None:
            for sent in rubbish:
                raw = await Raw.open(self.service.ports["PORT"], upgrade() + sent, own=self.attacker)
                await deferLater(reactor, 0.01)
                raw.drop()

        await self._flood("rubbish", attack)
