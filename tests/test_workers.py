"""The parent of some workers, with processes in memory: it starts, starts again, replaces and ends them."""

from __future__ import annotations

import json
import os
import tempfile
from typing import Any

from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from realtime.health import Phase
from realtime.settings import ConfigError, Settings, load
from realtime.workers import AGAIN, LONGEST, SILENT, SLACK, WELL, Workers
from realtime.workplace import TO_PARENT, VARIABLE, Place, place_of

from .house import SECRET


class Child:
    """A process that was started: what its parent does with it, and what it does itself."""

    def __init__(self, protocol: Any, environ: dict[str, str], files: dict[int, Any], pid: int) -> None:
        self.protocol = protocol
        self.environ = environ
        self.files = files
        self.pid: int | None = pid
        self.words: list[str] = []
        self.killed = False
        place = place_of(environ)
        assert place is not None
        self.place: Place = place
        protocol.makeConnection(self)

    def writeToChild(self, descriptor: int, data: bytes) -> None:
        self.words += data.decode().split()

    def signalProcess(self, name: str) -> None:
        self.killed = True
        self.end(ProcessTerminated(signal=9))

    def say(self, word: str) -> None:
        self.protocol.childDataReceived(TO_PARENT, word.encode() + b"\n")

    def end(self, why: Exception | None = None) -> None:
        self.pid = None
        self.protocol.processEnded(Failure(why or ProcessDone(0)))


class Machine(MemoryReactorClock):
    """A reactor whose processes are in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.children: list[Child] = []

    def spawnProcess(self, protocol: Any, program: str, args: Any, env: Any, childFDs: Any) -> None:
        self.children.append(Child(protocol, env, childFDs, 100 + len(self.children)))

    def pass_time(self, seconds: float) -> None:
        """Let time pass while whoever lives gives signs of that."""
        while seconds > 0:
            self.advance(min(seconds, 1.0))
            seconds -= 1.0
            for child in self.children:
                if child.pid is not None:
                    child.say("beat")


class WorkersTests(SynchronousTestCase):
    """`Workers`."""

    def setUp(self) -> None:
        self.machine = Machine()
        self.lines: list[str] = []
        self.ports: list[dict[str, int]] = []
        self.node = self.make()

    def make(self, **settings: Any) -> Workers:
        given = {
            "workers": 2,
            "redis_url": "redis://r",
            "jwt_secret": SECRET,
            "port": 0,
            "api_port": 0,
            "ws_max_connections": 101,
            **settings,
        }
        node = Workers(
            Settings(**given),
            clock=self.machine,
            wall=lambda: 0.0,
            on_ready=self.ports.append,
            environ={"HOME": "/h", "PORT": "1", "LISTEN_FDS": "1", "NOTIFY_SOCKET": "/n", VARIABLE: "x"},
            write=self.lines.append,
        )
        node.privilegedStartService()
        node.startService()
        self.addCleanup(node._close)
        return node

    @property
    def children(self) -> list[Child]:
        return self.machine.children

    def serve(self) -> None:
        for child in self.children:
            child.say("ready")

    def test_start(self) -> None:
        """It is ready once all are; each has its place, its sockets and its share."""
        one, two = self.children
        self.assertEqual([child.place.number for child in self.children], [1, 2])
        self.assertEqual([child.place.prefix for child in self.children], ["1x1", "2x1"])
        for child in self.children:
            self.assertEqual(child.place.descriptors, {"PORT": 5, "API_PORT": 6})
            self.assertEqual(sorted(child.files), [1, 2, 3, 4, 5, 6])
            environ = child.environ
            self.assertEqual((environ["WS_MAX_CONNECTIONS"], environ["WORKERS"]), ("51", "1"))
            self.assertEqual((environ["HOME"], environ["JWT_SECRET"]), ("/h", SECRET))
            self.assertEqual({"LISTEN_FDS", "NOTIFY_SOCKET"} & set(environ), set())
            self.assertEqual(load(environ).ws_max_connections, 51)
        self.assertNotEqual(one.files[5], two.files[5])
        one.say("ready")
        self.assertEqual((self.ports, self.node.phase), ([], Phase.STARTING))
        two.say("ready")
        self.assertEqual(self.node.phase, Phase.SERVING)
        self.assertEqual(set(self.ports[0]), {"PORT", "API_PORT", "HEALTH_CHECK_PORT", "METRICS_PORT"})

    def test_who_lived_well_is_back_at_once(self) -> None:
        self.serve()
        self.machine.pass_time(WELL + 1)
        self.children[0].end(ProcessTerminated(signal=9))
        self.machine.advance(0)
        self.assertEqual(len(self.children), 3)
        self.assertEqual(self.children[2].place.prefix, "1x2")
        self.assertEqual(self.children[2].files[5], self.children[0].files[5])
        value = self.node.counts.registry.get_sample_value
        self.assertEqual((value("realtime_worker_restarts_total"), value("realtime_workers")), (1, 1))

    def test_who_ends_soon_is_waited_for_longer_each_time(self) -> None:
        """Up to a bound; the other is left alone."""
        self.serve()
        waited = []
        for _ in range(9):
            self.children[-1].end() if len(self.children) > 2 else self.children[0].end()
            count, began = len(self.children), self.machine.seconds()
            while len(self.children) == count:
                self.machine.advance(0.1)
                self.children[1].say("beat")
            waited.append(round(self.machine.seconds() - began))
        self.assertEqual(waited, sorted(waited))
        self.assertEqual((waited[0], waited[-1]), (round(2 * AGAIN), LONGEST))
        self.assertFalse(self.children[1].killed)

    def test_who_does_not_turn(self) -> None:
        """It is ended by force, and another comes."""
        self.serve()
        for _ in range(int(SILENT) + 2):
            self.children[1].say("beat")
            self.machine.advance(1)
        self.assertEqual([child.killed for child in self.children[:2]], [True, False])
        self.machine.advance(1)
        self.assertEqual(self.children[2].place.number, 1)

    def test_reload(self) -> None:
        """One after the other: a fresh one is up before the old one is told to go."""
        self.serve()
        done = self.node.reload()
        self.assertEqual(len(self.children), 3)
        self.assertEqual(self.children[0].words, [])
        self.children[2].say("ready")
        self.assertEqual((self.children[0].words, len(self.children)), (["retire"], 3))
        self.children[0].end()
        self.assertEqual((len(self.children), self.children[1].words), (4, []))
        self.children[3].say("ready")
        self.children[1].end()
        self.successResultOf(done)
        self.machine.pass_time(5)
        self.assertEqual(len(self.children), 4)
        self.assertEqual(self.node.counts.registry.get_sample_value("realtime_workers_replaced_total"), 2)
        self.assertEqual(self.node.counts.registry.get_sample_value("realtime_worker_restarts_total"), 0)

    def test_reload_that_fails(self) -> None:
        """A fresh one that does not come up costs nobody anything."""
        self.serve()
        done = self.node.reload()
        self.children[2].end()
        self.successResultOf(done)
        self.assertEqual([child.words for child in self.children[:2]], [[], []])
        self.machine.pass_time(5)
        self.assertEqual(len(self.children), 3)

    def test_reload_asked_twice(self) -> None:
        """What is asked for while it goes on is done afterwards."""
        self.serve()
        done = self.node.reload()
        self.successResultOf(self.node.reload())
        for turn in range(4):
            self.children[2 + turn].say("ready")
            self.children[turn].end()
        self.successResultOf(done)
        self.assertEqual(len(self.children), 6)

    def test_stop(self) -> None:
        """All drain at once; who does not end is ended by force."""
        self.serve()
        done = self.node.stopService()
        self.assertEqual([child.words for child in self.children], [["drain"], ["drain"]])
        self.children[0].end()
        self.node.hurry()
        self.assertEqual(self.children[1].words, ["drain", "hurry"])
        self.assertNoResult(done)
        self.machine.advance(10 + SLACK + 1)
        self.assertTrue(self.children[1].killed)
        self.successResultOf(done)
        self.machine.pass_time(10)
        self.assertEqual(len(self.children), 2, "nobody is started again")
        self.assertFalse(os.path.exists(self.children[0].place.directory))

    def test_stop_while_one_is_waited_for(self) -> None:
        self.serve()
        self.children[0].end()
        done = self.node.stopService()
        self.children[1].end()
        self.successResultOf(done)
        self.machine.pass_time(10)
        self.assertEqual(len(self.children), 2)

    def test_log(self) -> None:
        """A worker's lines come with its number; what is no line of the log, too, is told."""
        protocol = self.children[1].protocol
        protocol.childDataReceived(1, b'{"level":"info","mess')
        protocol.childDataReceived(1, b'age":"x"}\n{"a":1}\n')
        self.assertEqual([json.loads(line)["worker"] for line in self.lines], [2, 2])
        self.assertEqual(json.loads(self.lines[0])["message"], "x")

    def test_ports_that_are_in_use(self) -> None:
        """Nothing is bound, and it is said which."""
        port = self.node._ports["PORT"]
        with self.assertRaises(ConfigError) as caught:
            self.make(port=port)
        self.assertIn(f"PORT={port}", str(caught.exception))

    def test_no_place_for_sockets(self) -> None:
        self.patch(tempfile, "tempdir", "/nowhere")
        with self.assertRaises(ConfigError) as caught:
            self.make()
        self.assertIn("accepted is 1, or a TMPDIR", str(caught.exception))

    def test_without_redis(self) -> None:
        """It is said what is missing."""
        with self.assertRaises(ConfigError) as caught:
            load({"WORKERS": "2", "REALTIME_STATE": self.mktemp()})
        self.assertIn("WORKERS='2': workers share their state through Redis", str(caught.exception))
