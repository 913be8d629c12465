"""`Haproxy`: a real HAProxy with the configuration that operators are given, before a fleet."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from tests.clients.children import Child, program
from tests.clients.service import ROOT

from .fleet import Node, steady_port

CONFIGURATION = ROOT / "docker/haproxy/haproxy.cfg"


class Haproxy:
    """One process.

    :param directory: a directory that is there, for its configuration.
    """

    def __init__(self, directory: Path) -> None:
        self.port = steady_port()
        self._path = directory / "haproxy.cfg"
        self.log: list[str] = []
        self._child = Child(self.log.append)

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"http://127.0.0.1:{self.port}"

    def start(self, nodes: Sequence[Node]) -> None:
        """Start it before these nodes: one line for each, like that of the first."""
        lines = CONFIGURATION.read_text().splitlines()
        first = next(line for line in lines if line.strip().startswith("server node1 "))
        lines = [line for line in lines if not line.strip().startswith("server ")]
        environ = {"PATH": os.environ["PATH"], "BIND": f"127.0.0.1:{self.port}"}
        environ |= {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
        for number, node in enumerate(nodes, 1):
            lines.append(first.replace("node1", f"node{number}").replace("NODE1", f"NODE{number}"))
            environ[f"NODE{number}"] = f"127.0.0.1:{node.port}"
            environ[f"NODE{number}_HEALTH"] = str(node.service.ports["HEALTH_CHECK_PORT"])
        self._path.write_text("\n".join([*lines, ""]))
        self._child.start([program("haproxy"), "-db", "-f", str(self._path)], environ, self._path.parent)

    async def stop(self) -> None:
        """End it."""
        await self._child.stop(10, "TERM")
