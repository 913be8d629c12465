"""The stream over a real Redis: every entry once, whatever becomes of nodes, Redis and the stream."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from realtime.broker.relay import State
from realtime.broker.stream_reader import READERS, START, Broken, Look, broken, format_id, parse_id

from ..redis_servers import start_redis, until
from .relays import PREFIX, RelayCase, RelayNode
from .test_relay import publishing

STREAM = "realtime:events"


class StreamCase(RelayCase):
    async def add(self, entry: str = "*", channel: str = "system:note", **data: Any) -> bytes:
        """XADD as a service does; the entry's id."""
        fields = ("channel", channel, "data", json.dumps(data))
        found: bytes = await self.server.command("XADD", STREAM, entry, *fields)
        return found

    async def handled(self, entry: bytes) -> None:
        async def is_handled() -> bool:
            return bool(await self.server.command("HGET", f"{PREFIX}relay", "entry") == entry)

        await until(is_handled, f"{entry!r} to be handled")

    async def reset(self, node: RelayNode, what: Broken) -> None:
        async def is_reset() -> bool:
            return node.reader.resets[what.value] == 1

        await until(is_reset, f"the reader to notice that the stream was {what.value}", 5)


class EntryTests(StreamCase):
    """What becomes of an entry."""

    async def test_each_once(self) -> None:
        await self.add(n=0)
        a, b = await self.begin_with_entries(1)
        for number in range(1, 200):
            await self.add(n=number)
        await self.comes(range(200))
        self.assertEqual((a.reader.reading, b.reader.reading), (True, False))
        self.assertEqual(a.counted("system", "accepted"), 200)

    async def add(self, entry: str = "*", channel: str = "system:note", **data: Any) -> bytes:
        if not hasattr(self, "server"):
            return b""
        return await super().add(entry, channel, **data)

    async def begin_with_entries(self, count: int) -> list[RelayNode]:
        """What was added before any node listened is read too."""
        await self.begin()
        for number in range(count):
            await self.add(n=number)
        for name in ("a", "b"):
            await (await self.node(name)).stands()
        return self.nodes

    async def test_poison(self) -> None:
        """What can't be published is passed, and counted."""
        (a,) = await self.begin("a")
        for fields in (
            ("channel", "system:note"),
            ("data", "{}"),
            ("other", "x"),
            ("channel", "system:note", "data", "{"),
            ("channel", "nobody:note", "data", "{}"),
            ("channel", b"\xff", "data", "{}"),
            ("channel", "booking:made", "data", "{}"),
            ("channel", "system:note", "data", "{}", "messageId", ""),
            ("channel", "system:note", "data", "{}", "messageId", b"\xff"),
            ("channel", "system:note", "data", "x" * 300_000),
        ):
            last = await self.server.command("XADD", STREAM, "*", *fields)
        await self.handled(last)
        await self.add(n=1)
        await self.comes([1])
        self.assertEqual(a.counted("other", "publish.invalid"), 2)
        self.assertEqual(a.counted("system", "publish.invalid"), 4)
        self.assertEqual(a.counted("booking", "publish.no_owner"), 1)

    async def test_message_ids(self) -> None:
        """The field beside the data counts, not one within it."""
        await self.begin("a")
        for number, field in enumerate(("x", "x", "y", None, None)):
            fields = ("channel", "system:note", "data", json.dumps({"n": number, "messageId": "z"}))
            more = () if field is None else ("messageId", field)
            await self.server.command("XADD", STREAM, "*", *fields, *more)
        await self.comes([0, 2, 3, 4])

    async def test_not_a_stream(self) -> None:
        """A key of another kind in its place is a fault of others, and heals."""
        (a,) = await self.begin("a")
        with capturedLogs() as events:
            await self.server.command("SET", STREAM, "x")

            async def logged() -> bool:
                return any("WRONGTYPE" in event.get("error", "") for event in events)

            await until(logged, "the reader to say so")
        await self.server.command("DEL", STREAM)
        await self.add(n=0)
        await self.comes([0])
        await a.stands(State.HOLDER)


class DeathTests(StreamCase):
    """Whoever dies, and whenever."""

    async def test_between_publishing_and_the_answer(self) -> None:
        a, b = await self.begin("a", "b")
        a.bus.gate = publishing("lose")
        for number in range(3):
            await self.add(n=number)
        await self.comes(range(3))
        await a.die()
        await b.stands(State.HOLDER)
        await self.add(n=3)
        await self.comes(range(4))

    async def test_before_publishing(self) -> None:
        a, b = await self.begin("a", "b")
        a.bus.gate = publishing("hold")
        for number in range(3):
            await self.add(n=number)

        async def kept() -> bool:
            return len(a.bus.kept) == 3

        await until(kept, "the entries to be read")
        await a.die()
        await b.stands(State.HOLDER)
        await self.comes(range(3))

    async def test_answers_lost(self) -> None:
        """The same node reads again what it does not know of, and no more."""
        (a,) = await self.begin("a")
        a.bus.gate = publishing("lose")
        for number in range(3):
            await self.add(n=number)
        await self.comes(range(3))
        a.bus.release()
        await self.add(n=3)
        await self.comes(range(4))

    async def test_the_frozen_reader(self) -> None:
        a, b = await self.begin("a", "b")
        a.bus.gate = lambda name, args: "hold"
        await self.add(n=0)

        async def kept() -> bool:
            return len(a.bus.kept) >= 1

        await until(kept, "the entry to be read")
        await b.stands(State.HOLDER)
        await self.comes([0])
        a.bus.release()
        await a.stands(State.LISTENER)
        await self.add(n=1)
        await self.comes([0, 1])

    async def test_all_nodes_restart(self) -> None:
        a, b = await self.begin("a", "b")
        await self.add(n=0)
        await self.comes([0])
        await a.relay.stop()
        await b.relay.stop()
        for number in range(1, 4):
            await self.add(n=number)
        c = await self.node("c")
        await c.stands(State.HOLDER)
        await self.comes(range(4))

    async def test_the_connection_is_cut(self) -> None:
        (a,) = await self.begin("a")
        await self.add(n=0)
        await self.comes([0])
        a.blocking.drop("test")
        await self.add(n=1)
        await self.comes([0, 1])


class RedisTests(StreamCase):
    """Redis breaks and comes back."""

    async def test_restarts(self) -> None:
        """With its data: nothing is lost or twice, whatever was under way."""
        self.server = await start_redis(self, appendonly=True)
        await self.begin("a", "b", timeout=1.0)
        for number in range(200):
            self.server._client.command(
                "XADD", STREAM, "*", "channel", "room:r:note", "data", json.dumps({"n": number})
            ).addErrback(lambda _: None)
        await self.settle()
        await self.server.restart()
        for node in self.nodes:
            await node.stands()
        last = await self.add(n=1000)
        await self.handled(last)
        added = await self.server.command("XLEN", STREAM)
        entries = await self.server.command("XRANGE", f"{PREFIX}log:r", "-", "+")
        numbers = [json.loads(fields[1].split(b"\n", 2)[2])["n"] for _, fields in entries]
        self.assertEqual(numbers, list(range(added - 1)))

    async def test_stands_still(self) -> None:
        await self.begin("a", "b", timeout=1.0)
        service = await self.server.client()
        await self.add(n=0)
        await self.comes([0])
        self.server.freeze()
        fields = ("channel", "system:note", "data")
        sent = service.command("XADD", STREAM, "*", *fields, json.dumps({"n": 1}))
        await deferLater(reactor, 2.5)
        self.server.thaw()
        await sent
        service.transport.abortConnection()
        await self.add(n=2)
        await self.comes(range(3))


class StreamTests(StreamCase):
    """What others do to the stream (RELIABILITY.md, R13)."""

    async def test_begun_anew(self) -> None:
        """Deleted, and then filled with ids that were read already."""
        (a,) = await self.begin("a")
        await self.add("1000-1", n=0)
        await self.comes([0])
        await self.server.command("DEL", STREAM)
        await self.add("5-1", n=1)
        await self.add("6-1", n=2)
        await self.reset(a, Broken.RESTARTED)
        await self.comes([0, 1, 2])
        await self.add("7-1", n=3)
        await self.comes(range(4))

    async def test_deleted(self) -> None:
        """Ids that go on are read as if nothing had been."""
        (a,) = await self.begin("a")
        await self.add("1000-1", n=0)
        await self.comes([0])
        await self.server.command("DEL", STREAM)
        await self.add("1001-1", n=1)
        await self.comes([0, 1])
        self.assertEqual(set(a.reader.resets.values()), {0})

    async def test_trimmed_too_far(self) -> None:
        """What was not read is lost: that is counted, and the rest is read."""
        a, b = await self.begin("a", "b")
        await self.add("1000-1", n=0)
        await self.comes([0])
        await a.relay.stop()
        await b.relay.stop()
        for number in range(1, 5):
            await self.add(f"200{number}-1", n=number)
        await self.server.command("XTRIM", STREAM, "MINID", "=", "2003-1")
        c = await self.node("c")
        await c.stands(State.HOLDER)
        await self.reset(c, Broken.TRIMMED)
        await self.comes([0, 3, 4])

    async def test_trimmed_by_ourselves(self) -> None:
        """No further than all deployments have read that live."""
        (a,) = await self.begin("a")
        now = int(self.wall() * 1000)
        await self.add("1000-1", n=0)
        await self.server.command("HSET", READERS, "realtime:4:", f"1000-1 {now}")
        await self.server.command("HSET", READERS, "realtime:5:", f"10-1 {now - 86_500_000}")
        for number in range(1, 5):
            await self.add(f"200{number}-1", n=number)
        await self.comes(range(5))
        await a.reader._trim()
        self.assertEqual(await self.server.command("XLEN", STREAM), 5)
        told = await self.server.command("HGET", READERS, PREFIX)
        self.assertEqual(told.split()[0], b"2004-1")
        self.assertLess(int(told.split()[1]) - now, 60_000)
        self.assertFalse(await self.server.command("HEXISTS", READERS, "realtime:5:"))
        await self.server.command("HSET", READERS, "realtime:4:", f"2002-1 {now}")
        await a.reader._trim()
        self.assertEqual(await self.server.command("XLEN", STREAM), 3)
        self.assertEqual(set(a.reader.resets.values()), {0})

    def wall(self) -> float:
        return self.nodes[0].reader._wall()

    async def test_known_to_the_stream_only(self) -> None:
        """The deployment has lost its data, the stream's server has not."""
        (a,) = await self.begin("a")
        await self.add("1000-1", n=0)
        await self.comes([0])
        await a.reader._trim()
        await a.relay.stop()
        await self.server.command("DEL", f"{PREFIX}relay")
        await self.add("1001-1", n=1)
        b = await self.node("b")
        await b.stands(State.HOLDER)
        await self.comes([0, 1])


class BrokenTests(SynchronousTestCase):
    """What one look at the stream tells."""

    def look(self, first: str, last: str, length: int, added: int) -> Look:
        entry = [first.encode(), []] if first else None
        told = {b"first-entry": entry, b"last-generated-id": last.encode()}
        counts: dict[bytes, Any] = {b"length": length, b"entries-added": added}
        return Look([part for pair in {**told, **counts}.items() for part in pair])

    def test_table(self) -> None:
        for first, last, length, added, read, seen, expected, found in (
            ("5-0", "9-0", 3, 3, "9-0", None, None, None),
            ("5-0", "9-0", 3, 3, "0-0", None, None, None),
            ("5-0", "9-0", 3, 3, "5-0", "5-0", 1, None),
            # begun anew, below what was read; or without its newest entries
            ("1-0", "2-0", 2, 2, "9-0", None, None, Broken.RESTARTED),
            ("1-0", "2-0", 2, 2, "9-0", "5-0", 3, Broken.RESTARTED),
            ("5-0", "7-0", 2, 2, "9-0", "5-0", 3, Broken.WENT_BACK),
            ("", "0-0", 0, 0, "9-0", "5-0", 3, Broken.RESTARTED),
            # begun anew, and above it already
            ("1-0", "12-0", 2, 2, "9-0", "5-0", 3, Broken.RESTARTED),
            ("10-0", "12-0", 2, 2, "9-0", "5-0", 3, None),
            # trimmed beyond what was read, and up to it
            ("11-0", "12-0", 2, 6, "9-0", "5-0", 3, Broken.TRIMMED),
            ("10-0", "12-0", 3, 6, "9-0", "5-0", 3, None),
            ("11-0", "12-0", 2, 6, "9-0", None, None, Broken.TRIMMED),
            ("", "12-0", 0, 4, "9-0", "5-0", 3, Broken.TRIMMED),
            ("", "9-0", 0, 3, "9-0", "5-0", 3, None),
            # between two readings
            ("9-0", "9-0", 1, 5, "9-0", "5-0", 3, Broken.TRIMMED),
        ):
            before = None if seen is None else parse_id(seen.encode())
            look = self.look(first, last, length, added)
            self.assertIs(
                broken(look, parse_id(read.encode()), before, expected), found, (first, last, read, seen)
            )

    def test_ids(self) -> None:
        for text, numbers in ((b"1-2", (1, 2)), (b"7", (7, 0)), (b"", START), (b"x", START)):
            self.assertEqual(parse_id(text), numbers)
        self.assertEqual(format_id((1, 2)), b"1-2")
