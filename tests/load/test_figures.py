"""What is drawn from a run: cells, figures, the table, profiles."""

from __future__ import annotations

import os
import sys
import time
from io import StringIO
from pathlib import Path
from typing import ClassVar

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from benchmarks import cells, process, profile, run, soak, targets
from benchmarks.generator import Load, Report
from benchmarks.pair import Redis
from benchmarks.peers import PEERS, ROOT, Peer
from benchmarks.process import Sample, Server, StartFailed

REPORT = Report(
    scenario="fanout",
    clean=True,
    connections=100,
    text=60,
    publications=50,
    deliveries=5000,
    seconds=0.5,
    busy=0.25,
    quiet_p99_ms=20.0,
    lost=0,
    repeated=0,
    disordered=0,
    misdirected=0,
    late=False,
    refused=0,
    cut=0,
    garbled=0,
    fault="",
    p50_ms=2.0,
    p99_ms=3.0,
    max_ms=4.0,
)
SAMPLES = {
    "connect": Sample(cpu=1.0, kernel=0.0, rss=1 << 20, wall=0.0),
    "connected": Sample(cpu=1.5, kernel=0.0, rss=2 << 20, wall=1.0),
    "measure": Sample(cpu=2.0, kernel=0.0, rss=2 << 20, wall=2.0),
    "measured": Sample(cpu=2.1, kernel=0.0, rss=2 << 20, wall=3.0),
    "held": Sample(cpu=2.1, kernel=0.0, rss=3 << 20, wall=3.0),
}


def one_run(scenario: str) -> cells.Run:
    """A run whose samples are `SAMPLES`."""
    return cells.Run(Load(scenario=scenario, connections=100, first=50), REPORT, SAMPLES)


class CellTests(SynchronousTestCase):
    """Names of cells, and the figures of a run."""

    def test_parse(self) -> None:
        """A name says scenario, connections, text, window and rate."""
        load = cells.parse("fanout-1000-1024b-w20", 1.5)
        self.assertEqual((load.scenario, load.connections, load.text), ("fanout", 1000, 1024))
        self.assertEqual((load.window, load.seconds, load.first), (20, 1.5, 50))
        self.assertEqual(cells.parse("rate-100-60b-2.5/s", 1).rate, 2.5)
        self.assertEqual(cells.parse("connect-10", 1).first, 5)
        self.assertEqual(cells.parse("idle-10-7rooms", 1).rooms, 7)
        storm = cells.parse("storm-1000", 1)
        self.assertEqual((storm.connections, storm.first, storm.offered), (1100, 100, 1000))
        self.assertEqual(cells.settings("fanout-10-5kept")["ROOM_MESSAGE_HISTORY"], "5")
        self.assertEqual(cells.settings("fanout-10"), {})

    def test_slow(self) -> None:
        """A percentile of a slow rate is measured for longer than asked."""
        self.assertEqual(cells.parse("rate-100-60b-10/s", 1).seconds, 3)
        self.assertEqual(cells.parse("rate-100-60b-10/s", 5).seconds, 5)

    def test_wrong_name(self) -> None:
        """What is no cell is refused, and the line says what is one."""
        for name in ("", "fanout", "fanout-x", "fanout-10-w2-60b", "storm-10-wamp", "fanout-10-60b-w2 "):
            failed = self.assertRaises(ValueError, cells.parse, name, 1)
            self.assertIn("fanout-1000-60b-w2", str(failed))

    def test_usual(self) -> None:
        """The cells of the groups are cells, and all that targets are about are measured by default."""
        for group in cells.GROUPS.values():
            for name in group:
                cells.parse(name, 1)
        for target in targets.TARGETS:
            self.assertIn(target.cell, cells.USUAL)
            self.assertIn(target.figure, cells.UNITS)
            self.assertLessEqual({target.ours, *target.peers}, PEERS.keys())

    def test_figures(self) -> None:
        """Microseconds per delivery and per connection, bytes per connection."""
        fanout = cells.figures(one_run("fanout"))
        self.assertAlmostEqual(fanout["cpu_us"], 0.1e6 / 5000)
        self.assertAlmostEqual(fanout["per_second"], 10_000)
        self.assertEqual((fanout["p50_ms"], fanout["p99_ms"]), (2.0, 3.0))
        self.assertAlmostEqual(fanout["enter_us"], 0.5e6 / 50)
        self.assertEqual(list(cells.figures(one_run("echo"))), ["cpu_us", "per_second", "p50_ms", "p99_ms"])
        self.assertAlmostEqual(cells.figures(one_run("connect"))["connect_us"], 0.5e6 / 50)
        self.assertAlmostEqual(cells.figures(one_run("idle"))["rss_kib"], 2048 / 50)
        self.assertEqual(list(cells.figures(one_run("rate"))), ["p50_ms", "p99_ms", "cpu_us"])
        storm = cells.figures(one_run("storm"))
        self.assertAlmostEqual(storm["excess"], 3.0 / 40.0)

    def test_figures_beside(self) -> None:
        """What the processes beside the server cost: per publication, per connection and per minute."""

        def run_beside(scenario: str) -> cells.Run:
            made = one_run(scenario)
            samples = {
                mark: msgspec.structs.replace(
                    sample, beside={"publisher": step * 0.01, "redis": step * 0.02, "commands": step * 100}
                )
                for step, (mark, sample) in enumerate(made.samples.items())
            }
            return msgspec.structs.replace(made, samples=samples)

        fanout = cells.figures(run_beside("fanout"))
        self.assertAlmostEqual(fanout["publisher_us"], 0.01e6 / 50)
        self.assertAlmostEqual(fanout["redis_us"], 0.02e6 / 50)
        self.assertAlmostEqual(fanout["redis_commands"], 2)
        self.assertAlmostEqual(cells.figures(run_beside("connect"))["redis_connect"], 2)
        idle = cells.figures(run_beside("idle"))
        self.assertAlmostEqual(idle["redis_minute"], 300 * 30)
        self.assertAlmostEqual(idle["redis_minute_ms"], 0.06e3 * 30)
        for scenario in ("fanout", "connect", "idle"):
            self.assertLessEqual(cells.figures(run_beside(scenario)).keys(), cells.UNITS.keys())

    def test_units(self) -> None:
        """Every figure has a unit."""
        for scenario in ("fanout", "rate", "storm", "echo", "idle", "connect"):
            self.assertLessEqual(cells.figures(one_run(scenario)).keys(), cells.UNITS.keys())


class ProcessTests(SynchronousTestCase):
    """A process's clocks and memory."""

    def test_clocks(self) -> None:
        """They go on as the process works, and the kernel's part is a part."""
        before = process.cpu_seconds(os.getpid())
        end = time.process_time() + 0.05
        while time.process_time() < end:
            pass
        self.assertGreaterEqual(process.cpu_seconds(os.getpid()) - before, 0.05)
        self.assertLessEqual(process.kernel_seconds(os.getpid()), process.cpu_seconds(os.getpid()) + 0.02)

    def test_memory(self) -> None:
        """Resident memory, in bytes."""
        before = process.rss_bytes(os.getpid())
        held = b"x" * (64 << 20)
        self.assertGreater(process.rss_bytes(os.getpid()) - before, len(held) * 0.9)

    def test_no_process(self) -> None:
        """A process that does not exist has no clock."""
        self.assertRaises(ProcessLookupError, process.cpu_seconds, 2**22 + 1)

    def test_pinned(self) -> None:
        """A thread is pinned for as long as asked."""
        before = os.sched_getaffinity(0)
        with process.pinned(min(before)):
            self.assertEqual(os.sched_getaffinity(0), {min(before)})
        self.assertEqual(os.sched_getaffinity(0), before)


class RedisTests(SynchronousTestCase):
    """The Redis of a pair of nodes."""

    def test_commands(self) -> None:
        """Counted is what is sent to it, not what scripts call; errors of its own are no replies."""
        with Redis() as redis:
            before = redis.commands()
            for _ in range(3):
                redis.ask(b"EVAL", b"redis.call('SET', KEYS[1], 1) return 'done'", b"1", b"key")
            self.assertEqual(redis.commands() - before, 3)
            self.assertRaises(StartFailed, redis.ask, b"NONSENSE")

    def test_missing(self) -> None:
        """A Redis that is not installed: how to get it."""
        self.patch(os, "environ", {"PATH": "/nowhere"})
        self.assertIn("apt-get install redis-server", str(self.assertRaises(StartFailed, Redis)))


class TableTests(SynchronousTestCase):
    """The printed table."""

    def test_table(self) -> None:
        """Medians with their ranges, and ratios of what was measured in one turn."""
        results = run.Results("a machine", "abc", 0.0)
        results.figures = {
            "connect-10": {
                "service": {"connect_us": [1.0, 3.0, 2.0]},
                "other": {"connect_us": [2.0, 2.0, 2.0]},
            }
        }
        results.busy = {"connect-10": 0.5}
        lines = list(run.table(results, "service"))
        self.assertIn("| | service | other | service : other |", lines)
        self.assertIn("| CPU us/connect | 2 [1-3] | 2 [2-2] | 1 [0.5-1.5] |", lines)

    def test_one_peer(self) -> None:
        """A peer alone has no ratios."""
        results = run.Results("a machine", "abc", 0.0)
        results.add("fanout-100", "other", one_run("fanout"))
        self.assertIn("| CPU us | 20 |", list(run.table(results, "service")))

    def test_different_figures(self) -> None:
        """A figure that only one of them has stands in its column alone."""
        results = run.Results("a machine", "abc", 0.0)
        results.figures = {
            "fanout-10": {"service": {"cpu_us": [4.0]}, "redis": {"cpu_us": [5.0], "redis_commands": [1.0]}}
        }
        results.busy = {"fanout-10": 0.5}
        lines = list(run.table(results, "service"))
        self.assertIn("| CPU us | 4 | 5 | 0.8 |", lines)
        self.assertIn("| Redis commands/publication |  | 1 |  |", lines)

    def test_failed_run(self) -> None:
        """A run that failed is told, gives no figures, and does not keep the others from running."""

        def start(settings: object) -> Server:
            raise StartFailed("it does not listen")

        self.patch(sys, "stderr", StringIO())
        results = run.Results("a machine", "abc", 0.0)
        loads = {"connect-10": cells.parse("connect-10", 1), "idle-10": cells.parse("idle-10", 1)}
        plan = {cell: {"service": Peer(start), "other": Peer(start)} for cell in loads}
        run.interleave(plan, loads, 2, results)
        self.assertEqual(results.figures, {})
        self.assertEqual(len(results.failures), 8)
        self.assertEqual(results.failures[0], "1/2 connect-10 service: it does not listen")
        results = run.Results("a machine", "abc", 0.0, figures={"idle-10": {"service": {"rss_kib": [1.0]}}})
        run.interleave(plan, {"idle-10": loads["idle-10"]}, 1, results)
        self.assertTrue(results.failures[0].startswith("1/1 idle-10 other"), "they take turns")

    def test_able(self) -> None:
        """Peers are spared the loads that they do not know."""

        def able(peer: str, cell: str) -> bool:
            return run.able(PEERS[peer], cell, cells.parse(cell, 1))

        self.assertTrue(able("nats", "fanout-10"))
        self.assertTrue(able("service", "fanout-10-5kept-wamp"))
        self.assertTrue(able("socket.io", "idle-10-5rooms"))
        for peer, cell in (
            ("nats", "idle-10-5rooms"),
            ("socket.io", "fanout-10-5kept"),
            ("ws", "idle-10-wamp"),
        ):
            self.assertFalse(able(peer, cell), (peer, cell))

    def test_wrong_words(self) -> None:
        """Unknown peers and cells stop it before anything is started."""
        self.patch(sys, "stderr", told := StringIO())
        self.assertEqual(run.main(["--peers", "nobody"]), 2)
        self.assertEqual(run.main(["nothing"]), 2)
        self.assertEqual(run.main(["connect-10", "--against", "no-commit"]), 2)
        self.assertEqual(run.main(["connect-10", "--against", "HEAD", "--peers", "nats"]), 2)
        self.assertIn("no such peer: nobody; accepted are service, pure, redis, worker", told.getvalue())
        self.assertIn("'nothing' is no cell", told.getvalue())
        self.assertIn("'no-commit' is no commit", told.getvalue())


class TargetTests(SynchronousTestCase):
    """What the figures are held against."""

    FIGURES: ClassVar[targets.Figures] = {
        "rate-1000-60b-10/s": {
            "service": {"p50_ms": [5.0, 6.0, 7.0]},
            "socket.io": {"p50_ms": [5.0, 4.0, 7.0]},
            "nats": {"p50_ms": [9.0, 5.0, 7.0]},
        },
        "idle-10000": {"service": {"rss_kib": [15.0]}},
    }

    def test_judged(self) -> None:
        """The median of the turns' ratios to the better peer, or the figure itself; of what is known."""
        idle, rate = targets.judged(self.FIGURES)
        self.assertEqual((rate[0].figure, rate[1], rate[2]), ("p50_ms", 1.0, True))
        self.assertEqual((idle[0].figure, idle[1], idle[2]), ("rss_kib", 15.0, False))

    def test_told(self) -> None:
        """A line for each, which says by how much it was missed."""
        lines = list(targets.told(self.FIGURES, cells.UNITS))
        self.assertIn("| service : socket.io or nats | 1 [1-1.5] | 1.1 | met |", lines[-1])
        self.assertIn("| service | 15 [15-15] | 14 | MISSED by 7% |", lines[-2])

    def test_peers(self) -> None:
        """A cell is measured with those that its targets name; without targets, the service alone."""
        self.assertEqual(targets.peers_of("echo-100-60b-w1"), ["service", "socket.io", "python-socketio"])
        self.assertEqual(targets.peers_of("fanout-7"), ["service"])


class SoakTests(SynchronousTestCase):
    """How memory went."""

    def course(self, *held: int) -> soak.Course:
        made = soak.Course()
        for step, bytes in enumerate(held):
            made.note(step * 10, bytes)
        return made

    def test_slope(self) -> None:
        """A steady growth is seen, a single peak is not; the warm-up is left out."""
        leak = self.course(*range(1000, 2000, 50))
        self.assertAlmostEqual(leak.slope(), 5.0)
        self.assertAlmostEqual(leak.growth(), 0.95)
        self.assertEqual(self.course(1000, 1000, 9000, 1000, 1000).growth(), 0.0)
        self.assertEqual(self.course(100, 900, 1000, 1000, 1000).after(0.4).growth(), 0.0)

    def test_told(self) -> None:
        """What grows by more than nothing is no pass."""
        self.patch(sys, "stdout", StringIO())
        self.assertFalse(soak.told("leak", "cycles", self.course(*range(1000, 2000, 50))))
        self.assertTrue(soak.told("none", "cycles", self.course(*[1000] * 20)))


class ProfileTests(SynchronousTestCase):
    """Sampled stacks and what they say."""

    def test_parts(self) -> None:
        """A sample counts for the part that its innermost line is of."""
        site = "/venv/lib/python3.11/site-packages"
        found = profile.parse(
            [
                f"main (run.py:1);write ({site}/twisted/internet/abstract.py:1) 3",
                f"main (run.py:1);deliver ({ROOT}/realtime/fanout.py:1) 5",
                f"main (run.py:1);onMessage ({site}/autobahn/websocket/protocol.py:1) 2",
                "main (run.py:1) 1",
                "not a stack",
            ]
        )
        self.assertEqual(found.samples, 11)
        self.assertEqual(found.parts, {"Twisted": 3, "our code": 5, "Autobahn": 2, "other libraries": 1})
        self.assertEqual(found.own["realtime/fanout.py deliver"], 5)
        self.assertEqual(found.total["run.py main"], 11)
        self.assertIn("   45.5%  our code", list(found.told(5)))

    def test_system_calls(self) -> None:
        """A line that calls the kernel counts for the kernel."""
        file = Path(self.mktemp())
        file.write_text("idle()\nsent = self.socket.send(data)\n")
        path = str(file.absolute())
        self.assertEqual(profile.part("write", path, "2"), "system calls")
        self.assertEqual(profile.part("untilConcludes", path, "1"), "system calls")
        self.assertEqual(profile.part("write", path, "1"), "other libraries")
        self.assertEqual(profile.part("write", "other/missing.py", None), "other libraries")

    def test_missing_tools(self) -> None:
        """A sampler that is not installed: how to get it."""
        self.patch(profile.shutil, "which", lambda name, path: None)
        for perf, way in ((False, "pip install py-spy"), (True, "apt-get install linux-perf")):
            failed = self.assertRaises(FileNotFoundError, profile.sampling, 1, Path("x"), perf)
            self.assertIn(way, str(failed))
