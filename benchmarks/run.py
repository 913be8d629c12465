"""``python -m benchmarks.run``: the service beside its peers, interleaved, as a table of ratios.

Exits with 1 if any message was lost, repeated or out of order in any run.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path

import msgspec

from . import cells, generator
from .pair import Pair
from .peers import PEERS, ROOT, SECRET, USUAL, service, service_over_redis
from .process import Server, StartFailed
from .workers import Node

AGAINST_HELP = "a commit of this repository as the only peer; both over Redis with --peers redis"
PEERS_HELP = f"of {', '.join(PEERS)}; comma separated; default %(default)s"

Starts = dict[str, Callable[[], Server | Pair | Node]]


class Results(msgspec.Struct):
    """All figures: cell -> peer -> figure -> one value for each repetition.

    :ivar busy: cell -> the greatest share of its processor that the generator used.
    """

    machine: str
    commit: str
    started: float
    figures: dict[str, dict[str, dict[str, list[float]]]] = {}
    busy: dict[str, float] = {}
    failures: list[str] = []

    def add(self, cell: str, peer: str, run: cells.Run) -> None:
        """Take in one run."""
        held = self.figures.setdefault(cell, {}).setdefault(peer, {})
        for name, value in cells.figures(run).items():
            held.setdefault(name, []).append(value)
        self.busy[cell] = max(self.busy.get(cell, 0.0), run.report.busy)


def spread(values: Sequence[float]) -> str:
    """The median of some values, and between which they lie."""
    middle = f"{statistics.median(values):.3g}"
    return middle if len(values) == 1 else f"{middle} [{min(values):.3g}-{max(values):.3g}]"


def table(results: Results, first: str) -> Iterator[str]:
    """The results as lines of Markdown: each figure of each peer, and `first`'s ratio to the others."""
    for cell, peers in results.figures.items():
        others = [peer for peer in peers if peer != first]
        yield f"\n### {cell}   (generator busy: {results.busy[cell]:.0%})"
        columns = [*peers, *(f"{first} : {other}" for other in others if first in peers)]
        yield f"| | {' | '.join(columns)} |"
        yield f"|---|{'---:|' * len(columns)}"
        for name in {name: None for figures in peers.values() for name in figures}:
            row = [spread(figures[name]) if name in figures else "" for figures in peers.values()]
            for other in others if first in peers else ():
                pairs = zip(peers[first].get(name, ()), peers[other].get(name, ()), strict=False)
                ratios = [ours / max(theirs, 1e-9) for ours, theirs in pairs]
                row.append(spread(ratios) if ratios else "")
            yield f"| {cells.UNITS[name]} | {' | '.join(row)} |"


def interleave(
    starts: Starts, loads: dict[str, generator.Load], repetitions: int, results: Results
) -> None:
    """Measure every cell with every peer, in turns: what drifts on the machine meets all of them."""
    for repetition in range(repetitions):
        # whoever runs second finds a machine that the first has warmed: take turns at it
        order = list(starts)[:: -1 if repetition % 2 else 1]
        for cell, load in loads.items():
            runs = {}
            able = [peer for peer in order if load.protocol == "socketio" or peer != "socket.io"]
            for peer in able:
                told = f"{repetition + 1}/{repetitions} {cell} {peer}"
                try:
                    runs[peer] = cells.measure(starts[peer], load, SECRET)
                except (generator.LoadFailed, StartFailed) as failed:
                    results.failures.append(f"{told}: {failed}")
                    print(f"{told}: FAILED", file=sys.stderr)
                else:
                    print(f"{told}: {shown(runs[peer])}", file=sys.stderr)
            # ratios are of runs of one turn: a turn in which one failed gives none
            if len(runs) == len(able):
                for peer in (peer for peer in starts if peer in runs):
                    results.add(cell, peer, runs[peer])


def protocols(results: Results, first: str) -> Iterator[str]:
    """What other receivers cost of those of Socket.IO, turn by turn: processor time per delivery."""
    rows = []
    for cell, peers in results.figures.items():
        plain, _, protocol = cell.rpartition("-")
        other = results.figures.get(plain, {}).get(first, {}).get("cpu_us")
        own = peers.get(first, {}).get("cpu_us")
        if protocol in cells.PROTOCOLS and own and other:
            ratios = [ours / max(theirs, 1e-9) for ours, theirs in zip(own, other, strict=False)]
            rows.append(f"| {plain} | {protocol} | {spread(own)} | {spread(other)} | {spread(ratios)} |")
    if rows:
        yield "\n### Receivers by other protocols (CPU us per delivery)"
        yield "| load | protocol | its receivers | Socket.IO's | ratio |"
        yield "|---|---|---:|---:|---:|"
        yield from rows


def shown(run: cells.Run) -> str:
    """The figures of one run in a line."""
    return ", ".join(f"{value:.4g} {cells.UNITS[name]}" for name, value in cells.figures(run).items())


def git(*words: str) -> bytes:
    return subprocess.run(["git", "-C", str(ROOT), *words], check=True, capture_output=True).stdout


@contextmanager
def checkout(commit: str) -> Iterator[Path]:
    """The files of another commit, in a directory of their own."""
    with tempfile.TemporaryDirectory() as directory:
        with tarfile.open(fileobj=BytesIO(git("archive", "--format=tar", commit))) as files:
            files.extractall(directory, filter="data")
        yield Path(directory)


@contextmanager
def snapshot() -> Iterator[Path]:
    """The service's files as they are now: the tree may be worked on while it is measured."""
    with tempfile.TemporaryDirectory() as directory:
        for name in ("realtime", "twisted"):
            ignored = shutil.ignore_patterns("__pycache__", "dropin.cache")
            shutil.copytree(ROOT / name, Path(directory) / name, ignore=ignored)
        yield Path(directory)


def machine() -> str:
    """What the figures were taken on."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    cores = len(os.sched_getaffinity(0))
    return f"{cpu}, {cores} processors, Linux {platform.release()}, Python {platform.python_version()}"


def options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("cell", nargs="*", default=cells.USUAL, help=cells.ACCEPTED)
    parser.add_argument("--peers", default=",".join(USUAL), help=PEERS_HELP)
    parser.add_argument("--against", metavar="COMMIT", help=AGAINST_HELP)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument(
        "--seconds", type=float, default=1.0, help="of each measurement; default %(default)s"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all values into a file")
    return parser.parse_args(arguments)


def choose(given: argparse.Namespace, stack: ExitStack) -> Starts:
    """Whom to measure; files that it takes are given back with the stack."""
    files = stack.enter_context(snapshot())
    if given.against:
        start = service_over_redis if given.peers == "redis" else service
        before = partial(start, stack.enter_context(checkout(given.against)))
        return {"service": partial(start, files), given.against: before}
    ours = {start: partial(start, files) for start in (service, service_over_redis)}
    return {peer: ours.get(PEERS[peer], PEERS[peer]) for peer in given.peers.split(",")}


def main(arguments: Sequence[str]) -> int:
    """Measure, print the table, and say by the exit status whether all messages came through."""
    given = options(arguments)
    unknown = [peer for peer in given.peers.split(",") if peer not in PEERS]
    if unknown:
        print(f"no such peer: {unknown[0]}; accepted are {', '.join(PEERS)}", file=sys.stderr)
        return 2
    try:
        loads = {cell: cells.parse(cell, given.seconds) for cell in given.cell}
        generator.build()
        git("rev-parse", "--verify", "--quiet", f"{given.against or 'HEAD'}^{{commit}}")
    except (ValueError, generator.NoCompiler) as wrong:
        print(wrong, file=sys.stderr)
        return 2
    except subprocess.CalledProcessError:
        print(f"{given.against!r} is no commit of this repository", file=sys.stderr)
        return 2
    results = Results(machine(), git("describe", "--always", "--dirty").decode().strip(), time.time())
    with ExitStack() as stack:
        starts = choose(given, stack)
        interleave(starts, loads, given.repetitions, results)
    print(f"{results.machine}; commit {results.commit}; {given.repetitions} repetitions: median [min-max]")
    print("\n".join(table(results, next(iter(starts)))))
    print("\n".join(protocols(results, next(iter(starts)))))
    for failure in results.failures:
        print(f"\nFAILED {failure}")
    if given.json:
        given.json.write_bytes(msgspec.json.format(msgspec.json.encode(results)))
    return 1 if results.failures else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
