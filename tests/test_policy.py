"""What the configuration file decides takes effect in a whole node, at once and whole, or not at all."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from realtime.api_keys import digest
from realtime.config_file import Config, ContentRule, EventLimit, KeyRule, LimitRules, RoomRule, RouteRule
from realtime.settings import ConfigError

from .house import START, House


class PolicyTests(SynchronousTestCase):
    """`Policy.apply`."""

    def house(self, **config: Any) -> House:
        house = House()
        self.addCleanup(house.stop)
        house.node.guard.policy.apply(Config(**config))
        return house

    def test_routes(self) -> None:
        """A service's channels go to whom the file says; the next file may say otherwise."""
        house = self.house(routes=(RouteRule("booking", "everyone"), RouteRule("seats", "named")))
        alice, bob = house.client("alice"), house.client("bob")
        house.publish("booking:confirmed", {"userId": "alice"})
        house.publish("seats:held", {"userId": "alice"})
        self.assertEqual(len(bob.heard("booking:confirmed")), 1)
        self.assertEqual([event[0] for event in alice.news()][-2:], ["booking:confirmed", "seats:held"])
        house.node.guard.policy.apply(Config())
        house.publish("booking:confirmed", {"userId": "alice"})
        self.assertEqual(bob.heard("booking:confirmed"), [])
        self.assertEqual(len(alice.heard("booking:confirmed")), 1)

    def test_api_keys(self) -> None:
        """Keys of the file beside API_KEY, until their time is over."""
        until = datetime.fromtimestamp(START + 60, UTC)
        rule = KeyRule("booking", digest("a key of the file").hex(), ("booking:*",), ("publish",), until)
        house = self.house(api_keys=(rule,))
        find = house.node.guard.policy.api_keys.find
        key = find(b"a key of the file")
        assert key is not None
        self.assertEqual((key.name, key.channels, key.scopes), ("booking", ("booking:*",), {"publish"}))
        master = find(b"the key of the api")
        assert master is not None
        master.check("moderate")
        self.assertIsNone(find(b"another"))
        house.clock.advance(60)
        self.assertIsNone(find(b"a key of the file"))

    def test_limits_of_events(self) -> None:
        house = self.house(limits=LimitRules({"room:join": EventLimit(2, 10_000)}))
        alice = house.client("alice")
        answers = [alice.join(f"event:{n}") for n in range(3)]
        self.assertEqual([answer["ok"] for answer in answers], [True, True, False])
        self.assertEqual(answers[2]["error"]["retryAfter"], 5000)
        self.assertTrue(alice.say("event:1", "x")["ok"])

    def test_reserved(self) -> None:
        house = self.house(reserved=("staff:",))
        alice = house.client("alice")
        self.assertEqual(alice.join("staff:1")["error"]["code"], "room.forbidden")
        self.assertTrue(alice.join("staffing")["ok"])

    def test_all_or_nothing(self) -> None:
        """What is wrong anywhere in a configuration leaves everything as it was."""
        house = self.house(rooms=(RoomRule("a", join=("nobody",)),))
        wrong = ContentRule(languages=("klingon",))
        self.assertRaises(ConfigError, house.node.guard.policy.apply, Config(content=wrong))
        alice = house.client("alice")
        self.assertEqual(alice.join("a")["error"]["code"], "room.forbidden")
