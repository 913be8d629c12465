"""Attacks with tokens on a running service: each with the answer that it must get."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.internet import reactor
from twisted.web.resource import Resource
from twisted.web.server import Site

from realtime.errors import Close
from tests.clients.raw import WEBSOCKET
from tests.clients.service import JWT_SECRET, mint
from tests.test_keys import PRIVATE, jwk_set, public_jwk

from .case import SOON, AttackCase

RSA = PRIVATE["rsa"][0]


class Keys(Resource):
    """A login service's set of keys.

    :ivar asked: how often it was asked for.
    """

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.keys = jwk_set(public_jwk(RSA, "rsa-1"), public_jwk(PRIVATE["p256"][0], "ec-1"))

    def render_GET(self, request: Any) -> bytes:
        self.asked += 1
        return self.keys


def part(value: Any) -> bytes:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")


def claims(**more: Any) -> dict[str, Any]:
    now = int(time.time())
    return {"sub": "alice", "iat": now, "exp": now + 600, "aud": "realtime", "iss": "login", **more}


def forged(header: dict[str, Any], key: bytes = b"", **more: Any) -> str:
    """A token with any header; signed by HMAC with a key, if there is one."""
    signed = part(header) + b"." + part(claims(**more))
    signature = base64.urlsafe_b64encode(hmac.digest(key, signed, hashlib.sha256)) if key else b""
    return (signed + b"." + signature.rstrip(b"=")).decode()


class TokenAttackTests(AttackCase):
    """Tokens signed with a secret and with public keys, both accepted, neither for the other."""

    async def _start(self, **environ: str) -> Keys:
        keys = Keys()
        port = reactor.listenTCP(0, Site(keys), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        url = f"http://127.0.0.1:{port.getHost().port}/keys"
        await self.start_service(
            JWT_JWKS_URL=url,
            JWT_AUDIENCE="realtime",
            JWT_ISSUER="login",
            RATE_LIMIT_MAX_CONNECTIONS="50",
            **environ,
        )
        return keys

    def secret(self, key: str = JWT_SECRET, algorithm: str = "HS256", **more: Any) -> str:
        return jwt.encode(claims(**more), key, algorithm=algorithm)

    def signed(self, name: str = "rsa-1", algorithm: str = "RS256", key: Any = RSA, **more: Any) -> str:
        return jwt.encode(claims(**more), key, algorithm=algorithm, headers={"kid": name})

    async def test_table(self) -> None:
        """Each forged token is refused with one code, each right one is let in."""
        keys = await self._start()
        spki = RSA.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        own = ec.generate_private_key(ec.SECP256R1())
        now = int(time.time())
        invalid, expired = "auth.token_invalid", "auth.token_expired"
        table = {
            "secret": (self.secret(), None),
            "secret, HS512": (self.secret(algorithm="HS512"), None),
            "public key": (self.signed(), None),
            "public key, PS384": (self.signed(algorithm="PS384"), None),
            "elliptic": (self.signed("ec-1", "ES256", PRIVATE["p256"][0]), None),
            "alg none": (forged({"alg": "none"}), invalid),
            "alg NONE": (forged({"alg": "NONE"}), invalid),
            "no alg": (forged({}, JWT_SECRET.encode()), invalid),
            "confusion: public key as secret": (forged({"alg": "HS256", "kid": "rsa-1"}, spki), invalid),
            "confusion: secret for RS256": (
                forged({"alg": "RS256", "kid": "rsa-1"}, JWT_SECRET.encode()),
                invalid,
            ),
            "confusion: other kind of key": (forged({"alg": "ES256", "kid": "rsa-1"}, spki), invalid),
            "wrong secret": (self.secret("x" * 40), invalid),
            "wrong key": (self.signed("ec-1", "ES256", own), invalid),
            "key brought along": (
                jwt.encode(claims(), own, "ES256", headers={"kid": "ec-1", "jwk": public_jwk(own, "ec-1")}),
                invalid,
            ),
            "forged kid: path": (forged({"alg": "HS256", "kid": "../../dev/null"}, b"\0" * 32), invalid),
            "forged kid: long": (forged({"alg": "RS256", "kid": "x" * 5000}, spki), invalid),
            "crit": (forged({"alg": "HS256", "crit": ["exp"]}, JWT_SECRET.encode()), invalid),
            "expired": (self.secret(exp=now - 1), expired),
            "not yet valid": (self.secret(nbf=now + 60), invalid),
            "other audience": (self.secret(aud="shop"), invalid),
            "no audience": (self.secret(aud=None), invalid),
            "other issuer": (self.secret(iss="shop"), invalid),
            "no end": (self.secret(exp=None), invalid),
            "end as text": (self.secret(exp="2099-01-01"), invalid),
            "changed": (self.secret()[:-4] + "AAAA", invalid),
            "oversize": (self.secret(pad="x" * 9000), invalid),
            "other subject forms": (self.secret(sub="a:b"), invalid),
        }
        for name, (token, code) in table.items():
            self._tokens.append(token[-20:])
            self.assertEqual(await self.refusal(token), code, name)
        self.assertEqual(keys.asked, 1)
        wanted = sum(code is not None for _, code in table.values())

        async def told() -> bool:
            return len(self.service.entries("security: login refused")) == wanted

        await self.until(told, f"{wanted} refusals in the security log")

    async def test_flood_of_unknown_keys(self) -> None:
        """Tokens that name keys nobody knows make at most one fetch, and cost nobody else anything."""
        keys = await self._start()
        for number in range(100):
            token = forged({"alg": "RS256", "kid": f"k{number}"}, b"x" * 32)
            self.assertEqual(await self.refusal(token), "auth.token_invalid")
        self.assertLessEqual(keys.asked, 2)
        self.assertIsNone(await self.refusal(self.signed()))

    async def test_revoked(self) -> None:
        """In all three ways: who is here goes within a second, and is not let in again, nor recovered."""
        await self._start()
        for path, code in (
            ("/v1/revocations/t-1", "auth.token_revoked"),
            ("/v1/users/alice/revocation", "auth.token_revoked"),
            ("/v1/users/alice/block", "auth.blocked"),
        ):
            token = self.secret(jti="t-1")
            raw, answer = await self.connected(token)
            await raw.until(b"system:connected", SOON)
            began = self.seconds()
            put = await self.service.request("PUT", path, {})
            self.assertEqual(put.status, 200, put.body)
            await raw.until(code.encode(), SOON)
            await raw.until(Close.REVOKED.number.to_bytes(2, "big") + b"revoked", SOON)
            self.assertLess(self.seconds() - began, 1.0)
            raw.drop()
            self.assertEqual(await self.refusal(token), code)
            self.assertEqual(await self.refusal(token, pid=answer["pid"]), code)
            lifted = await self.service.request("DELETE", path)
            self.assertEqual(lifted.body, {"lifted": True})
            self.assertIsNone(await self.refusal(token))

    async def test_refresh_reuse(self) -> None:
        """A refresh token that is used twice ends its family; with public keys there is no refreshing."""
        await self._start()
        raw, _ = await self.connected(self.secret())
        await raw.until(b"system:connected", SOON)
        refresh = {"refreshToken": mint("alice", secret="r" * 40)}
        answer = await self.call(raw, "auth:token_refresh", refresh)
        self.assertEqual(answer["error"]["code"], "auth.refresh_unsupported")

    async def test_query(self) -> None:
        """A token in the address is not looked at unless that is enabled."""
        await self._start()
        for enabled in (False, True):
            if enabled:
                await self._start(WS_QUERY_TOKEN="true")
            raw = await self.opened(f"{WEBSOCKET}&token={self.secret()}")
            raw.send(b"\x81\x82\0\0\0\x0040")
            answer = await raw.until(b"}", SOON)
            self.assertIn(b'40{"sid"', answer)
            if enabled:
                await raw.until(b"system:connected", SOON)
            else:
                refused = await self.call(raw, "room:join", {"roomId": "lobby"})
                self.assertEqual(refused["error"]["code"], "auth.required")
