"""Login: the authenticator of one deployment, built from its settings."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.internet.interfaces import IReactorTime

from .auth import Authenticator
from .bans import Bans
from .fetching import Fetcher
from .introspection import Introspection
from .jwks import TIMEOUT, Jwks
from .keys import KeyRing, secret_key
from .settings import Settings
from .trust.interface import ITrust


def authenticator(
    settings: Settings,
    bans: Bans,
    trust: ITrust,
    fetcher: Fetcher,
    *,
    clock: IReactorTime,
    wall: Callable[[], float],
) -> Authenticator:
    """The authenticator, with what it has to ask of others."""
    secrets = []
    if settings.jwt_secret:
        secrets.append(secret_key(settings.jwt_secret))
    if settings.jwt_secret_previous:
        secrets.append(secret_key(settings.jwt_secret_previous, settings.jwt_secret_previous_until))
    ring = KeyRing(secrets, settings.jwt_algorithms)
    return Authenticator(
        ring,
        bans,
        trust,
        secret=settings.jwt_secret,
        refresh_secret=settings.jwt_refresh_secret,
        audience=settings.jwt_audience,
        issuer=settings.jwt_issuer,
        leeway=settings.jwt_leeway,
        wall=wall,
        jwks=_jwks(settings, ring, fetcher, clock) if settings.jwt_jwks_url else None,
        introspection=_introspection(settings, fetcher, clock) if settings.auth_service_url else None,
    )


def _jwks(settings: Settings, ring: KeyRing, fetcher: Fetcher, clock: IReactorTime) -> Jwks:
    def fetch() -> Awaitable[bytes]:
        return fetcher.fetch("GET", settings.jwt_jwks_url, timeout=TIMEOUT)

    return Jwks(clock, ring, fetch, every=settings.jwt_jwks_refresh)


def _introspection(settings: Settings, fetcher: Fetcher, clock: IReactorTime) -> Introspection:
    headers = {"Authorization": f"Bearer {settings.auth_service_key}"} if settings.auth_service_key else {}

    def ask(token: str) -> Awaitable[bytes]:
        return fetcher.fetch(
            "POST",
            settings.auth_service_url,
            timeout=settings.auth_service_timeout,
            headers=headers,
            form={"token": token, "token_type_hint": "access_token"},
        )

    return Introspection(
        clock, ask, keep=settings.auth_service_cache, trusting=settings.auth_service_down == "accept"
    )
