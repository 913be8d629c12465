"""`NodesCase`: several nodes over one Redis, and what other services hear."""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.internet.defer import Deferred

from realtime.broker.interface import Held, Kept, Limits, Preferences
from realtime.messages import Owner

from ..redis_servers import Client, until
from .contract import said, session_of
from .redis_bus import Node, RedisBus

#: Limits that nobody meets.
MANY = Limits(1000, 1000)


class NodesCase(RedisBus):
    """Several nodes, ``self.a``, ``self.b``…; `plain` hears what other services hear."""

    count = 2

    async def setUp(self) -> None:
        await self.start_server()
        for name in "abc"[: self.count]:
            setattr(self, name, await self.start_node())
        self.services: Client = await self.server.client()
        self.addCleanup(self._leave_services)
        self.addCleanup(self.check_state)
        for pattern in ("user:*", "socket:*"):
            await self.services.command("PSUBSCRIBE", pattern)

    def _leave_services(self) -> Deferred[Any]:
        client = self.services
        client.transport.abortConnection()

        async def lost() -> bool:
            return client.lost

        return Deferred.fromCoroutine(until(lost, "the services' connection to end"))

    async def told_services(self) -> list[str]:
        """What other services were told since they were last asked: the channel and whom it is of."""
        await self.server.command("PUBLISH", "user:end", "")

        async def ended() -> bool:
            return any(push[2] == b"user:end" for push in self.services.pushed)

        await until(ended, "the end")
        pushed, self.services.pushed = self.services.pushed, []
        found = []
        for _, _, channel, text in pushed:
            if channel != b"user:end":
                payload = msgspec.json.decode(text)
                self.assertEqual(payload.pop("source"), "realtime")
                self.assertTrue(text.endswith(b',"source":"realtime"}'))
                who = payload.get("connectionId", payload["userId"])
                found.append(" ".join(filter(None, (channel.decode(), who, payload.get("reason")))))
        return found

    async def begin(
        self, node: Node, user: str, connection: str, *rooms: str, limits: Limits = MANY
    ) -> Owner:
        owner = Owner(user, connection, 1)
        await node.store.begin(owner, session_of(owner), dict.fromkeys(rooms, True), 1000, limits)
        return owner

    async def record(self, node: Node, owner: Owner) -> Any:
        return await node.store.record(session_of(owner))

    async def take_over(self, node: Node, owner: Owner) -> Any:
        record = await self.record(node, owner)
        read = await node.broker.recover(record, record.opened, 10**6)
        assert read is not None
        return await node.store.take_over(record, read, 2000, MANY)

    async def members(self, node: Node, room: str) -> list[str]:
        return [presence.user for presence in await node.store.members(room)]

    async def heard(self, node: Node) -> list[str]:
        """What was announced on a node since it was last asked."""
        await node.settled()
        told = [said(one) for one in node.delivered.publications]
        node.delivered.publications.clear()
        return told

    async def forget_told(self, *nodes: Node) -> None:
        for node in nodes:
            await self.heard(node)
        await self.told_services()


def as_kept(owner: Owner, preferences: Preferences | None = None, *, lost: bool = False) -> Kept:
    """What is said of a session that stays its node's."""
    return Kept(owner, frozenset(), None if lost else preferences or Preferences())


def as_held(owner: Owner, *rooms: str, idle: bool = False) -> Held:
    """A session as its node has it."""
    return Held(owner, session_of(owner), dict.fromkeys(rooms, True), 1000, idle)
