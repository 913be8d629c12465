"""The workers of ``examples/``, as they are, in processes of their own."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from .children import DEADLINE, Child, program, within
from .drivers import node_modules
from .service import API_KEY, ROOT

EXAMPLES = ROOT / "examples"


class BookingWorker:
    """One worker of booking queues.

    :param directory: a new directory of its own; its state file outlives its processes.
    :param target: where the gRPC API is.
    :param kind: ``python`` or ``node``.
    :ivar lines: what it told so far, over all its lives.
    :ivar faults: other lines.
    """

    def __init__(
        self, directory: Path, target: str, kind: str, *, name: str, places: int, turn: float = 300
    ) -> None:
        self.lines: list[dict[str, Any]] = []
        self.faults: list[str] = []
        self._directory = directory
        self._kind = kind
        self._environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "PYTHONPATH": str(ROOT),
            "PROTO": str(ROOT / "proto"),
            "REALTIME_GRPC": target,
            "REALTIME_KEY": API_KEY,
            "WORKER": name,
            "PLACES": str(places),
            "TURN_SECONDS": str(turn),
            "STATE": str(directory / "state.json"),
        }
        self._child = Child(self._line)

    def start(self) -> BookingWorker:
        """Start it, for the first time or once more."""
        self._directory.mkdir(exist_ok=True)
        self._child = Child(self._line)
        self._child.start(self._command(), self._environ, self._directory)
        return self

    def _command(self) -> list[str]:
        if self._kind == "python":
            return [sys.executable, str(EXAMPLES / "python" / "booking_worker.py")]
        # Node looks for packages beside the script: here they are those of the tests.
        script = self._directory / "booking_worker.mjs"
        shutil.copy(EXAMPLES / "node" / "booking_worker.mjs", script)
        packages = self._directory / "node_modules"
        if not packages.exists():
            packages.symlink_to(node_modules())
        return [program("node"), str(script)]

    async def kill(self) -> None:
        """End it by SIGKILL."""
        if self._child.running:
            self._child.transport.signalProcess("KILL")
            await within(DEADLINE, self._child.ended(), lambda: "the worker's end")

    def told(self, what: str, **fields: Any) -> list[dict[str, Any]]:
        """What it told so far of a kind, with these fields."""
        wanted = {"what": what, **fields}
        return [line for line in self.lines if wanted.items() <= line.items()]

    def _line(self, line: str) -> None:
        try:
            self.lines.append(json.loads(line))
        except ValueError:
            self.faults.append(line)
