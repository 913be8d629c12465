"""What a coroutine or a Deferred comes to, where nothing has to be waited for."""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


def result(awaitable: Awaitable[T]) -> T:
    """Its result, or its exception."""
    deferred: Any = awaitable
    if isinstance(awaitable, Coroutine):
        deferred = Deferred.fromCoroutine(awaitable)
    found: list[Any] = []
    deferred.addBoth(found.append)
    if not found:
        raise AssertionError("it has to wait")
    if isinstance(found[0], Failure):
        found[0].raiseException()
    value: T = found[0]
    return value
