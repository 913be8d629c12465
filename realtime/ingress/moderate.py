"""Moderate: revocations, blocks and mutes, as services and operators make and lift them over HTTP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from ..auth import MAX_JTI
from ..errors import InvalidMessage, InvalidRoom
from ..names import valid_room, valid_user
from ..security import Security
from ..transport.site import Request
from ..trust.interface import Ban, ITrust, Kind, mute_key
from .answers import json_answer

#: Milliseconds since the epoch, up to the year 5138.
_LATEST: Final = 100_000_000_000_000

Route = tuple[str, str, Callable[..., Awaitable[bytes]]]


class _Until(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """The body of what makes a ban; all of it may be left out.

    :ivar until: milliseconds since the epoch at which it ends by itself.
    :ivar issued_before: of a user's tokens, those issued before it; now, where it is left out.
    """

    until: int | None = None
    issued_before: int | None = None


_decode = msgspec.json.Decoder(_Until).decode


class Moderate:
    """The routes of bans.

    :param wall: seconds since the epoch.
    """

    def __init__(self, trust: ITrust, security: Security, wall: Callable[[], float]) -> None:
        self._trust = trust
        self._security = security
        self._wall = wall

    def routes(self) -> tuple[Route, ...]:
        """Method, path and handler of each; all need the scope ``moderate``."""
        return (
            ("PUT", "/v1/revocations/<path:jti>", self._revoke_token),
            ("DELETE", "/v1/revocations/<path:jti>", self._restore_token),
            ("PUT", "/v1/users/<path:user>/revocation", self._revoke_user),
            ("DELETE", "/v1/users/<path:user>/revocation", self._restore_user),
            ("PUT", "/v1/users/<path:user>/block", self._block),
            ("DELETE", "/v1/users/<path:user>/block", self._unblock),
            ("PUT", "/v1/rooms/<room>/mutes/<path:user>", self._mute),
            ("DELETE", "/v1/rooms/<room>/mutes/<path:user>", self._unmute),
        )

    async def _revoke_token(self, request: Request, jti: str) -> bytes:
        return await self._ban(request, "token", _jti(jti))

    async def _restore_token(self, request: Request, jti: str) -> bytes:
        return await self._lift(request, "token", _jti(jti))

    async def _revoke_user(self, request: Request, user: str) -> bytes:
        return await self._ban(request, "issued", _user(user))

    async def _restore_user(self, request: Request, user: str) -> bytes:
        return await self._lift(request, "issued", _user(user))

    async def _block(self, request: Request, user: str) -> bytes:
        return await self._ban(request, "block", _user(user))

    async def _unblock(self, request: Request, user: str) -> bytes:
        return await self._lift(request, "block", _user(user))

    async def _mute(self, request: Request, room: str, user: str) -> bytes:
        return await self._ban(request, "mute", mute_key(_room(room), _user(user)))

    async def _unmute(self, request: Request, room: str, user: str) -> bytes:
        return await self._lift(request, "mute", mute_key(_room(room), _user(user)))

    async def _ban(self, request: Request, kind: Kind, key: str) -> bytes:
        asked = _body(request.content.read())
        now = self._wall()
        before = 0.0
        if kind == "issued":
            before = now if asked.issued_before is None else _seconds(asked.issued_before, "issuedBefore")
        elif asked.issued_before is not None:
            raise InvalidMessage("issuedBefore: accepted only with a user's revocation")
        until = 0.0 if asked.until is None else _seconds(asked.until, "until")
        if 0 < until <= now:
            raise InvalidMessage("until: expected a time to come, in milliseconds since the epoch")
        await self._trust.ban(Ban(kind, key, before, until, int(now * 1000)))
        self._tell("banned", request, kind, key)
        told: dict[str, Any] = {"banned": True}
        if kind == "issued":
            told["issuedBefore"] = int(before * 1000)
        if until:
            told["until"] = int(until * 1000)
        return json_answer(request, told)

    async def _lift(self, request: Request, kind: Kind, key: str) -> bytes:
        lifted = await self._trust.lift(kind, key)
        self._tell("lifted", request, kind, key)
        return json_answer(request, {"lifted": lifted})

    def _tell(self, what: str, request: Request, kind: Kind, key: str) -> None:
        room, _, user = key.rpartition(" ") if kind == "mute" else ("", "", key)
        reason = f"{kind} {room}".strip() if kind != "token" else f"token {key}"
        self._security.tell(
            what,
            user="" if kind == "token" else user,
            address=str(getattr(request.channel.getPeer(), "host", "")),
            reason=f"{reason}, by {request.found.name}",
        )


def _body(body: bytes) -> _Until:
    if not body:
        return _Until()
    try:
        return _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidMessage(f"the body is not as expected: {str(error)[:200]}") from None
    except RecursionError:
        raise InvalidMessage("the body nests too deep") from None


def _seconds(milliseconds: int, name: str) -> float:
    if not 0 < milliseconds <= _LATEST:
        raise InvalidMessage(f"{name}: expected milliseconds since the epoch")
    return milliseconds / 1000


def _jti(jti: str) -> str:
    if not 0 < len(jti) <= MAX_JTI:
        raise InvalidMessage(f"a jti has 1 to {MAX_JTI} characters")
    return jti


def _user(user: str) -> str:
    if not valid_user(user):
        raise InvalidMessage("the user id in the path is not one")
    return user


def _room(room: str) -> str:
    if not valid_room(room):
        raise InvalidRoom()
    return room
