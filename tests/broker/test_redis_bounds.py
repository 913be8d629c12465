"""Settings at their ends, over a real Redis."""

from __future__ import annotations

from typing import Any

from realtime.messages import Audience, Position

from .contract import publication
from .redis_bus import RedisBus


class HistoryTests(RedisBus):
    """Histories and logs of no or one message."""

    async def setUp(self) -> None:
        await self.start_server()

    async def published(self, node: Any, count: int) -> Position:
        for _ in range(count):
            told = await node.broker.publish(publication("a", history=True))
        assert told.position is not None
        return told.position

    async def test_no_history(self) -> None:
        """Without a history nobody is told that there was nothing to miss."""
        node = await self.start_node(HISTORY=0)
        first = await self.published(node, 1)
        last = await self.published(node, 2)
        self.assertEqual(await node.broker.missed("a", last), [])
        self.assertIsNone(await node.broker.missed("a", first))
        page = await node.broker.history("a", None, None, 10)
        self.assertEqual((page.publications, page.position), ([], last))

    async def test_log_of_one(self) -> None:
        """A log of one message proves that one, and no more."""
        node = await self.start_node(HISTORY=1, MAX_MESSAGES=1)
        first = await self.published(node, 1)
        last = await self.published(node, 1)
        self.assertEqual(len(await node.broker.missed("a", first)), 1)
        read = await node.broker.read("recover", 10**6, "", "", "", "a", 0, "", "a", 1, "", "a", 2, "")
        self.assertEqual([texts if texts is None else len(texts) for texts in read[2:]], [None, 1, 0])
        self.assertEqual(last.offset, 2)

    async def test_channel_born_anew(self) -> None:
        """What is left of a channel, or of the log's own place, does not keep later messages out."""
        for lost in ("meta:a", "log"):
            node = await self.start_node()
            await self.published(node, 5)
            await node.stop()
            await self.server.command("DEL", f"realtime:3:{lost}")
            fresh = await self.start_node()
            last = await self.published(fresh, 3)
            page = await fresh.broker.history("a", None, None, 3)
            self.assertEqual(page.position, last)
            found = [one.position for one in page.publications]
            self.assertEqual(
                [one.offset for one in found if one], [last.offset - 2, last.offset - 1, last.offset]
            )
            self.assertEqual({one.epoch for one in found if one}, {last.epoch})
            read = await fresh.broker.read("recover", 10**6, "", "", "", "a", 0, "")
            self.assertIn(read[2] and len(read[2]), (None, 3))

    async def test_odd_names_and_payloads(self) -> None:
        """Whatever a user is called, and however long the payload, it comes through as it was."""
        node = await self.start_node()
        user = 'ä"\\ü\x7f/<%s>$&日本'.replace("\x7f", "")
        rooms = [f"user:{user}"]
        node.delivered.wants = lambda channel: True
        await node.broker.at_point(rooms, "fence")
        data = b'{"x":"%b"}' % (b"\xc3\xa4" * 131072)
        made = publication(audience=Audience(users=frozenset((user,))), data=data)
        key = f"user:{user}:x\0{user}"
        told = await node.broker.publish(made, key)
        again = await node.broker.publish(made, key)
        self.assertEqual((told.position, again.repeated), (again.position, True))
        await node.settled()
        (heard,) = node.delivered.publications
        self.assertEqual((heard.data, heard.audience), (data, made.audience))
