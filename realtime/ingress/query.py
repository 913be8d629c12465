"""Query: the fields of a request's query, and what they must look like."""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qs

from ..errors import InvalidMessage
from ..transport.site import Request

#: What one page of a list holds: as it comes, and at the most.
PAGE: Final = 100
PAGE_MAX: Final = 1000


def query_of(request: Request) -> dict[str, str]:
    """The query's fields; of one that is repeated, the last."""
    text = request.uri.partition(b"?")[2].decode("ascii", "replace")
    try:
        return {name: values[-1] for name, values in parse_qs(text, max_num_fields=10).items()}
    except ValueError:
        raise InvalidMessage("the query has more than 10 fields") from None


def peer_of(request: Request) -> str:
    """The address that a request comes from."""
    return str(getattr(request.channel.getPeer(), "host", ""))


def limit_of(query: dict[str, str]) -> int:
    """How much is wanted in one page.

    :raises InvalidMessage: it is no number from 1 to `PAGE_MAX`.
    """
    text = query.get("limit")
    if text is None:
        return PAGE
    if text.isascii() and text.isdecimal() and len(text) <= 4 and 1 <= int(text) <= PAGE_MAX:
        return int(text)
    raise InvalidMessage(f"limit: expected a whole number from 1 to {PAGE_MAX}")
