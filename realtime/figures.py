"""Figures: what charts are made of, as plain numbers out of the metrics."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from prometheus_client import CollectorRegistry

#: By sample: the name under which it is told. Each is summed over all labels.
_SUMS: Final = {
    "realtime_messages_received_total": "received",
    "realtime_messages_sent_total": "sent",
    "realtime_refusals_total": "refused",
    "realtime_slow_consumers_total": "slowConsumers",
    "realtime_users": "users",
    "realtime_rooms": "rooms",
    "realtime_room_members": "members",
    "realtime_queue_bytes": "queueBytes",
    "process_cpu_seconds_total": "cpuSeconds",
}
_LATENCY: Final = "realtime_delivery_seconds_bucket"

#: What is read.
SAMPLES: Final = (*_SUMS, _LATENCY)


def figures(registry: CollectorRegistry) -> dict[str, Any]:
    """Counters and gauges, and ``latency``: how many deliveries took at most so many seconds, by bound."""
    told: dict[str, float] = dict.fromkeys(_SUMS.values(), 0)
    latency: Counter[str] = Counter()
    for family in registry.restricted_registry(SAMPLES).collect():
        for sample in family.samples:
            if sample.name == _LATENCY:
                latency[sample.labels["le"]] += int(sample.value)
            else:
                told[_SUMS[sample.name]] += sample.value
    whole = {name: int(value) if value == int(value) else value for name, value in told.items()}
    return {**whole, "latency": latency}
