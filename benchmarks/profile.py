"""``python -m benchmarks.profile``: where the service spends its time under one load, by py-spy.

Shares are of samples of the running thread. A call into C is counted for the line that makes it, except
that lines which call the kernel (send, receive, poll) are told apart by their source text.
"""

from __future__ import annotations

import argparse
import linecache
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from . import cells, generator
from .peers import ROOT, SECRET, service
from .process import pinned, processors

FRAME = re.compile(r"(?P<function>.+) \((?P<file>[^()]*?)(?::(?P<line>\d+))?\)")
SYSCALL = re.compile(r"\.(send|sendmsg|recv|poll|modify|accept|accept4|register|unregister|shutdown)\(")
#: Those that do nothing but a system call that they are given: Twisted's, around send and sendmsg.
SYSCALL_FUNCTIONS = {"untilConcludes"}
SAMPLES_A_SECOND = 250
NO_PY_SPY = "profiles are taken by py-spy; install it: pip install py-spy"

#: Parts of the server, by what a file's path holds; the first that fits.
PARTS = (
    ("our code", f"{ROOT}/realtime/"),
    ("Autobahn", "/autobahn/"),
    ("Twisted", "/twisted/"),
    ("PyJWT", "/jwt/"),
    ("Prometheus client", "/prometheus_client/"),
)


class Profile:
    """Samples, summed by part of the server and by function."""

    def __init__(self) -> None:
        self.samples = 0
        self.parts: Counter[str] = Counter()
        self.own: Counter[str] = Counter()
        self.lines: Counter[str] = Counter()
        self.total: Counter[str] = Counter()

    def add(self, stack: Sequence[str], count: int) -> None:
        """Take in `count` samples of a stack, outermost frame first."""
        frames = [found for frame in stack if (found := FRAME.fullmatch(frame))]
        if not frames:
            return
        self.samples += count
        leaf = frames[-1]
        self.parts[part(leaf["function"], leaf["file"], leaf["line"])] += count
        self.own[name(leaf)] += count
        self.lines[f"{name(leaf)}:{leaf['line']}"] += count
        for function in {name(frame) for frame in frames}:
            self.total[function] += count

    def told(self, top: int) -> Iterator[str]:
        """The profile as lines of text."""
        yield f"{self.samples} samples"
        yield from self._table("share of time", self.parts, len(self.parts))
        ours = Counter({key: count for key, count in self.own.items() if key.startswith("realtime/")})
        yield from self._table("our functions, without what they call", ours, top)
        yield from self._table("all functions, without what they call", self.own, top)
        yield from self._table("lines", self.lines, top)
        yield from self._table("functions with what they call", self.total, top * 2)

    def _table(self, title: str, counts: Counter[str], top: int) -> Iterator[str]:
        yield f"\n{title}"
        for key, count in counts.most_common(top):
            yield f"  {count / max(self.samples, 1):6.1%}  {key}"


def part(function: str, file: str, line: str | None) -> str:
    """Which part of the server a line belongs to."""
    if function in SYSCALL_FUNCTIONS or SYSCALL.search(linecache.getline(file, int(line or 0))):
        return "system calls"
    return next((title for title, path in PARTS if path in file), "other libraries")


def name(frame: re.Match[str]) -> str:
    """A function, with its file from the package on."""
    file = frame["file"].removeprefix(f"{ROOT}/").rpartition("/site-packages/")[2]
    return f"{file} {frame['function']}"


def parse(lines: Iterable[str]) -> Profile:
    """Read collapsed stacks: ``frame;frame;frame count`` a line."""
    profile = Profile()
    for line in lines:
        stack, _, count = line.rstrip().rpartition(" ")
        if count.isdecimal():
            profile.add(stack.split(";"), int(count))
    return profile


def record(load: generator.Load, raw: Path) -> generator.Report:
    """Run one load against a new service, and sample it while the load is measured."""
    spy = shutil.which("py-spy", path=f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin")
    if spy is None:
        raise FileNotFoundError(NO_PY_SPY)
    begin, end = ("connect", "connected") if load.scenario == "connect" else ("measure", "measured")
    with service() as server, generator.tokens(load.connections, SECRET) as tokens:
        sampler: subprocess.Popen[bytes] | None = None

        def mark(phase: str) -> None:
            nonlocal sampler
            if phase == begin:
                command = [spy, "record", "--pid", str(server.pid), "--rate", str(SAMPLES_A_SECOND)]
                command += ["--format", "raw", "--full-filenames", "--output", str(raw)]
                with pinned(processors()[1]):
                    sampler = subprocess.Popen(
                        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                    )
            elif phase == end and sampler is not None:
                sampler.send_signal(signal.SIGINT)
                sampler.wait(30)

        return generator.run(load, server.port, tokens, mark)


def main(arguments: Sequence[str]) -> int:
    """Profile one cell and print the shares."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__)
    parser.add_argument("cell", nargs="?", default="fanout-1000-60b-w2", help=cells.ACCEPTED)
    parser.add_argument("--seconds", type=float, default=5.0, help="default %(default)s")
    parser.add_argument("--top", type=int, default=15, help="rows of each table; default %(default)s")
    parser.add_argument(
        "--raw", type=Path, metavar="FILE", help="keep the collapsed stacks (for a flame graph)"
    )
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as directory:
        raw = given.raw or Path(directory) / "stacks"
        try:
            report = record(cells.parse(given.cell, given.seconds), raw)
        except (ValueError, FileNotFoundError, generator.NoCompiler, generator.LoadFailed) as wrong:
            print(wrong, file=sys.stderr)
            return 1
        with raw.open() as lines:
            profile = parse(lines)
    print(f"{given.cell}: {report.deliveries} deliveries in {report.seconds:.2f} s")
    print("\n".join(profile.told(given.top)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
