"""Tracing: has the log tell each message of one user, by HTTP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from ..api_keys import Scope
from ..errors import InvalidMessage, TooManyTraces
from ..names import valid_user
from ..security import Security
from ..traces import MAX_TRACES, Traces
from ..transport.site import Request
from ..trust.interface import Ban, ITrust
from .answers import json_answer
from .look import Route
from .query import peer_of

#: Seconds for which a user is traced, as it comes, and at the most.
SECONDS: Final = 600
MAX_SECONDS: Final = 86_400

#: The messages of others are for who may end their sessions.
_SCOPE: Final[Scope] = "moderate"


class _Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    seconds: Annotated[int, Meta(ge=1, le=MAX_SECONDS)] = SECONDS


_decode = msgspec.json.Decoder(_Asked).decode


class Tracing:
    """The routes.

    :param wall: seconds since the epoch.
    """

    def __init__(
        self, traces: Traces, trust: ITrust, security: Security, wall: Callable[[], float]
    ) -> None:
        self._all = traces
        self._trust = trust
        self._security = security
        self._wall = wall

    def routes(self) -> tuple[Route, ...]:
        """Scope, method, path and handler of each."""
        return (
            (_SCOPE, "GET", "/v1/traces", self._traces),
            (_SCOPE, "PUT", "/v1/users/<path:user>/trace", self._trace),
            (_SCOPE, "DELETE", "/v1/users/<path:user>/trace", self._untrace),
        )

    async def _traces(self, request: Request) -> bytes:
        standing = sorted(self._all.standing().items())
        told = [{"userId": user, "until": _milliseconds(until)} for user, until in standing]
        return json_answer(request, {"traces": told})

    async def _trace(self, request: Request, user: str) -> bytes:
        asked = _read(request)
        _check(user)
        standing = self._all.standing()
        if user not in standing and len(standing) >= MAX_TRACES:
            raise TooManyTraces()
        now = self._wall()
        until = now + asked.seconds
        await self._trust.ban(Ban("trace", user, until=until, made=_milliseconds(now)))
        self._tell("traced", request, user, f"for {asked.seconds} s")
        return json_answer(request, {"traced": True, "until": _milliseconds(until)})

    async def _untrace(self, request: Request, user: str) -> bytes:
        _check(user)
        lifted = await self._trust.lift("trace", user)
        self._tell("untraced", request, user, "")
        return json_answer(request, {"lifted": lifted})

    def _tell(self, what: str, request: Request, user: str, reason: str) -> None:
        by = f"{reason}, by {request.found.name}".removeprefix(", ")
        self._security.tell(what, user=user, address=peer_of(request), reason=by)


def _read(request: Request) -> _Asked:
    try:
        return _decode(request.content.read() or b"{}")
    except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidMessage(f"the body is not as expected: {str(error)[:200]}") from None


def _check(user: str) -> None:
    if not valid_user(user):
        raise InvalidMessage("the user in the path is no user id")


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
