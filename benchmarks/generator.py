"""The load generator: compiled from the C sources beside this file, run, and its phases told."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import jwt
import msgspec

from .process import pinned, processors

HERE = Path(__file__).parent
SOURCES = ("load.c", "client.c", "direct.c", "options.c", "tally.c")
HEADERS = ("client.h", "direct.h", "options.h", "tally.h")
FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra")
NO_COMPILER = "the load generator needs a C compiler; install one: apt-get install gcc libc6-dev"


class NoCompiler(Exception):
    """There is no `cc`; the message says how to get one."""


class LoadFailed(Exception):
    """The load did not come through whole: something was lost, repeated, disordered, refused or late."""


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What the generator is to do; see the comment at the top of load.c.

    :ivar protocol: of the receivers: socketio, plain, wamp, cbor, msgpack, or a mix of all.
    :ivar first: connections made before those whose cost is measured.
    :ivar text: bytes of a message's text.
    :ivar rate: publications a second.
    :ivar warm: seconds before the measured ones.
    :ivar deadline: seconds that the whole run may take.
    :ivar patience: seconds without any arrival after which what is missing is lost.
    """

    scenario: str
    connections: int
    protocol: str = "socketio"
    first: int = 0
    in_flight: int = 32
    room_size: int = 1
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

    :raises NoCompiler: there is no C compiler.
    """
    digest = hashlib.sha256()
    for name in (*SOURCES, *HEADERS):
        digest.update((HERE / name).read_bytes())
    made = HERE.parent / "build" / f"load-{digest.hexdigest()[:16]}"
    if made.exists():
        return made
    compiler = shutil.which("cc")
    if compiler is None:
        raise NoCompiler(NO_COMPILER)
    made.parent.mkdir(exist_ok=True)
    part = made.with_name(f"{made.name}.{os.getpid()}")
    subprocess.run([compiler, *FLAGS, "-o", part, *(HERE / name for name in SOURCES)], check=True)
    part.rename(made)
    return made


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
