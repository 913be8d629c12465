"""The security log: what it tells, that nobody can flood it, and that its page names all it tells of."""

from __future__ import annotations

import json
from pathlib import Path

from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

import realtime
from realtime.line_limit import WINDOW
from realtime.logs import line
from realtime.security import LINES, TOLD, Security

from .house import House
from .test_docs import page


class SecurityTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.events: list[LogEvent] = []
        globalLogPublisher.addObserver(self._observe)
        self.addCleanup(globalLogPublisher.removeObserver, self._observe)

    def _observe(self, event: LogEvent) -> None:
        if event.get("log_namespace") in ("realtime.security", "realtime.line_limit"):
            self.events.append(event)

    def test_line(self) -> None:
        """One JSON line, control characters escaped, whatever a client is called."""
        security = Security(Clock().seconds)
        security.tell(
            "login", user="a\x1b[2J\n\u2028", address="1.2.3.4", connection="c", reason="websocket"
        )
        text = line(self.events[0])
        self.assertTrue(text.isascii() and text.count("\n") == 1)
        told = json.loads(text)
        self.assertEqual(told["message"], "security: login")
        self.assertEqual(told["kind"], "security")
        self.assertEqual((told["user"], told["address"]), ("a\x1b[2J\n\u2028", "1.2.3.4"))

    def test_bounded(self) -> None:
        """So many lines in a while; then how many were left out."""
        clock = Clock()
        security = Security(clock.seconds)
        for _ in range(LINES + 50):
            security.tell("login refused")
        self.assertEqual(len(self.events), LINES)
        clock.advance(WINDOW)
        security.tell("login")
        self.assertEqual(self.events[LINES]["count"], 50)
        self.assertEqual(len(self.events), LINES + 2)

    def test_sessions(self) -> None:
        """Logins, refusals and ends are told, with addresses and reasons and never with a token."""
        house = House()
        self.addCleanup(house.stop)
        client = house.client("alice")
        forged = house.token("bob") + "x"
        house.client().connect(token=forged)
        house.client().connect().call("auth:login", {"token": "junk"})
        client.call("auth:token_refresh", {"refreshToken": forged})
        house.kick("alice")
        told = [(event["what"], event["user"], event["reason"]) for event in self.events]
        self.assertEqual(
            told,
            [
                ("login", "alice", "websocket"),
                ("login refused", "", "auth.token_invalid"),
                ("login refused", "", "auth.token_invalid"),
                ("refresh refused", "alice", "auth.token_invalid"),
                ("session ended", "alice", "kicked"),
            ],
        )
        for event in self.events:
            self.assertEqual(event["address"], "127.0.0.1")
            self.assertNotIn(forged, line(event))

    def test_told(self) -> None:
        """All that is told is on the page, and is told somewhere."""
        root = Path(realtime.__file__).parent
        others = [path.read_text() for path in root.rglob("*.py") if path.name != "security.py"]
        for what in TOLD:
            self.assertIn(f"``{what}``", page("docs/security.rst"))
            self.assertTrue(any(f'"{what}"' in source for source in others), what)
