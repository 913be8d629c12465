"""Origins: which pages may connect."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

_LABEL: Final = r"[a-z0-9]([a-z0-9_-]*[a-z0-9])?"
_ORIGIN: Final = re.compile(
    rf"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>(\*\.)?{_LABEL}(\.{_LABEL})*|\[[0-9a-f:.]+\])"
    r"(:(?P<port>[0-9]{1,5}|\*))?"
)
_DEFAULT_PORTS: Final = {"http": "80", "https": "443", "ws": "80", "wss": "443"}

#: No browser sends a longer one for a host that exists.
_MAX_ORIGIN: Final = 512


def _parts(text: str) -> tuple[str, str, str] | None:
    """Scheme, host and port; None if that is not an origin."""
    found = _ORIGIN.fullmatch(text.lower()) if len(text) <= _MAX_ORIGIN else None
    if found is None:
        return None
    port = found["port"] or _DEFAULT_PORTS.get(found["scheme"], "")
    return found["scheme"], found["host"], port.lstrip("0")


def fetch_site(field: bytes | None) -> str | None:
    """What a browser says of where a request comes from (Fetch Metadata)."""
    return None if field is None else field.decode("latin-1")


class Origins:
    """The origins that are let in.

    A pattern is an origin, ``https://app.example.com``; ``*.`` before the host stands for every host
    below it, though not for itself; the port ``*`` for every port. A scheme's own port may be left
    out, in a pattern and in an origin.

    :param required: whether every request has to name its origin, as those of pages do.
    :raises ValueError: a pattern is none of this.
    """

    def __init__(self, patterns: Iterable[str], required: bool = False) -> None:
        self._required = required
        self._exact: set[tuple[str, str, str]] = set()
        self._below: set[tuple[str, str, str]] = set()
        for pattern in patterns:
            parts = _parts(pattern)
            if parts is None:
                raise ValueError(pattern)
            scheme, host, port = parts
            if host.startswith("*."):
                self._below.add((scheme, host[1:], port))
            else:
                self._exact.add(parts)

    def allows(self, origin: str | None, site: str | None = None) -> bool:
        """Whether a request with this Origin field may go on. ``null`` never matches.

        Without the field it comes from no page, unless a browser says otherwise: it leaves the field
        out of what a page asks its own server for.

        :param site: the field Sec-Fetch-Site, which browsers send and no page can change.
        """
        if origin is None:
            return site == "same-origin" or (site is None and not self._required)
        parts = _parts(origin)
        if parts is None or "*" in origin:
            return False
        scheme, host, port = parts
        if {parts, (scheme, host, "*")} & self._exact:
            return True
        labels = host.split(".")
        parents = ["." + ".".join(labels[start:]) for start in range(1, len(labels))]
        return any((scheme, parent, end) in self._below for parent in parents for end in (port, "*"))
