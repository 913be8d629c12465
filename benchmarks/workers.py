"""One node of some workers over a Redis of its own; what it uses is what all its processes use."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from .pair import Redis
from .process import Sample, Server, StartFailed, cpu_seconds, kernel_seconds, rss_bytes

#: Seconds for all workers to be up.
UP = 20.0


def family(pid: int) -> Iterator[int]:
    """A process and its descendants."""
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from family(int(child))


class Node:
    """A context manager like `Server`.

    :param redis: not started yet.
    :param node: listens at its port, with `workers` workers.
    """

    def __init__(self, redis: Redis, node: Server, workers: int) -> None:
        self._redis = redis
        self._node = node
        self._workers = workers
        self.port = self.publisher_port = node.port
        self._stack = ExitStack()

    def __enter__(self) -> Node:
        with ExitStack() as stack:
            stack.enter_context(self._redis)
            stack.enter_context(self._node)
            self._await_workers()
            self._stack = stack.pop_all()
        return self

    def _await_workers(self) -> None:
        """Wait until each has reached Redis: the port is open before."""
        ends = time.monotonic() + UP
        while self._redis.ask(b"PUBSUB", b"NUMSUB", b"realtime:3:signals")[1] < self._workers:
            if time.monotonic() > ends:
                raise StartFailed("the workers do not reach Redis")
            time.sleep(0.05)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def pid(self) -> int:
        return self._node.pid

    def sample(self) -> Sample:
        pids = [*family(self.pid)]
        return Sample(
            sum(map(cpu_seconds, pids)),
            sum(map(kernel_seconds, pids)),
            sum(map(rss_bytes, pids)),
            time.monotonic(),
        )

    def output(self, size: int = 1500) -> str:
        """The end of what the node printed."""
        return self._node.output(size)
