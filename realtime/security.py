"""Security log: who was let in or turned away, and why; with addresses, without tokens and payloads.

Clients can provoke most of its lines, so there are only so many of them in a while. All of them are
counted by `metrics`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.logger import Logger

from .line_limit import LineLimit

_log = Logger()

#: Lines in `line_limit.WINDOW`, at most.
LINES: Final = 200

#: What it tells of; documented in docs/security.rst.
TOLD: Final = (
    *("login", "login refused", "refresh refused", "session ended", "banned", "lifted", "kicked"),
    *("api refused", "origin refused", "rate limited", "content", "traced", "untraced"),
)


class Security:
    """Writes the lines.

    :param seconds: a monotonic clock.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._limit = LineLimit("the security log", LINES, seconds)

    def tell(
        self, what: str, *, user: str = "", address: str = "", connection: str = "", reason: str = ""
    ) -> None:
        """One line.

        :param what: one of `TOLD`.
        :param reason: a code, or what was done.
        """
        if self._limit.take():
            _log.info(
                "security: {what}",
                kind="security",
                what=what,
                user=user,
                address=address,
                connection=connection,
                reason=reason,
            )
