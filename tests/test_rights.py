"""Who may be where and do what there: the rules as a table, and in a whole node."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from realtime.config_file import Config, RoomRule
from realtime.errors import InvalidRoom, RoomForbidden
from realtime.messages import Audience, Identity, Publication
from realtime.rights import PRESENCE, Rights, granted

from .house import Client, House


def identity(*grants: str, roles: tuple[str, ...] = (), user: str = "alice") -> Identity:
    return Identity(user, frozenset(roles), grants, 0.0)


class RightsTests(SynchronousTestCase):
    """`Rights`."""

    def test_names(self) -> None:
        """Room ids follow the grammar; reserved ones are closed."""
        rights = Rights(reserved=["staff:"])
        for room in ("lobby", "event:42", "private:7", "A-b_c:d:e", "x" * 128, "users:1", "roles"):
            rights.check_name(room)
        for room in ("", ":", "a:", "a..b", "é", "a b", "x" * 129, "a\n", "a*", "{a}", "a\x00"):
            self.assertRaises(InvalidRoom, rights.check_name, room)
        for room in ("user:alice", "role:staff", "user", "role", "staff:1"):
            self.assertRaises(RoomForbidden, rights.check_name, room)

    def test_grants(self) -> None:
        """A grant is a room id, or a prefix that ends in a star."""
        self.assertTrue(granted(identity("a:1"), "a:1"))
        self.assertFalse(granted(identity("a:1"), "a:12"))
        self.assertTrue(granted(identity("a:*"), "a:12"))
        self.assertFalse(granted(identity("a:*"), "a"))
        self.assertTrue(granted(identity("*"), "anything"))
        self.assertFalse(granted(identity(), "a"))

    def test_defaults(self) -> None:
        """Private rooms need a grant, others nothing; no grant opens a reserved one."""
        rights = Rights()
        rights.check_join(identity(), "lobby")
        rights.check_join(identity("private:7"), "private:7")
        for room, who in (
            ("private:7", identity("private:8")),
            ("private:7", identity(roles=("staff",))),
            ("user:bob", identity("*")),
            ("role:staff", identity("*", roles=("staff",))),
        ):
            self.assertRaises(RoomForbidden, rights.check_join, who, room)

    def test_first_match_counts(self) -> None:
        rights = Rights(
            [
                RoomRule("event:7", join=("nobody",)),
                RoomRule("event:*", join=("role:guest", "user:bob")),
                RoomRule("event:7", join=("everyone",)),
                RoomRule("private:open", join=("everyone",)),
            ]
        )
        self.assertRaises(RoomForbidden, rights.check_join, identity(roles=("guest",)), "event:7")
        rights.check_join(identity(roles=("guest", "other")), "event:8")
        rights.check_join(identity(user="bob"), "event:8")
        self.assertRaises(RoomForbidden, rights.check_join, identity("event:8"), "event:8")
        rights.check_join(identity(), "private:open")
        self.assertRaises(RoomForbidden, rights.check_join, identity(), "private:7")

    def test_each_action(self) -> None:
        staff = ("role:staff",)
        rights = Rights([RoomRule("news", publish=staff, history=staff, presence=staff)])
        guest, member = identity(), identity(roles=("staff",))
        rights.check_join(guest, "news")
        for check in (rights.check_publish, rights.check_history):
            self.assertRaises(RoomForbidden, check, guest, "news")
            check(member, "news")
            check(guest, "lobby")
        self.assertFalse(rights.may("presence", guest, "news"))
        self.assertTrue(rights.may("presence", member, "news"))
        self.assertTrue(rights.hiding)
        self.assertFalse(Rights().hiding)

    def test_shows(self) -> None:
        """Who comes and goes is shown to who may see it in a room that they share; all else to all."""
        rights = Rights([RoomRule("news", presence=("role:staff",))])
        guest, member = identity(), identity(roles=("staff",))

        def told(event: str, *rooms: str) -> Publication:
            return Publication(event, b"{}", Audience(rooms=frozenset(rooms)), "1", 0)

        rooms = {"news", "lobby", "user:alice"}
        self.assertFalse(rights.shows(guest, rooms, told("room:user_left", "news")))
        self.assertTrue(rights.shows(member, rooms, told("room:user_left", "news")))
        self.assertTrue(rights.shows(guest, rooms, told("user:online", "news", "lobby")))
        self.assertFalse(rights.shows(guest, rooms, told("user:online", "news", "elsewhere")))
        self.assertTrue(rights.shows(guest, rooms, told("user:online", "user:alice")))
        self.assertTrue(rights.shows(guest, rooms, told("room:message", "news")))

    def test_staying(self) -> None:
        rights = Rights()
        self.assertTrue(rights.may_be_in(identity(), "user:alice"))
        self.assertFalse(rights.may_be_in(identity(), "user:bob"))
        self.assertTrue(rights.may_be_in(identity(roles=("staff",)), "role:staff"))
        self.assertFalse(rights.may_be_in(identity(), "role:staff"))
        self.assertFalse(rights.may_be_in(identity(), "private:7"))

    def test_what_is_remembered_is_bounded(self) -> None:
        rights = Rights()
        for number in range(50_000):
            rights.rule(f"room:{number}")
        self.assertLessEqual(len(rights._known), 20_000)


class HouseTests(SynchronousTestCase):
    """The rules in a whole node."""

    def house(self, *rules: RoomRule, **config: Any) -> House:
        house = House()
        self.addCleanup(house.stop)
        house.node.guard.policy.apply(Config(rooms=rules, **config))
        return house

    def client(self, house: House, user: str, *roles: str, **claims: Any) -> Client:
        return house.client().connect(token=house.token(user, roles=list(roles), **claims))

    def test_publish_history_presence(self) -> None:
        staff = ("role:staff",)
        house = self.house(RoomRule("news", publish=staff, history=staff, presence=staff))
        boss, guest = self.client(house, "boss", "staff"), self.client(house, "guest")
        boss.join("news")
        self.assertTrue(boss.say("news", "hello")["ok"])
        answer = guest.join("news")
        self.assertEqual((answer["history"], answer["members"]), ([], []))
        self.assertEqual(len(boss.join("news")["members"]), 2)
        for refused in (
            guest.say("news", "hi"),
            guest.call("user:typing", {"roomId": "news", "typing": True}),
            guest.call("room:history", {"roomId": "news"}),
        ):
            self.assertEqual(refused["error"]["code"], "room.forbidden")
        # Only who may see it is told who comes and goes, also after a cut.
        guest.news()
        boss.news()
        guest.cut()
        other = self.client(house, "other")
        other.join("news")
        self.assertEqual([e[1]["userId"] for e in boss.news() if e[0] == "room:user_joined"], ["other"])
        other.leave()
        back = guest.back(token=house.token("guest"))
        told = {event[0] for event in back.news()}
        self.assertIn("system:connected", told)
        self.assertEqual(told & PRESENCE, set())
        self.assertIn("user:offline", {event[0] for event in boss.news()})

    def test_rules_for_rooms_of_the_token(self) -> None:
        """A room that the token names is joined under the same rules."""
        house = self.house(RoomRule("vip", join=("role:vip",)))
        client = self.client(house, "alice", rooms=["vip", "lobby"])
        told = client.news()
        self.assertEqual([e[1]["code"] for e in told if e[0] == "system:error"], ["room.forbidden"])
        self.assertEqual([e[1]["roomId"] for e in told if e[0] == "room:joined"], ["lobby"])

    def test_grant_taken_away(self) -> None:
        """A newer token without the grant takes the live membership away, with a reason."""
        house = self.house()
        client = self.client(house, "alice", rooms=["private:7"])
        client.news()
        client.call("auth:token_refresh", {"token": house.token("alice")})
        (left,) = client.heard("room:left")
        self.assertEqual((left["roomId"], left["reason"]), ("private:7", "room.forbidden"))
        self.assertEqual(client.say("private:7", "x")["error"]["code"], "room.not_joined")

    def test_own_wish_has_no_reason(self) -> None:
        house = self.house()
        client = self.client(house, "alice")
        client.join("lobby")
        client.call("room:leave", {"roomId": "lobby"})
        self.assertNotIn("reason", client.heard("room:left")[0])

    def test_new_rules(self) -> None:
        """Rules that were read again hold for those who are there."""
        house = self.house()
        alice, boss = self.client(house, "alice"), self.client(house, "boss", "staff")
        for client in (alice, boss):
            client.join("lobby")
            client.news()
        path = self.mktemp()
        house.node.settings.__dict__["realtime_config"] = path
        with open(path, "w") as file:
            file.write('[[rooms]]\npattern = "lobby"\njoin = ["role:staff"]\n')
        self.successResultOf(house.node.reload())
        self.assertEqual([left["reason"] for left in alice.heard("room:left")], ["room.forbidden"])
        self.assertEqual(boss.heard("room:left"), [])
        with open(path, "w") as file:
            file.write("[[rooms]]\npatern = 1\n")
        done: Deferred[None] = house.node.reload()
        self.successResultOf(done)
        self.assertEqual(alice.join("lobby")["error"]["code"], "room.forbidden")

    def test_recovery(self) -> None:
        """A room that the rules have closed meanwhile ends the session that was in it."""
        house = self.house()
        client = self.client(house, "alice")
        client.join("lobby")
        client.cut()
        house.node.guard.policy.apply(Config(rooms=(RoomRule("lobby", join=("nobody",)),)))
        back = client.back(token=house.token("alice"))
        self.assertIs(back.heard("system:connected")[0]["recovered"], False)
