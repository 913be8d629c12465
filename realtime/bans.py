"""Bans: this node's table of all that is not trusted any more, asked for each token and each message."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from .errors import TokenRevoked, UserBlocked
from .messages import Identity
from .trust.interface import Ban, Change, mute_key


class Bans:
    """All bans that stand, on all nodes.

    :param wall: seconds since the epoch.
    """

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._tokens: dict[str, Ban] = {}
        self._issued: dict[str, Ban] = {}
        self._blocks: dict[str, Ban] = {}
        #: By `mute_key`.
        self.mutes: dict[str, Ban] = {}
        #: By user.
        self.traces: dict[str, Ban] = {}
        self._tables = {
            "token": self._tokens,
            "issued": self._issued,
            "block": self._blocks,
            "mute": self.mutes,
            "trace": self.traces,
        }

    def __len__(self) -> int:
        return sum(map(len, self._tables.values()))

    def apply(self, change: Change) -> None:
        """A ban was made or lifted."""
        table = self._tables[change.ban.kind]
        if change.lifted:
            table.pop(change.ban.key, None)
        else:
            table[change.ban.key] = change.ban

    def reset(self, bans: Iterable[Ban]) -> None:
        """These are all that stand."""
        for table in self._tables.values():
            table.clear()
        for ban in bans:
            self._tables[ban.kind][ban.key] = ban

    def check(self, user: str, jti: str, issued: float) -> None:
        """Let a token pass.

        :param issued: its ``iat``; 0 if it has none, and so may be of any age.
        :raises UserBlocked: its user is.
        :raises TokenRevoked: it is, or all are that were issued to the user by then.
        """
        block = self._blocks.get(user)
        if block is not None and (left := self._left(block)) != 0:
            raise UserBlocked(retry_after=left)
        ban = self._tokens.get(jti) if jti else None
        if ban is not None and self._left(ban) != 0:
            raise TokenRevoked()
        ban = self._issued.get(user)
        if ban is not None and issued < ban.before and self._left(ban) != 0:
            raise TokenRevoked()

    def check_identity(self, identity: Identity) -> None:
        """Let somebody stay; see `check`."""
        self.check(identity.user, identity.jti, identity.issued)

    def muted(self, room: str, user: str) -> float | None:
        """Seconds for which a user is muted in a room; None for ever, 0 if they are not."""
        ban = self.mutes.get(mute_key(room, user))
        return 0.0 if ban is None else self._left(ban)

    def sweep(self) -> None:
        """Forget what has ended by itself."""
        for table in self._tables.values():
            for key in [key for key, ban in table.items() if self._left(ban) == 0]:
                del table[key]

    def _left(self, ban: Ban) -> float | None:
        return None if ban.until == 0 else max(0.0, ban.until - self._wall())
