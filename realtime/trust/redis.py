"""RedisTrust: what all nodes over one Redis have to know of whom not to trust.

Every change is one script, which counts it and tells all nodes by a signal. A node that hears of a
change out of turn, or finds the count to be another when it looks once a second, reads all bans anew.
Where the count has gone back or begun anew, Redis has lost changes: what this node still knows it
writes again, so that nobody is trusted anew by it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from ..broker.redis import RedisBroker
from ..errors import BrokerUnavailable, RefreshUnsupported, TooManyBans
from ..periodic import Periodic
from . import interface
from .interface import Ban, Change, ITrust, Kind

_log = Logger()

#: Families of refresh tokens remembered at the most; past it no new one is taken until some expire.
MAX_FAMILIES: Final = 1_000_000

#: Seconds between looks whether changes were missed.
LOOK: Final = 1.0


class Told(msgspec.Struct):
    """A signal: a change, and its number."""

    version: int
    change: Change


_decode_told = msgspec.json.Decoder(Told).decode
_decode_ban = msgspec.json.Decoder(Ban).decode


def read_change(data: bytes) -> Told:
    """What a signal says.

    :raises ValueError: it can't be read.
    """
    try:
        return _decode_told(data)
    except msgspec.DecodeError as error:
        raise ValueError(str(error)) from None


@implementer(ITrust)
class RedisTrust:
    """Keeps it in Redis."""

    def __init__(self, clock: IReactorTime, broker: RedisBroker, wall: Callable[[], float]) -> None:
        self._broker = broker
        self._wall = wall
        self._bans: dict[tuple[Kind, str], Ban] = {}
        self._version = -1
        self._heard: Callable[[Change], None] | None = None
        self._reset: Callable[[list[Ban]], None] = lambda bans: None
        self._reading = False
        self._periodic = Periodic(clock, (LOOK, self._look))

    # -- hearing of changes

    def start(self, heard: Callable[[Change], None], reset: Callable[[list[Ban]], None]) -> Deferred[None]:
        self._heard, self._reset = heard, reset
        self._version = -1
        self._periodic.start()
        return self._look()

    def stop(self) -> Deferred[None]:
        self._periodic.stop()
        self._heard = None
        return Deferred.fromCoroutine(_nothing())

    def signalled(self, data: bytes) -> None:
        """A change was made, by whatever node."""
        if self._heard is None:
            return
        try:
            told = read_change(data)
        except ValueError:
            _log.warn("a signal of a ban could not be read")
            return
        if told.version == self._version + 1:
            self._version = told.version
            self._keep(told.change)
            self._heard(told.change)
        elif told.version > self._version:
            self._look()

    def _keep(self, change: Change) -> None:
        key = (change.ban.kind, change.ban.key)
        if change.lifted:
            self._bans.pop(key, None)
        else:
            self._bans[key] = change.ban

    def _look(self) -> Deferred[None]:
        if self._reading or self._heard is None:
            return Deferred.fromCoroutine(_nothing())
        self._reading = True
        return Deferred.fromCoroutine(self._read()).addBoth(self._looked)

    def _looked(self, result: Any) -> None:
        self._reading = False
        # With the bus away there is another look.
        if result is not None and not result.check(BrokerUnavailable):
            _log.failure("bans could not be read", result)

    async def _read(self) -> None:
        told, *found = await self._broker.read("bans", self._version)
        if not found or self._heard is None:
            return
        version = int(told)
        bans = {(ban.kind, ban.key): ban for ban in map(_decode_ban, found[0])}
        goes_on = version > self._version and version >> 32 == self._version >> 32
        lost = [] if goes_on else [ban for key, ban in self._bans.items() if key not in bans]
        self._version = version
        self._bans = bans
        for ban in lost:
            if not 0 < ban.until <= self._wall():
                await self.ban(ban)
                self._bans[ban.kind, ban.key] = ban
        self._reset(list(self._bans.values()))

    # -- changing

    def ban(self, ban: Ban) -> Deferred[None]:
        text = msgspec.json.encode(ban)
        change = msgspec.json.encode(Change(ban))
        asked = self._broker.run(
            "ban", _field(ban.kind, ban.key), text, _milliseconds(ban.until), change, interface.MAX_BANS
        )
        return asked.addCallback(_kept)

    def lift(self, kind: Kind, key: str) -> Deferred[bool]:
        asked = self._broker.run("lift", _field(kind, key), '{"ban":', ',"lifted":true}')
        return asked.addCallback(lambda answer: answer[1] != b"")

    def turn(self, family: str, turn: int, expires: float) -> Deferred[bool]:
        asked = self._broker.run("turn", family, turn, _milliseconds(expires), MAX_FAMILIES)
        return asked.addCallback(_turned)

    def charge(self, amounts: Mapping[str, float], window: float) -> Deferred[Mapping[str, float]]:
        args: list[str | int] = [_milliseconds(2 * window)]
        for user, amount in amounts.items():
            args += (user, f"{amount * 1000:.3f}")

        def debts(answer: list[bytes]) -> Mapping[str, float]:
            return {user: float(debt) / 1000 for user, debt in zip(amounts, answer, strict=True)}

        return self._broker.run("charge", *args).addCallback(debts)


async def _nothing() -> None:
    """Done at once."""


def _field(kind: Kind, key: str) -> str:
    return f"{kind}\n{key}"


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _kept(answer: list[bytes]) -> None:
    if answer[0] != b"OK":
        raise TooManyBans()


def _turned(answer: list[bytes]) -> bool:
    if answer[0] == b"FULL":
        raise RefreshUnsupported("too many refresh tokens were used; log in again")
    return answer[0] == b"OK"
