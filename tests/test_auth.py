"""Tokens become identities, or are refused with a code that says what to do."""

from __future__ import annotations

import base64
import json
from typing import Any

import jwt
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from realtime import auth as auth_module
from realtime.auth import Authenticator
from realtime.errors import ExpiredToken, InvalidToken, OtherSubject, RefreshReused, RefreshUnsupported
from realtime.messages import Identity

KEY = "k" * 32
REFRESH = "r" * 32
NOW = 1_700_000_000.0


def make(**options: str) -> Authenticator:
    given = {"secret": KEY, "refresh_secret": REFRESH, "audience": "", "issuer": ""}
    return Authenticator(**{**given, **options}, wall=lambda: NOW)


def sign(claims: dict[str, Any], key: str = KEY, algorithm: str = "HS256", **headers: Any) -> str:
    return jwt.encode(claims, key, algorithm=algorithm, headers=headers)


def claims(**more: Any) -> dict[str, Any]:
    return {"sub": "alice", "exp": int(NOW) + 60, **more}


class IdentifyTests(SynchronousTestCase):
    """`Authenticator.identify`."""

    def refused(self, token: str, error: type[Exception] = InvalidToken, **options: str) -> str:
        return str(self.assertRaises(error, make(**options).identify, token))

    def test_identity(self) -> None:
        """Subject, roles, grants and expiry come from the token."""
        token = sign(claims(roles=["staff"], rooms=["event:1", "private:*"]))
        self.assertEqual(
            make().identify(token),
            Identity("alice", frozenset(("staff",)), ("event:1", "private:*"), NOW + 60),
        )

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
            self.refused(sign(claims(), "k" * 64, algorithm))
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

    @given(st.one_of(st.text(max_size=200), st.from_regex(r"[\w-]*\.[\w-]*\.[\w-]*", fullmatch=True)))
    def test_rubbish(self, token: str) -> None:
        """Whatever is sent as a token is refused, never an error of ours."""
        self.refused(token)

    def test_message_never_repeats_the_token(self) -> None:
        """The refusal does not carry what was sent."""
        for token in ("secret-part.x.y", sign(claims(sub="a:secret-part"))):
            self.assertNotIn("secret-part", self.refused(token))


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
        self.patch(auth_module, "MAX_FAMILIES", 2)
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
