"""What is taken up after a cut, what is not, and what others see of it."""

from __future__ import annotations

from realtime.errors import Close

from .house import Client, House, HouseCase


class RecoveryTests(HouseCase):
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


class SeenByOthersTests(HouseCase):
    """What others are told of one who comes back."""

    def test_failed_recovery_is_not_seen(self) -> None:
        """A client that must begin afresh was never away; only what it has left is told."""
        house = self.house()
        watcher = house.client("watcher")
        watcher.join("lobby")
        watcher.join("event:7")
        client = house.client().connect(token=house.token("alice", rooms=["event:7", "private:1"]))
        client.join("lobby")
        client.call("user:presence", {"status": "busy"})
        watcher.news()
        client.cut()
        back = client.back(token=house.token("alice", rooms=["event:7"]))
        self.assertNotEqual(back.pid, client.pid)
        told = [(event[0], event[1].get("roomId")) for event in watcher.news()]
        self.assertEqual(told, [("room:user_left", "lobby")])
        presence = self.successResultOf(house.node.store.presence("alice"))
        self.assertEqual((presence.shown, len(presence.metas)), ("busy", 1))

    def test_failed_recovery_at_the_cap(self) -> None:
        """The session that can't be recovered does not keep its own successor out."""
        house = self.house(rate_limit_max_connections=1)
        client = house.client().connect(token=house.token("alice", rooms=["private:1"]))
        for _ in range(3):
            client = client.back(token=house.token("alice", rooms=["private:2"]))
            self.assertIsNone(client.outlet.close_reason)
            client = client.back(token=house.token("alice", rooms=["private:1"]))
            self.assertIsNone(client.outlet.close_reason)
        self.assertEqual(house.node.store.sessions, 1)

    def test_own_absence_is_not_recovered(self) -> None:
        """Who was away for longer than the grace is not told, coming back, that it has left."""
        house = self.house()
        tabs = [house.client("alice") for _ in range(2)]
        for tab in tabs:
            tab.join("lobby")
            tab.news()
            tab.cut()
        house.clock.advance(house.node.settings.presence_grace + 1)
        for tab in tabs:
            back = tab.back(token=house.token("alice"))
            self.assertEqual([event[0] for event in back.news()], ["system:connected"])

    def test_room_that_is_full_by_now(self) -> None:
        """Whose place in a room was taken, when its absence was seen, begins afresh, and counts as that."""
        house = self.house(max_room_members=1)
        told: list[str] = []
        self.patch(house.node.metrics, "recovered", told.append)
        client = house.client("alice")
        client.join("lobby")
        client.news()
        client.cut()
        house.clock.advance(house.node.settings.presence_grace + 1)
        other = house.client("bob")
        self.assertTrue(other.join("lobby")["ok"])
        back = client.back(token=house.token("alice"))
        self.assertNotEqual(back.pid, client.pid)
        self.assertEqual([p["recovered"] for p in back.heard("system:connected")], [False])
        self.assertEqual(told, ["room_refused"])
        self.assertEqual(house.node.store.sessions, 2)

    def test_room_that_a_newer_token_brings(self) -> None:
        """A room that opens, or does not, on taking up a session is told of as at its beginning."""
        house = self.house(max_room_members=1)
        house.client("other").join("event:8")
        client = house.client("alice")
        back = client.back(token=house.token("alice", rooms=["event:7", "event:8"]))
        self.assertEqual(back.pid, client.pid)
        told = [event for event in back.news() if event[0] != "system:connected"]
        self.assertEqual([event[0] for event in told], ["room:joined", "system:error"])
        self.assertEqual(told[1][1]["code"], "room.full")


class ResultTests(HouseCase):
    """What the metric of recoveries says."""

    def test_results(self) -> None:
        """Each attempt counts under what became of it."""
        house = self.house(recovery_max_messages=2)
        told: list[str] = []
        self.patch(house.node.metrics, "recovered", told.append)
        private = {"token": house.token("alice", rooms=["private:1"])}
        client = house.client().connect(**private)
        client.back(**private).back(token=house.token("bob"))
        Client(house).connect(**private, pid="never given out")
        client.news()
        client.back(token=house.token("alice"))
        client = house.client().connect(**private)
        client.news()
        for n in range(5):
            house.publish("booking:created", {"userId": "alice", "n": n})
        client.back(**private)
        self.assertEqual(told, ["recovered", "other_user", "unknown", "room_refused", "recovered"])
        client.offset = "0.0:1"
        client.back(**private)
        self.assertEqual(told[-1], "gap")
