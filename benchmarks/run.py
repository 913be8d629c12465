"""``python -m benchmarks.run``: the service beside its peers, interleaved, as a table of ratios.

Exits with 1 if any message was lost, repeated or out of order in any run; with --check also if a target
was missed.
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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path

import msgspec

from . import cells, generator, targets
from .compiling import NoCompiler
from .peers import PEERS, QUIET, ROOT, SECRET, Peer
from .process import StartFailed

AGAINST_HELP = "a commit of this repository as the only peer; both over Redis with --peers redis"
PEERS_HELP = f"of {', '.join(PEERS)}; comma separated; by default those that a cell's targets are about"
CELLS_HELP = f"{cells.ACCEPTED}; or all of a group: {', '.join(cells.GROUPS)}"

#: cell -> who is measured with it
Plan = Mapping[str, Mapping[str, Peer]]


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

    def turns(self, cell: str) -> int:
        """How many times a cell has been measured with all of its peers."""
        lists = [values for peer in self.figures.get(cell, {}).values() for values in peer.values()]
        return max(map(len, lists), default=0)


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


def able(peer: Peer, cell: str, load: generator.Load) -> bool:
    """Whether there is such a load for a peer."""
    return peer.ours or (
        load.protocol == "socketio"
        and not cells.settings(cell)
        and (not load.rooms or peer.speaks == "socketio")
    )


def measure(peer: Peer, cell: str, load: generator.Load) -> cells.Run:
    """Run one cell against a new server of one peer."""
    if peer.speaks != "socketio":
        return cells.measure(peer.start, msgspec.structs.replace(load, protocol=peer.speaks), SECRET)
    settings = cells.settings(cell) | (QUIET if cells.quiet(cell) else {})
    return cells.measure(partial(peer.start, settings=settings), load, SECRET)


def interleave(
    plan: Plan,
    loads: dict[str, generator.Load],
    repetitions: int,
    results: Results,
    keep: Callable[[], None] = lambda: None,
) -> None:
    """Measure every cell with every peer, in turns: what drifts on the machine meets all of them.

    :param keep: called after each cell.
    """
    for repetition in range(repetitions):
        for cell, load in loads.items():
            runs = {}
            peers = [name for name, peer in plan[cell].items() if able(peer, cell, load)]
            # whoever runs second finds a machine that the first has warmed: take turns at it
            for peer in peers[:: -1 if results.turns(cell) % 2 else 1]:
                told = f"{repetition + 1}/{repetitions} {cell} {peer}"
                try:
                    runs[peer] = measure(plan[cell][peer], cell, load)
                except (generator.LoadFailed, StartFailed) as failed:
                    results.failures.append(f"{told}: {failed}")
                    print(f"{told}: FAILED", file=sys.stderr)
                else:
                    print(f"{told}: {shown(runs[peer])}", file=sys.stderr)
            # ratios are of runs of one turn: a turn in which one failed gives none
            if len(runs) == len(peers):
                for peer in peers:
                    results.add(cell, peer, runs[peer])
            keep()


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
    parser.add_argument("cell", nargs="*", default=["usual"], help=CELLS_HELP)
    parser.add_argument("--peers", help=PEERS_HELP)
    parser.add_argument("--against", metavar="COMMIT", help=AGAINST_HELP)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument(
        "--seconds", type=float, default=1.0, help="of each measurement; default %(default)s"
    )
    parser.add_argument("--check", action="store_true", help="exit with 1 if a target was missed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all values into a file")
    parser.add_argument(
        "--add", action="store_true", help="to those that are in the file of --json already"
    )
    return parser.parse_args(arguments)


def choose(given: argparse.Namespace, names: Sequence[str], stack: ExitStack) -> Plan:
    """Whom to measure with each cell; files that it takes are given back with the stack."""
    files = stack.enter_context(snapshot())
    peers = {
        name: msgspec.structs.replace(peer, start=partial(peer.start, files)) if peer.ours else peer
        for name, peer in PEERS.items()
    }
    if given.against:
        start = PEERS[given.peers or "service"].start
        before = Peer(partial(start, stack.enter_context(checkout(given.against))), ours=True)
        return {
            name: {"service": Peer(partial(start, files), ours=True), given.against: before}
            for name in names
        }
    chosen = given.peers.split(",") if given.peers else None
    return {name: {peer: peers[peer] for peer in chosen or targets.peers_of(name)} for name in names}


def begun(given: argparse.Namespace) -> Results:
    """Results that are empty, or those of the file that is to be added to."""
    if given.add and given.json and given.json.exists():
        return msgspec.json.decode(given.json.read_bytes(), type=Results)
    return Results(machine(), git("describe", "--always", "--dirty").decode().strip(), time.time())


def wrong(given: argparse.Namespace) -> str:
    """What is wrong with the words of the command line."""
    unknown = [peer for peer in (given.peers or "service").split(",") if peer not in PEERS]
    if unknown:
        return f"no such peer: {unknown[0]}; accepted are {', '.join(PEERS)}"
    if given.against and not PEERS[given.peers or "service"].ours:
        return "a commit is held against the service, or against redis"
    try:
        git("rev-parse", "--verify", "--quiet", f"{given.against or 'HEAD'}^{{commit}}")
    except subprocess.CalledProcessError:
        return f"{given.against!r} is no commit of this repository"
    return ""


def main(arguments: Sequence[str]) -> int:
    """Measure, print the table, and say by the exit status whether all messages came through."""
    given = options(arguments)
    names = [name for word in given.cell for name in cells.GROUPS.get(word, (word,))]
    fault = wrong(given)
    try:
        loads = {} if fault else {cell: cells.parse(cell, given.seconds) for cell in names}
        generator.build()
    except (ValueError, NoCompiler) as failed:
        fault = str(failed)
    if fault:
        print(fault, file=sys.stderr)
        return 2
    results = begun(given)
    with ExitStack() as stack:
        plan = choose(given, names, stack)
        interleave(plan, loads, given.repetitions, results, partial(keep, results, given.json))
    tell(results, given.repetitions)
    missed = given.check and not all(met for _, _, met in targets.judged(results.figures))
    return 1 if results.failures or missed else 0


def keep(results: Results, file: Path | None) -> None:
    """Write all values into a file."""
    if file is not None:
        file.write_bytes(msgspec.json.format(msgspec.json.encode(results)))


def tell(results: Results, repetitions: int) -> None:
    """Print all that is known."""
    print(f"{results.machine}; commit {results.commit}; {repetitions} repetitions: median [min-max]")
    print("\n".join(table(results, "service")))
    print("\n".join(protocols(results, "service")))
    print("\n".join(targets.told(results.figures, cells.UNITS)))
    for failure in results.failures:
        print(f"\nFAILED {failure}")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
