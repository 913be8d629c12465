"""Who is measured: how each server is started, so that all do the same job under the same load."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ..pair import Pair, Redis
from ..process import Server, StartFailed, free_port
from ..workers import Node

SECRET = "a-secret-for-benchmarks-of-32-bytes-or-more"
ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
NO_MODULES = "the peers on Node need their modules: (cd benchmarks/peers && npm install --no-package-lock)"

#: High enough that no limit of the service is met: limits are checked, but never refuse.
UNLIMITED = {
    "WS_MAX_CONNECTIONS": "19000",
    "RATE_LIMIT_MAX_MESSAGES": "1000000000",
    "RATE_LIMIT_MAX_CONNECTIONS": "19000",
    "MAX_ROOM_MEMBERS": "19000",
}


def service(checkout: Path = ROOT, redis_url: str = "", workers: int = 1) -> Server:
    """This service, from a checkout; all but its limits at its defaults.

    :param redis_url: without it on the embedded broker.
    """
    port = free_port()
    env = {
        **UNLIMITED,
        **({"REDIS_URL": redis_url} if redis_url else {}),
        **({"WORKERS": str(workers)} if workers > 1 else {}),
        "REALTIME_ENV": "development",
        "JWT_SECRET": SECRET,
        "JWT_REFRESH_SECRET": SECRET[::-1],
        "API_KEY": SECRET,
        "PORT": str(port),
        "API_PORT": "0",
        "METRICS_PORT": "0",
        "HEALTH_CHECK_PORT": "0",
        "PYTHONPATH": str(checkout),
    }
    twistd = Path(sys.executable).with_name("twistd")
    return Server([sys.executable, str(twistd), "-n", "--pidfile=", "realtime"], env, port, checkout)


def socket_io() -> Server:
    """Socket.IO on Node; its modules are in this folder, or where NODE_PATH says.

    :raises StartFailed: they are not installed.
    """
    if not (HERE / "node_modules").exists() and "NODE_PATH" not in os.environ:
        raise StartFailed(NO_MODULES)
    port = free_port()
    env = {"PORT": str(port), "JWT_SECRET": SECRET}
    return Server(["node", str(HERE / "socketio_server.js")], env, port, ROOT)


def service_over_redis(checkout: Path = ROOT) -> Pair:
    """Two nodes of this service over a Redis of their own; the publisher is at the other node."""
    return Pair(Redis(), lambda url: service(checkout, url))


def workers(count: int) -> Node:
    """This service over a Redis of its own, with so many workers."""
    redis = Redis()
    return Node(redis, service(ROOT, f"redis://127.0.0.1:{redis.port}", count), count)


#: The first is the one that the others are held against.
PEERS: dict[str, Callable[[], Server | Pair | Node]] = {
    "service": service,
    "redis": service_over_redis,
    "worker": partial(workers, 1),
    "workers": partial(workers, 2),
    "socket.io": socket_io,
}
#: Those that are measured unless others are named.
USUAL = ("service", "socket.io")
