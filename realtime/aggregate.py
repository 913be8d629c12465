"""Aggregate: the metrics and the health of several processes as those of one node."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

#: A sample in Prometheus' text format: its name, and its labels where it has any.
_SAMPLE: Final = re.compile(r"([A-Za-z_:][A-Za-z0-9_:]*)(\{)?")


def merged(texts: Mapping[str, str]) -> str:
    """Metrics in Prometheus' text format, by worker: as one text, each sample with a label ``worker``.

    The text format wants all samples of a name together, behind one description.
    """
    described: dict[str, list[str]] = {}
    samples: dict[str, list[str]] = {}
    for worker, text in texts.items():
        family = ""
        for line in text.splitlines():
            if line.startswith("# "):
                family = line.split(" ", 3)[2]
                known = described.setdefault(family, [])
                kind = line.split(" ", 2)[1]
                if not any(other.startswith(f"# {kind} ") for other in known):
                    known.append(line)
            elif line:
                samples.setdefault(_family(line, family), []).append(_labelled(line, worker))
    lines = []
    for family in {**described, **samples}:
        lines += described.get(family, [])
        lines += samples.get(family, [])
    return "\n".join([*lines, ""])


def _family(line: str, family: str) -> str:
    """The family of a sample; the one described before it, where that is how it begins."""
    return family if family and line.startswith(family) else re.split(r"[{ ]", line, maxsplit=1)[0]


def _labelled(line: str, worker: str) -> str:
    found = _SAMPLE.match(line)
    if found is None:
        return line
    name, labels = found[1], found[2]
    rest = line[found.end() :]
    return f'{name}{{worker="{worker}",{rest}' if labels else f'{name}{{worker="{worker}"}}{rest}'


def health(reports: Mapping[str, Mapping[str, Any] | None]) -> dict[str, Any]:
    """The health of all workers (``/health`` of each; None for one that does not answer) as one.

    ``status`` is ``unhealthy`` while none is ready, else ``degraded`` while not all are healthy.
    """
    there = [report for report in reports.values() if report is not None]
    ready = [report for report in there if not report["causes"]]
    if not ready:
        status = "unhealthy"
    elif len(there) == len(reports) and all(report["status"] == "healthy" for report in there):
        status = "healthy"
    else:
        status = "degraded"
    return {
        "status": status,
        "causes": [] if ready else _causes(there) or ["workers"],
        "connections": {
            "status": "healthy",
            "open": sum(report["connections"]["open"] for report in there),
            "limit": sum(report["connections"]["limit"] for report in there),
        },
        "workers": {name: report or {"status": "unhealthy"} for name, report in reports.items()},
    }


def _causes(reports: Iterable[Mapping[str, Any]]) -> list[str]:
    return sorted({cause for report in reports for cause in report["causes"]})
