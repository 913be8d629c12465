"""Tests of the ``realtime`` command."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import jwt
from twisted.trial.unittest import SynchronousTestCase

from realtime import config_file, state
from realtime.api_keys import digest
from realtime.cli import main, rst
from realtime.settings import SETTINGS, option

ROOT = Path(__file__).parents[1]
SECRET = "0123456789abcdef0123456789abcdef"


class CommandCase(SynchronousTestCase):
    """Runs the command with an environment and a state file of the test's own."""

    def setUp(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        self.state = str(folder / "state")

    def run_command(self, *arguments: str, **environ: str) -> tuple[int, str, str]:
        """Its exit status, standard output and standard error."""
        out, err = io.StringIO(), io.StringIO()
        self.patch(sys, "stdout", out)
        self.patch(sys, "stderr", err)
        try:
            status = main(arguments, {"REALTIME_STATE": self.state, **environ})
        except SystemExit as left:  # argparse
            status = int(left.code or 0)
        return status, out.getvalue(), err.getvalue()


class TokenTests(CommandCase):
    """``realtime token`` prints a token that the server accepts, and nothing else."""

    def token(self, *arguments: str, **environ: str) -> str:
        status, out, err = self.run_command("token", *arguments, **environ)
        self.assertEqual((status, err), (0, ""))
        self.assertRegex(out, r"\A[\w-]+\.[\w-]+\.[\w-]+\n\Z")
        return out.strip()

    def test_secret_of_the_state_file(self) -> None:
        """It makes the file if the server did not yet."""
        token = self.token("--user", "alice")
        made = state.read(self.state)
        assert made is not None
        claims = jwt.decode(token, made["JWT_SECRET"], ["HS256"])
        self.assertEqual((claims["sub"], claims["roles"], claims["rooms"]), ("alice", [], []))
        self.assertEqual(claims["exp"] - claims["iat"], 3600)
        self.assertLess(abs(claims["iat"] - time.time()), 60)

    def test_secret_of_the_environment(self) -> None:
        token = self.token(
            *("--user", "7", "--role", "admin", "--role", "staff", "--room", "event:*", "--room", "*"),
            *("--ttl", "60"),
            JWT_SECRET=SECRET,
            JWT_AUDIENCE="live",
            JWT_ISSUER="login",
        )
        claims = jwt.decode(token, SECRET, ["HS256"], audience="live", issuer="login")
        self.assertEqual(claims["sub"], "7")
        self.assertEqual(claims["roles"], ["admin", "staff"])
        self.assertEqual(claims["rooms"], ["event:*", "*"])
        self.assertEqual(claims["exp"] - claims["iat"], 60)

    def test_refuses(self) -> None:
        """What the server would refuse is refused here, with what is accepted."""
        for arguments in (
            ["--user", "a b"],
            ["--user", "a:b"],
            ["--user", ""],
            ["--user", "x" * 129],
            ["--user", "a", "--role", "a b"],
            ["--user", "a", "--room", "a b"],
            ["--user", "a", "--room", "a*b"],
            ["--user", "a", "--room", ":a"],
            ["--user", "a", "--ttl", "0"],
            ["--user", "a", "--ttl", "1h"],
            ["--user", "a", "--ttl", "31536001"],
            [],
        ):
            status, out, err = self.run_command("token", *arguments)
            self.assertEqual((status, out), (2, ""), arguments)
            self.assertIn("realtime token: error: ", err)
        self.assertFalse(os.path.exists(self.state))

    def test_wrong_settings(self) -> None:
        status, out, err = self.run_command("token", "--user", "alice", PORT="x")
        self.assertEqual((status, out), (1, ""))
        self.assertEqual(err, "PORT='x': accepted is a whole number from 0 to 65535\n")


class SettingsTests(CommandCase):
    """``realtime settings`` shows all there is to set."""

    def test_every_setting(self) -> None:
        """Name, type, meaning, what is accepted, default and present value of each."""
        status, out, err = self.run_command("settings", WS_PING_INTERVAL="7000")
        self.assertEqual((status, err), (0, ""))
        for name, setting in SETTINGS.items():
            self.assertIn(f"{name} ({setting.kind.name})\n    {setting.help}\n", out)
        self.assertIn("    default:  25000\n    present:  7000\n", out)
        self.assertIn("    default:  127.0.0.1; in production 0.0.0.0\n", out)
        self.assertIn("    default:  not set\n    present:  not set\n", out)
        self.assertIn("    present:  http://localhost:*,http://127.0.0.1:*", out)

    def test_secrets_are_masked(self) -> None:
        _, out, _ = self.run_command("settings", JWT_SECRET=SECRET, API_KEY="geheim")
        self.assertNotIn(SECRET, out)
        self.assertNotIn("geheim", out)
        self.assertIn("present:  *** (32 bytes)", out)

    def test_makes_nothing(self) -> None:
        self.run_command("settings")
        self.assertFalse(os.path.exists(self.state))

    def test_page(self) -> None:
        """docs/settings.rst is what the table says; ``make docs`` writes it."""
        self.assertEqual((ROOT / "docs" / "settings.rst").read_text(), rst())
        self.assertEqual(self.run_command("settings", "--rst", PORT="x"), (0, rst(), ""))
        for name in SETTINGS:
            self.assertIn(f"``{name}``, ``--{option(name)}``", rst())


class CheckTests(CommandCase):
    """``realtime check`` says whether the server would start."""

    def test_right(self) -> None:
        self.assertEqual(self.run_command("check"), (0, "send loop: native\nok\n", ""))
        self.assertEqual(self.run_command("check", NATIVE_SEND="false")[1], "send loop: pure\nok\n")
        self.assertFalse(os.path.exists(self.state))

    def test_wrong(self) -> None:
        """Every fault, and a status that scripts can read."""
        status, out, err = self.run_command("check", PORT="x", REALTIME_ENV="production")
        self.assertEqual((status, out), (1, ""))
        self.assertEqual(
            [line.split("=")[0].split()[0] for line in err.splitlines()],
            ["PORT", "JWT_SECRET", "API_KEY", "WS_ALLOWED_ORIGINS"],
        )

    def test_warnings(self) -> None:
        """A variable that is no setting is told; it is no fault."""
        status, out, err = self.run_command("check", WS_PAHT="/x")
        self.assertEqual((status, out), (0, "send loop: native\nok\n"))
        self.assertEqual(err, "warning: WS_PAHT is not a setting; did you mean WS_PATH?\n")


class ProcessTests(CommandCase):
    """The command as a process."""

    def command(self) -> list[str]:
        return [sys.executable, "-c", "import sys; from realtime.cli import main; sys.exit(main())"]

    def test_no_command(self) -> None:
        done = subprocess.run(self.command(), capture_output=True, text=True, check=False, cwd=ROOT)
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.assertIn("usage: realtime", done.stderr)

    def test_reader_that_leaves(self) -> None:
        """A pipe whose reader has seen enough, such as head's, ends it without a traceback."""
        for command in (["settings"], ["token", "--user", "alice"]):
            read, write = os.pipe()
            os.close(read)
            with open(write, "w") as pipe:
                done = subprocess.run(
                    [*self.command(), *command],
                    stdout=pipe,
                    stderr=subprocess.PIPE,
                    text=True,
                    check=False,
                    cwd=ROOT,
                    env={**os.environ, "REALTIME_STATE": os.path.abspath(self.state)},
                )
            self.assertEqual((done.returncode, done.stderr), (1, ""))


class KeyTests(CommandCase):
    """``realtime key`` makes a key whose entry the configuration file takes."""

    def test_key(self) -> None:
        status, out, _ = self.run_command("key", "--name", "booking", "--channel", "booking:*")
        key, _, entry = out.partition("\n\n")
        path = Path(self.state).with_name("realtime.toml")
        path.write_text(entry)
        (rule,) = config_file.load(str(path)).api_keys
        self.assertEqual((status, rule.name, rule.channels), (0, "booking", ("booking:*",)))
        self.assertEqual(bytes.fromhex(rule.sha256), digest(key))
        self.assertGreaterEqual(len(key), 40)
        self.assertEqual(self.run_command("key", "--name", "no name")[0], 2)

    def test_check(self) -> None:
        """``realtime check`` reads the configuration file too."""
        path = Path(self.state).with_name("realtime.toml")
        path.write_text("[[rooms]]\npatern = 1\n")
        status, _, err = self.run_command("check", REALTIME_CONFIG=str(path))
        self.assertEqual(status, 1)
        self.assertIn("did you mean pattern?", err)
        path.write_text('[[rooms]]\npattern = "a"\n')
        self.assertEqual(
            self.run_command("check", REALTIME_CONFIG=str(path))[:2], (0, "send loop: native\nok\n")
        )


class HealthTests(CommandCase):
    """``realtime health`` asks the node of the same settings."""

    def serve(self, status: int, text: bytes, *, answer: bool = True) -> int:
        """A port that answers one request in a thread."""
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)

        def once() -> None:
            connection, _ = listener.accept()
            with connection:
                self.asked = connection.recv(65536)
                if answer:
                    head = f"HTTP/1.1 {status} x\r\nContent-Length: {len(text)}\r\n\r\n"
                    connection.sendall(head.encode() + text)

        thread = threading.Thread(target=once)
        thread.start()
        self.addCleanup(thread.join, 10)
        port: int = listener.getsockname()[1]
        return port

    def ask(self, port: int, *arguments: str, **environ: str) -> tuple[int, str, str]:
        return self.run_command("health", *arguments, HEALTH_CHECK_PORT=str(port), **environ)

    def test_well(self) -> None:
        """Its answer is printed; what is served on all addresses is reached on this machine's own."""
        port = self.serve(200, b'{"status":"healthy"}')
        told = self.ask(port, API_BIND_ADDRESS="0.0.0.0")
        self.assertEqual(told, (0, '{"status":"healthy"}\n', ""))
        self.assertEqual(self.asked.split()[1], b"/health")

    def test_not_well(self) -> None:
        port = self.serve(503, b'{"status":"unavailable"}')
        self.assertEqual(self.ask(port, "ready"), (1, '{"status":"unavailable"}\n', ""))
        self.assertEqual(self.asked.split()[1], b"/health/ready")

    def test_no_answer(self) -> None:
        """Nobody there, one who hangs up, and one who says nothing: a line each, and status 1."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            silent = self.ask(port, "live", "--timeout", "0.05")
        for status, out, err in (silent, self.ask(port), self.ask(self.serve(200, b"", answer=False))):
            self.assertEqual((status, out), (1, ""))
            self.assertRegex(err, r"\A127\.0\.0\.1 port \d+ does not answer: .+\n\Z")

    def test_port_that_nobody_knows(self) -> None:
        status, _, err = self.ask(0)
        self.assertEqual((status, err[:20]), (1, "HEALTH_CHECK_PORT=0:"))
