"""Tests of ``twistd realtime`` as real processes: start, failed start, end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parents[1]
ANY_PORTS = dict.fromkeys(("PORT", "API_PORT", "HEALTH_CHECK_PORT", "METRICS_PORT"), "0")

#: A service like the real one but for its end, which it never reaches.
ENDLESS = """
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from realtime import tap

Options = tap.Options

class Node(Service):
    def __init__(self, settings, *, clock, wall, on_ready):
        clock.callWhenRunning(on_ready, {"PORT": 1})

    def stopService(self):
        return Deferred()

def makeService(options):
    return tap.makeService(options, Node)
"""
PLUGIN = """
from twisted.application.service import ServiceMaker
endless = ServiceMaker("endless", "endless_tap", "never ends", "endless")
"""


class Process:
    """A running twistd, in a directory of its own; its output is read as it comes."""

    def __init__(self, directory: Path, arguments: Iterable[str], environ: Mapping[str, str]) -> None:
        path = os.pathsep.join([str(directory), str(ROOT)])
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from twisted.scripts.twistd import run; run()", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=directory,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": path, **ANY_PORTS, **environ},
        )
        assert self.process.stderr is not None
        self._errors: list[str] = []
        self._reader = threading.Thread(target=self._errors.extend, args=[self.process.stderr])
        self._reader.start()
        self.lines: list[str] = []
        # one that should end and does not must fail its test, not hold it up
        self._watchdog = threading.Timer(60, self.process.kill)
        self._watchdog.start()

    def read_until(self, text: str) -> None:
        """Read standard output to the line that holds a text, or to its end."""
        assert self.process.stdout is not None
        for written in self.process.stdout:
            self.lines.append(written)
            if text in written:
                return

    def end(self) -> tuple[int, str]:
        """Wait for its end; its exit status and standard error."""
        self.read_until("\0")
        status = self.process.wait(60)
        self._watchdog.cancel()
        self._reader.join(60)
        assert self.process.stdout is not None and self.process.stderr is not None
        self.process.stdout.close()
        self.process.stderr.close()
        return status, "".join(self._errors)

    def kill(self) -> None:
        """End it if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
            self.end()


class ProcessTests(SynchronousTestCase):
    """Real twistd processes."""

    timeout = 120

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()

    def twistd(self, *arguments: str, **environ: str) -> Process:
        process = Process(self.folder, arguments, environ)
        self.addCleanup(process.kill)
        return process

    def taken_port(self) -> int:
        """A port on which another socket listens until the test ends."""
        taken = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(taken.close)
        port = taken.getsockname()[1]
        assert isinstance(port, int)
        return port

    def test_serves(self) -> None:
        """It logs JSON lines, greets with a token that is not in the log, and ends in peace."""
        process = self.twistd("-n", "--pidfile=", "realtime")
        process.read_until("socket.onAny(")
        process.process.terminate()
        self.assertEqual(process.end(), (0, ""))
        text = "".join(process.lines)
        token = text.partition("A token for alice:\n")[2].split()[0]
        self.assertEqual(token.count("."), 2)
        entries = [json.loads(written) for written in process.lines if written.startswith("{")]
        self.assertTrue(entries)
        self.assertNotIn(token, json.dumps(entries))
        self.assertEqual({entry["level"] for entry in entries}, {"info"})
        self.assertIn("stopping: SIGTERM", [entry["message"] for entry in entries])

    def test_second_signal(self) -> None:
        """Whoever will not wait for the drain asks twice."""
        plugins = self.folder / "twisted" / "plugins"
        plugins.mkdir(parents=True)
        (plugins / "endless_plugin.py").write_text(PLUGIN)
        (self.folder / "endless_tap.py").write_text(ENDLESS)
        process = self.twistd("-n", "--pidfile=", "endless")
        process.read_until("socket.onAny(")
        process.process.send_signal(signal.SIGINT)
        process.read_until("stopping: SIGINT")
        process.process.terminate()
        self.assertEqual(process.end(), (-signal.SIGTERM, ""))

    def test_wrong_settings(self) -> None:
        """One line per fault, no traceback, nothing left behind."""
        process = self.twistd("realtime", "--ws-path=x", PORT="y")
        status, errors = process.end()
        self.assertEqual(status, 1)
        self.assertEqual(
            [written.partition("=")[0] for written in errors.splitlines()], ["PORT", "--ws-path"]
        )
        self.assertEqual((process.lines, os.listdir(self.folder)), ([], []))

    def test_port_in_use(self) -> None:
        """One line that names the address, the port and the setting, for each listener."""
        port = self.taken_port()
        for name in ANY_PORTS:
            process = self.twistd("-n", "realtime", **{name: str(port)})
            status, errors = process.end()
            self.assertEqual((status, len(errors.splitlines())), (1, 1), errors)
            for part in (name, "127.0.0.1", str(port)):
                self.assertIn(part, errors)
            self.assertNotIn("Traceback", "".join(process.lines))
            self.assertFalse((self.folder / "twistd.pid").exists())

    def test_port_in_use_as_daemon(self) -> None:
        """The shell that started it learns of it too."""
        port = self.taken_port()
        status, errors = self.twistd("realtime", PORT=str(port)).end()
        self.assertEqual(status, 1)
        self.assertIn("PORT", errors)
        self.assertNotIn("Traceback", errors)
        log = (self.folder / "twistd.log").read_text()
        entries = [json.loads(written) for written in log.splitlines()]
        self.assertEqual(entries[-1]["level"], "critical")
        self.assertIn(str(port), entries[-1]["message"])
        self.assertFalse((self.folder / "twistd.pid").exists())
