"""Server processes under measurement: start, read their clocks and memory, stop."""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import msgspec

START_TIMEOUT = 30.0
STOP_TIMEOUT = 15.0

_libc = ctypes.CDLL(None, use_errno=True)


class StartFailed(Exception):
    """A server did not begin to listen; the message holds the end of its output."""


class Sample(msgspec.Struct, frozen=True):
    """What a process has used so far.

    :ivar cpu: seconds of processor time, of all its threads.
    :ivar kernel: those of them that were spent in the kernel, in steps of 10 ms.
    :ivar rss: bytes of memory that it holds.
    :ivar wall: seconds on the monotonic clock.
    :ivar beside: what processes beside it have used so far, by name; see `benchmarks.pair`.
    """

    cpu: float
    kernel: float
    rss: int
    wall: float
    beside: Mapping[str, float] = {}


def free_port() -> int:
    """A TCP port of 127.0.0.1 that was free just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def processors() -> tuple[int, int]:
    """The processor for the server and the one for the load; the same where there is only one."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[-1]


@contextmanager
def pinned(cpu: int) -> Iterator[None]:
    """Keep this thread, and so the processes that it starts meanwhile, to one processor."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cpu_seconds(pid: int) -> float:
    """Processor time of all threads of a process, those that ended included.

    Read from the process's own clock, since /proc/PID/stat counts in steps of 10 ms.
    """
    clock = ctypes.c_int()
    if _libc.clock_getcpuclockid(pid, ctypes.byref(clock)) != 0:
        raise ProcessLookupError(pid)
    return time.clock_gettime_ns(clock.value) / 1e9


def kernel_seconds(pid: int) -> float:
    """Processor time that a process has spent in the kernel, in steps of 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[12]) / os.sysconf("SC_CLK_TCK")


def rss_bytes(pid: int) -> int:
    """Resident memory of a process, from /proc/PID/status."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(pid)


class Server:
    """A server process on its own processor, its output in a file; a context manager.

    :param command: run in `cwd` with `env` added to this process's environment.
    :param port: where it will listen on 127.0.0.1.
    """

    def __init__(self, command: Sequence[str], env: Mapping[str, str], port: int, cwd: Path) -> None:
        self.port = port
        #: Where the load's publisher connects.
        self.publisher_port = port
        self._command = list(command)
        self._env = {**os.environ, **env}
        self._cwd = cwd

    def __enter__(self) -> Server:
        self._log = tempfile.TemporaryFile()
        cpu, _ = processors()
        with pinned(cpu):
            self._process = subprocess.Popen(
                self._command,
                cwd=self._cwd,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
            )
        try:
            self._wait_until_listening()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    @property
    def pid(self) -> int:
        return self._process.pid

    def sample(self) -> Sample:
        return Sample(
            cpu_seconds(self.pid), kernel_seconds(self.pid), rss_bytes(self.pid), time.monotonic()
        )

    def output(self, size: int = 1500) -> str:
        """The end of what it printed."""
        self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, self._log.tell() - size))
        return self._log.read().decode(errors="replace")

    def _wait_until_listening(self) -> None:
        end = time.monotonic() + START_TIMEOUT
        while time.monotonic() < end:
            if self._process.poll() is not None:
                raise StartFailed(
                    f"{self._command} ended with {self._process.returncode}:\n{self.output()}"
                )
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise StartFailed(f"{self._command} does not listen on {self.port}:\n{self.output()}")

    def _stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
