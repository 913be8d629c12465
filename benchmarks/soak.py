"""``python -m benchmarks.soak``: whether the service's memory stays where it is.

First clients come and go, in every way there is, tens of thousands of times; then for ten minutes there is
mixed traffic: rooms in every protocol, and clients that come and go. Memory is noted all along; after a
warm-up its slope must be none. Exits with 1 if it is not, or if a message was lost, repeated or disordered.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from pathlib import Path

import msgspec

from . import generator
from .generator import Load, LoadFailed
from .peers import SECRET, service
from .process import Server, rss_bytes

#: Users that come and go, and so the most that can be remembered of them.
USERS = 500

#: What a session leaves is forgotten after this many milliseconds, so that there is an end to the warm-up.
SETTINGS = {
    "RECOVERY_WINDOW": "5000",
    "PRESENCE_GRACE": "1000",
    "PRESENCE_CLEANUP_INTERVAL": "5000",
    "ROOM_HISTORY_TTL": "10000",
    "RECOVERY_MAX_MESSAGES": "200",
}

#: Growth that is none, as a share of what is held when the warm-up ends: over all that is measured.
NONE = 0.02


class Course(msgspec.Struct):
    """How memory went.

    :ivar steps: what is counted, cycles or seconds, at each note.
    :ivar held: bytes of memory at each.
    """

    steps: list[float] = []
    held: list[int] = []

    def note(self, step: float, held: int) -> None:
        self.steps.append(step)
        self.held.append(held)

    def after(self, share: float) -> Course:
        """What follows the first part, which is the warm-up."""
        begin = int(len(self.steps) * share)
        return Course(self.steps[begin:], self.held[begin:])

    def slope(self) -> float:
        """Bytes a step: the median of the slopes between any two notes (Theil and Sen)."""
        pairs = combinations(zip(self.steps, self.held, strict=True), 2)
        slopes = [(late - early) / (end - begin) for (begin, early), (end, late) in pairs if end > begin]
        return statistics.median(slopes) if slopes else 0.0

    def growth(self) -> float:
        """What the slope comes to from the first note to the last, as a share of the first."""
        return self.slope() * (self.steps[-1] - self.steps[0]) / self.held[0] if self.steps else 0.0


def cycles(server: Server, tokens: Path, count: int) -> Course:
    """Clients that come and go; 200 notes.

    :raises LoadFailed: one of them was refused or cut.
    """
    course = Course()
    step = max(count // 200, 1)

    def mark(name: str) -> None:
        if name == "cycled":
            course.note((len(course.steps) + 1) * step, rss_bytes(server.pid))

    load = Load(scenario="churn", connections=USERS, in_flight=64, count=count, step=step, deadline=7200.0)
    generator.run(load, server.port, tokens, mark)
    return course


def traffic(server: Server, tokens: Path, seconds: float) -> Course:
    """Mixed traffic at a third of a processor; a note each second.

    :raises LoadFailed: it did not come through whole.
    """
    loads = (
        Load(
            scenario="rate",
            protocol="mix",
            room="mix",
            connections=100,
            rate=30.0,
            text=200,
            seconds=seconds,
        ),
        Load(scenario="rate", room="long", connections=20, rate=20.0, text=2000, seconds=seconds),
        Load(
            scenario="churn",
            connections=USERS,
            offered=40.0,
            count=max(int(40 * seconds), 1),
            step=1_000_000,
        ),
    )
    course = Course()
    with ThreadPoolExecutor(len(loads)) as pool:

        def run(load: Load) -> object:
            whole = msgspec.structs.replace(load, deadline=seconds + 120)
            return generator.run(whole, server.port, tokens, lambda mark: None)

        running = [pool.submit(run, load) for load in loads]
        begun = time.monotonic()
        while not any(future.done() for future in running):
            time.sleep(1)
            course.note(time.monotonic() - begun, rss_bytes(server.pid))
        for future in running:
            future.result()
    return course


def told(name: str, unit: str, course: Course) -> bool:
    """Print how it went; whether memory stayed."""
    later = course.after(0.4)
    growth = later.growth()
    stayed = growth <= NONE
    held = " ".join(f"{bytes / 2**20:.1f}" for bytes in course.held[:: max(len(course.held) // 20, 1)])
    print(f"{name}: {course.steps[-1]:.0f} {unit}; MiB held on the way: {held}")
    verdict = "stays" if stayed else "GROWS"
    print(f"  after the warm-up {later.slope():+.1f} bytes/{unit}, {growth:+.2%} in all: {verdict}")
    return stayed


def main(arguments: Sequence[str]) -> int:
    """Soak, and say by the exit status whether memory stayed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--cycles", type=int, default=100_000, help="default %(default)s")
    parser.add_argument(
        "--seconds", type=float, default=600.0, help="of mixed traffic; default %(default)s"
    )
    given = parser.parse_args(arguments)
    parts: list[tuple[str, str, Callable[[Server, Path], Course]]] = []
    if given.cycles:
        parts.append(("clients that come and go", "cycles", lambda *on: cycles(*on, given.cycles)))
    if given.seconds:
        parts.append(("mixed traffic", "seconds", lambda *on: traffic(*on, given.seconds)))
    stayed = True
    for name, unit, part in parts:
        with service(settings=SETTINGS) as server, generator.tokens(USERS, SECRET) as tokens:
            try:
                stayed &= told(name, unit, part(server, tokens))
            except LoadFailed as failed:
                print(f"{name}: {failed}\n{server.output()}", file=sys.stderr)
                return 1
    return 0 if stayed else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
