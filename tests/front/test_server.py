"""Tests for realtime.front.server: what the front lets wait for the node, and what it refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from realtime.front import pipe, server
from realtime.front.server import NodeLink, Refusal
from realtime.v1 import realtime_pb2 as pb


class NodeLinkTests(SynchronousTestCase):
    """The front's side of the pipes, without a node."""

    def run_with(self, test: Callable[[NodeLink], Awaitable[None]], most: int = 4) -> None:
        async def running() -> None:
            await test(NodeLink(most, lambda grace: None, lambda ready: None))

        asyncio.run(running())

    def refused(self, task: Any) -> str:
        self.assertIsInstance(task.exception(), Refusal)
        return str(task.exception().refused.code)

    async def begin(self, link: NodeLink, count: int, size: int = 10) -> list[asyncio.Task[bytes]]:
        """Ask, and let it be sent."""
        asks = [
            asyncio.ensure_future(link.ask("publish", b"k", "p", b"x" * size, 0.0)) for _ in range(count)
        ]
        await asyncio.sleep(0)
        return asks

    def test_requests_that_wait_are_bounded(self) -> None:
        """In number; one that is answered makes room."""

        async def test(link: NodeLink) -> None:
            asks = await self.begin(link, 5)
            await asyncio.wait(asks[4:])
            self.assertEqual(self.refused(asks[4]), "rate.limited")
            link.data_received(pipe.framed(pipe.Done(1, b"{}")))
            self.assertEqual(await asks[0], b"{}")
            (more,) = await self.begin(link, 1)
            self.assertFalse(more.done())
            for ask in (*asks[1:4], more):
                ask.cancel()

        self.run_with(test)

    def test_bytes_that_wait_are_bounded(self) -> None:
        """A node that stands still does not fill the memory of the front."""
        self.patch(server, "MAX_WAITING_BYTES", 1000)

        async def test(link: NodeLink) -> None:
            asks = await self.begin(link, 3, 600)
            await asyncio.wait(asks[2:])
            self.assertEqual(self.refused(asks[2]), "rate.limited")
            for ask in asks[:2]:
                ask.cancel()
            await asyncio.wait(asks)
            (more,) = await self.begin(link, 1, 600)
            self.assertFalse(more.done())
            more.cancel()

        self.run_with(test)

    def test_watchers_are_bounded(self) -> None:
        self.patch(server, "MAX_WATCHING", 1)

        async def test(link: NodeLink) -> None:
            one, other = [link.watch(b"k", "p", pb.WatchRequest()) for _ in range(2)]
            watching = asyncio.ensure_future(anext(one))
            await asyncio.sleep(0)
            link.data_received(pipe.framed(pipe.Done(1, b"")))
            self.assertIsNone(await watching)
            with self.assertRaises(Refusal) as raised:
                await anext(other)
            self.assertEqual(raised.exception.refused.code, "rate.limited")
            await one.aclose()

        self.run_with(test)

    def test_who_lags_is_told_so(self) -> None:
        """What is behind goes, and the watching ends."""
        self.patch(server, "MAX_BEHIND", 3)

        async def test(link: NodeLink) -> None:
            watch = link.watch(b"k", "p", pb.WatchRequest())
            watching = asyncio.ensure_future(anext(watch))
            await asyncio.sleep(0)
            link.data_received(pipe.framed(pipe.Done(1, b"")))
            await watching
            for _ in range(5):
                link.data_received(pipe.framed(pipe.Happened(1, "presence", b"{}")))
            with self.assertRaises(Refusal):
                await anext(watch)

        self.run_with(test)
