"""Publications offered at a rate by another service, as `benchmarks.offered` does for longer."""

from __future__ import annotations

import sys

import msgspec
from twisted.internet import reactor
from twisted.internet.utils import getProcessOutputAndValue

from benchmarks.offering import Offer, Outcome

from ..clients.service import API_KEY, ROOT
from ..clients.test_grpc import GrpcCase

RATE = 600
SECONDS = 1.5


class OfferedTests(GrpcCase):
    async def test_nothing_is_lost(self) -> None:
        """What is acknowledged arrives, once and in the order of its numbers where one is under way."""
        await self.start_grpc()
        ports = {"http": self.service.ports["API_PORT"], "grpc": await self.port(self.service)}
        alice = self.direct(await self.start_node(), "alice", "plain")
        await alice.connected()
        self.accepted(await alice.call("room:join", {"roomId": "event:load"}))
        for road, under_way in (("http", 16), ("grpc", 1)):
            alice.forget()
            offer = Offer(road, ports[road], API_KEY, RATE, SECONDS, under_way)
            arguments = ["-m", "benchmarks.offering", msgspec.json.encode(offer).decode()]
            output, errors, status = await getProcessOutputAndValue(
                sys.executable, arguments, path=str(ROOT), reactor=reactor
            )
            self.assertEqual(status, 0, errors.decode())
            outcome = msgspec.json.decode(output, type=Outcome)
            self.assertEqual(outcome.refused, {})
            self.assertGreater(len(outcome.taken), 100)
            self.assertEqual(len(outcome.taken) + outcome.unsent, outcome.offered)
            await self.barrier(alice)
            numbers = [payload["n"] for payload in alice.events("event:tick")]
            self.assertEqual(sorted(numbers), sorted(outcome.taken))
            if under_way == 1:
                self.assertEqual(numbers, outcome.taken)
