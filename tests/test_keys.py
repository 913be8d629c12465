"""Which key verifies which token: by kind, by id, and never by what the token would like."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from realtime.errors import InvalidToken
from realtime.keys import MAX_KEYS, KeyRing, UnknownKey, read_set, secret_key

from .generated import unhurried

NOW = 1_700_000_000.0
SECRET = "s" * 64

#: One private key of each kind, and the algorithms that go with it. Made once: RSA takes its time.
PRIVATE: dict[str, tuple[Any, tuple[str, ...]]] = {
    "rsa": (
        rsa.generate_private_key(65537, 2048),
        ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    ),
    "p256": (ec.generate_private_key(ec.SECP256R1()), ("ES256",)),
    "p384": (ec.generate_private_key(ec.SECP384R1()), ("ES384",)),
    "p521": (ec.generate_private_key(ec.SECP521R1()), ("ES512",)),
    "ed25519": (ed25519.Ed25519PrivateKey.generate(), ("EdDSA",)),
    "ed448": (ed448.Ed448PrivateKey.generate(), ("EdDSA",)),
}


def public_jwk(private: Any, name: str | None, **more: Any) -> dict[str, Any]:
    """The public half of a key, as a JWK set has it."""
    for algorithm in ("RS256", "ES256", "ES384", "ES512", "EdDSA"):
        try:
            made = jwt.get_algorithm_by_name(algorithm).to_jwk(private.public_key(), as_dict=True)
        except (jwt.PyJWTError, AttributeError, TypeError):
            continue
        return {**made, **({} if name is None else {"kid": name}), **more}
    raise AssertionError(private)


def jwk_set(*entries: dict[str, Any]) -> bytes:
    return json.dumps({"keys": entries}).encode()


def sign(private: Any, algorithm: str, name: str | None = None, **claims: Any) -> str:
    given = {"sub": "alice", "exp": int(NOW) + 60, **claims}
    return jwt.encode(given, private, algorithm=algorithm, headers={} if name is None else {"kid": name})


def forged(header: dict[str, Any], secret: bytes) -> str:
    """A token with any header, signed by HMAC whatever it says."""
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=")
        for part in (header, {"sub": "alice", "exp": int(NOW) + 60})
    ]
    signature = hmac.digest(secret, b".".join(parts), hashlib.sha256)
    return b".".join([*parts, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()


class ReadSetTests(SynchronousTestCase):
    """`read_set`."""

    def test_kinds(self) -> None:
        """Each kind of key is for its own algorithms."""
        entries = [public_jwk(private, name) for name, (private, _) in PRIVATE.items()]
        keys = {key.id: key.algorithms for key in read_set(jwk_set(*entries))}
        self.assertEqual(keys, {name: algorithms for name, (_, algorithms) in PRIVATE.items()})

    def test_alg_narrows(self) -> None:
        """A key that names its algorithm is for no other, and for none if it is not of its kind."""
        private = PRIVATE["rsa"][0]
        (key,) = read_set(jwk_set(public_jwk(private, "a", alg="PS256")))
        self.assertEqual(key.algorithms, ("PS256",))
        for wrong in ("HS256", "ES256", "none", 5):
            self.assertRaises(ValueError, read_set, jwk_set(public_jwk(private, "a", alg=wrong)))

    def test_left_out(self) -> None:
        """Keys that are secret, not for signing, weak, or of no known kind are left out."""
        private = PRIVATE["p256"][0]
        good = public_jwk(private, "good")
        whole = jwt.get_algorithm_by_name("ES256").to_jwk(private, as_dict=True)
        weak = public_jwk(rsa.generate_private_key(65537, 1024), "weak")
        others: list[Any] = [
            {**whole, "kid": "private"},
            {"kty": "oct", "k": "c2VjcmV0", "kid": "shared"},
            {**good, "kid": "enc", "use": "enc"},
            {**good, "kid": "sign", "key_ops": ["sign"]},
            {**good, "kid": "x" * 129},
            {**good, "kid": 5},
            {**good, "kid": "bad", "x": "!!"},
            {"kty": "EC", "crv": "P-999", "kid": "curve"},
            {"kty": "new"},
            {},
            weak,
            None,
            "text",
        ]
        self.assertEqual([key.id for key in read_set(jwk_set(*others, good))], ["good"])

    def test_rubbish(self) -> None:
        """What is no set is an error, not a traceback."""
        for wrong in (b"", b"[]", b"{}", b'{"keys":1}', b'{"keys":[]}', b"\xff", b"[" * 100_000):
            self.assertRaises(ValueError, read_set, wrong)
        many = jwk_set(*[public_jwk(PRIVATE["ed25519"][0], str(n)) for n in range(MAX_KEYS + 1)])
        self.assertRaises(ValueError, read_set, many)

    @unhurried
    @given(
        st.dictionaries(st.sampled_from(["kty", "crv", "x", "y", "n", "e", "kid", "alg", "use"]), st.text())
    )
    def test_any_entry(self, entry: dict[str, str]) -> None:
        """Whatever an entry holds, it is read or left out."""
        read_set(jwk_set(entry, public_jwk(PRIVATE["ed25519"][0], "good")))


class KeyRingTests(SynchronousTestCase):
    """`KeyRing`."""

    def setUp(self) -> None:
        self.ring = KeyRing([secret_key(SECRET)])
        self.ring.publish(
            read_set(jwk_set(*[public_jwk(private, name) for name, (private, _) in PRIVATE.items()]))
        )

    def found(self, token: str) -> list[str]:
        return [key.id for key in self.ring.candidates(token, NOW)]

    def test_by_id(self) -> None:
        for name, (private, algorithms) in PRIVATE.items():
            for algorithm in algorithms:
                self.assertEqual(self.found(sign(private, algorithm, name)), [name])

    def test_without_id(self) -> None:
        """All keys that go with the algorithm may have signed it."""
        self.assertEqual(self.found(sign(PRIVATE["rsa"][0], "PS384")), ["rsa"])
        self.assertEqual(self.found(sign(PRIVATE["ed448"][0], "EdDSA")), ["ed25519", "ed448"])

    def test_unknown(self) -> None:
        """An id that is not here may have been published since; other refusals are final."""
        self.assertRaises(UnknownKey, self.found, sign(PRIVATE["p256"][0], "ES256", "new"))
        for header in ({"alg": "RS256", "kid": "x" * 129}, {"alg": "RS256", "kid": "p256"}):
            error = self.assertRaises(InvalidToken, self.found, forged(header, b"x" * 32))
            self.assertNotIsInstance(error, UnknownKey)

    def test_confusion(self) -> None:
        """No public key is ever a shared secret, and no secret ever a public key."""
        spki = (
            PRIVATE["rsa"][0]
            .public_key()
            .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        )
        token = forged({"alg": "HS256", "kid": "rsa"}, spki)
        (key,) = self.ring.candidates(token, NOW)
        self.assertEqual(key.value, SECRET.encode())
        for algorithm in ("none", "None", "nOnE", "", "HS1", "RS1", "ES256K", None, 5, ["HS256"]):
            self.assertRaises(InvalidToken, self.found, forged({"alg": algorithm}, SECRET.encode()))

    def test_offered_keys_are_not_looked_at(self) -> None:
        """A key, or where to fetch one, that a token brings along changes nothing."""
        own = ec.generate_private_key(ec.SECP256R1())
        for brought in (
            {"jwk": public_jwk(own, "p256")},
            {"jku": "https://evil.example/keys"},
            {"x5u": "https://evil.example/cert"},
            {"x5c": ["MIIB"]},
        ):
            claims = {"sub": "alice", "exp": int(NOW) + 60}
            token = jwt.encode(claims, own, algorithm="ES256", headers={"kid": "p256", **brought})
            self.assertEqual(self.found(token), ["p256"])

    def test_allowed(self) -> None:
        """Only the algorithms that are allowed here are accepted."""
        self.ring = KeyRing([secret_key(SECRET)], ("RS256",))
        self.ring.publish(read_set(jwk_set(public_jwk(PRIVATE["rsa"][0], "rsa"))))
        self.assertEqual(self.found(sign(PRIVATE["rsa"][0], "RS256", "rsa")), ["rsa"])
        for token in (sign(PRIVATE["rsa"][0], "RS512", "rsa"), sign(SECRET, "HS256")):
            self.assertRaises(InvalidToken, self.found, token)

    def test_until(self) -> None:
        """A secret that is past its time verifies nothing."""
        ring = KeyRing([secret_key(SECRET), secret_key("o" * 32, NOW + 1)])
        token = sign(SECRET, "HS256")
        self.assertEqual(len(ring.candidates(token, NOW)), 2)
        self.assertEqual(len(ring.candidates(token, NOW + 1)), 1)
