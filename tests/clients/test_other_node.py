"""A client that is cut off on one node and comes back to another, by every protocol of /ws."""

from __future__ import annotations

from ..redis_servers import RedisServer
from .case import LiveCase
from .proxy import Proxy

ROOM = "event:7"


class OtherNodeTests(LiveCase):
    """Two nodes over Redis."""

    async def test_taken_up(self) -> None:
        """Plain JSON and WAMP: all that was missed, once and in order."""
        redis = RedisServer(self.directory())
        await redis.start()
        self.addCleanup(redis.stop)
        first, second = [await self.start_service(REDIS_URL=redis.url) for _ in range(2)]
        driver = await self.start_node()
        bob = self.direct(driver, "bob", "plain", second.url)
        await bob.connected()
        self.accepted(await bob.call("room:join", {"roomId": ROOM}))
        for kind in ("plain", "wamp"):
            proxy = Proxy(first.ports["PORT"])
            self.addCleanup(proxy.stop)
            alice = self.direct(driver, "alice", kind, proxy.url)
            welcome = await alice.connected()
            self.accepted(await alice.call("room:join", {"roomId": ROOM}))
            self.accepted(await bob.call("room:message", {"roomId": ROOM, "text": "seen"}))
            seen = await alice.report("event", event="room:message")
            if kind == "wamp":
                line = welcome["position"].rpartition(":")[0]
                position = f"{line}:{seen['publication']}"
                alice.present(authextra={"session": welcome["session"], "position": position})
            proxy.cut()
            await alice.report("disconnect")
            for n in range(10):
                self.accepted(await bob.call("room:message", {"roomId": ROOM, "data": n}))
            self.assertEqual((await second.publish("booking:created", {"userId": "alice"})).status, 200)
            alice.forget()
            proxy.target = second.ports["PORT"]
            proxy.mend()
            self.assertIs((await alice.connected())["recovered"], True, kind)
            await alice.event("booking:created")
            self.accepted(await bob.call("room:message", {"roomId": ROOM, "data": 10}))
            await alice.report("event", event="room:message")
            marker = {"marker": f"{self.id()} {kind}"}
            await first.publish("system:announcement", marker)
            await alice.event("system:announcement", **marker)
            numbers = [message["data"] for message in alice.events("room:message")]
            self.assertEqual(numbers, list(range(11)), kind)
            alice.disconnect()
