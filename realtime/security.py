"""Security log: who was let in or turned away, and why; with addresses, without tokens and payloads.

Clients can provoke most of its lines, so it writes at most so many in a while, and says how many it
left out. All of them are counted by `metrics`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.logger import Logger

_log = Logger()

#: Lines in `WINDOW` seconds, at most.
LINES: Final = 200
WINDOW: Final = 10.0

#: What it tells of; documented in docs/security.rst.
KINDS: Final = (
    *("login", "login refused", "refresh refused", "session ended", "banned", "lifted", "kicked"),
    *("api refused", "origin refused", "rate limited", "content"),
)


class Security:
    """Writes the lines.

    :param seconds: a monotonic clock.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._began = -WINDOW
        self._written = 0
        self._left_out = 0

    def tell(
        self, kind: str, *, user: str = "", address: str = "", connection: str = "", reason: str = ""
    ) -> None:
        """One line.

        :param kind: one of `KINDS`.
        :param reason: a code, or what was done.
        """
        now = self._seconds()
        if now - self._began >= WINDOW:
            if self._left_out:
                _log.warn("{count} lines of the security log were left out", count=self._left_out)
            self._began, self._written, self._left_out = now, 0, 0
        if self._written >= LINES:
            self._left_out += 1
            return
        self._written += 1
        _log.info(
            "security: {kind}",
            kind=kind,
            user=user,
            address=address,
            connection=connection,
            reason=reason,
        )
