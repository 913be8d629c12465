"""MemoryTrust: what one node that runs alone has to know of whom not to trust."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from twisted.internet.defer import Deferred, execute, succeed
from zope.interface import implementer

from ..errors import RefreshUnsupported, TooManyBans
from . import interface
from .interface import Ban, Change, ITrust, Kind

#: Families of refresh tokens remembered at the most; past it no new one is taken until some expire.
MAX_FAMILIES: Final = 100_000

#: After every turn.
_VOID: Final = 2**53


@implementer(ITrust)
class MemoryTrust:
    """Keeps it in this process.

    :param wall: seconds since the epoch.
    """

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._bans: dict[tuple[Kind, str], Ban] = {}
        # family -> the next turn, and when the last token of the family expires
        self._families: dict[str, tuple[int, float]] = {}
        # user -> when nothing of the limit is used up any more
        self._debts: dict[str, float] = {}
        self._heard: Callable[[Change], None] = lambda change: None

    def start(self, heard: Callable[[Change], None], reset: Callable[[list[Ban]], None]) -> Deferred[None]:
        self._heard = heard
        reset(list(self._bans.values()))
        return succeed(None)

    def stop(self) -> Deferred[None]:
        self._heard = lambda change: None
        return succeed(None)

    def ban(self, ban: Ban) -> Deferred[None]:
        return execute(self._ban, ban)

    def _ban(self, ban: Ban) -> None:
        key = (ban.kind, ban.key)
        if key not in self._bans and len(self._bans) >= interface.MAX_BANS:
            self._sweep_bans()
            if len(self._bans) >= interface.MAX_BANS:
                raise TooManyBans()
        self._bans[key] = ban
        self._heard(Change(ban))

    def lift(self, kind: Kind, key: str) -> Deferred[bool]:
        ban = self._bans.pop((kind, key), None)
        if ban is not None:
            self._heard(Change(ban, lifted=True))
        return succeed(ban is not None and not _over(ban, self._wall()))

    def turn(self, family: str, turn: int, expires: float) -> Deferred[bool]:
        return execute(self._turn, family, turn, expires)

    def _turn(self, family: str, turn: int, expires: float) -> bool:
        known = self._families.get(family)
        if known is not None and turn < known[0]:
            self._families[family] = (_VOID, max(expires, known[1]))
            return False
        if known is None and len(self._families) >= MAX_FAMILIES:
            self._sweep_families()
            if len(self._families) >= MAX_FAMILIES:
                raise RefreshUnsupported("too many refresh tokens were used; log in again")
        self._families[family] = (turn + 1, expires)
        return True

    def charge(self, amounts: Mapping[str, float], window: float) -> Deferred[Mapping[str, float]]:
        now = self._wall()
        debts = {}
        for user, amount in amounts.items():
            debt = min(max(self._debts.get(user, 0.0) - now, 0.0) + amount, 2 * window)
            self._debts[user] = now + debt
            debts[user] = debt
        if len(self._debts) > 2 * len(amounts) + 1000:
            self._debts = {user: clear for user, clear in self._debts.items() if clear > now}
        return succeed(debts)

    def _sweep_bans(self) -> None:
        now = self._wall()
        self._bans = {key: ban for key, ban in self._bans.items() if not _over(ban, now)}

    def _sweep_families(self) -> None:
        now = self._wall()
        self._families = {name: used for name, used in self._families.items() if used[1] > now}


def _over(ban: Ban, now: float) -> bool:
    return 0 < ban.until <= now
