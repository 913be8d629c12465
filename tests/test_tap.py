"""Tests of the tap, in this process: options, log, start and failed start. See also test_twistd."""

from __future__ import annotations

import io
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jwt
from twisted.application.service import Application, Service
from twisted.internet import reactor
from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher
from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from realtime import state, tap
from realtime.settings import SETTINGS, ConfigError, Settings, option

SECRET = "0123456789abcdef0123456789abcdef"
PRODUCTION = {
    "REALTIME_ENV": "production",
    "JWT_SECRET": SECRET,
    "API_KEY": SECRET,
    "WS_ALLOWED_ORIGINS": "https://example.com",
}


class Recorded(Service):
    """A service that says with what it was made."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Any,
        wall: Callable[[], float],
        on_ready: Callable[[Mapping[str, int]], None],
    ) -> None:
        self.settings, self.clock, self.wall, self.on_ready = settings, clock, wall, on_ready
        self.seconds = clock.seconds

    def reload(self) -> None:
        """Read the configuration again."""


class TapCase(SynchronousTestCase):
    """Makes the service in this process, with a state file of the test's own."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.patch(reactor, "seconds", reactor.seconds)
        self.made: list[Recorded] = []
        self.when_running: list[Callable[[], None]] = []
        self.patch(
            tap.reactor,
            "callWhenRunning",
            lambda call, *given: self.when_running.append(partial(call, *given)),
        )
        self.patch(resource, "setrlimit", lambda *_: None)
        self.events: list[LogEvent] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    def node(self, *arguments: Any, **more: Any) -> Recorded:
        self.made.append(Recorded(*arguments, **more))
        return self.made[-1]

    def make(
        self, *arguments: str, twistd: Mapping[str, object] | None = None, **environ: str
    ) -> tap.Realtime:
        options = tap.Options()
        options.parent = None if twistd is None else dict(twistd)  # type: ignore[assignment]
        options.parseOptions(arguments)
        environ = {"REALTIME_STATE": str(self.folder / "state"), **environ}
        service = tap.makeService(options, self.node, environ)
        assert isinstance(service, tap.Realtime)
        return service


class OptionsTests(SynchronousTestCase):
    """Every setting is an option."""

    def test_every_setting(self) -> None:
        arguments = [part for name in SETTINGS for part in (f"--{option(name)}", f"value of {name}")]
        options = tap.Options()
        options.parseOptions(arguments)
        self.assertEqual(dict(options), {option(name): f"value of {name}" for name in SETTINGS})

    def test_none_given(self) -> None:
        options = tap.Options()
        options.parseOptions([])
        self.assertEqual(set(options.values()), {None})

    def test_unknown(self) -> None:
        for arguments in (["--no-such-option", "1"], ["stray"], ["--port"]):
            self.assertRaises(usage.UsageError, tap.Options().parseOptions, arguments)

    def test_help(self) -> None:
        """The help shows each option with its meaning and default, and never a secret."""
        text = " ".join(str(tap.Options()).split())
        for name in SETTINGS:
            self.assertIn(f"--{option(name)}=", text)
        self.assertIn("Time between two pings to a client. (milliseconds, default 25000)", text)


class MakeTests(TapCase):
    """The node is made from the settings, with a clock that no step of the wall clock stops."""

    def test_node(self) -> None:
        service = self.make("--ws-path", "/live", WS_PATH="/other", WS_PING_INTERVAL="7000")
        (node,) = self.made
        self.assertEqual(list(service), [node])
        self.assertEqual((node.settings.ws_path, node.settings.ws_ping_interval), ("/live", 7.0))
        self.assertIs(node.clock, reactor)
        self.assertIs(node.wall, time.time)
        self.assertIs(node.seconds, time.monotonic)

    def test_faults(self) -> None:
        """Wrong settings end the process with their lines, before anything is made."""
        error = self.assertRaises(SystemExit, self.make, "--port", "x", WS_PATH="y")
        self.assertEqual(
            str(error.code),
            "--port='x': accepted is a whole number from 0 to 65535\n"
            "WS_PATH='y': accepted is a path that starts with /, such as /socket.io",
        )
        self.assertEqual((self.made, os.listdir(self.folder)), ([], []))

    def test_warnings(self) -> None:
        """A variable that is no setting is a warning in the log."""
        self.make(WS_PAHT="/x")
        (event,) = [event for event in self.events if "WS_PAHT" in event.get("text", "")]
        self.assertEqual(event["text"], "WS_PAHT is not a setting; did you mean WS_PATH?")
        self.assertIs(event["log_level"], LogLevel.warn)

    def limit(self, soft: int, hard: int) -> list[tuple[int, int]]:
        """The limits set on a machine with these limits of open files, for 10000 connections."""
        set_to: list[tuple[int, int]] = []
        self.patch(resource, "getrlimit", lambda which: (soft, hard))
        self.patch(resource, "setrlimit", lambda which, limits: set_to.append(limits))
        self.make()
        return set_to

    def test_open_files(self) -> None:
        """The limit is raised as far as it may be; if that is too low it is said."""
        unlimited = resource.RLIM_INFINITY
        self.assertEqual(self.limit(1024, 50000), [(10256, 50000)])
        self.assertEqual(self.limit(1024, unlimited), [(10256, unlimited)])
        self.assertEqual(self.limit(20000, 50000), [])
        self.assertEqual(self.limit(unlimited, unlimited), [])
        self.assertEqual([event for event in self.events if "wanted" in event], [])
        self.assertEqual(self.limit(1024, 4096), [(4096, 4096)])
        (event,) = [event for event in self.events if "wanted" in event]
        self.assertEqual((event["most"], event["wanted"]), (4096, 10256))


class BannerTests(TapCase):
    """A development server in the foreground greets once it serves; others never print a token."""

    def greeting(self, twistd: Mapping[str, object] | None, **environ: str) -> str:
        stdout = io.StringIO()
        self.patch(sys, "__stdout__", stdout)
        self.make(twistd=twistd, **environ)
        self.when_running.clear()
        self.made[-1].on_ready({"PORT": 4711})
        self.assertEqual(stdout.getvalue(), "")
        for call in self.when_running:
            call()
        return stdout.getvalue()

    def test_foreground(self) -> None:
        text = self.greeting({"nodaemon": 1})
        self.assertIn("http://127.0.0.1:4711/socket.io", text)
        token = text.partition("A token for alice:\n")[2].split()[0]
        made = state.read(str(self.folder / "state"))
        assert made is not None
        claims = jwt.decode(token, made["JWT_SECRET"], ["HS256"])
        self.assertEqual(claims["sub"], "alice")
        self.assertNotIn(token, repr(self.events))

    def test_no_token_elsewhere(self) -> None:
        """Neither a daemon, nor production, nor a .tac file prints one."""
        self.assertEqual(self.greeting({"nodaemon": 0}), "")
        self.assertEqual(self.greeting(None), "")
        self.assertEqual(self.greeting({"nodaemon": 1}, **PRODUCTION), "")


class LogTests(TapCase):
    """The application gets an observer that writes JSON lines where twistd's options say."""

    def observer(
        self, environ: Mapping[str, str] | None = None, **twistd: object
    ) -> Callable[[LogEvent], None] | None:
        application = Application("test")
        self.make(twistd=twistd, **(environ or {})).setServiceParent(application)
        found: Callable[[LogEvent], None] | None = application.getComponent(ILogObserver, None)
        return found

    def write(self, environ: Mapping[str, str] | None = None, **twistd: object) -> None:
        observer = self.observer(environ, **twistd)
        assert observer is not None
        observer({"log_format": "hello", "log_time": 0.0})

    def assert_line(self, text: str) -> None:
        self.assertEqual(json.loads(text)["message"], "hello")
        self.assertTrue(text.endswith("}\n"))

    def test_file(self) -> None:
        path = self.folder / "log"
        self.write(logfile=str(path), nodaemon=0)
        self.assert_line(path.read_text())
        self.write(logfile=str(path), nodaemon=1)
        self.assertEqual(len(path.read_text().splitlines()), 2)

    def test_file_of_a_daemon(self) -> None:
        """A daemon that was not told where logs to twistd.log, as twistd does."""
        before = os.getcwd()
        self.addCleanup(os.chdir, before)
        os.chdir(self.folder)
        self.write(logfile=None, nodaemon=0)
        self.assert_line((self.folder / "twistd.log").read_text())

    def test_rotation(self) -> None:
        """SIGUSR1 begins a new file, as twistd has it."""
        before = signal.signal(signal.SIGUSR1, signal.SIG_DFL)
        self.addCleanup(signal.signal, signal.SIGUSR1, before)
        self.patch(tap.reactor, "callFromThread", lambda call: call())
        path = self.folder / "log"
        self.write(logfile=str(path), nodaemon=0)
        os.kill(os.getpid(), signal.SIGUSR1)
        self.assertEqual(path.read_text(), "")
        self.assert_line((self.folder / "log.1").read_text())

    def test_stdout(self) -> None:
        for logfile in (None, "-"):
            stdout = io.StringIO()
            self.patch(sys, "stdout", stdout)
            self.write(logfile=logfile, nodaemon=1)
            self.assert_line(stdout.getvalue())

    def test_terminal(self) -> None:
        """On a terminal the log is for people, elsewhere JSON, unless LOG_FORMAT says otherwise."""

        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        for made, environ, text in (
            (Terminal(), {}, True),
            (Terminal(), {"LOG_FORMAT": "json"}, False),
            (io.StringIO(), {"LOG_FORMAT": "text"}, True),
        ):
            self.patch(sys, "stdout", made)
            self.write(environ, nodaemon=1)
            self.assertEqual(made.getvalue().endswith("service     hello\n"), text)
            if not text:
                self.assert_line(made.getvalue())
        path = self.folder / "log"
        self.patch(sys, "stdout", Terminal())
        self.write(logfile=str(path), nodaemon=1)
        self.assert_line(path.read_text())

    def test_syslog(self) -> None:
        import syslog

        lines: list[str] = []
        self.patch(syslog, "openlog", lambda *_: None)
        self.patch(syslog, "syslog", lines.append)
        self.write(syslog=1, prefix="twisted", nodaemon=0, logfile=None)
        self.assert_line(lines[0] + "\n")
        self.assertEqual(os.listdir(self.folder), ["state"])

    def test_own_logger(self) -> None:
        """--logger wins, as it does in twistd; no file is opened."""
        path = self.folder / "log"
        self.assertIsNone(self.observer(logger=lambda: None, logfile=str(path), nodaemon=0))
        self.assertFalse(path.exists())

    def test_refused(self) -> None:
        """What can't be a log is one line."""
        error = self.assertRaises(SystemExit, self.observer, logfile="-", nodaemon=0)
        self.assertIn("--logfile=-: ", str(error.code))
        error = self.assertRaises(SystemExit, self.observer, logfile=str(self.folder), nodaemon=1)
        self.assertRegex(str(error.code), r"\A--logfile=.*: can't be written \(Is a directory\)\Z")


class ReloadTests(TapCase):
    """SIGHUP reads the configuration again, where there is something that can."""

    def test_hangup(self) -> None:
        for name in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
            self.addCleanup(signal.signal, name, signal.getsignal(name))
        self.patch(tap.reactor, "callFromThread", lambda call: call())
        reloaded: list[None] = []
        self.patch(Recorded, "reload", lambda self: reloaded.append(None))
        self.make()
        for call in self.when_running:
            call()
        os.kill(os.getpid(), signal.SIGHUP)
        self.assertEqual(len(reloaded), 1)

    def test_wrong_configuration(self) -> None:
        """A configuration file that is wrong ends the start with plain lines."""

        def fail(*_: Any, **more: Any) -> Any:
            raise ConfigError("REALTIME_CONFIG='x': rooms[0]: no")

        self.patch(self, "node", fail)
        error = self.assertRaises(SystemExit, self.make)
        self.assertEqual(error.code, "REALTIME_CONFIG='x': rooms[0]: no")


class FailedStartTests(TapCase):
    """A listener that can't be bound ends the process with one line, wherever it is noticed."""

    def start(self, failing: str, **twistd: object) -> tuple[object, str]:
        """The exit status, and what was printed."""
        stderr = io.StringIO()
        self.patch(sys, "__stderr__", stderr)
        service = self.make(twistd=twistd)

        def fail() -> None:
            raise ConfigError("PORT=3003: 127.0.0.1 port 3003 is in use")

        self.patch(self.made[-1], failing, fail)
        if failing == "startService":
            service.privilegedStartService()
        error = self.assertRaises(SystemExit, getattr(service, failing))
        return error.code, stderr.getvalue()

    def test_foreground(self) -> None:
        for failing in ("privilegedStartService", "startService"):
            self.assertEqual(
                self.start(failing, nodaemon=1), (1, "PORT=3003: 127.0.0.1 port 3003 is in use\n")
            )
            self.assertEqual(self.events[-1]["fault"], "PORT=3003: 127.0.0.1 port 3003 is in use")

    def test_daemon(self) -> None:
        """twistd's waiting parent is told, and the pid file goes."""
        pidfile = self.folder / "pid"
        pidfile.write_text("1")
        read, write = os.pipe()
        self.assertEqual(self.start("startService", statusPipe=write, pidfile=str(pidfile))[0], 1)
        with open(read, "rb") as pipe:
            self.assertEqual(pipe.read(), b"1 PORT=3003: 127.0.0.1 port 3003 is in use")
        self.assertFalse(pidfile.exists())

    def test_other_errors(self) -> None:
        """A bug stays visible: twistd prints its traceback."""
        service = self.make(twistd={"nodaemon": 1})
        self.patch(self.made[-1], "startService", lambda: 1 / 0)
        self.assertRaises(ZeroDivisionError, service.startService)
