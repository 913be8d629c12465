"""`AttackCase`: a real service, attackers on bare sockets, and a well-behaved client beside them."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet import reactor

from tests.clients.case import LiveCase
from tests.clients.raw import WEBSOCKET, Raw, frame, upgrade

#: Seconds for an answer on a machine that is busy with a flood.
SOON = 15.0


class AttackCase(LiveCase):
    """Attackers are bare sockets that speak Socket.IO by hand.

    :cvar attacker: the address that they come from.
    """

    attacker = "127.0.0.1"

    async def raw(self, data: bytes = b"", listener: str = "PORT") -> Raw:
        """A bare connection."""
        raw = await Raw.open(self.service.ports[listener], data, own=self.attacker)
        self.addCleanup(raw.drop)
        return raw

    async def opened(self, path: str = WEBSOCKET, **headers: str) -> Raw:
        """A WebSocket on which Engine.IO has begun."""
        raw = await self.raw(upgrade(path, **headers))
        await raw.until(b"}", SOON)
        return raw

    async def connected(self, token: str | None, **auth: Any) -> tuple[Raw, dict[str, Any]]:
        """A WebSocket on which a token was sent, and what CONNECT was answered with.

        What it was refused with has a ``data.code``.
        """
        raw = await self.opened()
        given = {**({} if token is None else {"token": token}), **auth}
        raw.send(frame(b"40" + json.dumps(given).encode()))
        kind = (await raw.until(b"{", SOON))[-3:-1]
        self.assertIn(kind, (b"40", b"44"))
        rest = b"{"
        while rest.count(b"{") != rest.count(b"}"):
            rest += await raw.until(b"}", SOON)
        answer: dict[str, Any] = json.loads(rest)
        return raw, answer

    async def refusal(self, token: str | None, **auth: Any) -> str | None:
        """The code with which a token is refused; None if it is not."""
        raw, answer = await self.connected(token, **auth)
        raw.drop()
        code: str | None = answer.get("data", {}).get("code")
        return code

    async def call(self, raw: Raw, event: str, payload: Any, number: int = 7) -> dict[str, Any]:
        """Send an event and wait for its acknowledgement."""
        raw.send(frame(f"42{number}".encode() + json.dumps([event, payload]).encode()))
        await raw.until(b"43%d[" % number, SOON)
        rest = b""
        while not rest or rest.count(b"{") != rest.count(b"}"):
            rest += await raw.until(b"}", SOON)
        answer: dict[str, Any] = json.loads(rest)
        return answer

    def seconds(self) -> float:
        """The reactor's clock."""
        now: float = reactor.seconds()
        return now
