"""``python -m benchmarks.offered``: publications offered by another service at a rate, over HTTP or gRPC.

One client is told of all of them; two others talk to each other all the while, before the load and under
it. Each publication that was acknowledged has to arrive once. Exits with 1 if one did not, or if the two
were held up for more than twice as long as before.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import msgspec

from .offering import Offer, Outcome
from .pair import Redis
from .peers import ROOT, SECRET, UNLIMITED
from .process import Server, cpu_seconds, free_port, pinned, processors, rss_bytes

#: Messages a second of the two who talk; seconds for which they do before the load.
TALK = 50
BEFORE = 5.0
#: Seconds of the load after which memory is first looked at.
WARM = 3.0


class Client:
    """A client of plain JSON."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._calls = 0

    @classmethod
    async def connect(cls, http: aiohttp.ClientSession, port: int, user: str, room: str) -> Client:
        """Connect, and be in a room."""
        claims = {"sub": user, "rooms": ["*"], "exp": int(time.time()) + 3600}
        headers = {"Authorization": f"Bearer {jwt.encode(claims, SECRET, 'HS256')}"}
        made = cls(await http.ws_connect(f"ws://127.0.0.1:{port}/ws", headers=headers, max_msg_size=0))
        await made.send("room:join", {"roomId": room}, 1)
        async for message in made._socket:
            if message.json().get("id") == 1:
                break
        return made

    async def send(self, event: str, data: dict[str, Any], number: int | None = None) -> None:
        """Send an event."""
        told = {"event": event, "data": data} | ({} if number is None else {"id": number})
        await self._socket.send_str(json.dumps(told))

    async def payloads(self, event: str) -> Any:
        """The payloads of an event, as they come."""
        decode = msgspec.json.decode
        async for message in self._socket:
            told = decode(message.data)
            if told.get("event") == event:
                yield told["data"]


class Figures(msgspec.Struct):
    """What was measured.

    :ivar late_ms: how long what one of the two said took to the other, p50 and p99; before and under it.
    """

    outcome: Outcome
    arrived: int
    lost: int
    repeated: int
    node_us: float
    front_us: float
    rss_mb: tuple[float, float]
    before_ms: tuple[float, float]
    late_ms: tuple[float, float]


def start(stack: ExitStack, over_redis: bool) -> tuple[Server, dict[str, int]]:
    """Start the service; the port of each of its listeners."""
    ports = {name: free_port() for name in ("PORT", "API_PORT", "GRPC_PORT")}
    env = {
        **UNLIMITED,
        **({"REDIS_URL": f"redis://127.0.0.1:{_redis(stack)}"} if over_redis else {}),
        "REALTIME_ENV": "development",
        "REALTIME_STATE": str(Path(stack.enter_context(tempfile.TemporaryDirectory())) / "state"),
        "JWT_SECRET": SECRET,
        "API_KEY": SECRET,
        "METRICS_PORT": "0",
        "HEALTH_CHECK_PORT": "0",
        "PYTHONPATH": str(ROOT),
        **{name: str(port) for name, port in ports.items()},
    }
    command = [sys.executable, str(Path(sys.executable).with_name("twistd"))]
    server = Server([*command, "-n", "--pidfile=", "realtime"], env, ports["PORT"], ROOT)
    return stack.enter_context(server), ports


def _redis(stack: ExitStack) -> int:
    return stack.enter_context(Redis()).port


def front_of(node: int, port: int) -> int:
    """The process of the gRPC API, once it listens; it is moved to the processor of the load."""
    ends = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            break
        except OSError:
            if time.monotonic() > ends:
                raise
            time.sleep(0.05)
    children = Path(f"/proc/{node}/task/{node}/children").read_text().split()
    for thread in Path(f"/proc/{children[0]}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {processors()[1]})
    return int(children[0])


def percentiles(times: list[float]) -> tuple[float, float]:
    """The median and the 99th percentile, in milliseconds."""
    ordered = sorted(times) or [0.0]
    return ordered[len(ordered) // 2] * 1000, ordered[int(len(ordered) * 0.99)] * 1000


async def talk(one: Client, other: Client, took: list[float]) -> None:
    """Let one say something all the while; how long each takes to the other."""

    async def hear() -> None:
        async for payload in other.payloads("room:message"):
            took.append(time.monotonic() - payload["data"])

    hearing = asyncio.ensure_future(hear())
    try:
        while True:
            await one.send("room:message", {"roomId": "aside", "data": time.monotonic()})
            await asyncio.sleep(1 / TALK)
    finally:
        hearing.cancel()


async def measure(server: Server, ports: dict[str, int], offer: Offer) -> Figures:
    """Offer it, and look what arrives."""
    front = front_of(server.pid, ports["GRPC_PORT"])
    arrived: dict[int, int] = {}
    async with aiohttp.ClientSession() as http:
        receiver = await Client.connect(http, ports["PORT"], "u1", "event:load")
        one, other = [await Client.connect(http, ports["PORT"], user, "aside") for user in ("u2", "u3")]

        async def receive() -> None:
            async for payload in receiver.payloads("event:tick"):
                arrived[payload["n"]] = arrived.get(payload["n"], 0) + 1

        took: list[float] = []
        tasks = [asyncio.ensure_future(work) for work in (receive(), talk(one, other, took))]
        await asyncio.sleep(BEFORE)
        before, took[:] = percentiles(took[TALK:]), []
        pids = (server.pid, front)
        used = [cpu_seconds(pid) for pid in pids]
        # Those who are measured come before the load.
        command = ["nice", "-n", "15", sys.executable, "-m", "benchmarks.offering"]
        command.append(msgspec.json.encode(offer).decode())
        with pinned(processors()[1]):
            child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, cwd=ROOT)
        reading = asyncio.ensure_future(child.communicate())
        await asyncio.sleep(WARM)
        rss = [sum(map(rss_bytes, pids)) / 2**20]
        text, _ = await reading
        outcome = msgspec.json.decode(text, type=Outcome)
        rss.append(sum(map(rss_bytes, pids)) / 2**20)
        late = percentiles(took)
        await asyncio.sleep(1)
        used = [cpu_seconds(pid) - was for pid, was in zip(pids, used, strict=True)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    taken = max(1, len(outcome.taken))
    return Figures(
        outcome,
        len(arrived),
        len(set(outcome.taken) - set(arrived)),
        sum(count > 1 for count in arrived.values()),
        used[0] / taken * 1e6,
        used[1] / taken * 1e6,
        (rss[0], rss[1]),
        before,
        late,
    )


def shown(offer: Offer, figures: Figures) -> str:
    """The figures, as text."""
    outcome = figures.outcome
    return "\n".join(
        (
            f"{offer.road}: offered {outcome.offered} in {offer.seconds:g} s ({offer.rate:g} a second)",
            f"  taken {len(outcome.taken)} ({len(outcome.taken) / outcome.seconds:,.0f} a second),"
            f" refused {outcome.refused or 0}, held back {outcome.unsent}",
            f"  arrived {figures.arrived}, lost {figures.lost}, repeated {figures.repeated}",
            f"  answered in {outcome.p50_ms:.1f} ms, p99 {outcome.p99_ms:.1f} ms",
            f"  processor per publication: node {figures.node_us:.0f} us, front {figures.front_us:.0f} us",
            f"  memory of both: {figures.rss_mb[0]:.1f} MB after {WARM:g} s,"
            f" {figures.rss_mb[1]:.1f} MB at the end",
            f"  others: p50 {figures.before_ms[0]:.2f} ms, p99 {figures.before_ms[1]:.2f} ms before;"
            f" p50 {figures.late_ms[0]:.2f} ms, p99 {figures.late_ms[1]:.2f} ms under load",
        )
    )


def options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.offered", description=__doc__)
    parser.add_argument("road", nargs="*", default=["http", "grpc"], help="http, grpc; default: both")
    parser.add_argument(
        "--rate", type=float, default=5000, help="publications a second; default %(default)s"
    )
    parser.add_argument("--seconds", type=float, default=30, help="default %(default)s")
    parser.add_argument("--under-way", type=int, default=64, help="at a time; default %(default)s")
    parser.add_argument("--receipts", action="store_true", help="each publication wants a receipt")
    parser.add_argument("--redis", action="store_true", help="over a Redis of its own")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all values into a file")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Measure each road, with a service of its own."""
    given = options(arguments)
    sound = True
    found = {}
    for road in given.road:
        with ExitStack() as stack:
            server, ports = start(stack, given.redis)
            port = ports["API_PORT" if road == "http" else "GRPC_PORT"]
            offer = Offer(road, port, SECRET, given.rate, given.seconds, given.under_way, given.receipts)
            figures = asyncio.run(measure(server, ports, offer))
        print(shown(offer, figures), flush=True)
        found[road] = figures
        held_up = figures.late_ms[1] > 2 * max(figures.before_ms[1], 1.0)
        sound = sound and not figures.lost and not figures.repeated and not held_up
    if given.json:
        given.json.write_bytes(msgspec.json.format(msgspec.json.encode(found)))
    return 0 if sound else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
