"""Keys: what tokens are verified with, and the algorithms that go with each kind of key.

A token's header chooses among the keys that are here, and nothing else: an algorithm counts only
with keys of its own kind, so that no public key is ever taken for a shared secret. ``jwk``, ``jku``,
``x5u`` and ``x5c`` are not looked at (RELIABILITY.md section 2, rows 13 and 15).
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from jwt.warnings import InsecureKeyLengthWarning

from .errors import InvalidToken

#: Algorithms of a shared secret, of an RSA key, of a key on each curve, of an Edwards key.
HMAC: Final = ("HS256", "HS384", "HS512")
RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
CURVES: Final = {"secp256r1": ("ES256",), "secp384r1": ("ES384",), "secp521r1": ("ES512",)}
EDWARDS: Final = ("EdDSA",)
ALGORITHMS: Final = (*HMAC, *RSA, "ES256", "ES384", "ES512", *EDWARDS)

#: Bits of an RSA key, at least and at most: verifying with a huge one would stall the node.
RSA_BITS: Final = (2048, 8192)

#: Keys of one set, and characters of a key's id, at most.
MAX_KEYS: Final = 64
MAX_KEY_ID: Final = 128


# A secret of 32 bytes is as strong with HS512 as it is with HS256; settings take none that is shorter.
warnings.filterwarnings("ignore", category=InsecureKeyLengthWarning)


class Key(msgspec.Struct, frozen=True):
    """One key that verifies.

    :ivar value: what PyJWT verifies with.
    :ivar algorithms: those that it is for.
    :ivar id: its ``kid``; empty if it has none.
    :ivar until: seconds since the epoch from which it is good no more.
    """

    value: Any
    algorithms: tuple[str, ...]
    id: str = ""
    until: float = math.inf


class UnknownKey(InvalidToken):
    """The token names a key that is not here; it may have been published since."""


def secret_key(secret: str, until: float = math.inf) -> Key:
    """A shared secret as a key."""
    return Key(secret.encode(), HMAC, until=until)


def algorithms_of(value: Any) -> tuple[str, ...]:
    """The algorithms of a public key; none if it is of no kind that is accepted."""
    if isinstance(value, rsa.RSAPublicKey):
        return RSA if RSA_BITS[0] <= value.key_size <= RSA_BITS[1] else ()
    if isinstance(value, ec.EllipticCurvePublicKey):
        return CURVES.get(value.curve.name, ())
    return EDWARDS if isinstance(value, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey) else ()


def read_set(data: bytes) -> list[Key]:
    """The keys of a JWK set (RFC 7517) that may verify; others in it are left out.

    :raises ValueError: it is no JWK set, has over `MAX_KEYS` keys, or none that may verify.
    """
    try:
        told = json.loads(data)
    except (ValueError, RecursionError):
        raise ValueError("it is not JSON") from None
    entries = told.get("keys") if isinstance(told, dict) else None
    if not isinstance(entries, list):
        raise ValueError("it is no JWK set: keys is missing")
    if len(entries) > MAX_KEYS:
        raise ValueError(f"it has {len(entries)} keys; accepted are at most {MAX_KEYS}")
    keys = [key for entry in entries if (key := _read(entry)) is not None]
    if not keys:
        raise ValueError("it has no key that may verify tokens")
    return keys


def _read(entry: object) -> Key | None:
    """A public key of a set, if it is for verifying. One that is private, or shared, is no public key."""
    if not isinstance(entry, dict) or "d" in entry or entry.get("kty") == "oct":
        return None
    operations = entry.get("key_ops")
    if entry.get("use", "sig") != "sig" or (isinstance(operations, list) and "verify" not in operations):
        return None
    name = entry.get("kid", "")
    if not isinstance(name, str) or len(name) > MAX_KEY_ID:
        return None
    try:
        kind = "EdDSA" if entry.get("kty") == "OKP" else None
        value = jwt.PyJWK({**entry, "alg": None}, kind).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    algorithms = algorithms_of(value)
    if (only := entry.get("alg")) is not None:
        algorithms = tuple(algorithm for algorithm in algorithms if algorithm == only)
    return Key(value, algorithms, name) if algorithms else None


@lru_cache(maxsize=256)
def _header(part: str) -> tuple[Any, Any]:
    """What a token's header says: its algorithm, and the name of its key. Most tokens have the same.

    :raises InvalidToken: it can't be read.
    """
    try:
        # Only the header is looked at; that a token has the other parts its verification sees.
        header = jwt.get_unverified_header(f"{part}..")
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise InvalidToken() from None
    return header.get("alg"), header.get("kid")


class KeyRing:
    """All keys of this deployment.

    :param secrets: shared secrets.
    :param allowed: the only algorithms that are accepted, of those that the keys allow; all if empty.
    """

    def __init__(self, secrets: Iterable[Key] = (), allowed: Iterable[str] = ()) -> None:
        self._allowed = frozenset(allowed) or frozenset(ALGORITHMS)
        self._secrets = [self._narrowed(key) for key in secrets]
        self._public: Mapping[str, list[Key]] = {}

    def _narrowed(self, key: Key) -> Key:
        algorithms = tuple(name for name in key.algorithms if name in self._allowed)
        return Key(key.value, algorithms, key.id, key.until)

    def publish(self, keys: Iterable[Key]) -> None:
        """Let these public keys take the place of those before."""
        public: dict[str, list[Key]] = {}
        for key in map(self._narrowed, keys):
            public.setdefault(key.id, []).append(key)
        self._public = public

    def candidates(self, token: str, now: float) -> list[Key]:
        """The keys that may have signed a token, by what its header says.

        :raises UnknownKey: it names a key that is not here.
        :raises InvalidToken: its header can't be read, or its algorithm is not accepted.
        """
        algorithm, name = _header(token.partition(".")[0])
        if not isinstance(algorithm, str) or algorithm not in self._allowed:
            raise InvalidToken("the token's algorithm is not accepted")
        if algorithm in HMAC:
            found = [key for key in self._secrets if key.until > now]
        elif name is None:
            found = [key for keys in self._public.values() for key in keys]
        elif isinstance(name, str) and len(name) <= MAX_KEY_ID:
            found = self._public.get(name, [])
            if not found:
                raise UnknownKey("the token names a key that is not known")
        else:
            found = []
        found = [key for key in found if algorithm in key.algorithms]
        if not found:
            raise InvalidToken("the token's algorithm is not accepted")
        return found
