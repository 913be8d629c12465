"""``python -m benchmarks.observed``: what it costs to be looked at, by Prometheus and by a console.

One node under a steady load: at first nobody looks, then `/metrics` is read and a console stays open on its
connections. The difference is what they cost, as a share of one processor. Exits with 1 past a bound.
"""

from __future__ import annotations

import argparse
import http.client
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

import msgspec

from . import cells, generator
from .peers import SECRET, service
from .process import Server, cpu_seconds, free_port

#: Seconds between two scrapes: a third of docker/prometheus'.
SCRAPE: Final = 5.0
#: Seconds between two looks of a console; what it asks for when it shows connections.
CONSOLE: Final = 2.0
ASKED: Final = ("/v1/nodes", "/v1/connections?limit=50")

#: Cells, how long each half takes (pings come every 25 s), and the most that looking may cost.
CELLS: Final = {"idle-10000": (25.0, 0.03), "rate-1000-60b-20/s": (10.0, 0.05)}
#: Seconds that one scrape may take.
LONGEST: Final = 0.05


class Seen(msgspec.Struct):
    """What one cell came to.

    :ivar alone: share of a processor that the server used while nobody looked.
    :ivar observed: the same while it was looked at.
    :ivar scrapes: seconds that each scrape took.
    :ivar looks: seconds that each request of the console took.
    """

    alone: float = 0.0
    observed: float = 0.0
    scrapes: list[float] = []
    looks: list[float] = []


class Observers(threading.Thread):
    """Looks at a server in its second half."""

    def __init__(self, server: Server, ports: dict[str, int], half: float) -> None:
        super().__init__(daemon=True)
        self.seen = Seen()
        self._server = server
        self._ports = ports
        self._half = half

    def run(self) -> None:
        self.seen.alone = self._share(time.sleep)
        self.seen.observed = self._share(self._look)

    def _share(self, during: Callable[[float], object]) -> float:
        cpu, began = cpu_seconds(self._server.pid), time.monotonic()
        during(self._half)
        return (cpu_seconds(self._server.pid) - cpu) / (time.monotonic() - began)

    def _look(self, seconds: float) -> None:
        began = time.monotonic()
        for due, ask in self._plan(seconds):
            time.sleep(max(0.0, began + due - time.monotonic()))
            ask()
        time.sleep(max(0.0, began + seconds - time.monotonic()))

    def _plan(self, seconds: float) -> Iterator[tuple[float, Callable[[], None]]]:
        """When to ask what, in order."""
        plan = [
            (n * SCRAPE + 0.5, partial(self._ask, "METRICS_PORT", "/metrics", self.seen.scrapes))
            for n in range(int(seconds / SCRAPE))
        ]
        for path in ASKED:
            plan += [
                (n * CONSOLE, partial(self._ask, "API_PORT", path, self.seen.looks))
                for n in range(int(seconds / CONSOLE))
            ]
        yield from sorted(plan, key=lambda one: one[0])

    def _ask(self, name: str, path: str, took: list[float]) -> None:
        began = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self._ports[name], timeout=10)
        connection.request("GET", path, headers={"Authorization": f"Bearer {SECRET}"})
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        took.append(time.monotonic() - began)
        if answer.status != 200 or not body:
            raise generator.LoadFailed(f"{path}: {answer.status}")


def measure(cell: str, half: float) -> Seen:
    """One cell on a server of its own.

    :raises generator.LoadFailed: something was lost, or a question was not answered.
    """
    load = msgspec.structs.replace(cells.parse(cell, 2 * half + 2), seconds=2 * half + 2)
    ports = {name: free_port() for name in ("METRICS_PORT", "API_PORT")}
    with service(settings={name: str(port) for name, port in ports.items()}) as server:
        observers = Observers(server, ports, half)

        begins = "connected" if load.scenario == "idle" else "measure"

        def marked(mark: str) -> None:
            if mark == begins:
                observers.start()

        with generator.tokens(load.connections, SECRET) as tokens:
            generator.run(load, server.port, tokens, marked)
        observers.join(5)
    if observers.is_alive() or not observers.seen.scrapes:
        raise generator.LoadFailed(f"{cell}: nobody has looked to the end")
    return observers.seen


def main(arguments: list[str]) -> int:
    """Measure, print, and say by the exit status whether all stayed within their bounds."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.observed", description=__doc__)
    parser.add_argument("cell", nargs="*", default=list(CELLS), help=f"of {', '.join(CELLS)}")
    parser.add_argument("--repetitions", type=int, default=1)
    given = parser.parse_args(arguments)
    generator.build()
    failed = False
    for cell in given.cell * given.repetitions:
        half, bound = CELLS[cell]
        seen = measure(cell, half)
        cost, longest = seen.observed - seen.alone, max(seen.scrapes)
        bad = cost > bound or longest > LONGEST
        failed |= bad
        print(
            f"{cell}: {seen.alone:.1%} of a processor alone, {seen.observed:.1%} looked at: {cost:+.1%}"
            f" (at most {bound:.0%}); a scrape took {longest * 1000:.0f} ms at the most (at most"
            f" {LONGEST * 1000:.0f}), an answer to the console {max(seen.looks) * 1000:.0f} ms"
            f"{'  FAILED' if bad else ''}",
            flush=True,
        )
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
