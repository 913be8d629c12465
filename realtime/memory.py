"""Memory: how much of it this process has, and how much it may have (Linux)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
#: A limit of version 1 from which on it stands for none.
_NO_LIMIT: Final = 1 << 60


def resident_bytes() -> int:
    """The memory of this process that is in RAM; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", "rb") as statm:
            return int(statm.read().split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return 0


def group_limit(root: Path = Path("/")) -> int:
    """The least memory (bytes) that the control groups of this process may use; 0 for no limit.

    :param root: where ``proc`` and ``sys`` are.
    """
    try:
        groups = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return 0
    found: list[int] = []
    for line in groups:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            found += _limits(root / "sys/fs/cgroup", path, "memory.max")
        elif "memory" in controllers.split(","):
            found += _limits(root / "sys/fs/cgroup/memory", path, "memory.limit_in_bytes")
    return min(found, default=0)


def _limits(mount: Path, path: str, name: str) -> list[int]:
    """The limits of a group and of those around it. In a container its own group is the mount itself."""
    found = []
    group = mount / path.lstrip("/")
    while True:
        try:
            limit = int((group / name).read_text())
        except (OSError, ValueError):
            limit = 0  # not there, or "max"
        if 0 < limit < _NO_LIMIT:
            found.append(limit)
        if group == mount or mount not in group.parents:
            return found
        group = group.parent
