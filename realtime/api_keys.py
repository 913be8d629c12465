"""API keys: which service calls, what it may ask for, and to which channels it may publish.

Only digests are kept, so that neither a dump of the memory nor a log can hold a key. Keys are long and
random: a fast digest is enough.
"""

from __future__ import annotations

import hashlib
import hmac
import math
from collections.abc import Callable, Iterable
from typing import Final, Literal

import msgspec

from .errors import ApiForbidden

#: What a key may be for: publishing; asking who is where; ending sessions, bans and mutes.
Scope = Literal["publish", "read", "moderate"]
SCOPES: Final[tuple[Scope, ...]] = ("publish", "read", "moderate")


class ApiKey(msgspec.Struct, frozen=True):
    """What is known of one key.

    :ivar name: for logs: which service has it.
    :ivar digest: SHA-256 of the key.
    :ivar channels: to which it may publish: exact, or beginnings that end in ``*``; empty for all.
    :ivar until: seconds since the epoch from which it is good no more.
    """

    name: str
    digest: bytes
    channels: tuple[str, ...] = ()
    scopes: frozenset[Scope] = frozenset(SCOPES)
    until: float = math.inf

    def check(self, scope: Scope) -> None:
        """Let a request pass.

        :raises ApiForbidden: the key is not for that.
        """
        if scope not in self.scopes:
            raise ApiForbidden(f"this key is not for what needs {scope!r}")

    def check_channel(self, channel: str) -> None:
        """Let a publication pass.

        :raises ApiForbidden: the key is not for this channel.
        """
        self.check("publish")
        if self.channels and not any(
            channel.startswith(allowed[:-1]) if allowed.endswith("*") else channel == allowed
            for allowed in self.channels
        ):
            raise ApiForbidden(f"this key may publish to {', '.join(self.channels)}")


def master_key(key: str) -> ApiKey:
    """The key of API_KEY: for everything."""
    if not key:
        raise ValueError("a key is not empty")
    return ApiKey("API_KEY", digest(key))


def digest(key: str) -> bytes:
    """What is kept of a key."""
    return hashlib.sha256(key.encode()).digest()


class ApiKeys:
    """All keys that are good.

    :param wall: seconds since the epoch.
    """

    def __init__(self, keys: Iterable[ApiKey], wall: Callable[[], float]) -> None:
        self._keys = tuple(keys)
        self._wall = wall

    def replace(self, keys: Iterable[ApiKey]) -> None:
        """Let these take the place of those before."""
        self._keys = tuple(keys)

    def find(self, key: bytes) -> ApiKey | None:
        """The key that was sent. It takes as long whichever it is, and if it is none."""
        sent = hashlib.sha256(key).digest()
        found = None
        for known in self._keys:
            if hmac.compare_digest(known.digest, sent):
                found = known
        return found if found is not None and found.until > self._wall() else None
