"""Revocations, blocks and mutes, over HTTP."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from realtime.api_keys import ApiKey, digest
from realtime.trust.interface import Ban, Change

from .bus import START
from .exchange import Answer
from .test_http import ApiCase

MADE = int(START * 1000)


class ModerateTests(ApiCase):
    """Each ban is made by PUT and lifted by DELETE."""

    PATHS: ClassVar = {
        "/v1/revocations/t-1": Ban("token", "t-1", made=MADE),
        "/v1/users/alice%40example.com/revocation": Ban(
            "issued", "alice@example.com", before=START, made=MADE
        ),
        "/v1/users/a%2Fb/block": Ban("block", "a/b", made=MADE),
        "/v1/rooms/event:42/mutes/alice": Ban("mute", "event:42 alice", made=MADE),
    }

    def setUp(self) -> None:
        super().setUp()
        self.changes: list[Change] = []
        self.trust.start(self.changes.append, lambda bans: None)

    def put(self, path: str, **body: Any) -> Answer:
        return self.ask("PUT", path, json.dumps(body).encode() if body else b"")

    def test_made_and_lifted(self) -> None:
        for path, ban in self.PATHS.items():
            answer = self.put(path)
            self.assertEqual((answer.status, answer.json["banned"]), (200, True), path)
            self.assertEqual(self.changes.pop(), Change(ban))
            self.assertEqual(self.ask("DELETE", path).json, {"lifted": True})
            self.assertEqual(self.changes.pop(), Change(ban, lifted=True))
            self.assertEqual(self.ask("DELETE", path).json, {"lifted": False})

    def test_until(self) -> None:
        """A ban may end by itself, at a time to come."""
        answer = self.put("/v1/users/alice/block", until=MADE + 500)
        self.assertEqual(answer.json, {"banned": True, "until": MADE + 500})
        self.assertEqual(self.changes[0].ban.until, START + 0.5)

    def test_issued_before(self) -> None:
        answer = self.put("/v1/users/alice/revocation", issuedBefore=MADE - 1500)
        self.assertEqual(answer.json, {"banned": True, "issuedBefore": MADE - 1500})
        self.assertEqual(self.changes[0].ban.before, START - 1.5)

    def test_bad_requests(self) -> None:
        for path, body in (
            ("/v1/users/alice/block", b"{"),
            ("/v1/users/alice/block", b"[" * 100_000),
            ("/v1/users/alice/block", b'{"untl":1}'),
            ("/v1/users/alice/block", b'{"until":"soon"}'),
            ("/v1/users/alice/block", b'{"until":-1}'),
            ("/v1/users/alice/block", b'{"issuedBefore":5}'),
            ("/v1/users/a%20b/block", b""),
            ("/v1/users/alice/revocation", b'{"issuedBefore":0}'),
            ("/v1/revocations/" + "x" * 129, b""),
            ("/v1/rooms/lobby/mutes/a:b", b""),
        ):
            self.refused(self.ask("PUT", path, body), 400, "message.invalid")
        self.refused(self.ask("PUT", "/v1/rooms/a%20b/mutes/alice", b""), 400, "room.invalid_id")
        self.refused(self.ask("PUT", "/v1/users/alice/block", b'{"until":%d}' % MADE), 409, "trust.past")
        self.assertEqual(self.changes, [])

    def test_scope(self) -> None:
        """A key that is for something else may not."""
        self.keys.replace([ApiKey("booking", digest("the key of the API"), scopes=frozenset(["publish"]))])
        for path in self.PATHS:
            for method in ("PUT", "DELETE"):
                self.refused(self.ask(method, path, b""), 403, "api.forbidden")
        self.refused(self.ask("GET", "/v1/rooms"), 403, "api.forbidden")
        self.refused(self.ask("DELETE", "/v1/users/u1/connections"), 403, "api.forbidden")


class KeyTests(ApiCase):
    """A key is for the channels that it names, until its time is over."""

    def test_channels(self) -> None:
        key = ApiKey("booking", digest("the key of the API"), ("booking:*", "system:maintenance"))
        self.keys.replace([ApiKey("other", digest("another key")), key])
        accepted = self.publish(channel="booking:confirmed", data={"userId": "u1"})
        self.assertEqual(accepted.status, 200)
        self.assertEqual(self.publish(channel="system:maintenance", data={}).status, 200)
        for channel in ("payment:processed", "system:maintenance2", "user:u1:x", "bookin", ""):
            answer = self.publish(channel=channel, data={"userId": "u1"})
            self.assertIn("booking:*", self.refused(answer, 403, "api.forbidden"))

    def test_rotation(self) -> None:
        """Two keys of one service are good at a time; the old one until its time is over."""
        old = ApiKey("booking", digest("the key of the API"), until=START + 10)
        self.keys.replace([old, ApiKey("booking", digest("the new key of the service"))])
        self.assertEqual(self.ask("GET", "/v1/rooms").status, 200)
        self.bus.clock.advance(10)
        self.connect()
        self.refused(self.ask("GET", "/v1/rooms"), 401, "api.unauthorized")

    def test_no_key_is_kept(self) -> None:
        """Neither the text form of the keys nor what they hold has a key in it."""
        self.assertNotIn("the key of the API", repr(self.keys.__dict__))
