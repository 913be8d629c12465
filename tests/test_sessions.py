"""The life of a connection: beginning, recovery after a cut, tokens that end, and its own end."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from realtime.errors import Close
from realtime.sessions import BEGINNING

from .house import START, Client, House


class _InHouse(SynchronousTestCase):
    def house(self, **settings: Any) -> House:
        house = House(**settings)
        self.addCleanup(house.stop)
        return house


class CapTests(_InHouse):
    """RATE_LIMIT_MAX_CONNECTIONS, by RATE_LIMIT_CONNECTION_POLICY."""

    def test_evict_oldest(self) -> None:
        """The user's oldest connection makes room, and does not come back by itself."""
        house = self.house(rate_limit_max_connections=2, rate_limit_connection_policy="evict-oldest")
        tabs = [house.client("alice") for _ in range(4)]
        closes = [tab.outlet.close_reason for tab in tabs]
        self.assertEqual(closes, [Close.SUPERSEDED, Close.SUPERSEDED, None, None])
        self.assertEqual(tabs[0].outlet.packets()[-1], "41")
        self.assertEqual(len(house.node.connections), 2)

    def test_reject(self) -> None:
        house = self.house(rate_limit_max_connections=2)
        closes = [house.client("alice").outlet.close_reason for _ in range(3)]
        self.assertEqual(closes, [None, None, Close.CONNECTION_LIMIT])


class ConnectTests(_InHouse):
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

    def test_default_rooms(self) -> None:
        """The user's room, the roles' rooms and the token's rooms are joined for it."""
        house = self.house()
        client = house.client()
        client.connect(token=house.token("alice", roles=["staff"], rooms=["event:7", "private:*"]))
        connection = house.node.connections.get(client.sid)
        self.assertEqual(connection.rooms, {"user:alice", "role:staff", "event:7"})
        self.assertEqual(connection.joined, {"event:7"})
        self.assertEqual([p["roomId"] for p in client.heard("room:joined")], ["event:7"])

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

    def test_silent_transport(self) -> None:
        """A transport on which nothing is said is closed."""
        house = self.house()
        client = house.client()
        house.clock.advance(house.node.settings.ws_connection_timeout - 1)
        self.assertIsNone(client.outlet.close_reason)
        house.clock.advance(1)
        self.assertIs(client.outlet.close_reason, Close.CONNECT_TIMEOUT)

    def test_live_connections_stay(self) -> None:
        """Who has logged in is not closed by that deadline."""
        house = self.house(presence_interval=1000.0)
        client = house.client("alice")
        house.clock.advance(house.node.settings.ws_connection_timeout * 2)
        self.assertIsNone(client.outlet.close_reason)

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

    def test_connection_cap(self) -> None:
        """One connection more than a user may have is closed so that it comes back."""
        house = self.house(rate_limit_max_connections=2)
        clients = [house.client("alice") for _ in range(3)]
        self.assertEqual(
            [client.outlet.close_reason for client in clients], [None, None, Close.CONNECTION_LIMIT]
        )
        self.assertEqual(clients[2].outlet.frames, [])
        self.assertIsNone(house.client("bob").outlet.close_reason)
        clients[0].leave()
        self.assertIsNone(house.client("alice").outlet.close_reason)

    def test_cap_evicts_who_owes_a_pong(self) -> None:
        """A connection that may be dead makes room for one that is not."""
        house = self.house(rate_limit_max_connections=2)
        clients = [house.client("alice") for _ in range(2)]
        clients[1].outlet.owes_pong = True
        third = house.client("alice")
        self.assertIsNone(third.outlet.close_reason)
        self.assertEqual([client.outlet.close_reason for client in clients], [None, Close.EVICTED])

    def test_lost_connection_does_not_count(self) -> None:
        """A page that is loaded anew at the cap gets in at once."""
        house = self.house(rate_limit_max_connections=1)
        house.client("alice").cut()
        self.assertIsNone(house.client("alice").outlet.close_reason)

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

    def test_left_transport(self) -> None:
        """A transport whose session has ended is closed in time, unless another began on it."""
        house = self.house()
        first, second = house.client("alice"), house.client("bob")
        first.leave()
        second.leave()
        house.clock.advance(house.node.settings.ws_connection_timeout - 1)
        second.connect(token=house.token("bob"))
        house.clock.advance(1)
        self.assertIs(first.outlet.close_reason, Close.CONNECT_TIMEOUT)
        self.assertIsNone(second.outlet.close_reason)

    def test_full_default_room(self) -> None:
        """A token's room that is full is told of; the connection lives."""
        house = self.house(max_room_members=1)
        house.client("bob").join("event:7")
        client = house.client().connect(token=house.token("alice", rooms=["event:7"]))
        self.assertEqual([p["code"] for p in client.heard("system:error")], ["room.full"])
        self.assertIsNone(client.outlet.close_reason)


class RecoveryTests(_InHouse):
    """Connection state recovery."""

    def talk(self, house: House) -> tuple[Client, Client]:
        """A client that will be cut, and one that goes on talking, both in the lobby."""
        talker, client = house.client("talker"), house.client("alice")
        talker.join("lobby")
        client.join("lobby")
        client.news()
        return talker, client

    def texts(self, client: Client) -> list[str]:
        return [payload["text"] for payload in client.heard("room:message")]

    def test_missed(self) -> None:
        """What was missed comes between CONNECT and the greeting, and the session is the same."""
        house = self.house()
        talker, client = self.talk(house)
        house.clock.advance(100)
        talker.say("lobby", "before")
        self.assertEqual(self.texts(client), ["before"])
        client.cut()
        talker.say("lobby", "missed 1")
        house.publish("booking:confirmed", {"userId": "alice", "id": 5})
        house.publish("system:announcement", {"text": "hello"})
        talker.say("lobby", "missed 2")
        back = client.back(token=house.token("alice"))
        self.assertEqual((back.sid, back.pid), (client.sid, client.pid))
        self.assertTrue(back.outlet.packets()[0].startswith("40"))
        events = back.news()
        self.assertEqual(
            [event[0] for event in events],
            [
                "room:message",
                "booking:confirmed",
                "system:announcement",
                "room:message",
                "system:connected",
            ],
        )
        self.assertTrue(events[-1][1]["recovered"])
        talker.say("lobby", "after")
        self.assertEqual(self.texts(back), ["after"])

    def test_nothing_received_before(self) -> None:
        """A client that was cut before it had received anything recovers from its beginning."""
        house = self.house()
        talker = house.client("talker")
        client = house.client("alice")
        client.join("lobby")
        client.cut()
        talker.join("lobby")
        talker.say("lobby", "missed")
        back = Client(house).connect(token=house.token("alice"), pid=client.pid)
        self.assertEqual(back.pid, client.pid)
        self.assertEqual([e[0] for e in back.news()][:2], ["room:user_joined", "room:message"])

    def test_many_cuts(self) -> None:
        """Cut after cut, each message comes exactly once and in order."""
        house = self.house()
        talker, client = self.talk(house)
        got: list[str] = []
        for n in range(10):
            talker.say("lobby", f"{n} live")
            got += self.texts(client)
            client.cut()
            talker.say("lobby", f"{n} missed")
            client = client.back(token=house.token("alice"))
        got += self.texts(client)
        self.assertEqual(got, [f"{n} {what}" for n in range(10) for what in ("live", "missed")])

    def test_cut_in_replay(self) -> None:
        """A cut in the middle of the replay resumes from what had been received of it."""
        house = self.house()
        talker, client = self.talk(house)
        client.cut()
        for n in range(5):
            talker.say("lobby", str(n))
        back = client.back(token=house.token("alice"))
        events = back.outlet.events()
        received, last = events[1], events[1][-1]
        self.assertEqual(received[1]["text"], "1")
        back.cut()
        talker.say("lobby", "5")
        again = Client(house).connect(token=house.token("alice"), pid=client.pid, offset=last)
        self.assertEqual(again.pid, client.pid)
        self.assertEqual(self.texts(again), ["2", "3", "4", "5"])

    def test_faster_than_the_server_notices(self) -> None:
        """A client that is back before its old socket is known to be dead takes its place."""
        house = self.house()
        talker, client = self.talk(house)
        talker.news()
        back = client.back(token=house.token("alice"))
        self.assertEqual((back.sid, back.pid), (client.sid, client.pid))
        self.assertIs(client.outlet.close_reason, Close.REPLACED)
        value = house.node.metrics.registry.get_sample_value
        self.assertEqual(value("realtime_disconnects_total", {"reason": "replaced"}), 1)
        client.cut()
        house.clock.advance(house.node.settings.presence_grace + 1)
        talker.say("lobby", "hi")
        self.assertEqual(self.texts(back), ["hi"])
        self.assertEqual([e[0] for e in talker.news()], ["room:message"])
        self.assertIs(house.node.connections.get(back.sid).outlet, back.outlet)

    def test_other_users_session(self) -> None:
        """A stolen pid gives a fresh session, and leaves its owner's alone."""
        house = self.house()
        talker, client = self.talk(house)
        thief = house.client().connect(token=house.token("mallory"), pid=client.pid, offset=client.offset)
        self.assertNotEqual(thief.pid, client.pid)
        self.assertFalse(thief.heard("system:connected")[0]["recovered"])
        talker.say("lobby", "secret")
        self.assertEqual(self.texts(thief), [])
        self.assertEqual(self.texts(client), ["secret"])

    def test_too_late(self) -> None:
        """After RECOVERY_WINDOW there is a fresh session."""
        house = self.house(recovery_window=10.0)
        _, client = self.talk(house)
        client.cut()
        house.clock.advance(11)
        back = client.back(token=house.token("alice"))
        self.assertNotEqual(back.pid, client.pid)
        self.assertFalse(back.heard("system:connected")[0]["recovered"])

    def test_too_much(self) -> None:
        """More than RECOVERY_MAX_BYTES is not replayed in part: a fresh session, never a silent gap."""
        house = self.house(recovery_max_bytes=1024)
        talker, client = self.talk(house)
        client.cut()
        for _ in range(20):
            talker.say("lobby", "x" * 100)
        back = client.back(token=house.token("alice"))
        self.assertNotEqual(back.pid, client.pid)
        self.assertEqual(self.texts(back), [])

    def test_log_too_short(self) -> None:
        """What RECOVERY_MAX_MESSAGES has pushed out of the log can't be recovered."""
        house = self.house(recovery_max_messages=5)
        talker, client = self.talk(house)
        client.cut()
        for _ in range(6):
            talker.say("lobby", "x")
        self.assertNotEqual(client.back(token=house.token("alice")).pid, client.pid)

    def test_left_rooms_are_not_replayed(self) -> None:
        """A room that was left before the cut is not recovered."""
        house = self.house()
        talker, client = self.talk(house)
        client.call("room:leave", {"roomId": "lobby"})
        client.cut()
        talker.say("lobby", "not for her")
        back = client.back(token=house.token("alice"))
        self.assertEqual(back.pid, client.pid)
        self.assertEqual(self.texts(back), [])

    def test_refused_room(self) -> None:
        """One room that the new token does not open means a fresh session."""
        house = self.house()
        client = house.client().connect(token=house.token("alice", rooms=["private:7"]))
        client.cut()
        back = client.back(token=house.token("alice"))
        self.assertNotEqual(back.pid, client.pid)
        self.assertEqual(house.node.connections.get(back.sid).rooms, {"user:alice"})

    def test_rubbish_offsets(self) -> None:
        """An offset that can't be read means a fresh session, not an error."""
        house = self.house()
        for offset in ("", "x", "a.b:c", "0.0:-1", "9" * 100, "é.1:1", "x.1:" + "9" * 80, 7, None, {}):
            client = house.client("alice")
            client.cut()
            back = house.client().connect(token=house.token("alice"), pid=client.pid, offset=offset)
            self.assertTrue(back.answer.startswith("40"), offset)
            back.leave()

    def test_grace(self) -> None:
        """A short cut is not seen by others; a longer one is, and so is the return."""
        house = self.house()
        talker, client = self.talk(house)
        talker.news()
        client.cut()
        house.clock.advance(house.node.settings.presence_grace - 0.1)
        client = client.back(token=house.token("alice"))
        self.assertEqual(talker.news(), [])
        client.cut()
        house.clock.advance(house.node.settings.presence_grace)
        self.assertEqual([e[0] for e in talker.news()], ["user:offline", "room:user_left"])
        client.back(token=house.token("alice"))
        self.assertEqual([e[0] for e in talker.news()], ["room:user_joined", "user:online"])

    def test_disconnect_has_no_grace(self) -> None:
        """Who says goodbye is gone at once, and can't come back to the session."""
        house = self.house()
        talker, client = self.talk(house)
        talker.news()
        client.leave()
        self.assertEqual([e[0] for e in talker.news()], ["user:offline", "room:user_left"])
        self.assertNotEqual(client.back(token=house.token("alice")).pid, client.pid)

    def test_statuses_after_restore(self) -> None:
        """Presence is not logged: after a restore the present statuses are told."""
        house = self.house()
        talker, client = self.talk(house)
        other = house.client("other")
        other.join("lobby")
        client.news()
        house.clock.advance(100)
        client.cut()
        talker.call("user:presence", {"status": "busy", "text": "on the phone"})
        other.leave()
        back = client.back(token=house.token("alice"))
        told = [event for event in back.news() if event[0].startswith("user:")]
        self.assertEqual(
            [(name, payload["userId"], payload["status"]) for name, payload in told],
            [("user:status_change", "talker", "busy"), ("user:offline", "other", "offline")],
        )

    def test_muted_is_not_replayed(self) -> None:
        """What is muted stays out of the replay, and the offset moves along all the same."""
        house = self.house(recovery_max_messages=5)
        talker, client = self.talk(house)
        client.call("user:preferences", {"mutedRooms": ["lobby"]})
        for _ in range(6):
            talker.say("lobby", "x")
        self.assertEqual(self.texts(client), [])
        house.clock.advance(house.node.settings.recovery_window / 4)
        client.news()
        client.cut()
        talker.say("lobby", "y")
        back = client.back(token=house.token("alice"))
        self.assertEqual(back.pid, client.pid)
        self.assertEqual(self.texts(back), [])

    def test_session_without_recovery(self) -> None:
        """A client that says ``recovery: false`` gets no offsets."""
        house = self.house()
        client = house.client("alice", recovery=False)
        house.publish("system:announcement", {"text": "hello"})
        for event in client.outlet.events():
            self.assertEqual(len(event), 2)
        self.assertEqual(client.pid, "")

    def test_session_without_recovery_is_not_taken_up(self) -> None:
        """Without offsets nothing is recovered: it would be repeated."""
        house = self.house()
        talker, client = self.talk(house)
        talker.say("lobby", "heard")
        client.cut()
        back = house.client().connect(token=house.token("alice"), pid=client.pid, recovery=False)
        self.assertFalse(back.heard("system:connected")[0]["recovered"])
        self.assertEqual(self.texts(back), [])

    def test_every_logged_event_ends_with_its_offset(self) -> None:
        """Logged events end in a text; all others in an object, so that the offset stays."""
        house = self.house()
        talker, client = self.talk(house)
        talker.call("user:typing", {"roomId": "lobby", "typing": True})
        talker.say("lobby", "x")
        talker.call("user:presence", {"status": "away"})
        logged = {e[0]: isinstance(e[-1], str) for e in client.outlet.events()}
        self.assertEqual(
            logged,
            {
                "system:connected": True,
                "room:joined": False,
                "room:typing": False,
                "room:message": True,
                "user:status_change": False,
            },
        )


class TokenTests(_InHouse):
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

    def test_grants_follow_the_token(self) -> None:
        """Rooms that a newer token does not open are left; those it brings are joined."""
        house = self.house()
        client = house.client().connect(token=house.token("alice", rooms=["private:1"], roles=["staff"]))
        client.join("lobby")
        client.news()
        newer = house.token("alice", rooms=["private:2"], roles=["admin"])
        self.assertTrue(client.call("auth:token_refresh", {"token": newer})["ok"])
        connection = house.node.connections.get(client.sid)
        self.assertEqual(connection.rooms, {"user:alice", "role:admin", "lobby", "private:2"})
        news = [(event[0], event[1]["roomId"]) for event in client.news()]
        self.assertEqual(news, [("room:left", "private:1"), ("room:joined", "private:2")])


class EndTests(_InHouse):
    """How sessions end."""

    def test_logout(self) -> None:
        """Logout is acknowledged, then DISCONNECT is sent and the session is gone."""
        house = self.house()
        client = house.client("alice")
        self.assertEqual(client.call("auth:logout"), {"ok": True})
        self.assertEqual(client.outlet.packets()[-1], "41")
        self.assertIs(client.outlet.close_reason, Close.LOGOUT)
        self.assertNotEqual(client.back(token=house.token("alice")).pid, client.pid)

    def test_logout_everywhere(self) -> None:
        """All of the user's sessions end, those among them that were cut too."""
        house = self.house()
        here, there, cut = (house.client("alice") for _ in range(3))
        other = house.client("bob")
        cut.cut()
        here.call("auth:logout", {"everywhere": True})
        self.assertIs(here.outlet.close_reason, Close.LOGOUT)
        self.assertIs(there.outlet.close_reason, Close.LOGOUT)
        self.assertIsNone(other.outlet.close_reason)
        self.assertNotEqual(cut.back(token=house.token("alice")).pid, cut.pid)

    def test_kick(self) -> None:
        """A kicked user is told why, gets DISCONNECT and can't take the session up."""
        house = self.house()
        client = house.client("alice")
        client.news()
        self.assertEqual(house.kick("alice"), 1)
        self.assertEqual([p["code"] for p in client.heard("system:error")], ["connection.kicked"])
        self.assertEqual(client.outlet.packets()[-1], "41")
        self.assertIs(client.outlet.close_reason, Close.KICKED)
        self.assertEqual(len(house.node.connections), 0)

    def test_nothing_stays(self) -> None:
        """After many connections of all endings nothing is left of them."""
        house = self.house()
        for n in range(300):
            client = house.client(f"u{n}")
            client.join(f"room:{n}")
            client.call("user:typing", {"roomId": f"room:{n}", "typing": True})
            (client.cut, client.leave, lambda c=client: c.call("auth:logout"))[n % 3]()
        node = house.node
        house.clock.pump([30.0] * 30)
        self.assertEqual((len(node.connections), len(node.rooms)), (0, 0))
        self.assertEqual((node.store.users, node.store.sessions), (0, 0))
        self.assertEqual(node.rooms.everyone.members, {})
        self.assertEqual(len(node.guard.policy.limit), 0)
