"""History: what users see of a room's log, as raw JSON."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from .messages import Publication


def messages(publications: Sequence[Publication]) -> msgspec.Raw:
    """A JSON array of the messages, each as it was delivered."""
    return msgspec.Raw(b"[" + b",".join([entry.payload() for entry in publications]) + b"]")


def binary(publications: Sequence[Publication]) -> bool:
    """Whether any of the messages carries binary values."""
    return any(entry.binary for entry in publications)
