"""Ids that are made here: unique ones for publications, secret ones for sessions."""

from __future__ import annotations

import os
import secrets


def unique_id(milliseconds: int) -> str:
    """A new id of 28 hexadecimal digits: the time, then 64 random bits. Ids sort by their time.

    :param milliseconds: since the epoch.
    """
    return f"{milliseconds & 0xFFFF_FFFF_FFFF:012x}{os.urandom(8).hex()}"


def secret_id() -> str:
    """A new id of 128 random bits that nobody can guess: 22 characters of A-Z a-z 0-9 _ -."""
    return secrets.token_urlsafe(16)
