"""What is measured: a cell is one load, and the figures that are drawn from it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from . import generator
from .generator import Load, Report
from .pair import Pair
from .process import Sample, Server

FORM = re.compile(
    r"(?P<scenario>fanout|rate|storm|echo|idle|connect)-(?P<connections>\d+)"
    r"(-(?P<text>\d+)b)?(-w(?P<window>\d+))?(-(?P<rate>[\d.]+)/s)?"
    r"(-(?P<rooms>\d+)rooms)?(-(?P<history>\d+)kept)?"
    r"(-(?P<protocol>plain|wamp|cbor|msgpack|mix))?"
)
ACCEPTED = (
    "such as fanout-1000-60b-w2, echo-100-60b-w10, rate-1000-60b-10/s, idle-5000, connect-1000 or"
    " storm-10000; fanout, rate, idle and connect also with other receivers than Socket.IO's, such as"
    " fanout-1000-60b-w2-plain, -wamp, -cbor, -msgpack, or a -mix of all, and with further rooms joined or"
    " messages kept in each room: fanout-1000-60b-w20-100rooms, -50kept"
)

#: Connections that are there before those whose cost is measured: what a server does once is not in it.
FIRST = 50

#: Those that live through a storm, and how many messages a second they get meanwhile.
LIVE = 100
LIVE_RATE = 50.0

#: Milliseconds that live clients may always wait at the 99th percentile, in a storm.
CALM = 25.0

#: Members past which a room is `quiet`: that each is told of each would take longer than what is measured.
BIG = 1000

#: The protocols of receivers beside Socket.IO.
PROTOCOLS = ("plain", "wamp", "cbor", "msgpack", "mix")

#: The cells that are measured unless others are named.
USUAL = (
    *(
        f"fanout-{count}-{text}b-w{window}"
        for count in (1000, 100, 5000)
        for text in (60, 1024)
        for window in (2, 20)
    ),
    *(f"fanout-1000-60b-w{window}-{name}" for window in (2, 20) for name in PROTOCOLS),
    "echo-100-60b-w1",
    "echo-100-60b-w10",
    "rate-1000-60b-10/s",
    "connect-1000",
    "connect-5000",
    "idle-10000",
    "storm-10000",
)

#: How the service grows: with receivers, with rooms, with messages kept.
GROWTH = (
    *(f"fanout-{count}-60b-w20" for count in (10, 100, 1000, 5000, 10000)),
    *(f"fanout-1000-60b-w20-{count}rooms" for count in (1, 10, 100, 1000, 10000)),
    *(f"fanout-1000-60b-w20-{count}kept" for count in (0, 10, 100, 1000)),
    *(f"idle-{count}" for count in (10, 100, 1000, 5000, 10000)),
    *(f"idle-1000-{count}rooms" for count in (1, 10, 100, 1000, 10000)),
)

#: Groups of cells by a name of their own.
GROUPS = {"usual": USUAL, "growth": GROWTH}

#: What a figure counts in, by its name.
UNITS = {
    "cpu_us": "CPU us",
    "per_second": "/s",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "connect_us": "CPU us/connect",
    "enter_us": "CPU us/connect into the room",
    "seconds": "s until all were in",
    "quiet_p99_ms": "p99 ms before",
    "excess": "p99 of what is allowed",
    "rss_kib": "KiB/connection",
    "publisher_us": "CPU us/publication of the publisher's node",
    "redis_us": "CPU us/publication of Redis",
    "redis_commands": "Redis commands/publication",
    "redis_connect": "Redis commands/connect",
    "redis_connect_us": "CPU us/connect of Redis",
    "redis_minute": "Redis commands/minute",
    "redis_minute_ms": "CPU ms/minute of Redis",
}


class Run(msgspec.Struct, frozen=True):
    """One run of one cell against one server."""

    load: Load
    report: Report
    samples: Mapping[str, Sample]

    def cpu_us(self, begin: str, end: str, count: int) -> float:
        """Processor microseconds of the server for each of `count` things between two marks."""
        return (self.samples[end].cpu - self.samples[begin].cpu) * 1e6 / max(count, 1)

    def beside(self, begin: str, end: str, count: float, **names: tuple[str, float]) -> dict[str, float]:
        """Figures of the processes beside the server, where there are any.

        :param names: figure -> what of `Sample.beside`, and in which unit of its own.
        """
        before, after = self.samples[begin].beside, self.samples[end].beside
        return {
            figure: (after[name] - before[name]) * unit / max(count, 1e-9)
            for figure, (name, unit) in names.items()
            if name in after
        }


def parse(name: str, seconds: float) -> Load:
    """The load that a cell's name stands for.

    :param seconds: how long to measure, or to hold idle connections.
    :raises ValueError: it is not a cell's name.
    """
    found = FORM.fullmatch(name)
    if found is None:
        raise ValueError(f"{name!r} is no cell; accepted is one {ACCEPTED}")
    protocol = found["protocol"] or "socketio"
    scenario = found["scenario"]
    if protocol != "socketio" and scenario in ("echo", "storm"):
        raise ValueError(f"{name!r} is no cell; only clients of Socket.IO send: accepted is one {ACCEPTED}")
    connections = int(found["connections"]) + (LIVE if scenario == "storm" else 0)
    given = {field: int(found[field]) for field in ("text", "window", "rooms") if found[field]}
    rate = float(found["rate"] or (LIVE_RATE if scenario == "storm" else 10))
    # a rate is slow: a latency at the 99th percentile wants more publications than that gives in a moment
    longer = {"rate": max(seconds, 30 / rate), "idle": max(seconds, 2.0), "storm": max(seconds, 5.0)}
    return Load(
        scenario=scenario,
        protocol=protocol,
        connections=connections,
        first=LIVE if scenario == "storm" else min(FIRST, connections // 2),
        offered=float(found["connections"]),
        rate=rate,
        seconds=longer.get(scenario, seconds),
        **given,
    )


def quiet(name: str) -> bool:
    """Whether a cell's room is one of thousands, which tell nobody who comes and goes."""
    found = FORM.fullmatch(name)
    return found is not None and found["scenario"] in ("fanout", "rate") and int(found["connections"]) > BIG


def settings(name: str) -> dict[str, str]:
    """The settings of the service that a cell's name asks for, beside `quiet`."""
    found = FORM.fullmatch(name)
    if found is None or found["history"] is None:
        return {}
    # recovery's part of the log is no part of the history
    return {
        "ROOM_MESSAGE_HISTORY": found["history"],
        "RECOVERY_MAX_MESSAGES": str(max(1, int(found["history"]))),
    }


def measure(start: Callable[[], Server | Pair], load: Load, secret: str) -> Run:
    """Run one load against a new server.

    :raises generator.LoadFailed: it did not come through whole.
    """
    samples: dict[str, Sample] = {}
    with start() as server, generator.tokens(load.connections, secret) as tokens:
        report = _run(server, load, tokens, samples)
    return Run(load, report, samples)


def _run(server: Server | Pair, load: Load, tokens: Path, samples: dict[str, Sample]) -> Report:
    def sample(mark: str) -> None:
        samples[mark] = server.sample()

    try:
        # who echoes is no publisher: all of them are measured at one node
        apart = server.publisher_port if load.scenario in ("fanout", "rate", "storm") else None
        return generator.run(load, server.port, tokens, sample, apart)
    except generator.LoadFailed as failed:
        raise generator.LoadFailed(
            f"{failed}\nthe server's output ends with:\n{server.output()}"
        ) from failed


def figures(run: Run) -> dict[str, float]:
    """The figures of a run by name (`UNITS`), the most telling first."""
    load, report = run.load, run.report
    fresh = load.connections - load.first
    connect = {"connect_us": run.cpu_us("connect", "connected", fresh)}
    connect |= run.beside(
        "connect", "connected", fresh, redis_connect=("commands", 1), redis_connect_us=("redis", 1e6)
    )
    if load.scenario == "connect":
        return connect
    if load.scenario == "storm":
        allowed = max(2 * report.quiet_p99_ms, CALM)
        waited = {
            "p99_ms": report.p99_ms,
            "excess": report.p99_ms / allowed,
            "quiet_p99_ms": report.quiet_p99_ms,
        }
        return {"seconds": report.seconds, **waited, **connect}
    if load.scenario == "idle":
        held = run.samples["held"].rss - run.samples["connect"].rss
        minutes = (run.samples["held"].wall - run.samples["connected"].wall) / 60
        idle = run.beside(
            "connected", "held", minutes, redis_minute=("commands", 1), redis_minute_ms=("redis", 1e3)
        )
        return {"rss_kib": held / 1024 / max(fresh, 1), **connect, **idle}
    latency = {"p50_ms": report.p50_ms, "p99_ms": report.p99_ms}
    cpu = {"cpu_us": run.cpu_us("measure", "measured", report.deliveries)}
    cpu |= run.beside(
        "measure",
        "measured",
        report.publications,
        publisher_us=("publisher", 1e6),
        redis_us=("redis", 1e6),
        redis_commands=("commands", 1),
    )
    if load.scenario == "rate":
        return {**latency, **cpu}
    whole = {**cpu, "per_second": report.deliveries / report.seconds, **latency}
    # all of a fan-out enter one room, and each is told of those that come after it
    return {**whole, "enter_us": connect["connect_us"]} if load.scenario == "fanout" else whole
