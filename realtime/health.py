"""Health: whether this node lives, whether it wants traffic, and how each of its parts does."""

from __future__ import annotations

import enum
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from .pulse import Pulse


class Phase(enum.Enum):
    """Where a node is in its life."""

    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"


#: The states of a part, from best to worst.
STATES: Final = ("healthy", "degraded", "unhealthy")

#: What a part says of itself: ``status``, one of `STATES`, and its figures.
Part = Mapping[str, Any]


def worst(states: Iterable[str]) -> str:
    """The worst of some states; ``healthy`` if there are none."""
    return max(states, key=STATES.index, default="healthy")


class Health:
    """What a node says of itself to load balancers and operators.

    :ivar phase: set by the node.
    :param node: this node's id.
    :param seconds: a monotonic clock; uptime counts from now.
    :param pulse: measures the reactor's lag and the memory.
    :param max_lag: seconds of lag past which the reactor counts as stuck.
    :param limit: the most connections (WS_MAX_CONNECTIONS).
    :param connections: how many there are.
    :param bus: why the bus would take no publication now: stable words; none if it would.
    :param parts: further parts by name; all of `report` comes of memory, none waits for anything.
    """

    def __init__(
        self,
        *,
        node: str,
        version: str,
        seconds: Callable[[], float],
        pulse: Pulse,
        max_lag: float,
        limit: int,
        connections: Callable[[], int],
        bus: Callable[[], list[str]],
        parts: Mapping[str, Callable[[], Part]],
    ) -> None:
        self.phase = Phase.STARTING
        self._node = node
        self._version = version
        self._seconds = seconds
        self._started = seconds()
        self._pulse = pulse
        self._max_lag = max_lag
        self._limit = limit
        self._connections = connections
        self._bus = bus
        self._parts: dict[str, Callable[[], Part]] = {
            "reactor": self._reactor,
            "memory": self._memory,
            "connections": self._clients,
            **parts,
        }

    @property
    def full(self) -> bool:
        """Whether there is no memory for new connections."""
        return self._pulse.full

    @property
    def live(self) -> bool:
        """Whether the reactor turns in time. Nothing outside of this process has a part in it."""
        return self._pulse.lag <= self._max_lag

    def causes(self) -> list[str]:
        """Why the node should get no new connections: stable words; empty if it should."""
        causes = []
        if self.phase is not Phase.SERVING:
            causes.append(self.phase.value)
        if self.full:
            causes.append("memory_limit")
        return causes + self._bus()

    def readiness(self) -> dict[str, Any]:
        """``{status: ready}``, or ``{status: unavailable, causes}``."""
        causes = self.causes()
        return {"status": "unavailable", "causes": causes} if causes else {"status": "ready"}

    def liveness(self) -> dict[str, Any]:
        """``{status: alive}``, or ``{status: stuck, lag}`` while the reactor is late (milliseconds)."""
        if self.live:
            return {"status": "alive"}
        return {"status": "stuck", "lag": _milliseconds(self._pulse.lag)}

    def report(self) -> dict[str, Any]:
        """All that operators ask first: a ``status`` of the whole and of each part, and its figures.

        The whole is ``unhealthy`` while there are causes against new connections, else ``degraded`` if
        one of the parts is not healthy. Uptime is in whole seconds, other times are in milliseconds,
        memory is in bytes.
        """
        causes = self.causes()
        parts = {name: part() for name, part in self._parts.items()}
        if causes:
            status = "unhealthy"
        else:
            status = (
                "healthy" if worst(part["status"] for part in parts.values()) == "healthy" else "degraded"
            )
        return {
            "status": status,
            "causes": causes,
            "service": "realtime",
            "version": self._version,
            "node": self._node,
            "pid": os.getpid(),
            "phase": self.phase.value,
            "uptime": int(self._seconds() - self._started),
            **parts,
        }

    def _reactor(self) -> Part:
        return {
            "status": "healthy" if self.live else "unhealthy",
            "lag": _milliseconds(self._pulse.lag),
            "worstLag": _milliseconds(self._pulse.worst),
            "maxLag": _milliseconds(self._max_lag),
        }

    def _memory(self) -> Part:
        return {
            "status": "unhealthy" if self.full else "healthy",
            "resident": self._pulse.resident,
            "limit": self._pulse.limit or None,
        }

    def _clients(self) -> Part:
        count = self._connections()
        return {
            "status": "degraded" if count >= self._limit else "healthy",
            "open": count,
            "limit": self._limit,
        }


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 1)
