"""Sockets that systemd passes, and what it is told: the protocol by itself, and the service started so."""

from __future__ import annotations

import configparser
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from realtime.settings import SETTINGS
from realtime.systemd import descriptors, notify, watchdog

ROOT = Path(__file__).parents[1]
#: Puts a socket where systemd puts it, and becomes the service.
START = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="PORT")
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


class ProtocolTests(SynchronousTestCase):
    def test_descriptors(self) -> None:
        """By name; what has no name of ours is for clients; none that were meant for another process."""
        base = {"LISTEN_PID": "7", "LISTEN_FDS": "2"}
        for names, found in (
            ("PORT:API_PORT", {"PORT": 3, "API_PORT": 4}),
            ("METRICS_PORT:realtime.socket", {"METRICS_PORT": 3, "PORT": 4}),
            ("unknown:unknown", {"PORT": 3}),
            ("", {"PORT": 3}),
        ):
            self.assertEqual(descriptors({**base, "LISTEN_FDNAMES": names}, 7), found)
        self.assertEqual(descriptors(base, 8), {})
        self.assertEqual(descriptors({**base, "LISTEN_FDS": "x"}, 7), {})
        self.assertEqual(descriptors({}, 7), {})

    def test_notify(self) -> None:
        """By path and by abstract name; nobody there is no fault."""
        name = f"@realtime-{os.getpid()}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
            systemd.bind("\0" + name[1:])
            self.assertTrue(notify({"NOTIFY_SOCKET": name}, "READY=1"))
            self.assertEqual(systemd.recv(100), b"READY=1")
        self.assertFalse(notify({"NOTIFY_SOCKET": name}, "READY=1"))
        self.assertFalse(notify({}, "READY=1"))

    def test_watchdog(self) -> None:
        self.assertEqual(watchdog({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 7), 30)
        self.assertEqual(watchdog({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, 7), 0)
        self.assertEqual(watchdog({}, 7), 0)


class ServiceTests(SynchronousTestCase):
    timeout = 60

    def test_activated(self) -> None:
        """It serves on the socket that it is given, says when it is up, that it lives, and that it ends."""
        # a path of a socket has to be short
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(systemd.close)
        systemd.bind(f"{folder}/notify")
        systemd.settimeout(50)
        clients = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(clients.close)
        environ = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "NOTIFY_SOCKET": f"{folder}/notify",
            "WATCHDOG_USEC": "600000",
            **dict.fromkeys(("PORT", "API_PORT", "HEALTH_CHECK_PORT", "METRICS_PORT"), "0"),
        }
        twistd = Path(sys.executable).with_name("twistd")
        started = subprocess.Popen(
            [
                *(sys.executable, "-c", START, str(clients.fileno()), str(twistd)),
                *("-n", "--pidfile=", "realtime"),
            ],
            cwd=folder,
            env=environ,
            pass_fds=(clients.fileno(),),
            stdout=subprocess.DEVNULL,
        )
        self.addCleanup(started.wait)
        self.addCleanup(started.kill)
        self.assertEqual(systemd.recv(100), b"READY=1")
        self.assertEqual(systemd.recv(100), b"WATCHDOG=1")
        port = clients.getsockname()[1]
        url = f"http://127.0.0.1:{port}/socket.io/?EIO=4&transport=polling"
        with urllib.request.urlopen(url, timeout=20) as answer:
            self.assertEqual(answer.read(1), b"0")
        self.assertEqual(systemd.recv(100), b"WATCHDOG=1")
        started.terminate()
        while (told := systemd.recv(100)) == b"WATCHDOG=1":
            pass
        self.assertEqual(told, b"STOPPING=1")
        self.assertEqual(started.wait(30), 0)


class UnitTests(SynchronousTestCase):
    """docker/systemd."""

    def test_units(self) -> None:
        """They name what there is, and leave time for a drain."""
        units = {}
        for name in ("service", "socket"):
            units[name] = configparser.RawConfigParser(strict=False)
            units[name].optionxform = str  # type: ignore[assignment,method-assign]
            units[name].read(ROOT / f"docker/systemd/realtime.{name}")
        self.assertEqual(units["socket"]["Socket"]["ListenStream"], SETTINGS["PORT"].default)
        self.assertEqual(units["socket"]["Socket"]["FileDescriptorName"], "PORT")
        service = units["service"]["Service"]
        self.assertEqual(service["Type"], "notify")
        drain = sum(int(SETTINGS[name].production) for name in ("DRAIN_SETTLE", "DRAIN_TIMEOUT"))
        self.assertGreater(int(service["TimeoutStopSec"]) * 1000, drain + 5000)
