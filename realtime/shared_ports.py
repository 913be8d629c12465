"""Shared ports: sockets on which several processes listen, each on its own, at the same address."""

from __future__ import annotations

import os
import socket
from typing import Final

from .settings import ConfigError

#: Connections waiting to be accepted by the kernel, for each process.
BACKLOG: Final = 1024


def unbound(name: str, address: str, port: int, why: str | None) -> ConfigError:
    """A port can't be had."""
    return ConfigError(
        f"{name}={port}: {address} port {port} can't be bound ({why});"
        " accepted is a free port, or 0 for any"
    )


def passed(descriptor: int, count: int) -> list[socket.socket]:
    """A socket that listens already, for each of some processes: they take what comes to it in turns."""
    return [socket.socket(fileno=os.dup(descriptor)) for _ in range(count)]


def open_shared(name: str, address: str, port: int, count: int) -> list[socket.socket]:
    """A socket for each of some processes; the kernel spreads connections among them (SO_REUSEPORT).

    :param name: the setting of the port.
    :param port: 0 for any that is free.
    :raises ConfigError: the port can't be had.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made: list[socket.socket] = []
    try:
        if port:
            # with SO_REUSEPORT alone a second service of this user would get half the clients, unnoticed
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((address, port))
                probe.listen(1)
        for _ in range(count):
            one = socket.socket(family, socket.SOCK_STREAM)
            made.append(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            one.bind((address, port))
            one.listen(BACKLOG)
            port = one.getsockname()[1]
    except OSError as error:
        for one in made:
            one.close()
        raise unbound(name, address, port, error.strerror) from None
    return made
