"""What one node knows of whom not to trust, all know: three real nodes over one real Redis."""

from __future__ import annotations

import json
from typing import Any

from tests.clients.raw import Raw, frame
from tests.clients.service import Service, mint
from tests.redis_servers import start_redis

from .case import SOON, AttackCase

REFRESH = "the refresh secret of three nodes, long enough"


class NodesAttackTests(AttackCase):
    """Nodes ``self.nodes``; `self.service` is the one that attackers speak to."""

    async def _start(self, count: int = 3, **environ: str) -> list[Service]:
        redis = await start_redis(self)
        url = f"redis://127.0.0.1:{redis.port}"
        self.nodes = [
            await self.start_service(REDIS_URL=url, JWT_REFRESH_SECRET=REFRESH, **environ)
            for _ in range(count)
        ]
        for node in self.nodes:
            await self.until(lambda node=node: _ready(node), "the node to be ready")  # type: ignore[misc]
        return self.nodes

    async def test_all_nodes(self) -> None:
        """Revoked, muted, refreshed and flooding on one node is so on all."""
        limit = 200
        await self._start(RATE_LIMIT_MAX_MESSAGES=str(limit))
        await self._revoked()
        await self._muted()
        await self._traced()
        await self._refresh_reused()
        await self._flooding(limit)

    async def at(self, node: Service, token: str, **auth: Any) -> tuple[Raw, dict[str, Any]]:
        """Connect to one of the nodes."""
        self.service = node
        return await self.connected(token, **auth)

    async def _revoked(self) -> None:
        """Through one node's API, live on another within a second; nowhere let in again, or recovered."""
        a, b, c = self.nodes
        for path, code in (
            ("/v1/revocations/t-1", "auth.token_revoked"),
            ("/v1/users/alice/revocation", "auth.token_revoked"),
            ("/v1/users/alice/block", "auth.blocked"),
        ):
            token = self.token("alice", jti="t-1")
            raw, answer = await self.at(b, token)
            await raw.until(b"system:connected", SOON)
            began = self.seconds()
            put = await a.request("PUT", path, {})
            self.assertEqual(put.status, 200, put.body)
            await raw.until(code.encode(), SOON)
            self.assertLess(self.seconds() - began, 1.0)
            raw.drop()

            async def refused() -> bool:
                return await self.refusal(token) == code  # noqa: B023  awaited before the next turn

            for node in (a, b, c):
                self.service = node
                # that one node has heard of it does not say that another has
                await self.until(refused, "the node to hear of it")
                self.assertEqual(await self.refusal(token, pid=answer["pid"]), code)
            self.assertEqual((await c.request("DELETE", path)).body, {"lifted": True})

            async def forgiven() -> bool:
                return await self.refusal(token) is None  # noqa: B023  awaited before the next turn

            for node in (a, b, c):
                self.service = node
                await self.until(forgiven, "the node to hear that it was lifted")

    async def _muted(self) -> None:
        """Who is muted in a room is so wherever they speak."""
        a, b, _ = self.nodes
        raw, _ = await self.at(b, self.token("bob"))
        await raw.until(b"system:connected", SOON)
        await self.call(raw, "room:join", {"roomId": "lobby"})
        self.assertEqual((await a.request("PUT", "/v1/rooms/lobby/mutes/bob", {})).status, 200)

        async def muted() -> bool:
            answer = await self.call(raw, "room:message", {"roomId": "lobby", "text": "x"})
            return bool(not answer["ok"] and answer["error"]["code"] == "room.muted")

        await self.until(muted, "the other node to mute")

    async def _traced(self) -> None:
        """Who is traced through one node is so on another, in its log and no other."""
        a, b, c = self.nodes
        raw, _ = await self.at(b, self.token("dave"))
        await raw.until(b"system:connected", SOON)
        self.assertEqual((await a.request("PUT", "/v1/users/dave/trace", {"seconds": 60})).status, 200)
        await self._logged(b, "dave is traced")
        await self.call(raw, "room:join", {"roomId": "den"})
        await self.call(raw, "room:message", {"roomId": "den", "text": "x"})
        for line in ("trace: dave sent room:message", "trace: dave gets room:message"):
            await self._logged(b, line)
            self.assertEqual([node.entries(line) for node in (a, c)], [[], []])
        self.assertEqual((await c.request("DELETE", "/v1/users/dave/trace")).body, {"lifted": True})
        await self._logged(b, "dave is traced no more")

    async def _logged(self, node: Service, message: str) -> None:
        async def there() -> bool:
            return bool(node.entries(message))

        await self.until(there, f"{message!r} in the log")

    async def _refresh_reused(self) -> None:
        """A refresh token that was used on one node is used on all: its family ends."""
        a, b, _ = self.nodes
        first = {"refreshToken": mint("carol", secret=REFRESH, jti="r-1")}
        at_a, _ = await self.at(a, self.token("carol"))
        at_b, _ = await self.at(b, self.token("carol"))
        for raw in (at_a, at_b):
            await raw.until(b"system:connected", SOON)
        renewed = await self.call(at_a, "auth:token_refresh", first)
        self.assertTrue(renewed["ok"], renewed)
        for raw, token in ((at_b, first["refreshToken"]), (at_a, renewed["refreshToken"])):
            answer = await self.call(raw, "auth:token_refresh", {"refreshToken": token})
            self.assertEqual(answer["error"]["code"], "auth.refresh_reused")

    async def _flooding(self, limit: int) -> None:
        """One user's messages over three nodes have one limit: little more than it passes in all."""
        token = self.token("mallory")
        sockets = [(await self.at(node, token))[0] for node in self.nodes]
        for raw in sockets:
            await raw.until(b"system:connected", SOON)
        passed = 0
        # A round takes longer than it takes nodes to tell each other.
        for _ in range(12):
            for raw in sockets:
                raw.send(
                    b"".join(
                        frame(f"42{n}".encode() + json.dumps(["user:typing", _TYPING]).encode())
                        for n in range(100, 120)
                    )
                )
            for raw in sockets:
                answers = [
                    await raw.until(b"43%d[" % n, SOON) + await raw.until(b"]", SOON)
                    for n in range(100, 120)
                ]
                passed += sum(b"rate.limited" not in answer for answer in answers)
            await self.call(sockets[0], "user:typing", _TYPING, 7)
            await self._told()
        self.assertGreaterEqual(passed, limit)
        self.assertLess(passed, 2 * limit)

    async def _told(self) -> None:
        """Let nodes tell each other: their clocks are real."""
        began = self.seconds()

        async def later() -> bool:
            return self.seconds() - began > 0.3

        await self.until(later, "0.3 s")

    async def test_evict_oldest_over_nodes(self) -> None:
        """A user's oldest connection makes room wherever it is; it does not come back by itself."""
        a, b = await self._start(
            2, RATE_LIMIT_MAX_CONNECTIONS="1", RATE_LIMIT_CONNECTION_POLICY="evict-oldest"
        )
        token = self.token("alice")
        old, _ = await self.at(a, token)
        await old.until(b"system:connected", SOON)

        async def let_in() -> bool:
            raw = await self._try(b, token)
            return raw is not None

        await self.until(let_in, "room on the other node")
        await old.until(b"superseded", SOON)

    async def _try(self, node: Service, token: str) -> Raw | None:
        self.service = node
        raw = await self.opened()
        raw.send(frame(b"40" + json.dumps({"token": token}).encode()))
        while not raw.closed:
            if b"system:connected" in raw.data:
                return raw
            if b"connection.limit" in raw.data:
                break
            await raw._change(SOON, "an answer")
        raw.drop()
        return None


async def _ready(node: Service) -> bool:
    answer = await node.request("GET", "/health/ready", listener="HEALTH_CHECK_PORT")
    return answer.status == 200


_TYPING = {"roomId": "lobby", "typing": True}
