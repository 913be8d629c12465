"""Ids that are made here: unique ones for publications, secret ones for sessions."""

from __future__ import annotations

import hashlib
import os
import secrets


def unique_id(milliseconds: int) -> str:
    """A new id of 28 hexadecimal digits: the time, then 64 random bits. Ids sort by their time.

    :param milliseconds: since the epoch.
    """
    return f"{milliseconds & 0xFFFF_FFFF_FFFF:012x}{os.urandom(8).hex()}"


def session_number(connection: str) -> int:
    """The number by which WAMP names a connection: from 1 to 2^53, the same on every node."""
    digest = hashlib.blake2b(connection.encode(), digest_size=8).digest()
    return 1 + int.from_bytes(digest, "big") % 2**53


def secret_id() -> str:
    """A new id of 128 random bits that nobody can guess: 22 characters of A-Z a-z 0-9 _ -."""
    return secrets.token_urlsafe(16)
