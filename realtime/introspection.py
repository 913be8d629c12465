"""Introspection: whether the Auth Service still vouches for a token (RFC 7662), where it is asked.

Answers are kept for a while, by the token's digest. While the service does not answer it is left
alone for `PAUSE`, and AUTH_SERVICE_DOWN says what happens to tokens: they are refused for now, or
taken by their signature alone.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from .errors import AuthUnavailable, TokenRevoked
from .fetching import FetchFailed

_log = Logger()

#: Seconds for which a service that did not answer is not asked.
PAUSE: Final = 5.0

#: Answers that are kept, and questions that wait for one, at most.
MAX_ANSWERS: Final = 20_000
MAX_ASKED: Final = 256


class Introspection:
    """Asks about tokens.

    :param ask: sends a token, gets the answer's text; fails with `FetchFailed`.
    :param keep: seconds for which an answer is good.
    :param trusting: whether tokens are taken while the service does not answer.
    """

    def __init__(
        self,
        clock: IReactorTime,
        ask: Callable[[str], Awaitable[bytes]],
        *,
        keep: float,
        trusting: bool,
    ) -> None:
        self._clock = clock
        self._ask = ask
        self._keep = keep
        self._trusting = trusting
        self._answers: OrderedDict[bytes, tuple[bool, float]] = OrderedDict()
        self._asked: dict[bytes, list[Deferred[None]]] = {}
        self._down_until = 0.0

    async def check(self, token: str) -> None:
        """Let a token pass.

        :raises TokenRevoked: the Auth Service does not vouch for it.
        :raises AuthUnavailable: it does not answer, and tokens are not taken without it.
        """
        digest = hashlib.sha256(token.encode(errors="surrogatepass")).digest()
        known = self._known(digest)
        if known is None:
            await self._find(digest, token)
            known = self._known(digest)
        if known is False:
            raise TokenRevoked("the Auth Service does not vouch for this token")
        if known is None and not self._trusting:
            raise AuthUnavailable(retry_after=PAUSE)

    def forget(self) -> None:
        """Ask anew about every token: something was revoked."""
        self._answers.clear()

    def _known(self, digest: bytes) -> bool | None:
        active, until = self._answers.get(digest, (False, 0.0))
        return active if until > self._clock.seconds() else None

    async def _find(self, digest: bytes, token: str) -> None:
        """Ask, or wait for an answer that was asked for."""
        waiting = self._asked.get(digest)
        if waiting is not None:
            answered: Deferred[None] = Deferred()
            waiting.append(answered)
            await answered
            return
        if self._clock.seconds() < self._down_until or len(self._asked) >= MAX_ASKED:
            return
        self._asked[digest] = []
        try:
            self._remember(digest, _active(await self._ask(token)))
        except (FetchFailed, ValueError) as error:
            if self._clock.seconds() >= self._down_until:
                _log.warn("the Auth Service did not answer: {why}", why=str(error))
            self._down_until = self._clock.seconds() + PAUSE
        finally:
            for one in self._asked.pop(digest):
                one.callback(None)

    def _remember(self, digest: bytes, active: bool) -> None:
        self._answers[digest] = (active, self._clock.seconds() + self._keep)
        self._answers.move_to_end(digest)
        if len(self._answers) > MAX_ANSWERS:
            self._answers.popitem(last=False)


def _active(text: bytes) -> bool:
    try:
        told = json.loads(text)
    except RecursionError:
        raise ValueError("it nests too deep") from None
    active = told.get("active") if isinstance(told, dict) else None
    if not isinstance(active, bool):
        raise ValueError("the answer has no active: true or false")
    return active
