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

from .api_keys import SCOPES
from .bans import Bans
from .errors import ExpiredToken, InvalidToken, OtherSubject, RefreshReused, RefreshUnsupported
from .ids import secret_id
from .introspection import Introspection
from .jwks import Jwks
from .keys import KeyRing, UnknownKey, secret_key
from .messages import Identity, Service
from .names import valid_user
from .trust.interface import ITrust

#: The algorithm of the tokens that are made here.
ALGORITHM: Final = "HS256"

#: Bytes of a token, before anything is decoded.
MAX_TOKEN: Final = 8192

#: Roles, and room grants, that one token may carry.
MAX_GRANTS: Final = 100

#: Seconds that an access token made by a refresh lives.
REFRESHED_TTL: Final = 3600

#: Characters of a token's id.
MAX_JTI: Final = 128

#: The largest `exp` taken for a time in seconds (year 5138).
MAX_TIME: Final = 100_000_000_000


#: Claims of the refresh tokens that are made here: the family, the turn in it, and the ``jti`` of the
#: token that began it, by which all of it can be revoked.
_FAMILY: Final = "fam"
_TURN: Final = "turn"
_ROOT: Final = "root"

#: Claims that belong to one token, not to its user.
_OWN: Final = frozenset(("exp", "iat", "nbf", "jti", _FAMILY, _TURN, _ROOT))

_decoder: Final = jwt.PyJWT()
_WITHOUT_AUDIENCE: Final[Any] = {
    "require": ["exp"],
    "verify_exp": False,
    "verify_iat": False,
    "verify_nbf": False,
    "verify_sub": False,
    "verify_jti": False,
    "verify_aud": False,
}
_WITH_AUDIENCE: Final[Any] = {**_WITHOUT_AUDIENCE, "verify_aud": True}

#: One object for all who have none: each empty frozenset takes 200 bytes.
_NO_ROLES: Final[frozenset[str]] = frozenset()


class Refreshed(msgspec.Struct, frozen=True):
    """A new identity with the tokens that were made for it."""

    identity: Identity
    token: str
    refresh_token: str


class Authenticator:
    """Checks access tokens and trades refresh tokens.

    :param keys: what access tokens are verified with.
    :param bans: tokens and users that are not trusted any more.
    :param trust: knows the families of refresh tokens.
    :param secret: HMAC key of the access tokens that a refresh makes.
    :param refresh_secret: HMAC key of refresh tokens; empty where they are not accepted.
    :param audience: required in ``aud`` unless empty.
    :param issuer: required in ``iss`` unless empty.
    :param leeway: seconds by which clocks may differ.
    :param wall: seconds since the epoch.
    :param jwks: keeps the public keys of `keys`, where there are any. Refresh tokens are not accepted
        then: who signs access tokens with other keys renews them, too.
    :param introspection: asked whether a token is still good, where it is to be.
    """

    def __init__(
        self,
        keys: KeyRing,
        bans: Bans,
        trust: ITrust,
        *,
        secret: str,
        refresh_secret: str,
        audience: str,
        issuer: str,
        leeway: float,
        wall: Callable[[], float],
        jwks: Jwks | None = None,
        introspection: Introspection | None = None,
    ) -> None:
        self._keys = keys
        self._bans = bans
        self._trust = trust
        self._secret = secret
        self._refreshing = KeyRing([secret_key(refresh_secret)]) if refresh_secret and not jwks else None
        self._refresh_secret = refresh_secret
        self._audience = audience or None
        self._issuer = issuer or None
        self._leeway = leeway
        self._wall = wall
        self._jwks = jwks
        self._introspection = introspection

    @property
    def keys_age(self) -> float:
        """Seconds since public keys were fetched; -1 for never."""
        return -1.0 if self._jwks is None else self._jwks.age

    def start(self) -> None:
        """Begin to keep what has to be fetched."""
        if self._jwks is not None:
            self._jwks.start()

    def refetch(self) -> None:
        """Fetch anew what had to be fetched."""
        if self._jwks is not None:
            self._jwks.refetch()

    def stop(self) -> None:
        """Fetch no more."""
        if self._jwks is not None:
            self._jwks.stop()

    async def identify(self, token: str) -> Identity:
        """Who an access token speaks for.

        :raises ExpiredToken: it was valid once.
        :raises TokenRevoked: it, or all of its user's issued by then, are trusted no more.
        :raises UserBlocked: its user is.
        :raises AuthUnavailable: who has to be asked does not answer.
        :raises InvalidToken: for whatever else is wrong with it.
        """
        try:
            identity = self.verify(token)
        except UnknownKey:
            if self._jwks is None:
                raise
            await self._jwks.seek()
            identity = self.verify(token)
        self.standing(identity)
        if self._introspection is not None:
            await self._introspection.check(token)
            self.standing(identity)
        return identity

    def verify(self, token: str) -> Identity:
        """Who an access token speaks for, by itself: its signature, its times and its claims."""
        return self._identity(self._claims(token, self._keys))

    def standing(self, identity: Identity) -> None:
        """Whether somebody's token was not revoked since it was verified.

        :raises TokenRevoked, UserBlocked: see `identify`.
        """
        self._bans.check_identity(identity)

    async def refresh(self, token: str, user: str) -> Refreshed:
        """Trade a refresh token of a user for an access token and the next refresh token.

        :raises OtherSubject: it is another user's; it is not used up.
        :raises RefreshUnsupported: no JWT_REFRESH_SECRET is configured, or access tokens are signed
            by others.
        :raises RefreshReused: it, or another of its family, was traded twice.
        :raises ExpiredToken: it was valid once.
        :raises TokenRevoked, UserBlocked: see `identify`.
        :raises InvalidToken: for whatever else is wrong with it.
        """
        if self._refreshing is None:
            raise RefreshUnsupported()
        claims = self._claims(token, self._refreshing)
        identity = self._identity(claims)
        if identity.user != user:
            raise OtherSubject()
        self.standing(identity)
        root = claims.get(_ROOT, identity.jti)
        self._bans.check(user, root if isinstance(root, str) else "", identity.issued)
        family, turn = _place(token, claims, user)
        if not await self._trust.turn(family, turn, identity.expires):
            raise RefreshReused()
        now = int(self._wall())
        carried = {name: value for name, value in claims.items() if name not in _OWN}
        access = {**carried, "iat": now, "exp": now + REFRESHED_TTL, "jti": secret_id()}
        following = {
            **carried,
            "iat": now,
            "exp": int(identity.expires),
            _FAMILY: family,
            _TURN: turn + 1,
            _ROOT: root,
        }
        return Refreshed(
            self._identity(access),
            jwt.encode(access, self._secret, algorithm=ALGORITHM),
            jwt.encode(following, self._refresh_secret, algorithm=ALGORITHM),
        )

    def _claims(self, token: str, keys: KeyRing) -> dict[str, Any]:
        if len(token) > MAX_TOKEN:
            raise InvalidToken(f"the token is over {MAX_TOKEN} bytes")
        now = self._wall()
        claims = self._verified(token, keys, now)
        # PyJWT reads its own clock, and takes texts and the year 10^22 for times.
        if _time(claims, "exp") + self._leeway <= now:
            raise ExpiredToken()
        if "nbf" in claims and _time(claims, "nbf") - self._leeway > now:
            raise InvalidToken("the token is not valid yet")
        return claims

    def _verified(self, token: str, keys: KeyRing, now: float) -> dict[str, Any]:
        """The claims, if one of the keys has signed them for us."""
        for key in keys.candidates(token, now):
            try:
                claims: dict[str, Any] = _decoder.decode(
                    token,
                    key.value,
                    algorithms=list(key.algorithms),
                    audience=self._audience,
                    issuer=self._issuer,
                    options=_WITH_AUDIENCE if self._audience is not None else _WITHOUT_AUDIENCE,
                )
            except jwt.InvalidSignatureError:
                continue
            except jwt.InvalidAudienceError:
                raise InvalidToken("the token is for another audience") from None
            except jwt.InvalidIssuerError:
                raise InvalidToken("the token is from another issuer") from None
            except jwt.MissingRequiredClaimError as error:
                raise InvalidToken(f"the token has no {error.claim}") from None
            except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
                raise InvalidToken() from None
            return claims
        raise InvalidToken()

    def _identity(self, claims: Mapping[str, Any]) -> Identity:
        return Identity(
            user=_subject(claims),
            roles=frozenset(roles) if (roles := _names(claims, "roles")) else _NO_ROLES,
            grants=tuple(_names(claims, "rooms")),
            expires=float(claims["exp"]),
            jti=_id(claims),
            issued=_time(claims, "iat") if "iat" in claims else 0.0,
            service=_service(claims["service"]) if "service" in claims else None,
        )


def _service(claim: Any) -> Service:
    """What the claim ``service`` opens: ``{scopes, channels?}``."""
    if not isinstance(claim, dict):
        raise InvalidToken("the token's service is not an object")
    scopes = frozenset(_names(claim, "scopes"))
    if not scopes or not scopes <= set(SCOPES):
        raise InvalidToken(f"the token's service.scopes are not some of {', '.join(SCOPES)}")
    return Service(scopes, tuple(_names(claim, "channels")))


def _place(token: str, claims: Mapping[str, Any], user: str) -> tuple[str, int]:
    """The family of a refresh token, and its turn in it: the first, if it was not made here."""
    family, turn = claims.get(_FAMILY), claims.get(_TURN)
    if isinstance(family, str) and type(turn) is int and 0 < turn < 2**52:
        return family, turn
    # Not by its signature: of that there are many spellings. What is signed has one.
    jti = _id(claims)
    name = f"{user}\0{jti}" if jti else token.rpartition(".")[0]
    return hashlib.sha256(name.encode()).hexdigest()[:32], 0


def _time(claims: Mapping[str, Any], name: str) -> float:
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < MAX_TIME:
        raise InvalidToken(f"the token's {name} is not a time in seconds")
    return float(value)


def _id(claims: Mapping[str, Any]) -> str:
    jti = claims.get("jti", "")
    if isinstance(jti, int) and not isinstance(jti, bool):
        jti = str(jti)
    if not isinstance(jti, str) or len(jti) > MAX_JTI:
        raise InvalidToken(f"the token's jti is not a text of at most {MAX_JTI} characters")
    return jti


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
