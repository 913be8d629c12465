"""Payloads of ``queue:position``, ``queue:proceed``, ``queue:left``: what clients are sent of queues."""

from __future__ import annotations

from typing import Any

import msgspec

from .interface import Proceed

_encode = msgspec.json.Encoder().encode


def position_payload(event: str, position: int, total: int | None, wait: int | None, now: int) -> bytes:
    """``queue:position``: how many are before, this one counted; `wait` is milliseconds, as expected."""
    told: dict[str, Any] = {"eventId": event, "position": position}
    if total is not None:
        told["total"] = total
    if wait is not None:
        told["estimatedWait"] = wait
    return _encode({**told, "timestamp": now})


def proceed_parts(proceed: Proceed, now: int) -> tuple[bytes, bytes]:
    """``queue:proceed``: what stands before, and after, the proceed's id."""
    before = _encode({"eventId": proceed.event})[:-1] + b',"proceedId":'
    after = {"token": proceed.token, "expiresAt": proceed.expires, "timestamp": now}
    return before, b"," + _encode(after)[1:]


def proceed_payload(proceed: Proceed, now: int) -> bytes:
    """``queue:proceed``"""
    before, after = proceed_parts(proceed, now)
    return before + _encode(proceed.id) + after


def left_payload(event: str, reason: str, now: int) -> bytes:
    """``queue:left``"""
    return _encode({"eventId": event, "reason": reason, "timestamp": now})
