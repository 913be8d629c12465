"""Revoked in all three ways: those who are here go at once and do not come back, by recovery either."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from realtime.errors import Close
from realtime.trust.interface import Ban

from .house import START, Client, House

BANS = {
    "token": (Ban("token", "t-1"), "auth.token_revoked"),
    "issued": (Ban("issued", "alice", before=START + 1), "auth.token_revoked"),
    "block": (Ban("block", "alice"), "auth.blocked"),
}


class EnforcementTests(SynchronousTestCase):
    """`Enforcement`, in a whole node."""

    def house(self, **settings: Any) -> House:
        house = House(**settings)
        self.addCleanup(house.stop)
        return house

    def alice(self, house: House, **auth: Any) -> Client:
        return house.client().connect(token=house.token("alice", jti="t-1", iat=START), **auth)

    def test_live(self) -> None:
        """The session ends with a reason, for good, and nobody else's does."""
        for ban, code in BANS.values():
            house = self.house()
            alice, bob = self.alice(house), house.client("bob")
            house.node.guard.trust.ban(ban)
            self.assertEqual([told["code"] for told in alice.heard("system:error")], [code])
            self.assertIs(alice.outlet.close_reason, Close.REVOKED)
            self.assertEqual(alice.outlet.packets()[-1], "41")
            self.assertIsNone(bob.outlet.close_reason)
            self.assertEqual([connection.user for connection in house.node.connections], ["bob"])

    def test_connect(self) -> None:
        """A new connection is refused, on CONNECT and by ``auth:login``."""
        for ban, code in BANS.values():
            house = self.house()
            house.node.guard.trust.ban(ban)
            client = self.alice(house)
            self.assertEqual(json.loads(client.answer[2:])["data"]["code"], code)
            self.assertIs(client.outlet.close_reason, Close.REFUSED)
            late = house.client().connect()
            token = house.token("alice", jti="t-1", iat=START)
            self.assertEqual(late.call("auth:login", {"token": token})["error"]["code"], code)
            self.assertEqual(len(house.node.connections), 0)

    def test_recovery(self) -> None:
        """A session that was cut off is not taken up again."""
        for ban, code in BANS.values():
            house = self.house()
            alice = self.alice(house)
            alice.join("lobby")
            alice.cut()
            house.node.guard.trust.ban(ban)
            back = alice.back(token=house.token("alice", jti="t-1", iat=START))
            self.assertEqual(json.loads(back.answer[2:])["data"]["code"], code)

    def test_others_stay(self) -> None:
        """Other tokens of the user, and those that are newer, are as good as before."""
        house = self.house()
        client = house.client().connect(token=house.token("alice", jti="t-2", iat=START + 5))
        house.node.guard.trust.ban(BANS["token"][0])
        house.node.guard.trust.ban(BANS["issued"][0])
        house.node.guard.trust.ban(Ban("mute", "lobby alice"))
        self.assertIsNone(client.outlet.close_reason)

    def test_refresh(self) -> None:
        """A revoked token renews nothing; a renewed session goes with the token that it has now."""
        house = self.house()
        client = house.client("alice")
        house.node.guard.trust.ban(BANS["token"][0])
        revoked = house.token("alice", jti="t-1")
        answer = client.call("auth:token_refresh", {"token": revoked})
        self.assertEqual(answer["error"]["code"], "auth.token_revoked")
        self.assertTrue(client.call("auth:token_refresh", {"token": house.token("alice", jti="t-3")})["ok"])
        house.node.guard.trust.ban(Ban("token", "t-3"))
        self.assertIs(client.outlet.close_reason, Close.REVOKED)

    def test_reset(self) -> None:
        """All bans at once: those who are here are held against them."""
        house = self.house()
        alice, bob = self.alice(house), house.client("bob")
        house.node.guard.enforcement.reset([BANS["block"][0]])
        self.assertIs(alice.outlet.close_reason, Close.REVOKED)
        self.assertIsNone(bob.outlet.close_reason)

    def test_lifted(self) -> None:
        """Who is not blocked any more may come back."""
        house = self.house()
        house.node.guard.trust.ban(BANS["block"][0])
        house.node.guard.trust.lift("block", "alice")
        self.assertTrue(self.alice(house).answer.startswith("40"))

    def test_swept(self) -> None:
        """What has ended by itself is forgotten."""
        house = self.house()
        house.node.guard.trust.ban(Ban("block", "alice", until=START + 10))
        house.node.guard.trust.ban(Ban("block", "bob"))
        house.clock.advance(house.node.settings.presence_cleanup_interval)
        self.assertEqual(len(house.node.guard.bans), 1)
