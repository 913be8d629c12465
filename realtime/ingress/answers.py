"""Answers: the JSON that our own HTTP listeners give, and how they say no."""

from __future__ import annotations

import math
from typing import Any

import msgspec
from twisted.web.http import Request

from ..errors import RealtimeError, Unauthorized


def json_answer(request: Request, value: Any, status: int = 200) -> bytes:
    """A JSON body, with headers that keep browsers and caches from doing anything with it."""
    body = msgspec.json.encode(value)
    request.setResponseCode(status)
    request.setHeader(b"Content-Type", b"application/json")
    request.setHeader(b"Content-Length", b"%d" % len(body))
    request.setHeader(b"Cache-Control", b"no-store")
    request.setHeader(b"X-Content-Type-Options", b"nosniff")
    return body


def refusal(request: Request, error: RealtimeError) -> bytes:
    """``{"error": {"code", "message"}}`` with the status that the error stands for."""
    if isinstance(error, Unauthorized):
        request.setHeader(b"WWW-Authenticate", b'Bearer realm="realtime"')
    if error.retry_after is not None:
        request.setHeader(b"Retry-After", b"%d" % max(1, math.ceil(error.retry_after)))
    told = {"error": {"code": error.code, "message": error.message}}
    return json_answer(request, told, error.status)
