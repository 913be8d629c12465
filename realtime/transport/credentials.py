"""Credentials: the token that a request brings, in its header, a cookie, or its query."""

from __future__ import annotations

from ..wire.engineio import Query
from ..wire.request import Head


def bearer(authorization: bytes | None) -> str | None:
    """The token of an ``Authorization`` field; None if there is none."""
    if authorization is None or authorization[:7].lower() != b"bearer ":
        return None
    return authorization[7:].strip().decode("latin-1") or None


def cookie(head: Head, name: str) -> str | None:
    """The value of a cookie; None if there is none, or it is empty."""
    wanted = name.encode()
    for field, value in head.fields:
        if field == b"cookie":
            for pair in value.split(b";"):
                key, _, text = pair.strip(b" \t").partition(b"=")
                if key == wanted:
                    return text.strip(b'"').decode("latin-1") or None
    return None


def token(head: Head, *, query: bool, cookie_name: str) -> str | None:
    """The token of a request: that of the header, else of the cookie, else of the query.

    :param query: whether it may come in the query's ``token``.
    :param cookie_name: the cookie that may hold it; empty for none.
    """
    found = bearer(head.get(b"authorization"))
    if found is None and cookie_name:
        found = cookie(head, cookie_name)
    if found is None and query:
        found = Query.parse(head.query.decode("ascii")).token or None
    return found
