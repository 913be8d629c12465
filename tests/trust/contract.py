"""What every `ITrust` must do. A test case mixes it in and gives `make`."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from realtime.errors import RefreshUnsupported, TooManyBans
from realtime.trust import interface
from realtime.trust.interface import Ban, Change, ITrust, mute_key


class Listener:
    """Remembers what one node was told."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.resets: list[list[Ban]] = []


class TrustContract:
    """The contract. Times are the wall clock's, which `wall` tells and `advance` moves on."""

    #: trial's own methods, as the mixin uses them.
    assertEqual: Any
    assertTrue: Any
    assertFalse: Any
    patch: Any

    async def make(self) -> Any:
        """A node's `ITrust`; a second one shares all with the first, where that is possible."""
        raise NotImplementedError

    def wall(self) -> float:
        raise NotImplementedError

    async def advance(self, seconds: float) -> None:
        raise NotImplementedError

    async def heard(self, listener: Listener, count: int) -> None:
        """Wait until a listener was told of so many changes."""
        raise NotImplementedError

    def fill_families(self, trust: Any, count: int) -> None:
        """Let an `ITrust` bear only so many families."""
        raise NotImplementedError

    async def started(self, trust: Any) -> Listener:
        listener = Listener()
        await trust.start(listener.changes.append, listener.resets.append)
        return listener

    def test_interface(self) -> Any:
        return Deferred.fromCoroutine(self._interface())

    async def _interface(self) -> None:
        self.assertTrue(verifyObject(ITrust, await self.make()))

    def test_bans(self) -> Any:
        """A ban is told to who listens, kept for who comes later, and lifted once."""
        return Deferred.fromCoroutine(self._bans())

    async def _bans(self) -> None:
        trust = await self.make()
        listener = await self.started(trust)
        self.assertEqual(listener.resets, [[]])
        bans = [
            Ban("token", "t-1", until=self.wall() + 100, made=5),
            Ban("issued", "alice", before=self.wall() + 0.25),
            Ban("block", "böb@example.com"),
            Ban("mute", mute_key("event:42", "bob")),
            Ban("trace", "carol", until=self.wall() + 100),
        ]
        for ban in bans:
            await trust.ban(ban)
        await self.heard(listener, 5)
        self.assertEqual(listener.changes, [Change(ban) for ban in bans])
        await trust.stop()
        again = await self.started(trust)
        self.assertEqual(
            sorted(again.resets[0], key=lambda ban: ban.kind), sorted(bans, key=lambda b: b.kind)
        )
        self.assertTrue(await trust.lift("block", "böb@example.com"))
        self.assertFalse(await trust.lift("block", "böb@example.com"))
        self.assertFalse(await trust.lift("token", "böb@example.com"))
        await self.heard(again, 1)
        self.assertEqual(again.changes, [Change(bans[2], lifted=True)])
        self.assertEqual(len(listener.changes), 5)

    def test_replaced(self) -> Any:
        """A second ban of one kind and key takes the place of the first."""
        return Deferred.fromCoroutine(self._replaced())

    async def _replaced(self) -> None:
        trust = await self.make()
        await trust.ban(Ban("issued", "alice", before=1.0))
        await trust.ban(Ban("issued", "alice", before=2.5))
        listener = await self.started(trust)
        self.assertEqual(listener.resets, [[Ban("issued", "alice", before=2.5)]])

    def test_bans_are_bounded(self) -> Any:
        """There are so many bans at once; those that are over make room."""
        return Deferred.fromCoroutine(self._bounded())

    async def _bounded(self) -> None:
        self.patch(interface, "MAX_BANS", 2)
        trust = await self.make()
        await trust.ban(Ban("token", "a", until=self.wall() + 0.5))
        await trust.ban(Ban("token", "b"))
        try:
            await trust.ban(Ban("token", "c"))
        except TooManyBans:
            pass
        else:
            raise AssertionError("there was no refusal")
        await trust.ban(Ban("token", "b", made=7))
        await self.advance(0.6)
        await trust.ban(Ban("token", "c"))
        listener = await self.started(trust)
        self.assertEqual({ban.key for ban in listener.resets[0]}, {"b", "c"})

    def test_turns(self) -> Any:
        """Each turn of a family is good once and in order; a turn used twice ends the family."""
        return Deferred.fromCoroutine(self._turns())

    async def _turns(self) -> None:
        trust = await self.make()
        later = self.wall() + 100
        self.assertTrue(await trust.turn("f", 0, later))
        self.assertTrue(await trust.turn("f", 1, later))
        self.assertTrue(await trust.turn("other", 0, later))
        self.assertFalse(await trust.turn("f", 0, later))
        self.assertFalse(await trust.turn("f", 2, later))
        self.assertFalse(await trust.turn("f", 3, later))
        self.assertTrue(await trust.turn("other", 1, later))
        # A family that was begun elsewhere, and is known from its fifth turn on.
        self.assertTrue(await trust.turn("late", 5, later))
        self.assertFalse(await trust.turn("late", 5, later))

    def test_families_are_bounded(self) -> Any:
        """Past the bound no new family is taken until some have expired."""
        return Deferred.fromCoroutine(self._families())

    async def _families(self) -> None:
        trust = await self.make()
        self.fill_families(trust, 2)
        self.assertTrue(await trust.turn("a", 0, self.wall() + 0.5))
        self.assertTrue(await trust.turn("b", 0, self.wall() + 100))
        try:
            await trust.turn("c", 0, self.wall() + 100)
        except RefreshUnsupported:
            pass
        else:
            raise AssertionError("there was no refusal")
        self.assertTrue(await trust.turn("b", 1, self.wall() + 100))
        await self.advance(1.1)
        self.assertTrue(await trust.turn("c", 0, self.wall() + 100))

    def test_charges(self) -> Any:
        """What users use up adds up, and becomes less as time passes."""
        return Deferred.fromCoroutine(self._charges())

    async def _charges(self) -> None:
        trust = await self.make()
        first = await trust.charge({"alice": 10.0, "bob": 1.0}, 60.0)
        self.near(first, {"alice": 10.0, "bob": 1.0})
        self.near(await trust.charge({"alice": 5.0}, 60.0), {"alice": 15.0})
        self.near(
            await trust.charge({"alice": 0.0, "bob": 0.0, "new": 0.0}, 60.0), {"alice": 15.0, "bob": 1.0}
        )
        await self.advance(1.5)
        self.near(await trust.charge({"alice": 0.0, "bob": 2.0}, 60.0), {"alice": 13.5, "bob": 2.0})
        huge = await trust.charge({"alice": 1e9}, 60.0)
        self.assertTrue(60.0 <= huge["alice"] <= 121.0, huge)

    def near(self, found: Any, wanted: dict[str, float]) -> None:
        """Debts, but for the time that passes while they are asked for."""
        for user, debt in wanted.items():
            self.assertTrue(abs(found[user] - debt) < 0.4, (user, found[user], debt))
