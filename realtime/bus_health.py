"""Bus health: what is told of the broker, of each connection to Redis, and of the relay."""

from __future__ import annotations

from typing import Any

from .broker.interface import IBroker
from .broker.redis_deployment import RedisDeployment
from .broker.redis_link import Link
from .broker.relay import Relay


def broker(bus: IBroker, redis: RedisDeployment | None) -> dict[str, Any]:
    """The broker: why it would take no publication, and with Redis each connection.

    Of a connection: ``up``; ``place``, where it is, or was last, connected to; ``trouble``, in a word, if
    it is not up; ``lastProbe``, how many milliseconds ago the server last answered a probe, and
    ``roundTrip``, how many that took.
    """
    causes = bus.causes()
    links = [] if redis is None else redis.links
    status = "healthy"
    if causes:
        status = "unhealthy"
    elif not all(link.up for link in links):
        status = "degraded"
    told: dict[str, Any] = {"status": status, "kind": "memory" if redis is None else "redis"}
    told["alive"] = not causes
    told["causes"] = causes
    if redis is not None:
        told["connections"] = {link.name: _link(link) for link in links}
    return told


def _link(link: Link) -> dict[str, Any]:
    told: dict[str, Any] = {"status": "healthy" if link.up else "unhealthy", "up": link.up}
    if link.place is not None:
        told["place"] = str(link.place)
    if not link.up:
        told["trouble"] = link.trouble
    if (probe := link.probe) is not None:
        told["lastProbe"], told["roundTrip"] = (round(seconds * 1000, 1) for seconds in probe)
    return told


def relay(relay: Relay) -> dict[str, Any]:
    """The relay of what services publish by plain PUBLISH: what this node is to it, and what it holds."""
    causes = relay.causes()
    return {
        "status": "unhealthy" if causes else "healthy",
        "state": relay.state.value,
        "causes": causes,
        "held": relay.held,
        "heldBytes": relay.held_bytes,
        "streamLag": round(relay.stream_lag * 1000, 1),
    }
