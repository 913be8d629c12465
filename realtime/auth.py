"""Tokens: from a JWT to an Identity, and refresh tokens that are good for one use each."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import Any, Final

import jwt
import msgspec

from .errors import ExpiredToken, InvalidToken, OtherSubject, RefreshReused, RefreshUnsupported
from .messages import Identity
from .names import valid_user

#: The algorithm that belongs to a shared secret; nothing a token says changes it.
ALGORITHM: Final = "HS256"

#: Bytes of a token, before anything is decoded.
MAX_TOKEN: Final = 8192

#: Roles, and room grants, that one token may carry.
MAX_GRANTS: Final = 100

#: Seconds that an access token made by a refresh lives.
REFRESHED_TTL: Final = 3600

#: Used refresh tokens remembered at the most; past it refreshing is refused until some expire.
MAX_USED: Final = 100_000

#: The largest `exp` taken for a time in seconds (year 5138).
MAX_TIME: Final = 100_000_000_000


class Refreshed(msgspec.Struct, frozen=True):
    """A new identity with the tokens that were made for it."""

    identity: Identity
    token: str
    refresh_token: str


class Authenticator:
    """Checks access tokens and trades refresh tokens.

    :param secret: HMAC key of access tokens.
    :param refresh_secret: HMAC key of refresh tokens; empty where they are not accepted.
    :param audience: required in ``aud`` unless empty.
    :param issuer: required in ``iss`` unless empty.
    :param wall: seconds since the epoch.
    """

    def __init__(
        self,
        *,
        secret: str,
        refresh_secret: str,
        audience: str,
        issuer: str,
        wall: Callable[[], float],
    ) -> None:
        self._secret = secret
        self._refresh_secret = refresh_secret
        self._audience = audience or None
        self._issuer = issuer or None
        self._wall = wall
        self._used: dict[str, float] = {}

    def identify(self, token: str) -> Identity:
        """Who an access token speaks for.

        :raises ExpiredToken: it was valid once.
        :raises InvalidToken: for whatever else is wrong with it.
        """
        return self._identity(self._claims(token, self._secret))

    def refresh(self, token: str, user: str) -> Refreshed:
        """Trade a refresh token of a user for an access token and the next refresh token.

        :raises OtherSubject: it is another user's; it is not used up.
        :raises RefreshUnsupported: no JWT_REFRESH_SECRET is configured.
        :raises RefreshReused: the token was traded before.
        :raises ExpiredToken: it was valid once.
        :raises InvalidToken: for whatever else is wrong with it.
        """
        if not self._refresh_secret:
            raise RefreshUnsupported()
        claims = self._claims(token, self._refresh_secret)
        identity = self._identity(claims)
        if identity.user != user:
            raise OtherSubject()
        self._use(str(claims.get("jti") or token.rpartition(".")[2]), identity.expires)
        now = int(self._wall())
        carried = {
            name: value for name, value in claims.items() if name not in ("exp", "iat", "nbf", "jti")
        }
        access = {**carried, "iat": now, "exp": now + REFRESHED_TTL}
        following = {
            **carried,
            "iat": now,
            "exp": int(identity.expires),
            "jti": secrets.token_urlsafe(16),
        }
        return Refreshed(
            self._identity(access),
            jwt.encode(access, self._secret, algorithm=ALGORITHM),
            jwt.encode(following, self._refresh_secret, algorithm=ALGORITHM),
        )

    def _use(self, name: str, expires: float) -> None:
        now = self._wall()
        if name in self._used:
            raise RefreshReused()
        if len(self._used) >= MAX_USED:
            self._used = {used: until for used, until in self._used.items() if until > now}
            if len(self._used) >= MAX_USED:
                raise RefreshUnsupported("too many refresh tokens were used; log in again")
        self._used[name] = expires

    def _claims(self, token: str, key: str) -> dict[str, Any]:
        if len(token) > MAX_TOKEN:
            raise InvalidToken(f"the token is over {MAX_TOKEN} bytes")
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                audience=self._audience,
                issuer=self._issuer,
                options={
                    "require": ["exp"],
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_nbf": False,
                    "verify_sub": False,
                    "verify_jti": False,
                    "verify_aud": self._audience is not None,
                },
            )
        except jwt.InvalidAudienceError:
            raise InvalidToken("the token is for another audience") from None
        except jwt.InvalidIssuerError:
            raise InvalidToken("the token is from another issuer") from None
        except jwt.MissingRequiredClaimError as error:
            raise InvalidToken(f"the token has no {error.claim}") from None
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise InvalidToken() from None
        # PyJWT reads its own clock, and takes texts and the year 10^22 for times.
        if _time(claims, "exp") <= self._wall():
            raise ExpiredToken()
        if "nbf" in claims and _time(claims, "nbf") > self._wall():
            raise InvalidToken("the token is not valid yet")
        return claims

    def _identity(self, claims: Mapping[str, Any]) -> Identity:
        return Identity(
            user=_subject(claims),
            roles=frozenset(_names(claims, "roles")),
            grants=tuple(_names(claims, "rooms")),
            expires=float(claims["exp"]),
        )


def _time(claims: Mapping[str, Any], name: str) -> float:
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < MAX_TIME:
        raise InvalidToken(f"the token's {name} is not a time in seconds")
    return float(value)


def _subject(claims: Mapping[str, Any]) -> str:
    for name in ("sub", "userId", "id"):
        value = claims.get(name)
        if value is None:
            continue
        subject = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        if not isinstance(subject, str) or not valid_user(subject):
            raise InvalidToken(f"the token's {name} is not a user id")
        return subject
    raise InvalidToken("the token has no subject")


def _names(claims: Mapping[str, Any], name: str) -> list[str]:
    """A claim that is a list of texts, or one text; ``role`` and ``room`` serve as its singular."""
    value = claims.get(name)
    if value is None:
        value = claims.get(name[:-1], [])
    values = [value] if isinstance(value, str) else value
    if (
        not isinstance(values, list)
        or len(values) > MAX_GRANTS
        or not all(isinstance(item, str) and 0 < len(item) <= 128 for item in values)
    ):
        raise InvalidToken(f"the token's {name} is not a list of at most {MAX_GRANTS} names")
    return values
