"""``python -m benchmarks.offering``: a service that publishes at a rate, come what may; run by `offered`.

The load is open: what falls due while all is under way waits in line, and is counted. Over HTTP so many
connections are kept alive, with one request each; over gRPC one channel has so many calls under way.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable

import grpc
import msgspec

CHANNEL = "event:load:tick"
PUBLISH = "/realtime.v1.Realtime/Publish"

#: Seconds after the last publication is due in which those in line may still be sent.
GRACE = 2.0


class Offer(msgspec.Struct, frozen=True):
    """What is to be offered.

    :ivar road: ``http`` or ``grpc``.
    :ivar rate: publications a second.
    :ivar under_way: at the most at a time.
    :ivar receipt: whether each wants a receipt.
    """

    road: str
    port: int
    key: str
    rate: float
    seconds: float
    under_way: int
    receipt: bool = False


class Outcome(msgspec.Struct):
    """What became of it.

    :ivar taken: numbers of the publications that were acknowledged.
    :ivar refused: how often each refusal came.
    :ivar unsent: those that waited in line to the end: held back by the service.
    :ivar p50_ms: from sending to the acknowledgement, without the waiting in line; `p99_ms` likewise.
    """

    offered: int = 0
    taken: list[int] = []
    refused: dict[str, int] = {}
    unsent: int = 0
    seconds: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0


def body(number: int, offer: Offer) -> bytes:
    """A publication as HTTP has it."""
    receipt = b',"receipt":true' if offer.receipt else b""
    return b'{"channel":"%b","data":{"n":%d,"at":%d}%b}' % (
        CHANNEL.encode(),
        number,
        time.time_ns() // 1000,
        receipt,
    )


def message(number: int, offer: Offer) -> bytes:
    """A publication as protocol buffers have it."""
    channel = CHANNEL.encode()
    data = b'{"n":%d,"at":%d}' % (number, time.time_ns() // 1000)
    receipt = b"\x38\x01" if offer.receipt else b""
    return b"\x0a%c%b\x12%c%b%b" % (len(channel), channel, len(data), data, receipt)


async def over_http(offer: Offer) -> Callable[[int], Awaitable[str]]:
    """What publishes one number over HTTP; the code of a refusal, or nothing."""
    head = (
        b"POST /v1/publish HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\n"
        b"Content-Type: application/json\r\nContent-Length: %%d\r\n\r\n" % offer.key.encode()
    )
    # In turn: one that rests for long is closed by the service.
    idle = deque([await asyncio.open_connection("127.0.0.1", offer.port) for _ in range(offer.under_way)])

    async def publish(number: int) -> str:
        reader, writer = idle.popleft()
        sent = body(number, offer)
        writer.write(head % len(sent) + sent)
        try:
            answer = await reader.readuntil(b"\r\n\r\n")
        except (ConnectionError, asyncio.IncompleteReadError):
            idle.append(await asyncio.open_connection("127.0.0.1", offer.port))
            return "the connection was lost"
        length = next(line for line in answer.split(b"\r\n") if line.lower().startswith(b"content-length"))
        text = await reader.readexactly(int(length.partition(b":")[2]))
        idle.append((reader, writer))
        if answer.startswith(b"HTTP/1.1 200"):
            return ""
        return str(msgspec.json.decode(text)["error"]["code"])

    return publish


async def over_grpc(offer: Offer) -> Callable[[int], Awaitable[str]]:
    """What publishes one number over gRPC; the status of a refusal, or nothing."""
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{offer.port}")
    await channel.channel_ready()
    call = channel.unary_unary(PUBLISH)
    metadata = (("authorization", f"Bearer {offer.key}"),)

    async def publish(number: int) -> str:
        try:
            await call(message(number, offer), metadata=metadata, timeout=30)
        except grpc.aio.AioRpcError as error:
            return str(error.code().name)
        return ""

    return publish


ROADS = {"http": over_http, "grpc": over_grpc}


async def run(offer: Offer) -> Outcome:
    """Offer it."""
    publish = await ROADS[offer.road](offer)
    outcome = Outcome()
    times: list[float] = []
    line: deque[int] = deque()
    under_way: set[asyncio.Task[None]] = set()

    async def one(number: int) -> None:
        while True:
            began = time.monotonic()
            refused = await publish(number)
            times.append(time.monotonic() - began)
            if refused:
                outcome.refused[refused] = outcome.refused.get(refused, 0) + 1
            else:
                outcome.taken.append(number)
            if not line or time.monotonic() > ends + GRACE:
                return
            number = line.popleft()

    began = time.monotonic()
    ends = began + offer.seconds
    while (now := time.monotonic()) < ends:
        due = int((now - began) * offer.rate)
        line.extend(range(outcome.offered, due))
        outcome.offered = max(outcome.offered, due)
        while line and len(under_way) < offer.under_way:
            task = asyncio.ensure_future(one(line.popleft()))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        await asyncio.sleep(0.002)
    if under_way:
        await asyncio.wait(under_way)
    outcome.seconds = time.monotonic() - began
    outcome.unsent = len(line)
    times.sort()
    if times:
        outcome.p50_ms, outcome.p99_ms = (times[int(len(times) * part)] * 1000 for part in (0.5, 0.99))
    return outcome


def main() -> None:
    """Read the offer from the command line; write the outcome to standard output."""
    offer = msgspec.json.decode(sys.argv[1], type=Offer)
    sys.stdout.buffer.write(msgspec.json.encode(asyncio.run(run(offer))))


if __name__ == "__main__":
    main()
