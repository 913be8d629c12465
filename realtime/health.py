"""Health: whether this node lives, whether it wants traffic, and how it does."""

from __future__ import annotations

import enum
import os
from collections.abc import Callable
from typing import Any, Final

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


class Phase(enum.Enum):
    """Where a node is in its life."""

    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"


def resident_bytes() -> int:
    """The memory of this process that is in RAM; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", "rb") as statm:
            return int(statm.read().split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return 0


class Health:
    """What a node says of itself to load balancers and operators.

    :ivar phase: set by the node.
    :param node: this node's id.
    :param seconds: a monotonic clock; uptime counts from now.
    :param limit: the most connections (WS_MAX_CONNECTIONS).
    :param connections: how many there are.
    :param broker: why the bus would take no publication now: stable words; none if it would.
    :param memory: resident bytes.
    """

    def __init__(
        self,
        *,
        node: str,
        version: str,
        seconds: Callable[[], float],
        limit: int,
        connections: Callable[[], int],
        broker: Callable[[], list[str]],
        memory: Callable[[], int] = resident_bytes,
    ) -> None:
        self.phase = Phase.STARTING
        self._node = node
        self._version = version
        self._seconds = seconds
        self._started = seconds()
        self._limit = limit
        self._connections = connections
        self._broker = broker
        self._memory = memory

    def causes(self) -> list[str]:
        """Why the node should get no new connections: stable words; empty if it should."""
        causes = []
        if self.phase is not Phase.SERVING:
            causes.append(self.phase.value)
        return causes + self._broker()

    def readiness(self) -> dict[str, Any]:
        """``{status: ready}``, or ``{status: unavailable, causes}``."""
        causes = self.causes()
        return {"status": "unavailable", "causes": causes} if causes else {"status": "ready"}

    def liveness(self) -> dict[str, Any]:
        """``{status: alive}``: that it answers is the answer."""
        return {"status": "alive"}

    def report(self) -> dict[str, Any]:
        """All that operators ask first; uptime in whole seconds, memory in bytes."""
        causes = self.causes()
        return {
            "status": "unhealthy" if causes else "healthy",
            "causes": causes,
            "service": "realtime",
            "version": self._version,
            "node": self._node,
            "phase": self.phase.value,
            "uptime": int(self._seconds() - self._started),
            "connections": {"open": self._connections(), "limit": self._limit},
            "memory": {"resident": self._memory()},
            "broker": {"alive": not self._broker()},
        }
