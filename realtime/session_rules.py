"""SessionRules: the limits and times of sessions."""

from __future__ import annotations

import msgspec


class SessionRules(msgspec.Struct, frozen=True, kw_only=True):
    """Limits and times of a session; times in seconds.

    :ivar connections: per user.
    :ivar members: users per room.
    :ivar rooms: joined rooms per connection.
    :ivar recovery_bytes: payload bytes that one recovery may replay.
    :ivar recovery_window: for which a session can be taken up.
    :ivar login: for which a connection may stay without an identity.
    :ivar nobodies: how many may; of one address half as many. The oldest makes room for the newest.
    :ivar evict_oldest: whether a user's oldest connection makes room for one past `connections`.
    :ivar dry_run: whether one past `connections` is only counted.
    :ivar grace: for which a user whose transport was lost is still shown as present.
    :ivar dead: for which a dead transport may go unnoticed (ping interval and timeout).
    :ivar warning: before a token's expiry the client is told.
    :ivar expiry_grace: after a token's expiry the connection is closed.
    """

    connections: int
    members: int
    rooms: int
    recovery_bytes: int
    recovery_window: float
    login: float
    nobodies: int
    evict_oldest: bool
    dry_run: bool
    grace: float
    dead: float
    warning: float
    expiry_grace: float
