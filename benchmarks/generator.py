"""The load generator: compiled from the C sources beside this file, run, and its phases told."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import jwt
import msgspec

from .compiling import compiled
from .process import pinned, processors

SOURCES = ("load.c", "flow.c", "crowd.c", "client.c", "direct.c", "bare.c", "options.c", "tally.c")
HEADERS = ("load.h", "client.h", "direct.h", "bare.h", "options.h", "tally.h")


class LoadFailed(Exception):
    """The load did not come through whole: something was lost, repeated, disordered, refused or late."""


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What the generator is to do; see the comment at the top of load.c.

    :ivar protocol: of the receivers: socketio, plain, wamp, cbor, msgpack, or a mix of these; with it the
        publisher speaks Socket.IO. Or what all speak with a peer: bare, nats.
    :ivar first: connections made before those whose cost is measured; of a storm, its live ones.
    :ivar room: what rooms are called, before their number.
    :ivar rooms: further rooms, which the clients join in turns.
    :ivar offered: connections a second, of a storm or a churn.
    :ivar step: cycles of a churn between two marks.
    :ivar text: bytes of a message's text.
    :ivar rate: publications a second.
    :ivar warm: seconds before the measured ones.
    :ivar deadline: seconds that the whole run may take.
    :ivar patience: seconds without any arrival after which what is missing is lost.
    """

    scenario: str
    connections: int
    protocol: str = "socketio"
    room: str = "bench"
    first: int = 0
    in_flight: int = 32
    room_size: int = 1
    rooms: int = 0
    offered: float = 10_000.0
    step: int = 1000
    text: int = 60
    window: int = 2
    rate: float = 10.0
    warm: float = 0.5
    seconds: float = 1.0
    count: int | None = None
    deadline: float = 300.0
    patience: float = 10.0


class Report(msgspec.Struct, frozen=True):
    """What the generator saw.

    :ivar clean: whether nothing at all went wrong.
    :ivar quiet_p99_ms: of a storm: the latency of the live ones before it.
    :ivar busy: the share of one processor that the generator itself used.
    """

    scenario: str
    clean: bool
    connections: int
    text: int
    publications: int
    deliveries: int
    seconds: float
    busy: float
    quiet_p99_ms: float
    lost: int
    repeated: int
    disordered: int
    misdirected: int
    late: bool
    refused: int
    cut: int
    garbled: int
    fault: str
    p50_ms: float
    p99_ms: float
    max_ms: float


def build() -> Path:
    """The compiled generator; compiled anew when its sources have changed.

    :raises compiling.NoCompiler: there is no C compiler.
    """
    return compiled("load", SOURCES, HEADERS)


@contextmanager
def tokens(count: int, secret: str) -> Iterator[Path]:
    """A file of access tokens, one a line, for the users u0, u1…; they open all rooms."""
    claims = {"rooms": ["*"], "exp": int(time.time()) + 4 * 3600}
    with tempfile.NamedTemporaryFile("w", suffix=".tokens") as file:
        for number in range(count):
            file.write(jwt.encode({**claims, "sub": f"u{number}"}, secret, "HS256") + "\n")
        file.flush()
        yield Path(file.name)


def run(
    load: Load,
    port: int,
    token_file: Path,
    on_mark: Callable[[str], None],
    publisher_port: int | None = None,
) -> Report:
    """Run the generator against a server on 127.0.0.1.

    :param publisher_port: where client 0 connects, which publishes, if not where the others do.
    :param on_mark: told the name of each phase before it begins; nothing is on its way meanwhile.
    :raises LoadFailed: something was lost, repeated, disordered, refused or late.
    """
    command = [str(build()), "--marks", "--port", str(port), "--tokens", str(token_file)]
    for field, value in {**msgspec.structs.asdict(load), "publisher_port": publisher_port}.items():
        if value is not None:
            command += [f"--{field.replace('_', '-')}", str(value)]
    _, cpu = processors()
    with pinned(cpu):
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdin is not None and process.stdout is not None
        last = ""
        for line in process.stdout:
            last = line.strip()
            if not last.startswith("{"):
                on_mark(last)
                process.stdin.write("\n")
                process.stdin.flush()
    if not last.startswith("{"):
        raise LoadFailed(f"the generator ended with {process.returncode}")
    report = msgspec.json.decode(last, type=Report)
    if process.returncode != 0 or not report.clean:
        raise LoadFailed(last)
    return report
