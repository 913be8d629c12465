"""What may be said, in a whole node: mutes, the filter's modes, spam, each told in the acknowledgement."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from realtime.config_file import Config, ContentRule, RoomRule, SpamRule
from realtime.moderation import MAX_TEXTS
from realtime.settings import ConfigError
from realtime.trust.interface import Ban, mute_key

from .house import START, Client, House


class ModerationTests(SynchronousTestCase):
    def house(self, mode: Any = "reject", *rules: RoomRule, **more: Any) -> House:
        house = House()
        self.addCleanup(house.stop)
        content = ContentRule(mode, words=("darn", "böse"), patterns=("[0-9]{6}",))
        house.node.guard.policy.apply(Config(rooms=rules, content=content, **more))
        return house

    def pair(self, house: House, room: str = "lobby") -> tuple[Client, Client]:
        """Who writes, and who reads."""
        pair = house.client("alice"), house.client("bob")
        for client in pair:
            client.join(room)
            client.news()
        return pair

    def count(self, house: House, what: str) -> float:
        value = house.node.metrics.registry.get_sample_value("realtime_moderated_total", {"what": what})
        assert value is not None
        return value

    def test_reject(self) -> None:
        """The acknowledgement says so, and nobody is told the message."""
        house = self.house()
        alice, bob = self.pair(house)
        for text in ("oh d a r n it", "BÖSE", "code 123456"):
            self.assertEqual(alice.say("lobby", text)["error"]["code"], "content.refused")
        self.assertTrue(alice.say("lobby", "hello")["ok"])
        self.assertEqual([told["text"] for told in bob.heard("room:message")], ["hello"])
        self.assertEqual(self.count(house, "refused"), 3)

    def test_mask(self) -> None:
        house = self.house("mask")
        alice, bob = self.pair(house)
        alice.say("lobby", "oh darn, d.a.r.n 1234567!")
        self.assertEqual(
            [told["text"] for told in bob.heard("room:message")], ["oh ****, ******* ******7!"]
        )

    def test_flag(self) -> None:
        """The message passes, and is counted."""
        house = self.house("flag")
        alice, bob = self.pair(house)
        alice.say("lobby", "darn")
        self.assertEqual([told["text"] for told in bob.heard("room:message")], ["darn"])
        self.assertEqual(self.count(house, "flagged"), 1)

    def test_by_room(self) -> None:
        """A room's rule says otherwise for it."""
        house = self.house("reject", RoomRule("free:*", filter="off"), RoomRule("soft", filter="mask"))
        for room, text in (("free:1", "darn"), ("soft", "****")):
            alice, bob = self.pair(house, room)
            alice.say(room, "darn")
            self.assertEqual([told["text"] for told in bob.heard("room:message")], [text])

    def test_data(self) -> None:
        """Texts in data are looked at too, keys among them; binary data is not."""
        house = self.house("mask")
        alice, bob = self.pair(house)
        data = {"a": ["darn", {"b": "d\\u0061rn darn"}], "darn": 1, "n": 1.5, "x": None, "ok": True}
        self.assertTrue(alice.call("room:message", {"roomId": "lobby", "data": data})["ok"])
        (told,) = bob.heard("room:message")
        self.assertEqual(
            told["data"],
            {"a": ["****", {"b": "d\\u0061rn ****"}], "****": 1, "n": 1.5, "x": None, "ok": True},
        )
        alice.receiver.received('2["room:message",{"roomId":"lobby","data":"d\\u0061rn"}]')
        self.assertEqual([told["data"] for told in bob.heard("room:message")], ["****"])

    def test_data_is_bounded(self) -> None:
        house = self.house("mask")
        alice, _ = self.pair(house)
        many = alice.call("room:message", {"roomId": "lobby", "data": ["x"] * (MAX_TEXTS + 1)})
        self.assertEqual(many["error"]["code"], "content.refused")

    def test_presence(self) -> None:
        """The text of a presence is judged as messages are."""
        house = self.house()
        alice, _ = self.pair(house)
        refused = alice.call("user:presence", {"status": "busy", "text": "darn"})
        self.assertEqual(refused["error"]["code"], "content.refused")
        self.assertTrue(alice.call("user:presence", {"status": "busy", "text": "at work"})["ok"])

    def test_mute(self) -> None:
        """Who is muted says and types nothing in that room, until it ends."""
        house = self.house()
        alice, bob = self.pair(house)
        alice.join("other")
        house.node.guard.trust.ban(Ban("mute", mute_key("lobby", "alice"), until=START + 60))
        for answer in (
            alice.say("lobby", "hello"),
            alice.call("user:typing", {"roomId": "lobby", "typing": True}),
        ):
            self.assertEqual(answer["error"]["code"], "room.muted")
            self.assertEqual(answer["error"]["retryAfter"], 60_000)
        self.assertTrue(alice.say("other", "hello")["ok"])
        self.assertTrue(bob.say("lobby", "hello")["ok"])
        house.clock.advance(60)
        self.assertTrue(alice.say("lobby", "hello")["ok"])
        house.node.guard.trust.ban(Ban("mute", mute_key("lobby", "bob")))
        self.assertNotIn("retryAfter", bob.say("lobby", "x")["error"])
        house.node.guard.trust.lift("mute", mute_key("lobby", "bob"))
        self.assertTrue(bob.say("lobby", "x")["ok"])

    def test_spam(self) -> None:
        house = self.house("off", spam=SpamRule(enabled=True))
        alice, bob = self.pair(house)
        answers = [alice.say("lobby", "buy now") for _ in range(6)]
        refused = [answer["error"] for answer in answers if not answer["ok"]]
        self.assertEqual({error["code"] for error in refused}, {"content.spam"})
        self.assertGreater(refused[0]["retryAfter"], 0)
        self.assertEqual(len(bob.heard("room:message")), 6 - len(refused))

    def test_a_filter_without_words(self) -> None:
        """A mode that has nothing to look for is a fault, and changes nothing."""
        house = self.house()
        for config in (
            Config(content=ContentRule("mask")),
            Config(rooms=(RoomRule("a", filter="mask"),)),
        ):
            self.assertRaises(ConfigError, house.node.guard.policy.apply, config)
        alice, _ = self.pair(house)
        self.assertEqual(alice.say("lobby", "darn")["error"]["code"], "content.refused")
