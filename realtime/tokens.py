"""Access tokens made here, with the server's own secret: for a first try, for tests, for operators."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jwt

from .settings import Settings


def mint(
    settings: Settings,
    user: str,
    *,
    now: float,
    lifetime: float,
    roles: Iterable[str] = (),
    rooms: Iterable[str] = (),
) -> str:
    """A signed token (JWT, HS256) that says who `user` is.

    :param now: seconds since the epoch.
    :param lifetime: seconds until it expires.
    :param rooms: ids of the rooms that it opens, or patterns that end in ``*``.
    """
    claims: dict[str, Any] = {
        "sub": user,
        "roles": list(roles),
        "rooms": list(rooms),
        "iat": int(now),
        "exp": int(now + lifetime),
    }
    if settings.jwt_audience:
        claims["aud"] = settings.jwt_audience
    if settings.jwt_issuer:
        claims["iss"] = settings.jwt_issuer
    return jwt.encode(claims, settings.jwt_secret, algorithm="HS256")
