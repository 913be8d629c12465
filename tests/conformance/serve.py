"""Serves on 127.0.0.1 what public suites test: any client port; Engine.IO with their timings."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.interfaces import IListeningPort
from twisted.python.failure import Failure

from realtime.transport.door import DoorFactory
from realtime.transport.engine import EngineServer, EngineSocket
from realtime.transport.origins import Origins
from realtime.transport.polling import PollingResource
from realtime.transport.site import Site
from realtime.transport.websocket import WebSockets

MAX_PAYLOAD = 1_000_000


def client_port(clock: Any, path: str, accept: Callable[[EngineSocket], Any]) -> DoorFactory:
    """Engine.IO under a path: ping interval 300 ms, ping timeout 200 ms, at most 1,000,000 bytes."""
    engine = EngineServer(
        clock=clock,
        ping_interval=0.3,
        ping_timeout=0.2,
        max_payload=MAX_PAYLOAD,
        max_queue_bytes=4 * MAX_PAYLOAD,
        origins=Origins([f"http://{host}:*" for host in ("localhost", "127.0.0.1")]),
        accept=accept,
    )
    return DoorFactory(
        clock=clock,
        site=Site({path: PollingResource(engine)}),
        upgrades={path: engine},
        websockets=WebSockets(clock, max_message=MAX_PAYLOAD, message_timeout=10.0),
        head_timeout=5.0,
        body_timeout=10.0,
    )


def serve(port: int, path: str, accept: Callable[[EngineSocket], Any]) -> None:
    """Serve Engine.IO until SIGTERM.

    :param path: such as ``/engine.io``, without a slash at the end.
    :param accept: makes the `IReceiver` of a session.
    """
    listen(port, f"{path}/", client_port(reactor, path, accept))


def listen(port: int, path: str, factory: DoorFactory) -> None:
    """Serve until SIGTERM; one line on stdout says where, once connections are taken."""
    listening = TCP4ServerEndpoint(reactor, port, backlog=1024, interface="127.0.0.1").listen(factory)

    def told(port: IListeningPort) -> None:
        print(f"listening on http://127.0.0.1:{port.getHost().port}{path}", flush=True)

    def failed(failure: Failure) -> None:
        print(failure.getErrorMessage(), file=sys.stderr)
        reactor.stop()

    listening.addCallbacks(told, failed)
    reactor.run()
