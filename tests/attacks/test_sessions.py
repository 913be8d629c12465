"""Attacks on other people's sessions and rooms, and by names, on a running service."""

from __future__ import annotations

import json
import secrets

from tests.clients.raw import POLLING, frame, request

from .case import SOON, AttackCase

#: Names that mean something to somebody who is careless: globs, lines, Lua, paths, HTML, formats.
HOSTILE = (
    *("*", "event:*", "[a-z]", "a?c", "user:*", "user:alice", "role:admin", "user", "role"),
    *("a\nb", "a\r\nPUBLISH x", "a\x00b", "\u2028", "a b", "", ":", "a::b", "x" * 129),
    *("redis.call('FLUSHALL')", "'..ARGV[1]..'", "{a}", "${a}", "%s%n", "../../etc/passwd"),
    *("<script>alert(1)</script>", "__proto__", "constructor", "private:1"),
)


class SessionAttackTests(AttackCase):
    """Whoever is not alice gets nothing of hers."""

    async def test_stolen_pid(self) -> None:
        """Another user's session id takes nothing up, and its owner stays."""
        await self.start_service()
        alice, answer = await self.connected(self.token("alice"))
        await alice.until(b"system:connected", SOON)
        for pid in (answer["pid"], answer["sid"], secrets.token_urlsafe(18), "x" * 5000, ""):
            thief, got = await self.connected(self.token("mallory"), pid=pid, offset="a.1:0")
            told = await thief.until(b"}", SOON)
            self.assertIn(b'"recovered":false', told)
            self.assertNotEqual(got["pid"], answer["pid"])
            thief.drop()
        joined = await self.call(alice, "room:join", {"roomId": "lobby"})
        self.assertTrue(joined["ok"])

    async def test_guessed_sid(self) -> None:
        """A session id of Engine.IO that is guessed, or somebody's public id, is as unknown as any."""
        await self.start_service()
        _, answer = await self.connected(self.token("alice"))
        for sid in (answer["sid"], answer["pid"], secrets.token_urlsafe(18), "*", "0", "a" * 4000):
            for method in ("GET", "POST"):
                raw = await self.raw(
                    request(method, f"{POLLING}&sid={sid}", b"40" if method == "POST" else None)
                )
                status, _, told = await raw.answer(SOON)
                self.assertEqual((status, json.loads(told)["code"]), (400, 1))

    async def test_other_peoples_rooms(self) -> None:
        """No event leads into a room that is joined for others, or that needs a grant."""
        service = await self.start_service()
        mallory, _ = await self.connected(self.token("mallory"))
        await mallory.until(b"system:connected", SOON)
        for room in ("user:alice", "user:mallory", "role:admin", "private:1"):
            for event, payload in (
                ("room:join", {"roomId": room}),
                ("room:message", {"roomId": room, "text": "x"}),
                ("room:history", {"roomId": room}),
                ("room:leave", {"roomId": room}),
                ("user:typing", {"roomId": room, "typing": True}),
            ):
                answer = await self.call(mallory, event, payload)
                self.assertIn(answer["error"]["code"], ("room.forbidden", "room.not_joined"), (room, event))
        await service.publish("notification:new", {"userId": "alice", "secret": "for alice"})
        await service.publish("room:private:1:message", {"text": "for members"})
        await service.publish("system:announcement", {"last": True})
        heard = await mallory.until(b"system:announcement", SOON)
        self.assertNotIn(b"for alice", heard)
        self.assertNotIn(b"for members", heard)

    async def test_hostile_names(self) -> None:
        """Names with wildcards, lines and script are refused wherever a name goes, and nobody is harmed."""
        service = await self.start_service()
        mallory, _ = await self.connected(self.token("mallory"))
        await mallory.until(b"system:connected", SOON)
        for name in HOSTILE:
            answer = await self.call(mallory, "room:join", {"roomId": name})
            if name in ("__proto__", "constructor"):
                # by the grammar of room ids they are names like any other
                self.assertTrue(answer["ok"])
                continue
            self.assertIn(answer["error"]["code"], ("room.invalid_id", "room.forbidden"), name)
            published = await service.publish(f"room:{name}:x", {})
            self.assertGreaterEqual(published.status, 200)
            self.assertLess(published.status, 500)
            token = self.token(name) if name else self.token("a:b")
            if any(sign in name for sign in "*?[]{}: \n\x00\u2028") or not name or len(name) > 128:
                self.assertEqual(await self.refusal(token), "auth.token_invalid", name)
        self.assertTrue((await self.call(mallory, "room:join", {"roomId": "lobby"}))["ok"])

    async def test_labels_do_not_grow(self) -> None:
        """Event names, rooms and channels that clients and services make up make no new time series."""
        service = await self.start_service()
        mallory, _ = await self.connected(self.token("mallory"))
        await mallory.until(b"system:connected", SOON)
        await self.call(mallory, "no:such_event", {})
        await service.publish("nowhere:x", {})
        before = await service.request("GET", "/metrics", listener="METRICS_PORT")
        for number in range(200):
            await self.call(mallory, f"made:up_{number}", {}, number + 100)
        for number in range(20):
            await service.publish(f"made{number}:up", {})
        after = await service.request("GET", "/metrics", listener="METRICS_PORT")
        self.assertEqual(len(after.body.splitlines()), len(before.body.splitlines()))

    async def test_log_injection(self) -> None:
        """Nothing that a client is called can make a line of the log, or hide one."""
        service = await self.start_service()
        name = "<b>%s</b>\u00e9"
        raw, _ = await self.connected(self.token(name))
        await raw.until(b"system:connected", SOON)
        forged = 'x"}\n{"level":"info","message":"forged"}'
        await self.raw(request("GET", POLLING, Origin="https://evil.example", X_Forwarded_For="6.6.6.6"))
        raw.send(frame(b"427" + json.dumps([forged, {}]).encode()))
        await raw.until(b"event.unknown", SOON)
        await self.call(raw, "auth:login", {"token": forged})
        logins = service.entries("security: login")
        self.assertEqual([entry["user"] for entry in logins], [name])
        self.assertEqual({entry["address"] for entry in logins}, {"127.0.0.1"})
        self.assertEqual(service.entries("forged"), [])
        for line in service.log:
            self.assertTrue(line.isascii() and line.isprintable(), line)
