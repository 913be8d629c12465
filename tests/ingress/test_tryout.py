"""Tests of what the try-out page asks for: its own key, tokens of its people, publications."""

from __future__ import annotations

import json
from typing import Any

import jwt
from twisted.trial.unittest import SynchronousTestCase

from realtime.ingress.tryout import TryOut, page_key
from realtime.node import Node
from realtime.settings import Settings, load

from .bus import Bus
from .exchange import Answer, Exchange

SECRET = "s" * 32
SETTINGS = Settings(jwt_secret=SECRET, api_key="k" * 32, ws_allowed_origins=("http://127.0.0.1:*",))
KEY = page_key(SETTINGS)


class TryOutTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.bus = Bus()
        page = TryOut(SETTINGS, self.bus.ingest, self.bus.wall)
        self.exchange = Exchange({"/try": page}, self.bus.clock)

    def ask(self, name: str, body: Any, key: str = KEY, method: str = "POST", **headers: str) -> Answer:
        sent = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.exchange.ask(
            method, f"/try/{name}", {"Authorization": f"Bearer {key}", **headers}, sent
        )

    def refused(self, answer: Answer, status: int, code: str) -> None:
        self.assertEqual((answer.status, answer.json["error"]["code"]), (status, code))

    def test_key(self) -> None:
        """Without the page's key nothing is answered; API_KEY is not it, and can't be read from it."""
        for name, body in (("about", {}), ("token", {"user": "alice"}), ("publish", {})):
            for key in ("", "wrong", SETTINGS.api_key, f"{KEY}x", "\xff"):
                self.refused(self.ask(name, body, key), 401, "api.unauthorized")
        self.assertEqual(page_key(SETTINGS), KEY)
        self.assertNotEqual(page_key(Settings(api_key="other")), KEY)
        self.assertGreaterEqual(len(KEY), 43)

    def test_about(self) -> None:
        """Where clients connect, and whether the page's origin may."""
        for origin, allowed in (("http://127.0.0.1:3003", True), ("http://10.0.0.1:3003", False)):
            told = self.ask("about", {}, Origin=origin).json
            self.assertEqual(
                told,
                {"path": "/socket.io", "directPath": "/ws", "realm": "realtime", "originAllowed": allowed},
            )

    def test_token(self) -> None:
        """Of its two people, and of nobody else."""
        token = self.ask("token", {"user": "bob"}).json["token"]
        claims = jwt.decode(token, SECRET, algorithms=["HS256"], options={"verify_exp": False})
        self.assertEqual(claims["sub"], "bob")
        self.assertEqual(claims["exp"] - claims["iat"], 3600)
        self.refused(self.ask("token", {"user": "mallory"}), 400, "message.invalid")

    def test_publish(self) -> None:
        told = self.ask("publish", {"channel": "booking:confirmed", "data": {"userId": "bob"}}).json
        self.assertEqual(told["audience"], {"everyone": False, "users": ["bob"], "rooms": []})
        self.assertEqual([one.event for one in self.bus.delivered], ["booking:confirmed"])
        refused = self.ask("publish", {"channel": "booking:confirmed", "data": {}})
        self.refused(refused, 400, "publish.no_owner")

    def test_bad_requests(self) -> None:
        for body in (b"", b"{", b"\xff", b"[]", b"[" * 10_000, b'{"user": 7}'):
            self.refused(self.ask("token", body), 400, "message.invalid")
        self.refused(self.ask("token", {"user": "bob"}, method="PUT"), 405, "api.method_not_allowed")


class MountTests(SynchronousTestCase):
    """Where the pages are there."""

    def test_console(self) -> None:
        """The console is on in development, off in production, and each otherwise if CONSOLE says so."""
        bus = Bus()
        for production, asked, status in (
            (False, {}, 200),
            (False, {"CONSOLE": "false"}, 404),
            (True, {}, 404),
            (True, {"CONSOLE": "true"}, 200),
        ):
            needed = {
                "JWT_SECRET": SECRET,
                "API_KEY": "k" * 32,
                "WS_ALLOWED_ORIGINS": "https://example.com",
            }
            mode = {"REALTIME_ENV": "production" if production else "development"}
            node = Node(load({**needed, **mode, **asked}), clock=bus.clock, wall=bus.wall)
            exchange = Exchange(node.operator_pages(), bus.clock)
            self.assertEqual(exchange.ask("GET", "/console/", {}).status, status, (production, asked))

    def test_try_out(self) -> None:
        """The try-out page is there in development mode only."""
        bus = Bus()
        for env, status in (("development", 200), ("production", 404)):
            settings = Settings(jwt_secret=SECRET, api_key="k" * 32, realtime_env=env)
            node = Node(settings, clock=bus.clock, wall=bus.wall)
            exchange = Exchange(node.pages(), bus.clock)
            self.assertEqual(exchange.ask("GET", "/try/", {}).status, status, env)
