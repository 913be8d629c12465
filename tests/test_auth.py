"""Tokens become identities, or are refused with a code that says what to do."""

from __future__ import annotations

import base64
import json
from typing import Any

import jwt
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from realtime.auth import Authenticator
from realtime.bans import Bans
from realtime.errors import (
    ExpiredToken,
    InvalidToken,
    OtherSubject,
    RefreshReused,
    RefreshUnsupported,
    TokenRevoked,
    UserBlocked,
)
from realtime.keys import KeyRing, secret_key
from realtime.messages import Identity
from realtime.trust import memory
from realtime.trust.interface import Ban, Change
from realtime.trust.memory import MemoryTrust

from .generated import unhurried
from .waiting import result

KEY = "k" * 32
REFRESH = "r" * 32
NOW = 1_700_000_000.0


class Auth:
    """An authenticator, whose answers need not be waited for."""

    def __init__(self, **options: Any) -> None:
        given = {"secret": KEY, "refresh_secret": REFRESH, "audience": "", "issuer": "", "leeway": 0.0}
        keys = options.pop("keys", None) or KeyRing([secret_key(KEY)])
        self.bans = Bans(lambda: NOW)
        self.trust = MemoryTrust(lambda: NOW)
        self.authenticator = Authenticator(
            keys, self.bans, self.trust, **{**given, **options}, wall=lambda: NOW
        )

    def identify(self, token: str) -> Identity:
        return result(self.authenticator.identify(token))

    def refresh(self, token: str, user: str) -> Any:
        return result(self.authenticator.refresh(token, user))


def make(**options: Any) -> Auth:
    return Auth(**options)


def sign(claims: dict[str, Any], key: str = KEY, algorithm: str = "HS256", **headers: Any) -> str:
    return jwt.encode(claims, key, algorithm=algorithm, headers=headers)


def claims(**more: Any) -> dict[str, Any]:
    return {"sub": "alice", "exp": int(NOW) + 60, **more}


class IdentifyTests(SynchronousTestCase):
    """`Authenticator.identify`."""

    def refused(self, token: str, error: type[Exception] = InvalidToken, **options: Any) -> str:
        return str(self.assertRaises(error, make(**options).identify, token))

    def test_identity(self) -> None:
        """Subject, roles, grants and expiry come from the token."""
        token = sign(claims(roles=["staff"], rooms=["event:1", "private:*"]))
        self.assertEqual(
            make().identify(token),
            Identity("alice", frozenset(("staff",)), ("event:1", "private:*"), NOW + 60),
        )

    def test_id_and_age(self) -> None:
        """The token's id and the time at which it was issued are known of it; numbers become text."""
        identity = make().identify(sign(claims(jti="t-1", iat=NOW - 5)))
        self.assertEqual((identity.jti, identity.issued), ("t-1", NOW - 5))
        unchecked = TokenForge(jti=7)
        self.assertEqual(make().identify(unchecked.token).jti, "7")
        for wrong in ({"jti": "x" * 129}, {"jti": ["x"]}, {"iat": "now"}, {"iat": -1}):
            self.refused(TokenForge(**wrong).token)

    def test_leeway(self) -> None:
        """Clocks may differ by as much as is said."""
        late, early = sign(claims(exp=int(NOW) - 9)), sign(claims(nbf=int(NOW) + 10))
        for token in (late, early):
            make(leeway=10.0).identify(token)
            self.assertRaises((ExpiredToken, InvalidToken), make(leeway=8.0).identify, token)

    def test_previous_secret(self) -> None:
        """Tokens of the secret before are good until its time is over, those of the present one always."""
        old = sign(claims(), "o" * 32)
        good = KeyRing([secret_key(KEY), secret_key("o" * 32, NOW + 1)])
        over = KeyRing([secret_key(KEY), secret_key("o" * 32, NOW)])
        self.assertEqual(make(keys=good).identify(old).user, "alice")
        make(keys=good).identify(sign(claims()))
        self.refused(old, keys=over)
        make(keys=over).identify(sign(claims()))

    def test_singular_claims(self) -> None:
        """``role`` and ``room`` with one text serve as well."""
        identity = make().identify(sign(claims(role="staff", room="lobby")))
        self.assertEqual((identity.roles, identity.grants), (frozenset(("staff",)), ("lobby",)))

    def test_subject(self) -> None:
        """The subject is ``sub``, else ``userId``, else ``id``; whole numbers become text."""
        for found, wanted in (
            ({"sub": "a", "userId": "b", "id": "c"}, "a"),
            ({"userId": "b", "id": "c"}, "b"),
            ({"id": "c"}, "c"),
            ({"sub": 42}, "42"),
            ({"sub": None, "userId": 7}, "7"),
            ({"sub": "Zoë.O'Neil@example.com"}, "Zoë.O'Neil@example.com"),
        ):
            self.assertEqual(make().identify(sign({"exp": NOW + 1, **found})).user, wanted)

    def test_bad_subjects(self) -> None:
        """A subject that could be taken for something else is refused."""
        for subject in ("", "a:b", "a b", "a*", "a?", "{a}", "[a]", "a\n", "a\u202e", "x" * 129):
            self.refused(sign(claims(sub=subject)))
        for subject in (True, 1.5, ["a"], {"a": 1}):
            self.refused(sign(claims(sub=subject)))
        self.refused(sign({"exp": NOW + 60}))

    def test_expiry(self) -> None:
        """`exp` is required, a number of sane size, and in the future."""
        self.refused(sign(claims(exp=int(NOW))), ExpiredToken)
        self.refused(sign(claims(exp=int(NOW) - 100)), ExpiredToken)
        self.assertIn("exp", self.refused(sign({"sub": "alice"})))
        for exp in ("1800000000", 10**30, True, None, -1, [1]):
            payload = base64.urlsafe_b64encode(json.dumps(claims(exp=exp)).encode()).rstrip(b"=")
            self.refused(self.forge(payload))
        payload = b'{"sub":"alice","exp":1e999}'
        self.refused(self.forge(base64.urlsafe_b64encode(payload).rstrip(b"=")))

    @staticmethod
    def forge(payload: bytes, header: dict[str, Any] | None = None, key: str = KEY) -> str:
        """A rightly signed token of any payload."""
        head = json.dumps(header or {"alg": "HS256", "typ": "JWT"}).encode()
        signed = base64.urlsafe_b64encode(head).rstrip(b"=") + b"." + payload
        signature = jwt.get_algorithm_by_name("HS256").sign(signed, key.encode())
        return (signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()

    def test_not_before(self) -> None:
        """A token is refused until its ``nbf``."""
        self.refused(sign(claims(nbf=int(NOW) + 10)))
        make().identify(sign(claims(nbf=int(NOW))))

    def test_audience_and_issuer(self) -> None:
        """``aud`` and ``iss`` are required where configured, and not looked at elsewhere."""
        make().identify(sign(claims(aud="other", iss="other")))
        make(audience="rt").identify(sign(claims(aud=["x", "rt"])))
        for wrong in (claims(), claims(aud="x"), claims(aud=[])):
            self.refused(sign(wrong), audience="rt")
        make(issuer="auth").identify(sign(claims(iss="auth")))
        for wrong in (claims(), claims(iss="x")):
            self.refused(sign(wrong), issuer="auth")

    def test_algorithm_is_pinned(self) -> None:
        """No header of a token chooses how it is checked."""
        self.refused(jwt.encode(claims(), None, algorithm="none"))
        for algorithm in ("HS384", "HS512"):
            make().identify(sign(claims(), KEY, algorithm))
            only = KeyRing([secret_key(KEY)], ("HS256",))
            self.refused(sign(claims(), KEY, algorithm), keys=only)
        self.refused(sign(claims(), "q" * 32))
        payload = base64.urlsafe_b64encode(json.dumps(claims()).encode()).rstrip(b"=")
        for header in ({"alg": "none"}, {"alg": "RS256"}, {"alg": "HS256", "crit": ["x"], "x": 1}):
            self.refused(self.forge(payload, header))

    def test_size(self) -> None:
        """A token over the limit is not looked into."""
        self.assertIn("8192", self.refused(sign(claims(pad="x" * 9000))))

    def test_grants(self) -> None:
        """Roles and rooms are lists of a bounded number of names."""
        for roles in ([1], "", [""], ["x" * 129], ["a"] * 101, {"a": 1}, 5):
            self.refused(sign(claims(roles=roles)))

    @unhurried
    @given(st.one_of(st.text(max_size=200), st.from_regex(r"[\w-]*\.[\w-]*\.[\w-]*", fullmatch=True)))
    def test_rubbish(self, token: str) -> None:
        """Whatever is sent as a token is refused, never an error of ours."""
        self.refused(token)

    def test_message_never_repeats_the_token(self) -> None:
        """The refusal does not carry what was sent."""
        for token in ("secret-part.x.y", sign(claims(sub="a:secret-part"))):
            self.assertNotIn("secret-part", self.refused(token))


class TokenForge:
    """A rightly signed token of claims that PyJWT would not make."""

    def __init__(self, **more: Any) -> None:
        payload = base64.urlsafe_b64encode(json.dumps(claims(**more)).encode()).rstrip(b"=")
        self.token = IdentifyTests.forge(payload)


class RevokedTests(SynchronousTestCase):
    """Bans hold for access tokens and for refresh tokens."""

    def test_token(self) -> None:
        auth = make()
        auth.bans.apply(Change(Ban("token", "t-1")))
        self.assertRaises(TokenRevoked, auth.identify, sign(claims(jti="t-1")))
        auth.identify(sign(claims(jti="t-2")))
        auth.identify(sign(claims()))
        auth.bans.apply(Change(Ban("token", "t-1"), lifted=True))
        auth.identify(sign(claims(jti="t-1")))

    def test_issued_before(self) -> None:
        """Tokens of the user that were issued before, or do not say when, are refused; others are not."""
        auth = make()
        auth.bans.apply(Change(Ban("issued", "alice", before=NOW - 10)))
        for old in (claims(iat=int(NOW) - 11), claims()):
            self.assertRaises(TokenRevoked, auth.identify, sign(old))
        auth.identify(sign(claims(iat=int(NOW) - 10)))
        auth.identify(sign(claims(sub="bob")))

    def test_block(self) -> None:
        """A blocked user is refused whatever the token, for as long as is said."""
        auth = make()
        auth.bans.apply(Change(Ban("block", "alice", until=NOW + 30)))
        error = self.assertRaises(UserBlocked, auth.identify, sign(claims(iat=NOW)))
        self.assertEqual(error.retry_after, 30)
        auth.bans.apply(Change(Ban("block", "alice", until=NOW)))
        auth.identify(sign(claims()))

    def test_refresh_tokens(self) -> None:
        """A family ends with the revocation of its first token, of a later one, or of its user."""
        later = {"exp": int(NOW) + 9000, "iat": int(NOW) - 100}
        first = sign(claims(**later, jti="r-1"), REFRESH)
        auth = make()
        second = auth.refresh(first, "alice").refresh_token
        auth.bans.apply(Change(Ban("token", "r-1")))
        self.assertRaises(TokenRevoked, auth.refresh, second, "alice")
        auth.bans.apply(Change(Ban("token", "r-1"), lifted=True))
        auth.bans.apply(Change(Ban("issued", "alice", before=NOW + 1)))
        self.assertRaises(TokenRevoked, auth.refresh, second, "alice")
        auth.bans.reset([Ban("block", "alice")])
        self.assertRaises(UserBlocked, auth.refresh, second, "alice")
        auth.bans.reset([])
        self.assertEqual(auth.refresh(second, "alice").identity.user, "alice")

    def test_made_tokens_have_ids(self) -> None:
        """What a refresh makes can be revoked by itself, and says when it was made."""
        refreshed = make().refresh(sign(claims(exp=int(NOW) + 9000, jti="r"), REFRESH), "alice")
        self.assertTrue(refreshed.identity.jti)
        self.assertEqual(refreshed.identity.issued, NOW)


class RefreshTests(SynchronousTestCase):
    """`Authenticator.refresh`."""

    def refresh_token(self, **more: Any) -> str:
        return sign(claims(exp=int(NOW) + 9000, roles=["staff"], jti="1", **more), REFRESH)

    def test_refresh(self) -> None:
        """A refresh token gives an access token of the same user and roles, and the next one."""
        auth = make()
        refreshed = auth.refresh(self.refresh_token(), "alice")
        identity = auth.identify(refreshed.token)
        self.assertEqual((identity.user, identity.roles), ("alice", frozenset(("staff",))))
        self.assertEqual(identity, refreshed.identity)
        again = auth.refresh(refreshed.refresh_token, "alice")
        self.assertNotEqual(again.refresh_token, refreshed.refresh_token)

    def test_single_use(self) -> None:
        """A refresh token is good once."""
        auth = make()
        token = self.refresh_token()
        auth.refresh(token, "alice")
        self.assertRaises(RefreshReused, auth.refresh, token, "alice")

    def test_spellings(self) -> None:
        """A token without a ``jti`` is the same one however its signature is spelt."""
        auth = make()
        token = sign(claims(exp=int(NOW) + 9000), REFRESH)
        auth.refresh(token, "alice")
        for spelling in (token, token + "=", token + "===="):
            self.assertRaises((RefreshReused, InvalidToken), auth.refresh, spelling, "alice")

    def test_reuse_voids_the_family(self) -> None:
        """Once a token was used twice, none that followed from it is good any more; others are."""
        auth = make()
        first = self.refresh_token()
        second = auth.refresh(first, "alice").refresh_token
        third = auth.refresh(second, "alice").refresh_token
        self.assertRaises(RefreshReused, auth.refresh, first, "alice")
        self.assertRaises(RefreshReused, auth.refresh, third, "alice")
        auth.refresh(sign(claims(exp=int(NOW) + 9000, jti="2"), REFRESH), "alice")

    def test_ids_of_users_are_apart(self) -> None:
        """Two users' tokens may have the same ``jti``."""
        auth = make()
        for user in ("alice", "bob"):
            auth.refresh(sign(claims(sub=user, exp=int(NOW) + 9000, jti="1"), REFRESH), user)

    def test_families_are_bounded(self) -> None:
        """One family takes one place, however often it is refreshed; past the bound no new one is taken."""
        self.patch(memory, "MAX_FAMILIES", 2)
        auth = make()
        token = self.refresh_token()
        for _ in range(5):
            token = auth.refresh(token, "alice").refresh_token
        auth.refresh(sign(claims(exp=int(NOW) + 9000, jti="2"), REFRESH), "alice")
        third = sign(claims(exp=int(NOW) + 9000, jti="3"), REFRESH)
        self.assertRaises(RefreshUnsupported, auth.refresh, third, "alice")
        auth.refresh(token, "alice")

    def test_other_user(self) -> None:
        """Another user's refresh token is refused, and stays good for its owner."""
        auth = make()
        token = self.refresh_token()
        self.assertRaises(OtherSubject, auth.refresh, token, "bob")
        auth.refresh(token, "alice")

    def test_kinds_are_apart(self) -> None:
        """An access token refreshes nothing, and a refresh token opens nothing."""
        auth = make()
        self.assertRaises(InvalidToken, auth.refresh, sign(claims()), "alice")
        self.assertRaises(InvalidToken, auth.identify, self.refresh_token())

    def test_unsupported(self) -> None:
        """Without JWT_REFRESH_SECRET there is no refreshing."""
        auth = make(refresh_secret="")
        self.assertRaises(RefreshUnsupported, auth.refresh, self.refresh_token(), "alice")
