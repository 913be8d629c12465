"""What the figures should be: ratios to peers in the same turn, and absolute limits."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence

import msgspec

#: cell -> peer -> figure -> one value for each repetition
Figures = Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]]


class Target(msgspec.Struct, frozen=True):
    """One of them.

    :ivar limit: the ratio, or the figure itself if there are no peers, is at most this.
    :ivar peers: the figure is held against the least of theirs.
    :ivar ours: whose figure it is.
    """

    cell: str
    figure: str
    limit: float
    peers: tuple[str, ...] = ()
    ours: str = "service"

    def values(self, figures: Figures) -> list[float]:
        """What is to be at most the limit, turn by turn; empty if it was not measured."""
        cell = figures.get(self.cell, {})
        own = cell.get(self.ours, {}).get(self.figure, ())
        if not self.peers:
            return list(own)
        theirs = [cell.get(peer, {}).get(self.figure, ()) for peer in self.peers]
        return [value / max(min(others), 1e-9) for value, *others in zip(own, *theirs, strict=False)]


def _fanout() -> Iterator[Target]:
    #: receivers -> window -> peer -> ratio
    ratios: dict[int, dict[int, dict[str, float]]] = {
        1000: {
            2: {"socket.io": 0.45, "nats": 0.8, "limit": 1.3},
            20: {"socket.io": 0.10, "nats": 0.8, "limit-batch": 2.0},
        },
        100: {window: {"socket.io": 0.6, "nats": 1.0} for window in (2, 20)},
        5000: {window: {"socket.io": 0.4, "nats": 0.7} for window in (2, 20)},
    }
    for receivers, windows in ratios.items():
        for window, peers in windows.items():
            # the same ratios within a tenth for long texts
            for text, more in ((60, 1.0), (1024, 1.1)):
                cell = f"fanout-{receivers}-{text}b-w{window}"
                for peer, ratio in (*peers.items(), ("python-socketio", 1 / 8)):
                    yield Target(cell, "cpu_us", ratio * more, (peer,))


def _redis() -> Iterator[Target]:
    for window in (2, 20):
        cell = f"fanout-1000-60b-w{window}"
        yield Target(cell, "publisher_us", 1000, ours="redis")
        yield Target(cell, "cpu_us", 1.1, ("service",), ours="redis")
        for peer in ("socket.io-redis", "socket.io-streams"):
            for figure in ("cpu_us", "publisher_us"):
                yield Target(cell, figure, 1.0, (peer,), ours="redis")


TARGETS = (
    *_fanout(),
    Target("echo-100-60b-w1", "cpu_us", 0.8, ("socket.io",)),
    Target("echo-100-60b-w10", "cpu_us", 0.6, ("socket.io",)),
    *(Target(f"echo-100-60b-w{window}", "cpu_us", 1 / 8, ("python-socketio",)) for window in (1, 10)),
    *(Target(f"connect-{count}", "connect_us", 0.6, ("socket.io",)) for count in (1000, 5000)),
    Target("idle-10000", "rss_kib", 14.0),
    Target("idle-10000", "rss_kib", 1.0, ("socket.io",)),
    Target("storm-10000", "seconds", 15.0),
    Target("storm-10000", "excess", 1.0),
    *(Target("rate-1000-60b-10/s", figure, 1.1, ("socket.io", "nats")) for figure in ("p50_ms", "p99_ms")),
    *_redis(),
)


def peers_of(cell: str) -> list[str]:
    """Whom the targets of a cell are about; the service alone if it has none."""
    about = [target for target in TARGETS if target.cell == cell]
    named = [name for target in about for name in (target.ours, *target.peers)]
    return list(dict.fromkeys(("service", *named)))


def judged(figures: Figures) -> Iterator[tuple[Target, float, bool]]:
    """Each target that was measured, the median of its values, and whether that is within the limit."""
    for target in TARGETS:
        values = target.values(figures)
        if values:
            middle = statistics.median(values)
            yield target, middle, middle <= target.limit


def told(figures: Figures, units: Mapping[str, str]) -> Iterator[str]:
    """The verdicts as lines of Markdown."""
    yield "\n### Targets"
    yield "| cell | figure | ours : theirs | measured | at most | |"
    yield "|---|---|---|---:|---:|---|"
    for target, middle, met in judged(figures):
        pair = f"{target.ours} : {' or '.join(target.peers)}" if target.peers else target.ours
        values = target.values(figures)
        spread = f"{middle:.3g} [{min(values):.3g}-{max(values):.3g}]"
        verdict = "met" if met else f"MISSED by {middle / target.limit - 1:.0%}"
        name = f"{target.cell} | {units[target.figure]}"
        yield f"| {name} | {pair} | {spread} | {target.limit:.3g} | {verdict} |"
