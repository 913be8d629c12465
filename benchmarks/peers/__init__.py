"""Who is measured: how each server is started, so that all do the same job under the same load."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import msgspec

from ..compiling import compiled
from ..pair import SENT, Pair, Redis
from ..process import Server, StartFailed, free_port
from ..workers import Node

SECRET = "a-secret-for-benchmarks-of-32-bytes-or-more"
ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
NO_MODULES = "the peers on Node need their modules: (cd benchmarks/peers && npm install --no-package-lock)"
NO_PACKAGES = "{} is missing; install what only benchmarks need: pip install --editable '.[bench]'"

#: High enough that no limit of the service is met: limits are checked, but never refuse.
UNLIMITED = {
    "WS_MAX_CONNECTIONS": "19000",
    "RATE_LIMIT_MAX_MESSAGES": "1000000000",
    "RATE_LIMIT_MAX_CONNECTIONS": "19000",
    "MAX_ROOM_MEMBERS": "19000",
    "MAX_ROOMS_PER_CONNECTION": "20000",
    "MAX_PENDING_LOGINS": "40000",
}


def service(
    checkout: Path = ROOT, redis_url: str = "", settings: Mapping[str, str] | None = None
) -> Server:
    """This service, from a checkout; all but its limits at its defaults.

    :param redis_url: without it on the embedded broker.
    :param settings: further settings.
    """
    port = free_port()
    env = {
        **UNLIMITED,
        **({"REDIS_URL": redis_url} if redis_url else {}),
        "REALTIME_ENV": "development",
        "JWT_SECRET": SECRET,
        "JWT_REFRESH_SECRET": SECRET[::-1],
        "API_KEY": SECRET,
        "PORT": str(port),
        "API_PORT": "0",
        "METRICS_PORT": "0",
        "HEALTH_CHECK_PORT": "0",
        "PYTHONPATH": str(checkout),
        **(settings or {}),
    }
    twistd = Path(sys.executable).with_name("twistd")
    return Server([sys.executable, str(twistd), "-n", "--pidfile=", "realtime"], env, port, checkout)


#: Of cells whose rooms are quiet: the service's setting for it, and the peers'.
QUIET = {"REALTIME_CONFIG": str(HERE / "quiet.toml"), "QUIET": "1"}


def pure_service(checkout: Path = ROOT, settings: Mapping[str, str] | None = None) -> Server:
    """This service with its send loop in Python."""
    return service(checkout, settings={**(settings or {}), "NATIVE_SEND": "false"})


def service_over_redis(checkout: Path = ROOT, settings: Mapping[str, str] | None = None) -> Pair:
    """Two nodes of this service over a Redis of their own; the publisher is at the other node."""

    def hears(redis: Redis) -> bool:
        return bool(redis.ask(b"PUBSUB", b"NUMSUB", b"realtime:3:signals")[1] >= 2)

    return Pair(Redis(), lambda url: service(checkout, url, settings), hears)


def _node(script: str, settings: Mapping[str, str] | None = None, **env: str) -> Server:
    if not (HERE / "node_modules").exists() and "NODE_PATH" not in os.environ:
        raise StartFailed(NO_MODULES)
    port = free_port()
    env |= {"PORT": str(port), "JWT_SECRET": SECRET, **(settings or {})}
    return Server(["node", str(HERE / script)], env, port, ROOT)


def socket_io(settings: Mapping[str, str] | None = None) -> Server:
    """Socket.IO on Node; its modules are in this folder, or where NODE_PATH says.

    :raises StartFailed: they are not installed.
    """
    return _node("socketio_server.js", settings)


def socket_io_over_redis(adapter: str, settings: Mapping[str, str] | None = None) -> Pair:
    """Two nodes of Socket.IO over a Redis of their own; the publisher is at the other node.

    :param adapter: redis or streams; only the latter has recovery.
    """

    def hears(redis: Redis) -> bool:
        if adapter == "streams":
            return b"blocked_clients:2" in redis.ask(b"INFO", b"clients")
        return bool(redis.ask(b"PUBSUB", b"NUMSUB", b"socket.io-request#/#")[1] >= 2)

    def node(url: str) -> Server:
        return _node("socketio_server.js", settings, ADAPTER=adapter, REDIS_URL=url)

    return Pair(Redis(), node, hears, SENT | {"publish", "xadd"})


def ws() -> Server:
    """The library ws on Node, bare."""
    return _node("ws_server.js")


def python_socketio(settings: Mapping[str, str] | None = None) -> Server:
    """python-socketio under uvicorn.

    :raises StartFailed: it is not installed.
    """
    if shutil.which("uvicorn", path=Path(sys.executable).parent) is None:
        raise StartFailed(NO_PACKAGES.format("uvicorn"))
    port = free_port()
    env = {"PORT": str(port), "JWT_SECRET": SECRET, **(settings or {})}
    return Server([sys.executable, str(HERE / "python_socketio.py")], env, port, HERE)


class Nats(Server):
    """nats-server over WebSocket, on one processor as the others.

    :raises StartFailed: it is not installed.
    """

    def __init__(self) -> None:
        program = shutil.which("nats-server", path=f"{Path(sys.executable).parent}:{os.defpath}")
        if program is None:
            raise StartFailed(NO_PACKAGES.format("nats-server"))
        port = free_port()
        self._directory = tempfile.TemporaryDirectory()
        config = Path(self._directory.name) / "nats.conf"
        config.write_text(
            json.dumps(
                {
                    "listen": f"127.0.0.1:{free_port()}",
                    "websocket": {"listen": f"127.0.0.1:{port}", "no_tls": True},
                    "max_connections": 65536,
                }
            )
        )
        super().__init__([program, "--config", str(config)], {"GOMAXPROCS": "1"}, port, config.parent)


def limit(mode: str) -> Server:
    """The limit of the machine: a send loop in C.

    :param mode: loop (a send for each receiver and message) or batch (for each receiver and turn).
    """
    port = free_port()
    program = compiled("limit", ("peers/limit.c",))
    return Server([str(program), str(port), mode], {}, port, ROOT)


class Peer(msgspec.Struct, frozen=True):
    """One of those that are measured.

    :ivar speaks: what the load speaks with it: socketio, bare or nats.
        Who speaks Socket.IO is started with settings: for the peers there is only `QUIET`.
    :ivar ours: whether it is this service, whose start takes a checkout, and which has protocols beside
        Socket.IO.
    """

    start: Callable[..., Server | Pair | Node]
    speaks: str = "socketio"
    ours: bool = False


def workers(count: int, checkout: Path = ROOT, settings: Mapping[str, str] | None = None) -> Node:
    """This service over a Redis of its own, with so many workers."""
    redis = Redis()
    settings = {**(settings or {}), "WORKERS": str(count)}
    return Node(redis, service(checkout, f"redis://127.0.0.1:{redis.port}", settings), count)


#: The first is the one that the others are held against.
PEERS: dict[str, Peer] = {
    "service": Peer(service, ours=True),
    "pure": Peer(pure_service, ours=True),
    "redis": Peer(service_over_redis, ours=True),
    "worker": Peer(partial(workers, 1), ours=True),
    "workers": Peer(partial(workers, 2), ours=True),
    "socket.io": Peer(socket_io),
    "socket.io-redis": Peer(partial(socket_io_over_redis, "redis")),
    "socket.io-streams": Peer(partial(socket_io_over_redis, "streams")),
    "python-socketio": Peer(python_socketio),
    "nats": Peer(Nats, "nats"),
    "ws": Peer(ws, "bare"),
    "limit": Peer(partial(limit, "loop"), "bare"),
    "limit-batch": Peer(partial(limit, "batch"), "bare"),
}
