"""The store may answer late, or not at all, and a connection may end meanwhile."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from twisted.internet.defer import Deferred, fail

from realtime.errors import BrokerUnavailable, Close

from .house import Client, House, HouseCase


class _InHouse(HouseCase):
    def held(self, target: Any, name: str) -> list[Callable[[], None]]:
        """Let calls of a method wait: each is made when the function for it in the list is called."""
        real = getattr(target, name)
        waiting: list[Callable[[], None]] = []

        def late(*args: Any) -> Deferred[Any]:
            done: Deferred[Any] = Deferred()
            waiting.append(lambda: real(*args).chainDeferred(done))
            return done

        self.patch(target, name, late)
        return waiting

    def unanswered(self, target: Any, name: str) -> list[Callable[[], None]]:
        """Let the answers of a method wait: each comes when the function for it in the list is called."""
        real = getattr(target, name)
        waiting: list[Callable[[], None]] = []

        def late(*args: Any) -> Deferred[Any]:
            done: Deferred[Any] = Deferred()
            answer = real(*args)
            waiting.append(lambda: answer.chainDeferred(done))
            return done

        self.patch(target, name, late)
        return waiting

    @contextmanager
    def meanwhile(
        self, target: Any, name: str, answered: bool = False
    ) -> Iterator[list[Callable[[], None]]]:
        """Let only what is called in this context wait: before it is done, or before its answer."""
        real = getattr(target, name)
        yield (self.unanswered if answered else self.held)(target, name)
        setattr(target, name, real)

    def sessions(self, house: House, user: str) -> int:
        """How many connections the store has of a user, live or not yet given up."""
        return len(self.successResultOf(house.node.store.presence(user)).metas)

    @staticmethod
    def finish(waiting: list[Callable[[], None]]) -> None:
        """Let all go on that waits, and what waits after it."""
        while waiting:
            waiting.pop(0)()

    def unavailable(self, target: Any, name: str) -> None:
        """Let the next call of a method fail as it does while the bus is away."""
        real = getattr(target, name)

        def fail_once(*args: Any) -> Deferred[Any]:
            setattr(target, name, real)
            return fail(BrokerUnavailable())

        self.patch(target, name, fail_once)

    def assert_empty(self, house: House) -> None:
        """Once all windows are over, nothing is left of any session."""
        house.clock.pump([10.0] * 40)
        node = house.node
        self.assertEqual((len(node.connections), len(node.rooms)), (0, 0))
        self.assertEqual((node.store.users, node.store.sessions), (0, 0))
        self.assertEqual(node.rooms.everyone.members, {})


class WaitingTests(_InHouse):
    """What happens while the store is being waited for."""

    def test_two_restores_of_one_session(self) -> None:
        """Of two that race for a session one gets it, and keeps it when the other begins afresh."""
        house = self.house()
        client = house.client("alice")
        client.join("lobby")
        client.news()
        client.cut()
        waiting = self.held(house.node.store, "take_over")
        token = house.token("alice")
        first, second = (Client(house).connect(token=token, pid=client.pid) for _ in range(2))
        for answer in waiting:
            answer()
        self.assertIn(client.pid, first.outlet.packets()[0])
        self.assertNotIn(client.pid, second.outlet.packets()[0])
        self.assertIsNone(first.outlet.close_reason)
        house.publish("room:lobby:message", {"text": "hi"})
        self.assertEqual([p["text"] for p in first.heard("room:message")], ["hi"])
        self.assertEqual(second.heard("room:message"), [])
        first.cut()
        second.cut()
        self.assert_empty(house)

    def test_cut_while_it_begins(self) -> None:
        """A transport that goes while its session begins leaves a session that waits, and then ends."""
        for wait in (self.held, self.unanswered):
            house = self.house()
            waiting = wait(house.node.store, "begin")
            client = house.client().connect(token=house.token("alice", rooms=["event:7"]))
            client.cut()
            self.finish(waiting)
            self.assertEqual((len(house.node.connections), len(house.node.rooms)), (0, 0))
            self.assertEqual(house.node.store.sessions, 1)
            self.assert_empty(house)

    def test_too_late_to_begin(self) -> None:
        """Whose login takes too long is closed; what then begins all the same ends."""
        for anonymous in (True, False):
            house = self.house()
            client = house.client()
            if anonymous:
                client.connect()
            waiting = self.held(house.node.store, "begin")
            token = house.token("alice")
            if anonymous:
                client.emit("auth:login", {"token": token})
            else:
                client.connect(token=token)
            house.clock.advance(house.node.settings.ws_connection_timeout)
            self.assertIs(client.outlet.close_reason, Close.CONNECT_TIMEOUT)
            self.finish(waiting)
            self.assertEqual(len(house.node.connections), 0)
            self.assert_empty(house)

    #: Where a session that is taken up waits, in this order.
    TAKING_UP = (
        ("store", "record"),
        ("broker", "recover"),
        ("store", "take_over"),
        ("store", "join"),
        ("store", "changed"),
        ("store", "presence"),
    )

    def missing(self, house: House) -> Client:
        """A client that was cut, and has missed a message and that somebody went."""
        client, other = house.client("alice"), house.client("bob")
        client.join("lobby")
        other.join("lobby")
        client.news()
        client.cut()
        house.publish("room:lobby:message", {"text": "missed"})
        other.leave()
        return client

    def test_cut_while_it_is_taken_up(self) -> None:
        """So does one that goes while it takes a session up; the session can be taken up again."""
        for answered in (True, False):
            for target, name in self.TAKING_UP:
                house = self.house()
                client = self.missing(house)
                with self.meanwhile(getattr(house.node, target), name, answered) as waiting:
                    gone = client.back(token=house.token("alice", rooms=["event:7"]))
                self.assertEqual(len(waiting), 1, name)
                gone.cut()
                sent = len(gone.outlet.frames)
                self.finish(waiting)
                self.assertEqual(len(house.node.connections), 0, name)
                if name != "take_over":
                    self.assertEqual(len(gone.outlet.frames), sent, name)
                again = client.back(token=house.token("alice"))
                self.assertEqual(again.pid, client.pid, name)
                self.assertEqual([p["text"] for p in again.heard("room:message")], ["missed"], name)
                again.cut()
                self.assert_empty(house)

    def test_cut_before_it_is_taken_up(self) -> None:
        """Who has gone before its session was read takes it from nobody who came after."""
        for target, name in (("store", "record"), ("broker", "recover")):
            house = self.house()
            client = self.missing(house)
            with self.meanwhile(getattr(house.node, target), name) as waiting:
                gone = client.back(token=house.token("alice"))
            gone.cut()
            again = client.back(token=house.token("alice"))
            self.finish(waiting)
            self.assertIsNone(again.outlet.close_reason, name)
            self.assertEqual(self.sessions(house, "alice"), 1, name)
            house.publish("room:lobby:message", {"text": "hi"})
            self.assertEqual([p["text"] for p in again.heard("room:message")], ["missed", "hi"], name)
            self.assertEqual([e for e in gone.outlet.events() if e[0] == "room:message"], [], name)

    def test_cut_before_it_begins_afresh(self) -> None:
        """Nor does a session begin for who has gone before it was known that there is none to take up."""
        house = self.house()
        waiting = self.held(house.node.store, "record")
        client = house.client().connect(token=house.token("alice"), pid="never given out")
        client.cut()
        self.finish(waiting)
        self.assertEqual((house.node.store.sessions, client.outlet.frames), (0, []))

    def test_cut_while_it_begins_afresh(self) -> None:
        """So does one that goes while its session is refused and another begins; others hear it once."""
        for wait in (self.held, self.unanswered):
            for noticed in (True, False):
                for name in ("suspend", "begin", "forget"):
                    house = self.house()
                    watcher = house.client("watcher")
                    watcher.join("lobby")
                    client = house.client().connect(token=house.token("alice", rooms=["private:1"]))
                    client.join("lobby")
                    watcher.news()
                    if noticed:
                        client.cut()
                    waiting = wait(house.node.store, name)
                    gone = client.back(token=house.token("alice"))
                    gone.cut()
                    self.finish(waiting)
                    client.cut()
                    self.finish(waiting)
                    self.assertEqual(len(house.node.connections), 1, name)
                    house.clock.advance(house.node.settings.presence_grace + 1)
                    self.finish(waiting)
                    self.assertEqual([event[0] for event in watcher.news()], ["room:user_left"], name)
                    watcher.leave()
                    self.finish(waiting)
                    self.assert_empty(house)

    def test_cut_while_it_becomes_somebody_else(self) -> None:
        """Who logs in as somebody else and goes meanwhile leaves nothing of either."""
        for wait in (self.held, self.unanswered):
            for name in ("forget", "begin"):
                house = self.house()
                client = house.client("alice")
                waiting = wait(house.node.store, name)
                client.emit("auth:login", {"token": house.token("bob")})
                client.cut()
                self.finish(waiting)
                self.assertEqual(len(house.node.connections), 0, name)
                self.assert_empty(house)
                self.assertEqual(self.flushLoggedErrors(), [])

    def test_kick_while_it_begins(self) -> None:
        """A kick that the store had after the beginning, and the node before it, leaves nothing of it."""
        for anonymous in (True, False):
            house = self.house()
            client = house.client()
            if anonymous:
                client.connect()
            waiting = self.unanswered(house.node.store, "begin")
            if anonymous:
                client.emit("auth:login", {"token": house.token("alice")})
            else:
                client.connect(token=house.token("alice"))
            self.assertEqual(house.kick("alice"), 1)
            self.assertIs(client.outlet.close_reason, Close.KICKED)
            self.assertEqual(client.outlet.packets()[-1], "41")
            self.finish(waiting)
            self.assertEqual((len(house.node.connections), len(house.node.rooms)), (0, 0))
            self.assertEqual((house.node.store.users, house.node.store.sessions), (0, 0))
            self.assert_empty(house)

    def test_kick_before_it_begins(self) -> None:
        """A kick that the store had before ends what was there then, not what began later."""
        house = self.house()
        before = house.client("alice")
        waiting = self.held(house.node.store, "begin")
        client = house.client("alice")
        self.assertEqual(house.kick("alice"), 1)
        self.finish(waiting)
        self.assertIs(before.outlet.close_reason, Close.KICKED)
        self.assertIsNone(client.outlet.close_reason)
        self.assertEqual(len(house.node.connections), 1)

    def test_kick_while_it_is_taken_up(self) -> None:
        """A kick at any point of a taking up leaves nothing of the session."""
        for answered in (True, False):
            for target, name in self.TAKING_UP:
                house = self.house()
                client = self.missing(house)
                with self.meanwhile(getattr(house.node, target), name, answered) as waiting:
                    back = client.back(token=house.token("alice", rooms=["event:7"]))
                self.assertEqual(len(waiting), 1, name)
                kicked = house.kick("alice")
                self.finish(waiting)
                self.assertIsNone(self.successResultOf(house.node.store.record(client.pid)), name)
                live = list(house.node.connections)
                if kicked:
                    self.assertEqual((back.outlet.close_reason, live), (Close.KICKED, []), name)
                else:
                    # Nobody held it, and who had come for it has a fresh one.
                    self.assertEqual((back.outlet.close_reason, len(live)), (None, 1), name)
                    self.assertNotEqual(live[0].session_id, client.pid, name)
                back.cut()
                self.assert_empty(house)

    def test_kick_of_who_is_replaced(self) -> None:
        """A kick that finds a session on its old transport closes the new one that has come for it."""
        house = self.house()
        client = house.client("alice")
        with self.meanwhile(house.node.store, "take_over") as waiting:
            back = client.back(token=house.token("alice"))
        self.assertEqual(house.kick("alice"), 1)
        self.assertIs(client.outlet.close_reason, Close.KICKED)
        self.assertIs(back.outlet.close_reason, Close.KICKED)
        self.finish(waiting)
        self.assertEqual(len(house.node.connections), 0)
        back.cut()
        self.assert_empty(house)

    def test_taken_up_elsewhere_before_the_answer(self) -> None:
        """A session that another transport took up before the answer came is that one's."""
        house = self.house()
        client = self.missing(house)
        with self.meanwhile(house.node.store, "take_over", answered=True) as waiting:
            first = client.back(token=house.token("alice"))
        second = client.back(token=house.token("alice"))
        self.finish(waiting)
        self.assertEqual((first.outlet.frames, first.outlet.close_reason), ([], Close.REPLACED))
        self.assertIsNone(second.outlet.close_reason)
        first.cut()
        house.clock.advance(house.node.settings.presence_grace + 1)
        house.publish("room:lobby:message", {"text": "hi"})
        self.assertEqual([p["text"] for p in second.heard("room:message")], ["missed", "hi"])
        second.cut()
        self.assert_empty(house)

    def test_login_taken_up_elsewhere_before_the_answer(self) -> None:
        """So is one that began by a login; who logged in is told."""
        house = self.house()
        client = house.client().connect()
        with self.meanwhile(house.node.store, "begin", answered=True) as waiting:
            client.emit("auth:login", {"token": house.token("alice")})
        other = Client(house).connect(token=house.token("alice"), pid=client.pid)
        self.finish(waiting)
        self.assertEqual([p["code"] for p in client.heard("system:error")], ["session.replaced"])
        self.assertEqual(other.pid, client.pid)
        (live,) = house.node.connections
        self.assertIs(live.outlet, other.outlet)
        other.cut()
        client.cut()
        self.assert_empty(house)

    def test_gone_while_the_token_is_renewed(self) -> None:
        """A room that a newer token brings is not entered by a connection that has gone."""
        for wait in (self.held, self.unanswered):
            for name in ("leave", "join"):
                for go in ("cut", "kick", "displace"):
                    house = self.house()
                    client = house.client().connect(token=house.token("alice", rooms=["private:1"]))
                    client.news()
                    waiting = wait(house.node.store, name)
                    refused: list[str] = []
                    self.patch(house.node.metrics, "refused", refused.append)
                    newer = house.token("alice", rooms=["event:7", "event:8"])
                    client.emit("auth:token_refresh", {"token": newer})
                    client.news()
                    if go == "displace":
                        back = client.back(token=house.token("alice", rooms=["private:1"]))
                    elif go == "kick":
                        house.kick("alice")
                    else:
                        client.cut()
                    waiting.pop(0)()
                    if go != "displace":
                        # Nothing more is asked for in the name of who has gone.
                        self.assertEqual(waiting, [], (name, go))
                    self.finish(waiting)
                    if name == "leave":
                        self.assertEqual(refused, [], go)
                    if name == "leave" and go == "cut":
                        record = self.successResultOf(house.node.store.record(client.pid))
                        self.assertEqual(set(record.rooms), {"user:alice"})
                    room = house.node.rooms.get("event:7")
                    # Whoever has taken the session up is in what the store has joined it to.
                    outlets = [] if room is None else [member.outlet for member in room.members]
                    self.assertNotIn(client.outlet, outlets, (name, go))
                    self.assertFalse({e[0] for e in client.news()} & {"room:joined", "room:left"})
                    if go == "displace":
                        self.finish(waiting)
                        back.cut()
                        self.finish(waiting)
                    self.assert_empty(house)
                    self.assertEqual(self.flushLoggedErrors(), [])

    def test_gone_while_it_logs_in_again(self) -> None:
        """So it is where the newer token came by ``auth:login``."""
        for wait in (self.held, self.unanswered):
            house = self.house()
            client = house.client("alice")
            waiting = wait(house.node.store, "join")
            client.emit("auth:login", {"token": house.token("alice", rooms=["event:7"])})
            self.assertEqual(len(waiting), 1)
            client.cut()
            self.finish(waiting)
            self.assertIsNone(house.node.rooms.get("event:7"))
            self.assert_empty(house)

    def test_gone_while_it_joins_or_leaves(self) -> None:
        """Nor is one that was asked for, nor is a parting told of to who has gone."""
        for wait in (self.held, self.unanswered):
            for name in ("join", "leave"):
                for cut in (True, False):
                    house = self.house()
                    client = house.client("alice")
                    client.join("lobby")
                    waiting = wait(house.node.store, name)
                    client.emit(f"room:{name}", {"roomId": "event:7" if name == "join" else "lobby"})
                    client.news()
                    if cut:
                        client.cut()
                    else:
                        house.kick("alice")
                    self.finish(waiting)
                    self.assertEqual(len(house.node.rooms), 0)
                    self.assertFalse({e[0] for e in client.news()} & {"room:joined", "room:left"})
                    self.assert_empty(house)

    def test_gone_while_it_logs_out(self) -> None:
        """Who goes before its logout is done has logged out all the same."""
        for wait in (self.held, self.unanswered):
            for name, everywhere in (("forget", False), ("forget_user", True)):
                house = self.house()
                client, other = house.client("alice"), house.client("alice")
                waiting = wait(house.node.store, name)
                client.emit("auth:logout", {"everywhere": everywhere})
                client.cut()
                self.finish(waiting)
                self.assertIs(other.outlet.close_reason, Close.LOGOUT if everywhere else None)
                session = self.successResultOf(house.node.store.record(client.pid))
                self.assertIsNone(session)
                other.leave()
                self.finish(waiting)
                self.assert_empty(house)

    def test_coming_and_going_while_a_user_is_sent_away(self) -> None:
        """A kick ends the sessions that the store had when it was made, and no later one."""
        house = self.house()
        here, going = house.client("alice"), house.client("alice")
        for target, name in (("store", "forget_user"), ("broker", "signal")):
            with self.meanwhile(
                getattr(house.node, target), name, answered=name == "forget_user"
            ) as waiting:
                kicking = Deferred.fromCoroutine(house.node.sessions.user_endings.disconnect_user("alice"))
            going.cut()
            later = house.client("alice")
            self.finish(waiting)
            self.assertEqual(self.successResultOf(kicking), 2)
            self.assertIs(here.outlet.close_reason, Close.KICKED, name)
            self.assertIsNone(later.outlet.close_reason, name)
            here, going = later, house.client("alice")
        here.leave()
        going.cut()
        self.assert_empty(house)

    def test_goodbye_behind_something_that_waits(self) -> None:
        """DISCONNECT and CONNECT that came while a message was waited for are done after it."""
        house = self.house()
        client = house.client("alice")
        client.join("lobby")
        waiting = self.held(house.node.broker, "publish")
        client.emit("room:message", {"roomId": "lobby", "text": "last words"})
        client.leave()
        client.receiver.received("0" + json.dumps({"token": house.token("alice")}))
        self.assertEqual(len([text for text in client.outlet.packets() if text.startswith("40")]), 1)
        for answer in waiting:
            answer()
        packets = client.outlet.packets()
        self.assertEqual(len([text for text in packets if text.startswith("40")]), 2)
        self.assertEqual([p["text"] for p in client.heard("room:message")], ["last words"])
        house.clock.advance(house.node.settings.ws_connection_timeout + 1)
        self.assertIsNone(client.outlet.close_reason)


class UnavailableTests(_InHouse):
    """What happens when the store fails in the middle."""

    def test_login_that_fails_leaves_no_rooms(self) -> None:
        """Who logs in after somebody whose login failed gets nothing of theirs."""
        house = self.house()
        client = house.client().connect()
        self.unavailable(house.node.store, "begin")
        answer = client.call("auth:login", {"token": house.token("alice", rooms=["private:1"])})
        self.assertEqual(answer["error"]["code"], "broker.unavailable")
        self.assertTrue(client.call("auth:login", {"token": house.token("bob")})["ok"])
        house.publish("booking:created", {"userId": "alice"})
        house.publish("room:private:1:message", {"text": "secret"})
        house.publish("booking:created", {"userId": "bob"})
        self.assertEqual([p["userId"] for p in client.heard("booking:created")], ["bob"])
        self.assertEqual(client.heard("room:message"), [])
        client.cut()
        self.assert_empty(house)

    def test_restore_that_fails(self) -> None:
        """A session whose taking up failed waits on, and loses nothing by it; nor does it wait for ever."""
        house = self.house()
        client = house.client("alice")
        client.join("lobby")
        client.news()
        client.cut()
        house.publish("room:lobby:message", {"text": "missed"})
        for target, name in (("store", "record"), ("broker", "recover"), ("store", "take_over")):
            self.unavailable(getattr(house.node, target), name)
            failed = client.back(token=house.token("alice"))
            self.assertEqual((failed.outlet.frames, failed.outlet.close_reason), ([], Close.BUS_LOSS))
        again = client.back(token=house.token("alice"))
        self.assertEqual([p["text"] for p in again.heard("room:message")], ["missed"])
        self.unavailable(house.node.store, "take_over")
        again.back(token=house.token("alice"))
        again.cut()
        self.assert_empty(house)

    def test_restore_that_fails_after_the_greeting(self) -> None:
        """A session that was taken up, and of which not all could be done, waits to be so again."""
        house = self.house()
        client = house.client("alice")
        client.join("lobby")
        client.news()
        client.cut()
        house.publish("room:lobby:message", {"text": "missed"})
        for name in ("join", "changed"):
            self.unavailable(house.node.store, name)
            failed = client.back(token=house.token("alice", rooms=["event:7"]))
            self.assertIs(failed.outlet.close_reason, Close.BUS_LOSS)
            self.assertEqual([p["text"] for p in failed.heard("room:message")], ["missed"])
            self.assertEqual(len(house.node.connections), 0)
        again = client.back(token=house.token("alice", rooms=["event:7"]))
        self.assertEqual(again.pid, client.pid)
        again.cut()
        self.assert_empty(house)

    def test_fresh_session_that_fails(self) -> None:
        """Whose session is refused, and whose fresh one fails, is seen to go after the grace."""
        house = self.house()
        watcher = house.client("watcher")
        watcher.join("lobby")
        client = house.client().connect(token=house.token("alice", rooms=["private:1"]))
        client.join("lobby")
        watcher.news()
        self.unavailable(house.node.store, "begin")
        failed = client.back(token=house.token("alice"))
        self.assertIs(client.outlet.close_reason, Close.REPLACED)
        self.assertIs(failed.outlet.close_reason, Close.BUS_LOSS)
        client.cut()
        house.clock.advance(house.node.settings.presence_grace)
        self.assertEqual([event[0] for event in watcher.news()], ["user:offline", "room:user_left"])
        watcher.leave()
        self.assert_empty(house)

    def test_logout_that_fails(self) -> None:
        """Who could not log out is still there."""
        for name, payload in (("forget", {}), ("forget_user", {"everywhere": True})):
            house = self.house()
            client = house.client("alice")
            self.unavailable(house.node.store, name)
            answer = client.call("auth:logout", payload)
            self.assertEqual(answer["error"]["code"], "broker.unavailable")
            self.assertTrue(client.join("lobby")["ok"])
            self.assertEqual(client.call("auth:logout", payload), {"ok": True})
            self.assertIs(client.outlet.close_reason, Close.LOGOUT)

    def test_signal_that_fails(self) -> None:
        """Sessions that have ended are closed here although the other nodes could not be told."""
        house = self.house()
        client, other = house.client("alice"), house.client("alice")
        self.unavailable(house.node.broker, "signal")
        self.assertEqual(client.call("auth:logout", {"everywhere": True}), {"ok": True})
        self.assertIs(client.outlet.close_reason, Close.LOGOUT)
        self.assertIs(other.outlet.close_reason, Close.LOGOUT)
        client = house.client("alice")
        self.unavailable(house.node.broker, "signal")
        kicking = Deferred.fromCoroutine(house.node.sessions.user_endings.disconnect_user("alice"))
        self.failureResultOf(kicking, BrokerUnavailable)
        self.assertIs(client.outlet.close_reason, Close.KICKED)
        self.assert_empty(house)

    def test_our_own_bug(self) -> None:
        """A store that fails otherwise than by being away is told of in the log; the client is not."""
        house = self.house()
        client = house.client("alice")
        self.patch(house.node.store, "suspend", lambda *args: fail(ZeroDivisionError()))
        client.cut()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_crowd_that_is_not_told_of(self) -> None:
        """One connection too many is refused as such although the other nodes could not be told."""
        house = self.house(rate_limit_max_connections=1)
        house.client("alice")
        self.unavailable(house.node.broker, "signal")
        self.assertIs(house.client("alice").outlet.close_reason, Close.CONNECTION_LIMIT)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_leave_that_fails(self) -> None:
        """Who could not leave a room is still in it."""
        house = self.house()
        client = house.client("alice")
        client.join("lobby")
        self.unavailable(house.node.store, "leave")
        answer = client.call("room:leave", {"roomId": "lobby"})
        self.assertEqual(answer["error"]["code"], "broker.unavailable")
        client.say("lobby", "still here")
        self.assertEqual([p["text"] for p in client.heard("room:message")], ["still here"])
        self.assertTrue(client.call("room:leave", {"roomId": "lobby"})["ok"])

    def test_stopped_bus(self) -> None:
        """What ends after the bus was stopped ends without a word, and without an error."""
        house = self.house()
        client, other = house.client("alice"), house.client("bob")
        client.join("lobby")
        other.join("lobby")
        self.successResultOf(house.node.broker.stop())
        client.leave()
        other.cut()
        self.assert_empty(house)
        gc.collect()
        self.assertEqual(self.flushLoggedErrors(), [])
