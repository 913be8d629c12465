"""Probe: asks a node for its health, as a container's health check does."""

from __future__ import annotations

import http.client
from typing import Final

#: What may be asked for, and where it is.
VIEWS: Final = {"report": "/health", "live": "/health/live", "ready": "/health/ready"}
#: Bytes of an answer that are read.
_LONGEST: Final = 65536
#: Addresses that stand for all of the machine, and where that is reached.
_ANY: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  what is compared, not bound


class Unreachable(Exception):
    """Nobody answers; the text says where, and why."""


def ask(address: str, port: int, view: str, timeout: float) -> tuple[bool, str]:
    """Whether a node is well, and its answer.

    :param address: where its health is served (API_BIND_ADDRESS).
    :param view: one of `VIEWS`.
    :param timeout: seconds.
    :raises Unreachable: there is no answer.
    """
    if not port:
        raise Unreachable("HEALTH_CHECK_PORT=0: a probe needs a port that is known beforehand")
    host = _ANY.get(address, address)
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        connection.request("GET", VIEWS[view])
        answer = connection.getresponse()
        return answer.status == 200, answer.read(_LONGEST).decode("utf-8", "backslashreplace")
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(f"{host} port {port} does not answer: {error or type(error).__name__}") from None
    finally:
        connection.close()
