"""One room, three protocols: every kind of client in it, all at once."""

from __future__ import annotations

from itertools import cycle
from typing import Any

from ..redis_servers import RedisServer
from .case import LiveCase
from .drivers import Client, Driver
from .service import Service

ROOM = "event:42"
COUNT = 200
SERIALIZERS = ("json", "cbor", "msgpack")


class OneRoom:
    """What holds however many nodes there are; see `nodes`."""

    async def nodes(self: Any) -> list[Service]:
        """The services among which the clients are spread."""
        raise NotImplementedError

    async def everyone(self: Any, suffix: str) -> list[Client]:
        """One client of each kind, connected; the nodes in turn."""
        urls = cycle([node.url for node in self.services])
        node, autobahn = self.drivers
        found = [self.open(node, f"socketio{suffix}", url=next(urls))]
        found.append(self.direct(node, f"plain{suffix}", "plain", next(urls)))
        for serializer in SERIALIZERS:
            for name, driver in (("js", node), ("python", autobahn)):
                user = f"{name}-{serializer}{suffix}"
                found.append(self.direct(driver, user, "wamp", next(urls), serializer=serializer))
        for client in found:
            client.user = (await client.connected())["userId"]
        self.assertEqual(len({client.user for client in found}), len(found))
        return found

    async def start(self: Any) -> None:
        self.services = await self.nodes()
        self.drivers: tuple[Driver, Driver] = (await self.start_node(), await self.start_autobahn())

    @staticmethod
    def ids(client: Client) -> list[str]:
        return [message["id"] for message in client.events("room:message")]

    async def test_everyone_talks(self: Any) -> None:
        """Each sends 200 messages at once: all see the same in one order; who comes late, the last 100."""
        await self.start()
        clients = await self.everyone("")
        for client in clients:
            self.accepted(await client.call("room:join", {"roomId": ROOM}))
        for client in clients:
            client.flow([ROOM], COUNT, 1, COUNT)
        for client in clients:
            self.assertEqual((await client.report("flowed"))["refused"], [], client)
        for node in self.services:
            await self.barrier_of(node, clients)
        seen = self.ids(clients[0])
        self.assertEqual(len(set(seen)), COUNT * len(clients))
        for client in clients:
            self.assertEqual(self.ids(client), seen, client)
            by_sender: dict[str, list[int]] = {}
            for message in client.events("room:message"):
                by_sender.setdefault(message["userId"], []).append(message["data"]["n"])
            self.assertEqual(set(map(tuple, by_sender.values())), {tuple(range(COUNT))}, client)
        late = await self.everyone("-late")
        for client in late:
            joined = self.accepted(await client.call("room:join", {"roomId": ROOM}))
            self.assertEqual([message["id"] for message in joined["history"]], seen[-100:], client)
        names = {made.user for made in (*clients, *late)}
        for client in [*clients, *late]:
            joined = self.accepted(await client.call("room:join", {"roomId": ROOM}))
            self.assertEqual({member["userId"] for member in joined["members"]}, names, client)

    async def barrier_of(self: Any, node: Service, clients: list[Client]) -> None:
        """Wait until these clients have all that was published before, through one node."""
        marker = {"marker": f"{self.id()} {node.url}"}
        self.assertEqual((await node.publish("system:announcement", marker)).status, 200)
        for client in clients:
            await client.event("system:announcement", **marker)


class OneNodeTests(OneRoom, LiveCase):
    """On the embedded broker."""

    async def nodes(self) -> list[Service]:
        return [await self.start_service(RATE_LIMIT_MAX_CONNECTIONS="50")]


class TwoNodesTests(OneRoom, LiveCase):
    """On two nodes over Redis."""

    async def nodes(self) -> list[Service]:
        redis = RedisServer(self.directory())
        await redis.start()
        self.addCleanup(redis.stop)
        environ = {"REDIS_URL": redis.url, "RATE_LIMIT_MAX_CONNECTIONS": "50"}
        return [await self.start_service(**environ), await self.start_service(**environ)]
