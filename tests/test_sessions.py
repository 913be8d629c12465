"""How a connection becomes somebody, and stays so by newer tokens."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred

from realtime.errors import Close
from realtime.sessions import BEGINNING

from .house import START, HouseCase


class ConnectTests(HouseCase):
    """CONNECT."""

    def test_connected(self) -> None:
        """CONNECT comes first, then ``system:connected`` with an offset to recover from."""
        house = self.house()
        client = house.client("alice")
        self.assertTrue(client.answer.startswith('40{"sid":'))
        event, payload, offset = client.outlet.events()[0]
        self.assertEqual(event, "system:connected")
        self.assertEqual(
            payload,
            {
                "userId": "alice",
                "connectionId": client.sid,
                "timestamp": int(START * 1000),
                "expiresAt": int((START + 3600) * 1000),
                "recovered": False,
            },
        )
        self.assertEqual(offset, str(house.node.broker.sequence()))
        self.assertNotEqual(client.sid, client.pid)

    def test_many_at_once(self) -> None:
        """So many begin at a time; the others wait for their turn, or are gone by then."""
        house = self.house()
        real, waiting = house.node.sessions._store.begin, []

        def begin(*args: Any) -> Deferred[Any]:
            waiting.append(Deferred().addCallback(lambda _: real(*args)))
            return waiting[-1]

        self.patch(house.node.sessions._store, "begin", begin)
        clients = [house.client(f"user{number}") for number in range(BEGINNING + 3)]
        self.assertEqual(len(waiting), BEGINNING)
        clients[BEGINNING].cut()
        for done in range(BEGINNING + 2):
            self.assertEqual(len(waiting), min(BEGINNING + done, BEGINNING + 2))
            waiting[done].callback(None)
        connected = [bool(client.outlet.events()) for client in clients]
        self.assertEqual(connected, [True] * BEGINNING + [False, True, True])

    def test_bad_token(self) -> None:
        """A bad token gets CONNECT_ERROR with a code, and the connection ends for good."""
        house = self.house()
        for token, code in (
            ("rubbish", "auth.token_invalid"),
            (house.token("alice", ttl=-1), "auth.token_expired"),
        ):
            client = house.client().connect(token=token)
            self.assertTrue(client.answer.startswith("44"))
            self.assertEqual(json.loads(client.answer[2:])["data"]["code"], code)
            self.assertIs(client.outlet.close_reason, Close.REFUSED)
        self.assertEqual(len(house.node.connections), 0)

    def test_anonymous(self) -> None:
        """Without a token only ``auth:login`` works, and not for long."""
        house = self.house()
        client = house.client().connect()
        self.assertTrue(client.answer.startswith("40"))
        self.assertEqual(client.outlet.events(), [])
        refused = client.join("lobby")
        self.assertEqual(refused["error"]["code"], "auth.required")
        house.clock.advance(house.node.settings.ws_connection_timeout)
        self.assertIs(client.outlet.close_reason, Close.CONNECT_TIMEOUT)

    def test_login(self) -> None:
        """An anonymous connection becomes somebody."""
        house = self.house()
        client = house.client().connect()
        answer = client.call("auth:login", {"token": house.token("alice")})
        self.assertEqual(answer, {"ok": True, "userId": "alice", "expiresAt": int((START + 3600) * 1000)})
        (greeting,) = client.heard("system:connected")
        self.assertEqual((greeting["userId"], greeting["connectionId"]), ("alice", client.sid))
        house.clock.advance(house.node.settings.ws_connection_timeout)
        self.assertIsNone(client.outlet.close_reason)
        self.assertTrue(client.join("lobby")["ok"])

    def test_login_with_bad_token(self) -> None:
        """A refused login leaves the connection as it was."""
        house = self.house()
        client = house.client().connect()
        self.assertEqual(client.call("auth:login", {"token": "x"})["error"]["code"], "auth.token_invalid")
        self.assertTrue(client.call("auth:login", {"token": house.token("alice")})["ok"])

    def test_login_as_somebody_else(self) -> None:
        """The rooms and the session of the one before are left behind."""
        house = self.house()
        watcher = house.client("watcher")
        watcher.join("lobby")
        client = house.client("alice")
        client.join("lobby")
        watcher.news()
        self.assertTrue(client.call("auth:login", {"token": house.token("bob")})["ok"])
        self.assertEqual([e[0] for e in watcher.news()], ["user:offline", "room:user_left"])
        self.assertEqual(house.node.connections.get(client.sid).rooms, {"user:bob"})
        house.publish("notification:new", {"userId": "alice"})
        house.publish("notification:new", {"userId": "bob"})
        self.assertEqual([p["userId"] for p in client.heard("notification:new")], ["bob"])

    def test_login_as_somebody_else_that_fails(self) -> None:
        """Who was somebody is nobody then, with a message allowance of its own, and may log in again."""
        house = self.house(rate_limit_max_connections=1, rate_limit_max_messages=2)
        house.client("bob")
        client = house.client("alice")
        refused = client.call("auth:login", {"token": house.token("bob")})
        self.assertEqual(refused["error"]["code"], "connection.limit")
        self.assertEqual(client.join("lobby")["error"]["code"], "auth.required")
        other = house.client("alice")
        self.assertTrue(other.join("lobby")["ok"])
        self.assertEqual(other.join("lobby")["error"]["code"], "rate.limited")
        self.assertEqual(house.node.connections.users, 2)

    def test_connect_again_after_disconnect(self) -> None:
        """A client that has ended its session may begin another on the same transport."""
        house = self.house()
        client = house.client("alice")
        first = client.sid
        client.leave()
        self.assertEqual(len(house.node.connections), 0)
        client.connect(token=house.token("alice"))
        self.assertNotEqual(client.sid, first)
        self.assertTrue(client.join("lobby")["ok"])

    def test_coming_and_going_on_one_transport(self) -> None:
        """CONNECT and DISCONNECT over and over spend the connection's allowance of messages."""
        house = self.house(rate_limit_max_messages=10)
        for token in ({}, {"token": house.token("alice")}):
            client = house.client()
            for _ in range(12):
                client.connect(**token)
                client.leave()
            self.assertIs(client.outlet.close_reason, Close.CONNECTION_LIMIT)


class TokenTests(HouseCase):
    """Tokens that end while a connection lives."""

    def test_expiring(self) -> None:
        """A client is warned once, then closed so that it comes back with a newer token."""
        house = self.house(token_refresh_threshold=300.0, token_expiry_grace=5.0)
        client = house.client().connect(token=house.token("alice", ttl=310))
        house.clock.advance(9)
        self.assertEqual(client.heard("auth:token_expiring"), [])
        house.clock.pump([1] * 10)
        told = client.heard("auth:token_expiring")
        self.assertEqual(told, [{"userId": "alice", "expiresAt": int((START + 310) * 1000)}])
        house.clock.advance(290)
        self.assertIsNone(client.outlet.close_reason)
        house.clock.pump([1] * 8)
        self.assertIs(client.outlet.close_reason, Close.TOKEN_EXPIRED)

    def test_refresh(self) -> None:
        """A newer token of the same user goes on in place, and is warned of anew."""
        house = self.house()
        client = house.client().connect(token=house.token("alice", ttl=100))
        house.clock.pump([1] * 2)
        self.assertEqual(len(client.heard("auth:token_expiring")), 1)
        answer = client.call("auth:token_refresh", {"token": house.token("alice", ttl=1000)})
        self.assertEqual(answer["expiresAt"], int(house.wall() + 1000) * 1000)
        house.clock.advance(200)
        self.assertIsNone(client.outlet.close_reason)
        house.clock.pump([10] * 60)
        self.assertEqual(len(client.heard("auth:token_expiring")), 1)

    def test_refresh_of_other_user(self) -> None:
        """Another user's token does not renew."""
        house = self.house()
        client = house.client("alice")
        answer = client.call("auth:token_refresh", {"token": house.token("bob")})
        self.assertEqual(answer["error"]["code"], "auth.other_subject")

    def test_refresh_by_refresh_token(self) -> None:
        """A refresh token gives new tokens in the acknowledgement, once."""
        import jwt

        from .house import REFRESH_SECRET

        house = self.house()
        client = house.client("alice")
        token = jwt.encode(
            {"sub": "alice", "exp": int(house.wall()) + 9000, "jti": "1"}, REFRESH_SECRET, "HS256"
        )
        answer = client.call("auth:token_refresh", {"refreshToken": token})
        self.assertTrue(answer["ok"])
        self.assertTrue(house.client().connect(token=answer["token"]).answer.startswith("40"))
        again = client.call("auth:token_refresh", {"refreshToken": token})
        self.assertEqual(again["error"]["code"], "auth.refresh_reused")
