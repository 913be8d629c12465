"""ITrust: what all nodes share of whom not to trust: bans, families of refresh tokens, what users sent.

Bans (revocations, blocks, mutes, and traces, which forbid nothing) are few and asked for at every turn, so
each node keeps all of them in a table; `ITrust` keeps the table in which they survive, and tells every
node of a change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Literal

import msgspec
from twisted.internet.defer import Deferred
from zope.interface import Interface

#: What a ban is of: one token by its ``jti``; the tokens of a user issued before a time; a user; a
#: user's voice in a room. Or a user of whom the log tells each message (`traces`).
Kind = Literal["token", "issued", "block", "mute", "trace"]

#: Bans at once, at most.
MAX_BANS: Final = 100_000


class Ban(msgspec.Struct, frozen=True, gc=False):
    """Something that is not trusted any more.

    :ivar key: the ``jti``, the user, or room and user with a space between.
    :ivar before: of kind ``issued``: tokens issued before it (seconds since the epoch) are refused.
    :ivar until: seconds since the epoch at which it ends by itself; 0 for never.
    :ivar made: milliseconds since the epoch.
    """

    kind: Kind
    key: str
    before: float = 0.0
    until: float = 0.0
    made: int = 0


class Change(msgspec.Struct, frozen=True, gc=False):
    """A ban was made, or lifted."""

    ban: Ban
    lifted: bool = False


class ITrust(Interface):
    """Keeps what all nodes share.

    A method that may have to wait returns a Deferred; it fails with `BrokerUnavailable` when the bus
    is away.
    """

    def start(heard: Callable[[Change], None], reset: Callable[[list[Ban]], None]) -> Deferred[None]:
        """Begin to tell of changes: those made here and those made on other nodes.

        :param heard: called with each change, on every node, within a second of it.
        :param reset: called with all bans that stand: at the start, and whenever changes may have
            been missed.
        """

    def stop() -> Deferred[None]:
        """Tell no more."""

    def ban(ban: Ban) -> Deferred[None]:
        """Keep a ban, in place of one of the same kind and key, and tell all nodes.

        :raises TooManyBans: there are `MAX_BANS`.
        """

    def lift(kind: Kind, key: str) -> Deferred[bool]:
        """End a ban, and tell all nodes; whether there was one."""

    def turn(family: str, turn: int, expires: float) -> Deferred[bool]:
        """Use the refresh token that is `turn` of a family; False if it, or a later one, was used.

        From then on no token of that family can be used.

        :param expires: seconds since the epoch at which the token, and so the next, expires.
        :raises RefreshUnsupported: too many families are remembered.
        """

    def charge(amounts: Mapping[str, float], window: float) -> Deferred[Mapping[str, float]]:
        """Add what users have used up of their limits on this node, and learn what they have on all.

        A limit fills up as time passes: what was used becomes less by one second each second.

        :param amounts: seconds by user.
        :param window: seconds: no user's debt is counted far above it.
        :returns: the debt of each of these users, in seconds.
        """


def mute_key(room: str, user: str) -> str:
    """The key of a user's mute in a room. Neither holds a space."""
    return f"{room} {user}"
