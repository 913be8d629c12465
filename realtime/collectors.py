"""Collectors: counters, histograms and figures for Prometheus, cheap to add to and of bounded size.

Plain numbers, since all is counted in the reactor's thread: Prometheus' own counters take a lock for
each addition, which several per message are felt.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate, product
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

#: The value of a label that stands for all that are not in its set.
OTHER: Final = "other"

#: Seconds. Deliveries take milliseconds; what waits for a bus or a lookup takes longer.
SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
#: How many of something go together.
SIZES: Final = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0)


class Count(Collector):
    """A counter without a label."""

    __slots__ = ("_count", "_family")

    def __init__(self, name: str, text: str) -> None:
        self._family = (name, text)
        self._count = 0.0

    def add(self, amount: float = 1) -> None:
        self._count += amount

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client's Collector."""
        yield CounterMetricFamily(*self._family, value=self._count)


class Counts(Collector):
    """A counter with one label, whose values are known beforehand."""

    __slots__ = ("_counts", "_family")

    def __init__(self, name: str, text: str, label: str, values: Iterable[str]) -> None:
        self._family = (name, text, (label,))
        self._counts: dict[str, float] = dict.fromkeys((*sorted(set(values)), OTHER), 0)

    def add(self, value: str, amount: float = 1) -> None:
        counts = self._counts
        counts[value if value in counts else OTHER] += amount

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client's Collector."""
        name, text, labels = self._family
        family = CounterMetricFamily(name, text, labels=labels)
        for value, count in self._counts.items():
            family.add_metric((value,), count)
        yield family


class Pairs(Collector):
    """A counter with two labels, the values of both known beforehand."""

    __slots__ = ("_counts", "_family", "_first", "_second")

    def __init__(
        self, name: str, text: str, labels: tuple[str, str], first: Iterable[str], second: Iterable[str]
    ) -> None:
        self._family = (name, text, labels)
        self._first = frozenset(first) | {OTHER}
        self._second = frozenset(second) | {OTHER}
        both = product(sorted(self._first), sorted(self._second))
        self._counts: dict[tuple[str, str], float] = dict.fromkeys(both, 0)

    def add(self, first: str, second: str, amount: float = 1) -> None:
        pair = (first, second)
        if pair not in self._counts:
            pair = (
                first if first in self._first else OTHER,
                second if second in self._second else OTHER,
            )
        self._counts[pair] += amount

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client's Collector."""
        name, text, labels = self._family
        family = CounterMetricFamily(name, text, labels=labels)
        for pair, count in self._counts.items():
            family.add_metric(pair, count)
        yield family


class Spread(Collector):
    """A histogram without a label."""

    __slots__ = ("_bounds", "_family", "_seen")

    def __init__(self, name: str, text: str, bounds: tuple[float, ...] = SECONDS) -> None:
        self._family = (name, text)
        self._bounds = bounds
        # observations per bucket, the last for what is above all of them; their sum behind
        self._seen = [0.0] * (len(bounds) + 2)

    def add(self, value: float) -> None:
        seen = self._seen
        seen[bisect_left(self._bounds, value)] += 1
        seen[-1] += value

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client's Collector."""
        yield HistogramMetricFamily(
            *self._family, buckets=_buckets(self._bounds, self._seen), sum_value=self._seen[-1]
        )


class Times(Collector):
    """A histogram of seconds with one label; a value appears once it has been observed."""

    __slots__ = ("_family", "_seen", "_values")

    def __init__(self, name: str, text: str, label: str, values: Iterable[str]) -> None:
        self._family = (name, text, (label,))
        self._values = frozenset(values)
        # as in Spread
        self._seen: dict[str, list[float]] = {}

    def add(self, value: str, seconds: float) -> None:
        seen = self._seen.get(value)
        if seen is None:
            value = value if value in self._values else OTHER
            seen = self._seen.setdefault(value, [0.0] * (len(SECONDS) + 2))
        seconds = max(0.0, seconds)
        seen[bisect_left(SECONDS, seconds)] += 1
        seen[-1] += seconds

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client's Collector."""
        name, text, labels = self._family
        family = HistogramMetricFamily(name, text, labels=labels)
        for value, seen in self._seen.items():
            family.add_metric((value,), _buckets(SECONDS, seen), seen[-1])
        yield family


class Figures(Collector):
    """Gauges with labels that are all read at once, whenever metrics are read.

    :ivar read: answers the figure of each combination of values, of closed sets.
    """

    __slots__ = ("_family", "read")

    def __init__(self, name: str, text: str, labels: tuple[str, ...]) -> None:
        self._family = (name, text, labels)
        self.read: Callable[[], Mapping[tuple[str, ...], float]] = dict

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client's Collector."""
        name, text, labels = self._family
        family = GaugeMetricFamily(name, text, labels=labels)
        for values, figure in self.read().items():
            family.add_metric(values, figure)
        yield family


def _buckets(bounds: tuple[float, ...], seen: list[float]) -> list[tuple[str, float]]:
    """The cumulative buckets of Prometheus."""
    return list(zip([*map(floatToGoString, bounds), "+Inf"], accumulate(seen[:-1]), strict=True))
