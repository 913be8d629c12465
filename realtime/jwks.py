"""JWKS: the public keys of the login service, fetched from JWT_JWKS_URL and kept fresh.

Keys that are here stay until a fetch has brought others: a login service that is down shuts nobody
out. A token that names an unknown key makes one fetch, and none again for `PAUSE`, however many such
tokens come (RELIABILITY.md section 2, row 15).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from .errors import AuthUnavailable
from .fetching import FetchFailed
from .keys import KeyRing, read_set
from .periodic import Periodic

_log = Logger()

#: Seconds for one fetch, and seconds between the beginnings of two that tokens or failures ask for.
TIMEOUT: Final = 5.0
PAUSE: Final = 30.0

#: Seconds between looks whether it is time for a fetch.
_LOOK: Final = 5.0


class Jwks:
    """Keeps a ring's public keys.

    :param fetch: gets the text of the set; fails with `FetchFailed`.
    :param every: seconds after which keys are fetched anew.
    """

    def __init__(
        self,
        clock: IReactorTime,
        ring: KeyRing,
        fetch: Callable[[], Awaitable[bytes]],
        *,
        every: float,
    ) -> None:
        self._clock = clock
        self._ring = ring
        self._fetch = fetch
        self._every = every
        self._tried: float | None = None
        self._fetched: float | None = None
        self._waiting: list[Deferred[None]] | None = None
        self._periodic = Periodic(clock, (_LOOK, self._look))

    @property
    def age(self) -> float:
        """Seconds since the last fetch that brought keys; -1 before the first."""
        return -1.0 if self._fetched is None else self._clock.seconds() - self._fetched

    def start(self) -> None:
        """Fetch the keys, now and from time to time."""
        self._periodic.start()
        self._begin()

    def stop(self) -> None:
        """Fetch no more."""
        self._periodic.stop()

    def refetch(self) -> None:
        """Fetch the keys anew now."""
        if self._waiting is None:
            self._begin()

    async def seek(self) -> None:
        """A token named a key that is not here: fetch, unless that was tried within `PAUSE`.

        :raises AuthUnavailable: there was never a fetch that brought keys.
        """
        if self._waiting is not None or self._rested():
            waiting: Deferred[None] = Deferred()
            if self._waiting is None:
                self._begin()
            if self._waiting is not None:
                self._waiting.append(waiting)
                await waiting
        if self._fetched is None:
            raise AuthUnavailable("the keys of the login service can't be fetched", retry_after=PAUSE)

    def _rested(self) -> bool:
        return self._tried is None or self._clock.seconds() - self._tried >= PAUSE

    def _look(self) -> None:
        due = self._fetched is None or self.age >= self._every
        if due and self._waiting is None and self._rested():
            self._begin()

    def _begin(self) -> None:
        self._tried = self._clock.seconds()
        self._waiting = []
        Deferred.fromCoroutine(self._run()).addErrback(_failed)

    async def _run(self) -> None:
        try:
            self._ring.publish(read_set(await self._fetch()))
            self._fetched = self._clock.seconds()
        except (FetchFailed, ValueError) as error:
            _log.warn("the keys of JWT_JWKS_URL could not be fetched: {why}", why=str(error))
        finally:
            waiting, self._waiting = self._waiting or [], None
            for one in waiting:
                one.callback(None)


def _failed(failure: Any) -> None:
    _log.failure("fetching keys failed", failure)
