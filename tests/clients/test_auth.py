"""Who may connect, and for how long: tokens, login, refresh, logout and kick, as real clients see them."""

from __future__ import annotations

import time

from realtime.errors import Close

from .case import LiveCase
from .service import mint

REFRESH_SECRET = "another secret of the tests, for refresh tokens"


class AuthTests(LiveCase):
    """What a client's token decides."""

    async def test_bad_tokens(self) -> None:
        """CONNECT_ERROR with a code, after which the client does not come back by itself."""
        await self.start_service()
        driver = await self.start_node()
        tokens = {
            "garbage": ("no token", "auth.token_invalid"),
            "forged": (mint("alice", secret="x" * 32), "auth.token_invalid"),
            "expired": (self.token("alice", ttl=-1), "auth.token_expired"),
            "nobody": (self.token(""), "auth.token_invalid"),
        }
        for transports in (["websocket"], ["polling"]):
            for name, (token, code) in tokens.items():
                client = self.open(driver, None, auth={"token": token}, transports=transports)
                refused = await client.report("connect_error")
                self.assertEqual((refused["data"]["code"], refused["active"]), (code, False), name)
                self.assertFalse((await client.state())["connected"])

    async def test_login_after_connecting(self) -> None:
        """Without a token a connection may only log in; then it is like any other."""
        service = await self.start_service()
        driver = await self.start_node()
        client = self.open(driver, None)
        await client.report("connect")
        self.refused(await client.call("room:join", {"roomId": "lobby"}), "auth.required")
        self.refused(await client.call("auth:login", {"token": "no"}), "auth.token_invalid")
        answer = self.accepted(await client.call("auth:login", {"token": self.token("alice")}))
        self.assertEqual(answer["userId"], "alice")
        self.assertGreater(answer["expiresAt"], time.time() * 1000)
        await client.event("system:connected", userId="alice")
        self.accepted(await client.call("room:join", {"roomId": "lobby"}))
        await service.publish("notification:new", {"userId": "alice"})
        await client.event("notification:new")

    async def test_refresh_in_place(self) -> None:
        """The client is told before its token ends; a new one renews the session where it is."""
        await self.start_service(TOKEN_REFRESH_THRESHOLD="1500", TOKEN_EXPIRY_GRACE="2000")
        driver = await self.start_node()
        once = {"transports": ["websocket"], "reconnection": False}
        keeps = self.open(driver, None, auth={"token": self.token("alice", ttl=3)})
        other = self.open(driver, None, auth={"token": self.token("bob", ttl=3)}, **once)
        await keeps.connected()
        await other.connected()
        expiring = await keeps.event("auth:token_expiring")
        self.assertLess(expiring["expiresAt"] - time.time() * 1000, 1600)
        stolen = await keeps.call("auth:token_refresh", {"token": self.token("bob")})
        self.refused(stolen, "auth.other_subject")
        renewed = self.accepted(await keeps.call("auth:token_refresh", {"token": self.token("alice")}))
        self.assertEqual(renewed["userId"], "alice")
        ended = await other.report("disconnect")
        self.assertEqual(ended["code"], Close.TOKEN_EXPIRED.number)
        self.accepted(await keeps.call("room:join", {"roomId": "lobby"}))
        self.assertEqual([report for report in keeps.reports if report["report"] == "disconnect"], [])

    async def test_refresh_token(self) -> None:
        """A refresh token gives a new pair, once; used twice it voids its family."""
        await self.start_service(JWT_REFRESH_SECRET=REFRESH_SECRET)
        driver = await self.start_node()
        client = await self.connect(driver, "alice")
        refresh = mint("alice", secret=REFRESH_SECRET, jti="r-1")
        renewed = self.accepted(await client.call("auth:token_refresh", {"refreshToken": refresh}))
        self.assertEqual(renewed["userId"], "alice")
        again = self.open(driver, None, auth={"token": renewed["token"]})
        await again.connected()
        second = {"refreshToken": renewed["refreshToken"]}
        third = self.accepted(await client.call("auth:token_refresh", second))
        # Whoever uses one a second time has stolen it or was stolen from: all that followed is void.
        for token in (refresh, third["refreshToken"]):
            used = await client.call("auth:token_refresh", {"refreshToken": token})
            self.refused(used, "auth.refresh_reused")

    async def test_logout(self) -> None:
        """Logging out ends the session for good: the client does not come back, nor does its session."""
        await self.start_service()
        driver = await self.start_node()
        client = await self.connect(driver, "alice")
        before = await client.state()
        client.emit("auth:logout", {})
        ended = await client.report("disconnect", reason="io server disconnect")
        self.assertIs(ended["active"], False)
        auth = {"pid": before["session"], "offset": before["offset"]}
        again = self.open(driver, "alice", auth=auth)
        self.assertIs((await again.connected())["recovered"], False)

    async def test_logout_everywhere(self) -> None:
        """All of the user's connections end, and nobody else's."""
        await self.start_service()
        driver = await self.start_node()
        tabs = [await self.connect(driver, "alice") for _ in range(2)]
        other = await self.connect(driver, "bob")
        tabs[0].emit("auth:logout", {"everywhere": True})
        for tab in tabs:
            await tab.report("disconnect", reason="io server disconnect")
        await self.barrier(other)

    async def test_kick(self) -> None:
        """DELETE of a user's connections ends them for good, says why, and touches nobody else."""
        service = await self.start_service()
        driver = await self.start_node()
        tabs = [
            await self.connect(driver, "alice", transports=transports)
            for transports in (["websocket"], ["polling"])
        ]
        other = await self.connect(driver, "bob")
        answer = await service.request("DELETE", "/v1/users/alice/connections")
        self.assertEqual(answer.status, 200, answer.body)
        for tab in tabs:
            await tab.event("system:error", code="connection.kicked")
            ended = await tab.report("disconnect", reason="io server disconnect")
            self.assertIs(ended["active"], False)
        await self.barrier(other)

    async def test_api_key(self) -> None:
        """The HTTP API answers only who has its key."""
        service = await self.start_service()
        for key in ("", "wrong"):
            answer = await service.request("GET", "/v1/rooms", key=key)
            self.assertEqual((answer.status, answer.body["error"]["code"]), (401, "api.unauthorized"))
        self.assertEqual((await service.request("GET", "/v1/rooms")).status, 200)
