"""Tests of the tokens that are made here."""

from __future__ import annotations

from dataclasses import replace

import jwt
from twisted.trial.unittest import SynchronousTestCase

from realtime.auth import Authenticator
from realtime.bans import Bans
from realtime.keys import KeyRing, secret_key
from realtime.settings import Settings
from realtime.tokens import mint
from realtime.trust.memory import MemoryTrust

SETTINGS = Settings(jwt_secret="0123456789abcdef0123456789abcdef")


class MintTests(SynchronousTestCase):
    """A minted token is what the service itself accepts."""

    def test_claims(self) -> None:
        token = mint(
            SETTINGS, "alice", now=1000.7, lifetime=60, roles=["admin"], rooms=["event:*", "lobby"]
        )
        self.assertEqual(jwt.get_unverified_header(token), {"alg": "HS256", "typ": "JWT"})
        claims = jwt.decode(token, SETTINGS.jwt_secret, ["HS256"], options={"verify_exp": False})
        self.assertEqual(
            claims,
            {"sub": "alice", "roles": ["admin"], "rooms": ["event:*", "lobby"], "iat": 1000, "exp": 1060},
        )

    def test_accepted(self) -> None:
        """With audience and issuer where they are configured."""
        for settings in (SETTINGS, replace(SETTINGS, jwt_audience="live", jwt_issuer="login")):
            authenticator = Authenticator(
                KeyRing([secret_key(settings.jwt_secret)]),
                Bans(lambda: 1000.0),
                MemoryTrust(lambda: 1000.0),
                secret=settings.jwt_secret,
                refresh_secret="",
                audience=settings.jwt_audience,
                issuer=settings.jwt_issuer,
                leeway=0.0,
                wall=lambda: 1000.0,
            )
            token = mint(settings, "alice", now=1000, lifetime=60, roles=["admin"], rooms=["event:*"])
            identity = authenticator.verify(token)
            self.assertEqual((identity.user, identity.expires), ("alice", 1060.0))
            self.assertEqual((identity.roles, identity.grants), (frozenset(["admin"]), ("event:*",)))
