"""systemd: sockets that it opened for us (sd_listen_fds(3)), and what it is told (sd_notify(3))."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Final

#: The first descriptor that is passed.
_FIRST: Final = 3
#: What names there may be: the settings of the listeners.
_NAMES: Final = ("PORT", "API_PORT", "HEALTH_CHECK_PORT", "METRICS_PORT")


def first_environ() -> dict[str, str]:
    """The environment with which this process was started; empty where the system does not tell.

    Twisted takes systemd's variables out of `os.environ`, for endpoints of its own.
    """
    try:
        with open("/proc/self/environ", "rb") as file:
            entries = file.read().split(b"\0")
    except OSError:
        return {}
    texts = (os.fsdecode(entry).partition("=") for entry in entries)
    return {name: value for name, _, value in texts}


def descriptors(environ: Mapping[str, str], pid: int) -> dict[str, int]:
    """Listening sockets that were passed to this process, by the setting of the port that each is for.

    A socket's name (``FileDescriptorName``) is that setting; one with another name is for clients.
    """
    count = environ.get("LISTEN_FDS", "")
    if environ.get("LISTEN_PID") != str(pid) or not (count.isascii() and count.isdecimal()):
        return {}
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    found: dict[str, int] = {}
    for index in range(min(int(count), len(_NAMES))):
        name = names[index] if index < len(names) else ""
        found.setdefault(name if name in _NAMES else "PORT", _FIRST + index)
    return found


def adopt(descriptor: int) -> tuple[int, socket.AddressFamily]:
    """Make a passed socket fit for the reactor; the descriptor, and its address family."""
    os.set_inheritable(descriptor, False)
    os.set_blocking(descriptor, False)
    looked_at = socket.socket(fileno=os.dup(descriptor))
    try:
        return descriptor, socket.AddressFamily(looked_at.family)
    finally:
        looked_at.close()


def notify(environ: Mapping[str, str], state: str) -> bool:
    """Tell systemd something, such as ``READY=1``; whether it was told."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as telling:
            telling.setblocking(False)
            telling.connect("\0" + address[1:] if address[0] == "@" else address)
            telling.send(state.encode())
    except OSError:
        return False
    return True


def watchdog(environ: Mapping[str, str], pid: int) -> float:
    """Seconds after which systemd ends a process of which it hears nothing; 0 for never."""
    text = environ.get("WATCHDOG_USEC", "")
    if environ.get("WATCHDOG_PID", str(pid)) != str(pid) or not (text.isascii() and text.isdecimal()):
        return 0.0
    return int(text) / 1e6
