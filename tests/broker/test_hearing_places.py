"""Where a node stands in each channel: what it reads again after a break, and what it never does."""

from __future__ import annotations

import re
from typing import Any

from twisted.internet.defer import Deferred

from realtime.errors import BrokerUnavailable

from ..redis_servers import until
from .contract import publication
from .test_hearing import BreakTests, HearingCase


class EntryTests(HearingCase):
    """A connection enters a room that nobody on its node was in."""

    async def test_what_was_before_it(self) -> None:
        """What a channel had before the connection's place is not delivered by a later repair."""
        await self.publish("new", "new")
        await self.hearer.broker.at_point(["new"], "fence")
        self.rooms.add("new")
        self.subscriber.drop("test")
        ids = await self.publish("new")
        await self.eventually(ids)

    _answered = BreakTests._answered

    async def test_marker_lost_without_a_break(self) -> None:
        """Who waits for a marker that is proved not to come enters nevertheless."""
        lost = self.swallow(lambda channel, text: re.match(rb"m \d", text))
        self.rooms.add("new")
        entering = self.hearer.broker.at_point(["new"], "fence")
        await lost
        await until(self._answered, "the script's answer")
        self.assertNoResult(entering)
        # In the end, at the next probe.
        point = await entering
        self.assertEqual(point.payload, b"")
        ids = await self.publish("new")
        await self.eventually(ids)


class AwayTests(HearingCase):
    """What is not logged was said while the connection was away."""

    async def test_signals(self) -> None:
        """The node is told to compare: a session may have been ended, and the signal was not heard."""
        self.assertEqual(self.hearer.peer.returns, [])
        self.subscriber.drop("test")
        await self.publisher.broker.signal("ended", b"{}")
        await self.eventually(await self.publish("a"))
        self.assertEqual(self.hearer.peer.returns, [False])

    async def test_entering(self) -> None:
        """Whoever would enter a room is refused at once, also where that is heard already."""
        self.subscriber.drop("test")
        entering = self.hearer.broker.at_point(["a"], "fence")
        self.failureResultOf(entering, BrokerUnavailable)


class LostTests(HearingCase):
    """A log does not have what was missed."""

    async def test_told_once(self) -> None:
        """Those in the room are told once, also when the next message comes."""
        await self.eventually(await self.publish("a", "b"))
        real = self.subscriber._connection.on_message
        self.subscriber._connection.on_message = lambda channel, text: (
            None if b"channel:" in channel else real(channel, text)
        )
        await self.publish(*["a"] * 60)
        self.subscriber.drop("test")

        async def told() -> bool:
            return bool(self.hearer.peer.resets)

        await until(told, "a reset")
        self.hearer.delivered.publications.clear()
        ids = await self.publish("a", "a")
        await self.eventually(ids)
        self.assertEqual(self.hearer.peer.resets, [frozenset({"a"})])

    async def test_unreadable(self) -> None:
        """What another version has logged, and this one can't read, is a gap, and stops nothing."""
        await self.eventually(await self.publish("a", "b"))
        await self.publisher.broker.run("publish", "a", "", 1, 0, "id", 1, b"[]", b"{}", "", "", "", "")
        ids = [*self.heard(), *await self.publish("a", "b")]
        await self.eventually(ids)
        self.assertEqual(self.hearer.peer.resets, [frozenset({"a"})])
        self.subscriber.drop("test")
        await self.eventually([*ids, *await self.publish("b", "a")])
        self.assertEqual(self.hearer.peer.resets, [frozenset({"a"})])


class EpochTests(HearingCase):
    """The data is lost while what was missed is read."""

    async def test_flushed_before_the_fence(self) -> None:
        """The repair does not go on into another epoch as if it were the same."""
        await self.eventually(await self.publish("a"))
        run = self.hearer.broker.run
        flushed: list[None] = []

        def flushing(name: str, *args: Any) -> Any:
            if name == "fence" and args[1].startswith("f") and not flushed:
                flushed.append(None)
                self.hear_at_once(args[1].encode())
                return Deferred.fromCoroutine(self.flush_first(run, name, *args))
            return run(name, *args)

        self.patch(self.hearer.broker, "run", flushing)
        self.subscriber.drop("test")

        async def told() -> bool:
            return bool(flushed) and self.hearer.broker.alive()

        await until(told, "the hearer is in order")
        self.assertEqual(self.hearer.peer.resets, [None])
        self.assertIn(True, self.hearer.peer.returns)

    async def flush_first(self, run: Any, *args: Any) -> Any:
        await self.server.command("FLUSHALL")
        await self.publisher.broker.publish(publication("a"))
        return await run(*args)

    def hear_at_once(self, token: bytes) -> None:
        """Have all that comes up to a marker come with it, in one piece."""
        connection = self.subscriber._connection
        real, kept = connection.on_message, []

        def keep(channel: bytes, text: bytes) -> None:
            kept.append((channel, text))
            if text.startswith(b"m " + token):
                connection.on_message = real
                for one in kept:
                    real(*one)

        connection.on_message = keep
