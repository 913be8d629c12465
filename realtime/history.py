"""History: what users see of a room's log, as raw JSON."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from .messages import Publication


def messages(publications: Sequence[Publication]) -> msgspec.Raw:
    """A JSON array of the messages, each as it was delivered."""
    return msgspec.Raw(b"[" + b",".join([entry.payload() for entry in publications]) + b"]")


def present(publications: Sequence[Publication], now: float) -> Sequence[Publication]:
    """Those of them whose time to live has not ended."""
    if not any(entry.expires for entry in publications):
        return publications
    return [entry for entry in publications if not entry.over(now)]


def fit(publications: Sequence[Publication], size: int, *, newest: bool) -> Sequence[Publication]:
    """As many of them as have `size` payload bytes, but one at least; the newest, or else the oldest."""
    taken = 0
    ordered = reversed(publications) if newest else iter(publications)
    for count, entry in enumerate(ordered):
        taken += len(entry.data)
        if taken > size and count:
            return publications[-count:] if newest else publications[:count]
    return publications


def binary(publications: Sequence[Publication]) -> bool:
    """Whether any of the messages carries binary values."""
    return any(entry.binary for entry in publications)
