"""``python -m benchmarks.profile``: where the service spends its time under one load, by py-spy.

Shares are of samples of the running thread. A call into C is counted for the line that makes it, except
that lines which call the kernel (send, receive, poll) are told apart by their source text. A sampler stops
the process most easily where it returns from the kernel, so short system calls look dearer than they are:
how much time the kernel really takes is told beside it, from the process's own clocks, sampling included.
With --perf it is Linux's perf that samples: right about the kernel, the garbage collector and the
interpreter, blind to Python's functions.
"""

from __future__ import annotations

import argparse
import linecache
import os
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
from .compiling import NoCompiler
from .peers import ROOT, SECRET, service
from .process import pinned, processors

FRAME = re.compile(r"(?P<function>.+) \((?P<file>[^()]*?)(?::(?P<line>\d+))?\)")
SYSCALL = re.compile(r"\.(send|sendmsg|recv|poll|modify|accept|accept4|register|unregister|shutdown)\(")
#: Those that do nothing but a system call that they are given: Twisted's, around send and sendmsg.
SYSCALL_FUNCTIONS = {"untilConcludes"}
SAMPLES_A_SECOND = 250
PY_SPY_FORMAT = ("--format", "raw", "--full-filenames")
MISSING = {
    "py-spy": "profiles are taken by py-spy; install it: pip install py-spy",
    "perf": "this profile is taken by perf; install it: apt-get install linux-perf",
}

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


def sampling(pid: int, file: Path, perf: bool) -> list[str]:
    """The command that samples a process into a file until it is interrupted.

    :raises FileNotFoundError: it is not installed; the message says how to get it.
    """
    tool = "perf" if perf else "py-spy"
    found = shutil.which(tool, path=f"{Path(sys.executable).parent}:{os.defpath}:/usr/local/bin")
    if found is None:
        raise FileNotFoundError(MISSING[tool])
    if perf:
        return [found, "record", "--quiet", "-F", "999", "--pid", str(pid), "--output", str(file)]
    rate = ["--rate", str(SAMPLES_A_SECOND)]
    return [found, "record", "--pid", str(pid), *rate, *PY_SPY_FORMAT, "--output", str(file)]


def record(load: generator.Load, file: Path, perf: bool) -> tuple[generator.Report, float]:
    """Run one load against a new service, and sample it while the load is measured.

    :returns: what the generator saw, and the share of the service's processor time spent in the kernel.
    """
    begin, end = ("connect", "connected") if load.scenario == "connect" else ("measure", "measured")
    with service() as server, generator.tokens(load.connections, SECRET) as tokens:
        command = sampling(server.pid, file, perf)
        sampler: subprocess.Popen[bytes] | None = None
        samples = {}

        def mark(phase: str) -> None:
            nonlocal sampler
            samples[phase] = server.sample()
            if phase == begin:
                with pinned(processors()[1]):
                    sampler = subprocess.Popen(
                        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                    )
            elif phase == end and sampler is not None:
                sampler.send_signal(signal.SIGINT)
                sampler.wait(30)

        report = generator.run(load, server.port, tokens, mark)
        used = samples[end].cpu - samples[begin].cpu
        return report, (samples[end].kernel - samples[begin].kernel) / max(used, 1e-9)


def perf_shares(file: Path, top: int) -> Iterator[str]:
    """What perf has sampled, by object and by symbol, as lines of text."""
    for title, key in (("share of time by object", "dso"), ("by symbol", "dso,symbol")):
        command = ["perf", "report", "--stdio", "--quiet", "--input", str(file), "--sort", key]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        yield f"\n{title}"
        yield from [line.rstrip() for line in told.splitlines() if line.strip()][:top]


def main(arguments: Sequence[str]) -> int:
    """Profile one cell and print the shares."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__)
    parser.add_argument("cell", nargs="?", default="fanout-1000-60b-w2", help=cells.ACCEPTED)
    parser.add_argument("--seconds", type=float, default=5.0, help="default %(default)s")
    parser.add_argument("--top", type=int, default=15, help="rows of each table; default %(default)s")
    parser.add_argument(
        "--raw",
        type=Path,
        metavar="FILE",
        help="keep the samples (py-spy: collapsed stacks, for a flame graph)",
    )
    parser.add_argument("--perf", action="store_true", help="sample with perf in place of py-spy")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as directory:
        file = given.raw or Path(directory) / "samples"
        try:
            report, kernel = record(cells.parse(given.cell, given.seconds), file, given.perf)
        except (ValueError, FileNotFoundError, NoCompiler, generator.LoadFailed) as wrong:
            print(wrong, file=sys.stderr)
            return 1
        if given.perf:
            told = list(perf_shares(file, given.top))
        else:
            with file.open() as lines:
                told = list(parse(lines).told(given.top))
    print(f"{given.cell}: {report.deliveries} deliveries in {report.seconds:.2f} s")
    print(f"{kernel:.0%} of the service's processor time was spent in the kernel")
    print("\n".join(told))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
