"""Rubbish over sockets: the service goes on serving, logs no traceback, and gives its memory back.

``RUBBISH=10000`` in the environment raises the number of frames and requests, ``RUBBISH_SEED``
draws others.
"""

from __future__ import annotations

import os
import re

from twisted.internet.defer import DeferredList, ensureDeferred

from tests.clients.case import TRANSPORTS, LiveCase
from tests.clients.children import Late
from tests.clients.raw import Raw

from .rubbish import Rubbish, Visit

COUNT = int(os.environ.get("RUBBISH", "2000"))
SEED = int(os.environ.get("RUBBISH_SEED", "1"))
WARM_UP = 400
#: Bytes of memory that a service may keep of so much rubbish: fragments of the allocator's, not data.
KEPT = 24_000_000
#: Seconds for which a visitor listens after each thing that it said.
PATIENCE = 0.05
VISITORS = 24


class RubbishTests(LiveCase):
    """Many visitors with rubbish, beside clients that behave."""

    timeout = 120 + COUNT / 20

    async def test_good_clients_are_unharmed(self) -> None:
        """While rubbish comes in by all doors, two clients talk; afterwards nothing is left of it."""
        service = await self.start_service(
            RATE_LIMIT_MAX_CONNECTIONS="1000",
            WS_CONNECTION_TIMEOUT="2000",
            WS_PING_INTERVAL="2000",
            WS_PING_TIMEOUT="4000",
            RECOVERY_WINDOW="1000",
            PRESENCE_GRACE="0",
            PRESENCE_CLEANUP_INTERVAL="500",
        )
        driver = await self.start_node()
        good = [self.open(driver, name, **options) for name, options in TRANSPORTS.items()]
        for client in good:
            await client.connected()
            self.accepted(await client.call("room:join", {"roomId": "lobby"}))
        self.rubbish = Rubbish(SEED, self.token("mallory"))
        await self._send(WARM_UP)
        await self._gone(len(good))
        before = service.rss()
        for client in good:
            client.flow(["lobby"], 200, 20, 2)
        sent = await self._send(COUNT)
        self.assertGreaterEqual(sent, COUNT)
        for client in good:
            self.assertEqual((await client.report("flowed"))["refused"], [])
        await self.barrier(*good)
        for client in good:
            kinds = {report["report"] for report in client.reports}
            self.assertEqual(kinds & {"disconnect", "connect_error"}, set(), client)
            seen = [(message["userId"], message["data"]["n"]) for message in client.events("room:message")]
            self.assertEqual(len(seen), 600, client)
            for name in TRANSPORTS:
                self.assertEqual([n for user, n in seen if user == name], list(range(200)))
        await self._gone(len(good))
        self.assertEqual(await service.metric("realtime_refusals_total", code="internal.error"), 0)
        grown = service.rss() - before
        self.assertLess(grown, KEPT)
        print(f"\n  {sent} frames and requests, {grown / 1e6:+.1f} MB")

    async def _send(self, count: int) -> int:
        """Let visitors come until they have brought so many; how many it were."""
        sent = 0

        async def visitor() -> None:
            nonlocal sent
            while sent < count:
                visit = self.rubbish.visit()
                sent += visit.frames
                await self._visit(visit)

        visitors = [ensureDeferred(visitor()) for _ in range(VISITORS)]
        for success, result in await DeferredList(visitors):
            if not success:
                result.raiseException()
        return sent

    async def _visit(self, visit: Visit) -> None:
        raw = await Raw.open(self.service.ports[visit.listener])
        sid = b""
        for part in visit.parts:
            if raw.closed:
                break
            raw.send(part.replace(b"SID", sid))
            try:
                got = await raw.until(b"}" if b"transport=polling" in part else b"\r\n\r\n", PATIENCE)
            except Late:
                continue
            found = re.search(rb'"sid":"([\w-]+)"', got)
            sid = sid or (found[1] if found else b"")
        raw.drop()

    async def _gone(self, left: int) -> None:
        """Wait until only so many connections are left."""

        async def left_alone() -> bool:
            count = await self.service.request("GET", "/v1/connections/count")
            return count.body["connections"] == left

        await self.until(left_alone, f"only {left} connections")
