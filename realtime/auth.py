"""Tokens: from a JWT to an Identity, and refresh tokens that are good for one use each.

A refresh token and those that follow from it are a family, each named by its turn in it. Who uses
one a second time has stolen it, or was stolen from: from then on none of its family is good.
"""

from __future__ import annotations

import hashlib
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

#: Families of refresh tokens remembered at the most; past it no new one is taken until some expire.
MAX_FAMILIES: Final = 100_000

#: The largest `exp` taken for a time in seconds (year 5138).
MAX_TIME: Final = 100_000_000_000


#: Claims of the refresh tokens that are made here: the family, and the turn in it.
_FAMILY: Final = "fam"
_TURN: Final = "turn"

#: Claims that belong to one token, not to its user.
_OWN: Final = frozenset(("exp", "iat", "nbf", "jti", _FAMILY, _TURN))

#: After every turn.
_VOID: Final = 2**63


#: One object for all who have none: each empty frozenset takes 200 bytes.
_NO_ROLES: Final[frozenset[str]] = frozenset()


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
        # family -> the next turn, and when the last token of the family expires
        self._families: dict[str, tuple[int, float]] = {}

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
        :raises RefreshReused: it, or another of its family, was traded twice.
        :raises ExpiredToken: it was valid once.
        :raises InvalidToken: for whatever else is wrong with it.
        """
        if not self._refresh_secret:
            raise RefreshUnsupported()
        claims = self._claims(token, self._refresh_secret)
        identity = self._identity(claims)
        if identity.user != user:
            raise OtherSubject()
        family, turn = _place(token, claims, user)
        self._use(family, turn, identity.expires)
        now = int(self._wall())
        carried = {name: value for name, value in claims.items() if name not in _OWN}
        access = {**carried, "iat": now, "exp": now + REFRESHED_TTL}
        following = {
            **carried,
            "iat": now,
            "exp": int(identity.expires),
            _FAMILY: family,
            _TURN: turn + 1,
        }
        return Refreshed(
            self._identity(access),
            jwt.encode(access, self._secret, algorithm=ALGORITHM),
            jwt.encode(following, self._refresh_secret, algorithm=ALGORITHM),
        )

    def _use(self, family: str, turn: int, expires: float) -> None:
        known = self._families.get(family)
        if known is not None and turn < known[0]:
            self._families[family] = (_VOID, expires)
            raise RefreshReused()
        if known is None and len(self._families) >= MAX_FAMILIES:
            now = self._wall()
            self._families = {name: used for name, used in self._families.items() if used[1] > now}
            if len(self._families) >= MAX_FAMILIES:
                raise RefreshUnsupported("too many refresh tokens were used; log in again")
        self._families[family] = (turn + 1, expires)

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
            roles=frozenset(roles) if (roles := _names(claims, "roles")) else _NO_ROLES,
            grants=tuple(_names(claims, "rooms")),
            expires=float(claims["exp"]),
        )


def _place(token: str, claims: Mapping[str, Any], user: str) -> tuple[str, int]:
    """The family of a refresh token, and its turn in it: the first, if it was not made here."""
    family, turn = claims.get(_FAMILY), claims.get(_TURN)
    if isinstance(family, str) and type(turn) is int:
        return family, turn
    # Not by its signature: of that there are many spellings. What is signed has one.
    name = f"{user}\0{claims['jti']}" if claims.get("jti") else token.rpartition(".")[0]
    return hashlib.sha256(name.encode()).hexdigest()[:32], 0


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
