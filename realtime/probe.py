"""Probe: asks a node for its health, as a container's health check does; and tells it to drain."""

from __future__ import annotations

import http.client
import json
import os
import signal
import time
from typing import Any, Final, TextIO

#: What may be asked for, and where it is.
VIEWS: Final = {"report": "/health", "live": "/health/live", "ready": "/health/ready"}
#: Bytes of an answer that are read.
_LONGEST: Final = 65536
#: Seconds between two looks at a node that drains.
_PAUSE: Final = 0.2
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


def drain(address: str, port: int, hurry: bool, timeout: float, out: TextIO) -> None:
    """Have a node on this machine drain and end, by SIGTERM; returns after its end.

    :param hurry: whether to tell it twice.
    :param timeout: seconds until its end.
    :param out: is told how many clients are left.
    :raises Unreachable: it does not answer, is on another machine, or does not end in time.
    """
    told = _report(address, port)
    if told is None:
        raise Unreachable(f"{address} port {port} answers, and not with the health of a node")
    pid, left = told
    ends = time.monotonic() + timeout
    _signal(pid)
    if hurry:
        # the first one is to be taken before the second is sent: signals of a kind do not queue
        _wait_for_draining(address, port, ends)
        _signal(pid)
    while _runs(pid):
        if time.monotonic() > ends:
            raise Unreachable(f"process {pid} has not ended in {timeout:g} s; {left} clients are left")
        try:
            now = _report(address, port)
        except Unreachable:
            now = None  # its ports are closed last
        if now is not None and now[1] != left:
            left = now[1]
            print(f"{left} clients are left", file=out, flush=True)
        time.sleep(_PAUSE)
    print(f"process {pid} has ended", file=out)


def _report(address: str, port: int) -> tuple[int, int] | None:
    """The process of a node, and how many clients it has."""
    try:
        told: Any = json.loads(ask(address, port, "report", 3.0)[1])
        return int(told["pid"]), int(told["connections"]["open"])
    except (ValueError, KeyError, TypeError):
        return None


def _wait_for_draining(address: str, port: int, ends: float) -> None:
    while time.monotonic() < ends:
        try:
            if "draining" in ask(address, port, "ready", 3.0)[1]:
                return
        except Unreachable:
            return
        time.sleep(_PAUSE)


def _signal(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGTERM)
    except OSError as error:
        raise Unreachable(f"process {pid} can't be told: {error.strerror}") from None


def _runs(pid: int) -> bool:
    """Whether the process is there, and not only waits for its parent to take notice of its end."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
