"""The examples of docs/clients.rst, run as they stand there, one after the other, as one program."""

from __future__ import annotations

import os
import sys

from twisted.internet.defer import Deferred

from ..test_docs import blocks, page
from .case import LiveCase
from .children import DEADLINE, Child, program, within
from .drivers import node_modules

#: Where the examples connect.
ADDRESS = "http://127.0.0.1:3003"

BEFORE_JAVASCRIPT = """
let token = process.env.TOKEN;
const fetchToken = async () => token;
"""

AFTER_JAVASCRIPT = """
const lines = (await import("node:readline")).createInterface({ input: process.stdin });
const told = lines[Symbol.asyncIterator]();
socket.on("system:error", (error) => console.log("error", error.code));
const next = (event) => new Promise((resolve) => socket.once(event, resolve));

await next("auth:token_expiring");
console.log("ready");
await next("booking:confirmed");

let greeted = next("system:connected");
socket.io.engine.close();
await greeted;
console.log("cut and back", socket.recovered);

const reached = { ...positions.get("event:42") };
socket.disconnect();
console.log("gone");
await told.next();
greeted = next("system:connected");
socket.connect();
await greeted;
const again = await deliver("room:join", { roomId: "event:42", position: reached });
console.log("missed", socket.recovered, again.recovered, again.history.map(({ text }) => text).join());

const icons = (await socket.emitWithAck("room:history", { roomId: "event:42" })).messages;
console.log("bytes", icons.map(({ data }) => data?.bytes?.length).join());

socket.disconnect();
token = "no.such.token";
socket.connect();
await next("connect_error");
lines.close();
"""

BEFORE_PYTHON = """
import os

def fetch_token():
    return os.environ["TOKEN"]
"""

AFTER_PYTHON = """
print("ready")
input()
client.disconnect()
"""


class Run:
    """One program made of examples, while it runs."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.child = Child(self._line)
        self._waiting: tuple[str, Deferred[None]] | None = None

    def _line(self, line: str) -> None:
        self.lines.append(line)
        if self._waiting is not None and line == self._waiting[0]:
            waiting, self._waiting = self._waiting[1], None
            waiting.callback(None)

    async def said(self, line: str) -> None:
        """Wait until it has written a line."""
        if line not in self.lines:
            waiting: Deferred[None] = Deferred()
            self._waiting = (line, waiting)
            await within(DEADLINE, waiting, lambda: f"{line!r} of {self.lines}")

    async def finished(self) -> None:
        """Wait for its end, and see that it did not fail."""
        await within(DEADLINE, self.child.ended(), lambda: f"its end; {self.lines}")
        if self.child.status != 0:
            raise AssertionError(f"it ended with status {self.child.status}: {self.lines}")


class DocumentedTests(LiveCase):
    """Each example does what the page says."""

    def run_program(self, command: list[str], text: str, name: str) -> Run:
        """Run a program in a folder of its own, with a token of alice."""
        folder = self.directory()
        folder.mkdir()
        (folder / "node_modules").symlink_to(node_modules())
        self.assertIn(ADDRESS, text)
        (folder / name).write_text(text.replace(ADDRESS, self.service.url), encoding="utf-8")
        token = self.token("alice", rooms=["lobby", "private:*"], roles=["staff"])
        environ = {
            **{"PATH": os.environ["PATH"], "HOME": str(folder), "TOKEN": token},
            **{"PYTHONUNBUFFERED": "1", "LANG": "C.UTF-8"},
        }
        run = Run()
        run.child.start([*command, name], environ, folder)
        self.addCleanup(run.child.stop, 10)
        return run

    async def test_javascript(self) -> None:
        """Connect, refresh, join, send, page, recover after a cut, catch up after an end, be refused."""
        await self.start_service(TOKEN_REFRESH_THRESHOLD="86400000")
        imports, _, rest = "\n".join(blocks(page("docs/clients.rst"), "js")).partition("\n")
        text = "\n".join([imports, BEFORE_JAVASCRIPT, rest, AFTER_JAVASCRIPT])
        run = self.run_program([program("node")], text, "examples.mjs")
        await run.said("ready")
        await self.service.publish("booking:confirmed", {"userId": "alice", "bookingId": 7})
        await run.said("gone")
        answer = await self.service.publish(
            "room:event:42:message", {"text": "while away", "userId": "bob"}
        )
        self.assertEqual(answer.status, 200, answer.body)
        run.child.write("go on")
        await run.finished()
        for line in (
            *("alice false", "7", "cut and back true", "alice true", "missed false true while away"),
            *("bytes ,4,", "auth.token_invalid the token is not valid"),
        ):
            self.assertIn(line, run.lines)
        self.assertEqual([line for line in run.lines if line.startswith("error")], [])

    async def test_python(self) -> None:
        """python-socketio connects, joins, and gets what is for its user."""
        await self.start_service()
        text = "\n".join([BEFORE_PYTHON, *blocks(page("docs/clients.rst"), "python"), AFTER_PYTHON])
        run = self.run_program([sys.executable], text, "examples.py")
        await run.said("ready")
        await self.service.publish("booking:confirmed", {"userId": "alice", "bookingId": 7})
        await run.said("7")
        run.child.write("")
        await run.finished()
        self.assertTrue(any(line.startswith("True [{'userId': 'alice'") for line in run.lines), run.lines)
