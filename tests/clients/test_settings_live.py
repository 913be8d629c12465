"""Settings of the running service: each is set once and changes what clients or operators see.

Rates and connections of one user, message size: `test_limits`. Tokens: `test_auth`. Recovery window:
`test_recovery`.
"""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.internet.utils import getProcessOutputAndValue

from realtime.errors import Close

from .case import LiveCase
from .drivers import Client
from .raw import POLLING, Raw, frame, opened, request, upgrade
from .service import JWT_SECRET, LAST, Service, mint

WEBSOCKET: dict[str, Any] = {"transports": ["websocket"]}
ENDED = ("disconnect", "connect_error")


async def ended(client: Client) -> dict[str, Any]:
    """Wait until the client was not let in, or is no longer."""
    return await client.take(lambda report: report["report"] in ENDED, "to lose its connection")


class ListenerTests(LiveCase):
    """PORT, API_PORT, HEALTH_CHECK_PORT, METRICS_PORT, BIND_ADDRESS, API_BIND_ADDRESS, WS_PATH."""

    async def test_addresses(self) -> None:
        """Clients are served at BIND_ADDRESS, all else at API_BIND_ADDRESS, and only there."""
        service = await self.start_service(BIND_ADDRESS="127.0.0.2", API_BIND_ADDRESS="127.0.0.3")
        self.assertEqual(
            service.addresses,
            {"PORT": "127.0.0.2"}
            | dict.fromkeys(("API_PORT", "HEALTH_CHECK_PORT", "METRICS_PORT"), "127.0.0.3"),
        )
        await self.connect(await self.start_node(), "alice")
        self.assertEqual((await service.request("GET", "/v1/rooms")).status, 200)
        for path in ("/health", "/health/live", "/health/ready"):
            answer = await service.request("GET", path, listener="HEALTH_CHECK_PORT")
            self.assertEqual(answer.status, 200, answer.body)
        asked = await getProcessOutputAndValue(
            sys.executable,
            ["-c", "import sys; from realtime.cli import main; sys.exit(main())", "health"],
            {**service.environ, "HEALTH_CHECK_PORT": str(service.ports["HEALTH_CHECK_PORT"])},
        )
        self.assertEqual((asked[2], json.loads(asked[0])["status"]), (0, "healthy"), asked)
        self.assertEqual(await service.metric("realtime_users"), 1)
        for port in service.ports.values():
            with self.assertRaises(Exception):  # noqa: B017  whatever the reactor says of it
                await Raw.open(port)

    async def test_ports(self) -> None:
        """Each listener takes the port it is given; one in use stops the start and is named."""
        first = await self.start_service()
        taken = {name: str(port) for name, port in first.ports.items()}
        others = {}
        for name in taken:
            others[name] = self.prepare_service(**{name: taken[name]})
            others[name].fails = True
            others[name].launch()
        for name, service in others.items():
            self.assertNotEqual(await service.exited(), 0)
            said = [line for line in service.log if name in line and taken[name] in line]
            self.assertNotEqual(said, [], service.tail())
            service.forgiven.append(taken[name])
            self.assertNotIn("Traceback", "".join(service.log))
        await first.stop()
        again = await self.start_service(**taken)
        self.assertEqual({name: str(port) for name, port in again.ports.items()}, taken)

    async def test_path(self) -> None:
        """WS_PATH is where clients connect, and there is nothing else."""
        service = await self.start_service(WS_PATH="/live/now")
        driver = await self.start_node()
        for options in (WEBSOCKET, {"transports": ["polling"]}):
            await self.connect(driver, "alice", path="/live/now", **options)
            lost = self.open(driver, "alice", reconnection=False, **options)
            self.assertIs((await lost.report("connect_error"))["data"], None)
        raw = await Raw.open(service.ports["PORT"], request("GET", POLLING))
        self.assertEqual((await raw.answer())[0], 404)
        raw.drop()

    async def test_options_win(self) -> None:
        """Each setting is also an option of twistd, which wins over the environment."""
        await self.start_service("--ws-path=/opted", "--max-room-members=1", WS_PATH="/lost")
        driver = await self.start_node()
        alice, bob = [await self.connect(driver, user, path="/opted") for user in ("alice", "bob")]
        self.accepted(await alice.call("room:join", {"roomId": "lobby"}))
        self.refused(await bob.call("room:join", {"roomId": "lobby"}), "room.full")


class OriginTests(LiveCase):
    """WS_ALLOWED_ORIGINS, WS_CORS_ORIGIN."""

    async def test_origins(self) -> None:
        """Pages of listed origins get in, by polling and WebSocket; others, and ``null``, do not."""
        service = await self.start_service(
            WS_ALLOWED_ORIGINS="https://example.org,https://*.example.com",
            WS_CORS_ORIGIN="http://localhost:*",
        )
        origins = {
            "https://example.org": True,
            "https://a.example.com": True,
            "http://localhost:8123": True,
            "https://example.com": False,
            "http://example.org": False,
            "https://example.org:444": False,
            "https://evil.org": False,
            "https://a.example.com.evil.org": False,
            "https://evilexample.org": False,
            "null": False,
        }
        for origin, allowed in origins.items():
            for asked in (request("GET", POLLING, Origin=origin), upgrade(Origin=origin)):
                raw = await Raw.open(service.ports["PORT"], asked)
                head = (await raw.until(b"\r\n\r\n")).decode().lower()
                status = int(head.split(" ")[1])
                raw.drop()
                self.assertEqual(status in (101, 200), allowed, (origin, head))
                if status == 200:
                    self.assertIn(f"access-control-allow-origin: {origin}\r\n", head)
                    self.assertIn("access-control-allow-credentials: true\r\n", head)
                elif not allowed:
                    self.assertEqual(status, 403)
                    self.assertNotIn("access-control-allow-origin", head)


class TransportTests(LiveCase):
    """WS_MAX_CONNECTIONS, WS_CONNECTION_TIMEOUT, WS_PING_*, WS_MAX_MESSAGE_BYTES."""

    async def test_max_connections(self) -> None:
        """Past WS_MAX_CONNECTIONS nobody gets in, and gets in by itself once there is a place."""
        await self.start_service(WS_MAX_CONNECTIONS="2")
        driver = await self.start_node()
        first = await self.connect(driver, "alice", **WEBSOCKET)
        second = await self.connect(driver, "bob", transports=["polling"])
        third = self.open(driver, "carol", **WEBSOCKET)
        fourth = self.open(driver, "dave", transports=["polling"])
        self.assertIs((await ended(third))["active"], True)
        self.assertIs((await ended(fourth))["active"], True)
        await self.barrier(first, second)
        first.disconnect()
        second.disconnect()
        await third.connected()
        await fourth.connected()

    async def test_connection_timeout(self) -> None:
        """Who has not logged in after WS_CONNECTION_TIMEOUT is closed; who has is not."""
        service = await self.start_service(WS_CONNECTION_TIMEOUT="400")
        driver = await self.start_node()
        silent = await Raw.open(service.ports["PORT"], upgrade())
        began = reactor.seconds()
        nobody = self.open(driver, None, reconnection=False, **WEBSOCKET)
        alice = self.open(driver, None, **WEBSOCKET)
        await alice.report("connect")
        self.accepted(await alice.call("auth:login", {"token": self.token("alice")}))
        lost = await nobody.report("disconnect")
        self.assertEqual((lost["code"], lost["active"]), (Close.CONNECT_TIMEOUT.number, True))
        await silent.until_closed()
        self.assertLess(reactor.seconds() - began, 10)
        await self.barrier(alice)

    async def test_heartbeat(self) -> None:
        """WS_PING_INTERVAL and WS_PING_TIMEOUT are told in milliseconds, and kept."""
        service = await self.start_service(
            WS_PING_INTERVAL="300", WS_PING_TIMEOUT="500", WS_MAX_MESSAGE_BYTES="54321"
        )
        alice = await self.connect(await self.start_node(), "alice")
        raw = await Raw.open(service.ports["PORT"], upgrade())
        await raw.until(b"\r\n\r\n")
        handshake = opened(await raw.until(b"}"))
        self.assertEqual((handshake["pingInterval"], handshake["pingTimeout"]), (300, 500))
        self.assertEqual(handshake["maxPayload"], 54321)
        raw.send(frame(b'40{"token":"%b"}' % self.token("bob").encode()))
        began = reactor.seconds()
        await raw.until_closed()
        self.assertGreater(reactor.seconds() - began, 0.4)
        self.assertLess(reactor.seconds() - began, 10)
        self.assertEqual([one for one in alice.reports if one["report"] == "disconnect"], [])


class RoomTests(LiveCase):
    """MAX_ROOM_MEMBERS, ROOM_MESSAGE_HISTORY, ROOM_TYPING_TIMEOUT, RECOVERY_MAX_MESSAGES."""

    async def test_members(self) -> None:
        """MAX_ROOM_MEMBERS counts users, not tabs."""
        await self.start_service(MAX_ROOM_MEMBERS="2")
        driver = await self.start_node()
        users = ("alice", "alice", "bob", "bob", "carol")
        clients = [await self.connect(driver, user) for user in users]
        for client in clients[:4]:
            self.accepted(await client.call("room:join", {"roomId": "lobby"}))
        self.refused(await clients[4].call("room:join", {"roomId": "lobby"}), "room.full")
        for client in clients[:2]:
            self.accepted(await client.call("room:leave", {"roomId": "lobby"}))
        self.accepted(await clients[4].call("room:join", {"roomId": "lobby"}))

    async def test_history(self) -> None:
        """Who joins, or asks, sees the last ROOM_MESSAGE_HISTORY messages."""
        await self.start_service(ROOM_MESSAGE_HISTORY="3")
        driver = await self.start_node()
        alice, bob = [await self.connect(driver, user) for user in ("alice", "bob")]
        self.accepted(await alice.call("room:join", {"roomId": "lobby"}))
        for n in range(5):
            self.accepted(await alice.call("room:message", {"roomId": "lobby", "data": n}))
        joined = self.accepted(await bob.call("room:join", {"roomId": "lobby"}))
        self.assertEqual([message["data"] for message in joined["history"]], [2, 3, 4])
        asked = self.accepted(await alice.call("room:history", {"roomId": "lobby", "limit": 100}))
        self.assertEqual([message["data"] for message in asked["messages"]], [2, 3, 4])

    async def test_typing(self) -> None:
        """Typing ends by itself after ROOM_TYPING_TIMEOUT milliseconds."""
        await self.start_service(ROOM_TYPING_TIMEOUT="500")
        driver = await self.start_node()
        alice, bob = [await self.connect(driver, user) for user in ("alice", "bob")]
        for client in (alice, bob):
            self.accepted(await client.call("room:join", {"roomId": "lobby"}))
        alice.emit("user:typing", {"roomId": "lobby", "typing": True})
        began = await bob.event("room:typing", typing=True)
        stopped = await bob.event("room:typing", typing=False)
        took = stopped["timestamp"] - began["timestamp"]
        self.assertGreaterEqual(took, 480)
        self.assertLess(took, 2500)

    async def test_recovery_log(self) -> None:
        """A client that missed more than RECOVERY_MAX_MESSAGES is told that it was not recovered."""
        await self.start_service(RECOVERY_MAX_MESSAGES="10", ROOM_MESSAGE_HISTORY="5")
        proxy = self.start_proxy()
        alice = await self.connect(await self.start_node(), "alice", url=proxy.url, **WEBSOCKET)
        for count, recovered in ((10, True), (11, False)):
            proxy.cut()
            await alice.report("disconnect")
            for n in range(count):
                await self.service.publish("notification:new", {"userId": "alice", "n": n})
            proxy.mend()
            self.assertIs((await alice.connected())["recovered"], recovered)
        await self.barrier(alice)
        self.assertEqual([told["n"] for told in alice.events("notification:new")], list(range(10)))

    async def test_recovery_window(self) -> None:
        """An idempotency key is remembered for RECOVERY_WINDOW milliseconds."""
        service = await self.start_service(RECOVERY_WINDOW="400")
        publications = []
        for wait in (0.0, 0.8):
            await deferLater(reactor, wait)
            publications.append(await service.publish("system:announcement", {}, "m-1"))
        self.assertEqual([one.status for one in publications], [200, 200])
        self.assertNotEqual(publications[0].body["id"], publications[1].body["id"])


class PresenceSettingTests(LiveCase):
    """PRESENCE_TIMEOUT, PRESENCE_INTERVAL, PRESENCE_CLEANUP_INTERVAL."""

    async def _away_after(self, **environ: str) -> float:
        await self.start_service(**environ)
        began = reactor.seconds()
        driver = await self.start_node()
        alice, bob = [await self.connect(driver, user) for user in ("alice", "bob")]
        for client in (bob, alice):
            self.accepted(await client.call("room:join", {"roomId": "lobby"}))
        await bob.event("user:status_change", userId="alice", status="away")
        took = reactor.seconds() - began
        self.accepted(await alice.call("user:typing", {"roomId": "lobby", "typing": False}))
        await bob.event("user:status_change", userId="alice", status="online")
        return took

    async def test_timeout(self) -> None:
        """Who does nothing for PRESENCE_TIMEOUT is away, and online with the next event."""
        took = await self._away_after(PRESENCE_TIMEOUT="700", PRESENCE_INTERVAL="100")
        self.assertGreater(took, 0.7)
        self.assertLess(took, 15)

    async def test_interval(self) -> None:
        """Idle users are looked for each PRESENCE_INTERVAL, not before."""
        took = await self._away_after(PRESENCE_TIMEOUT="1", PRESENCE_INTERVAL="2000")
        self.assertGreater(took, 1.5)
        self.assertLess(took, 15)

    async def test_cleanup_interval(self) -> None:
        """Presence is swept each PRESENCE_CLEANUP_INTERVAL."""
        service = await self.start_service(PRESENCE_CLEANUP_INTERVAL="100")
        seldom = await self.start_service()

        async def swept() -> bool:
            return await service.metric("realtime_presence_sweeps_total") >= 3

        await self.until(swept, "three sweeps")
        self.assertEqual(await seldom.metric("realtime_presence_sweeps_total"), 0)


class SecretTests(LiveCase):
    """JWT_SECRET, JWT_REFRESH_SECRET, API_KEY, REALTIME_STATE."""

    async def test_state_file(self) -> None:
        """Without secrets development makes them once, into REALTIME_STATE, readable by nobody else."""
        state = Path(self.mktemp()).absolute()
        own = {"REALTIME_STATE": str(state), "JWT_SECRET": None, "API_KEY": None}
        greetings = []
        for _ in range(2):
            service = await self.start_service(**own)
            greetings.append(await self._token(service))
            await service.stop()
        self.assertEqual(stat.S_IMODE(os.stat(state).st_mode), 0o600)
        await self.start_service(**own)
        driver = await self.start_node()
        for token in greetings:
            await self.open(driver, None, auth={"token": token}).connected()
        foreign = self.open(driver, "alice")
        self.assertEqual((await foreign.report("connect_error"))["data"]["code"], "auth.token_invalid")
        answer = await self.service.request("GET", "/v1/rooms")
        self.assertEqual(answer.status, 401)

    async def _token(self, service: Service) -> str:
        async def greeted() -> bool:
            return bool(service.greeting) and service.greeting[-1].startswith(LAST)

        await self.until(greeted, "the greeting")
        (token,) = [line for line in service.greeting if line.startswith("ey")]
        self._tokens.append(token.rpartition(".")[2])
        return token

    async def test_secrets(self) -> None:
        """Tokens, refresh tokens and the API go by the secrets that are set."""
        secret, refresh, key = "s" * 32, "r" * 32, "k" * 32
        service = await self.start_service(JWT_SECRET=secret, JWT_REFRESH_SECRET=refresh, API_KEY=key)
        driver = await self.start_node()
        refused = await self.open(driver, None, auth={"token": mint("alice")}).report("connect_error")
        self.assertEqual(refused["data"]["code"], "auth.token_invalid")
        client = self.open(driver, None, auth={"token": mint("alice", secret=secret)})
        await client.connected()
        for wrong in (secret, JWT_SECRET):
            given = {"refreshToken": mint("alice", secret=wrong)}
            self.refused(await client.call("auth:token_refresh", given), "auth.token_invalid")
        given = {"refreshToken": mint("alice", secret=refresh)}
        self.accepted(await client.call("auth:token_refresh", given))
        self.assertEqual((await service.request("GET", "/v1/rooms")).status, 401)
        self.assertEqual((await service.request("GET", "/v1/rooms", key=key)).status, 200)


class StartTests(LiveCase):
    """What stops the start: one line each, and nothing is bound."""

    async def _refused(self, **environ: str | None) -> str:
        service = self.prepare_service(**environ)
        service.fails = True
        service.launch()
        self.assertNotEqual(await service.exited(), 0)
        self.assertEqual(service.ports, {})
        said = "\n".join(service.log)
        self.assertNotIn("Traceback", said)
        service.forgiven.append("")
        return said

    async def test_wrong_values(self) -> None:
        """A wrong value is named with its variable and with what is accepted."""
        wrong = {
            "PORT": "99999",
            "REALTIME_ENV": "staging",
            "REDIS_URL": "localhost:6379",
            "REDIS_DATABASE": "-1",
            "WS_PING_INTERVAL": "25s",
            "WS_ALLOWED_ORIGINS": "example.org",
            "JWT_SECRET": "short",
            "BIND_ADDRESS": "nowhere:",
        }
        said = await self._refused(**wrong)
        lines = said.splitlines()
        for name, value in wrong.items():
            (line,) = [line for line in lines if line.startswith(f"{name}=")]
            self.assertIn("accepted is", line)
            if name not in ("REDIS_URL", "JWT_SECRET"):
                self.assertIn(value, line)
        self.assertNotIn("short", said)
        said = await self._refused(REDIS_PASSWORD="secret of redis")
        self.assertIn("REDIS_PASSWORD", said)
        self.assertNotIn("secret of redis", said)

    async def test_production(self) -> None:
        """Production does not start without its secrets and origins, also by NODE_ENV."""
        bare = {"JWT_SECRET": None, "API_KEY": None}
        for said in (
            await self._refused(REALTIME_ENV="production", **bare),
            await self._refused(NODE_ENV="production", **bare),
        ):
            for name in ("JWT_SECRET", "API_KEY", "WS_ALLOWED_ORIGINS"):
                self.assertIn(name, said)

    async def test_production_starts(self) -> None:
        """With them it starts, serves on all addresses, and prints no token."""
        service = await self.start_service(
            REALTIME_ENV="production", WS_ALLOWED_ORIGINS="https://example.org", BIND_ADDRESS="127.0.0.1"
        )
        self.assertEqual(service.greeting, [])
        await self.connect(await self.start_node(), "alice")
        foreign = request("GET", POLLING, Origin="http://localhost:3000")
        raw = await Raw.open(service.ports["PORT"], foreign)
        self.assertEqual((await raw.answer())[0], 403)
        raw.drop()

    async def test_unknown_variable(self) -> None:
        """A variable that looks like a setting warns with the nearest name."""
        service = await self.start_service(WS_PING_INTERVALL="1", MAX_ROOM_MEMBER="2")
        for near in ("WS_PING_INTERVAL?", "MAX_ROOM_MEMBERS?"):
            self.assertEqual(len([line for line in service.log if near in line]), 1, near)
