"""Server: the gRPC front, a process of its own beside the node, to which it hands what it is asked.

gRPC in Python costs some two hundred microseconds a call. In the node's process that would be time in which
nothing is delivered; here the node sees a batch of messages on a pipe.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final, TypeAlias

import grpc
import msgspec
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from grpc_status import rpc_status

from ..v1 import realtime_pb2
from . import pipe
from .convert import NotJson, fill, to_json

SERVICE: Final = realtime_pb2.DESCRIPTOR.services_by_name["Realtime"]
DOMAIN: Final = "realtime"

#: Publications of one stream that wait for their answer, before more of it is read.
WINDOW: Final = 64
#: Refusals that are told at the end of a stream.
MAX_ERRORS: Final = 100
#: What a worker of queues may lag behind, its answers included; past it its stream ends.
MAX_BEHIND_QUEUE: Final = 4096
#: What one who watches may lag behind; past it the watching ends.
MAX_BEHIND: Final = 1000
#: Those who watch at a time.
MAX_WATCHING: Final = 1000
#: Bytes of all requests that wait for the node.
MAX_WAITING_BYTES: Final = 64 * 1024 * 1024
#: Calls of one connection at a time; what is more waits at the client.
MAX_STREAMS: Final = 1024

#: gRPC's status for HTTP's.
STATUSES: Final = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.FAILED_PRECONDITION,
    413: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
}

Context: TypeAlias = Any


class Refusal(Exception):
    """What was asked is not done."""

    def __init__(self, refused: pipe.Refused) -> None:
        super().__init__(refused.code)
        self.refused = refused


class NodeLink(asyncio.Protocol):
    """The pipes to and from the node.

    :param stop: called when the node wants the front to end, with the seconds for it.
    :param ready: called with whether the node wants traffic.
    """

    def __init__(self, most: int, stop: Callable[[float], object], ready: Callable[[bool], object]) -> None:
        self._loop = asyncio.get_running_loop()
        self._most = most
        self._stop = stop
        self._ready = ready
        self._unframer = pipe.Unframer()
        self._out: list[bytes] = []
        self._next = 0
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._waiting_bytes = 0
        self._watching: dict[int, asyncio.Queue[Any]] = {}
        self.to_node: asyncio.WriteTransport | None = None

    def data_received(self, data: bytes) -> None:
        for body in self._unframer.feed(data):
            self._took(pipe.DECODE_FROM_NODE(body))

    def connection_lost(self, reason: Exception | None) -> None:
        # The node is no more.
        self._stop(0)

    def _took(self, message: pipe.FromNode) -> None:
        if isinstance(message, pipe.Done):
            waiting = self._waiting.pop(message.id, None)
            if waiting is not None and not waiting.done():
                waiting.set_result(message.answer)
            elif message.id in self._watching:
                self._watching[message.id].put_nowait(None)
        elif isinstance(message, pipe.Refused):
            self._refused(message)
        elif isinstance(message, pipe.Happened):
            self._happened(message)
        elif isinstance(message, pipe.Ready):
            self._ready(message.ready)
        else:
            self._stop(message.grace)

    def _refused(self, message: pipe.Refused) -> None:
        waiting = self._waiting.pop(message.id, None)
        if waiting is not None and not waiting.done():
            waiting.set_exception(Refusal(message))
        queue = self._watching.get(message.id)
        if queue is not None:
            _replace(queue, Refusal(message))

    def _happened(self, message: pipe.Happened) -> None:
        queue = self._watching.get(message.id)
        if queue is None:
            return
        try:
            queue.put_nowait(message)
        except asyncio.QueueFull:
            why = "too slow: events were lost"
            _replace(queue, Refusal(pipe.Refused(message.id, "rate.limited", why, 429)))

    def say(self, message: pipe.FromFront) -> None:
        """Send to the node, with whatever else is said in this turn."""
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(pipe.framed(message))

    def _flush(self) -> None:
        out, self._out = self._out, []
        if self.to_node is not None:
            self.to_node.write(b"".join(out))

    async def ask(self, verb: str, key: bytes, peer: str, request: bytes, deadline: float) -> bytes:
        """What the node answers.

        :raises Refusal: it does not.
        """
        number = self._number()
        if len(self._waiting) >= self._most or self._waiting_bytes > MAX_WAITING_BYTES:
            why = "too many requests at once"
            raise Refusal(pipe.Refused(number, "rate.limited", why, 429, 1.0))
        self._waiting_bytes += len(request)
        waiting: asyncio.Future[bytes] = self._loop.create_future()
        self._waiting[number] = waiting
        self.say(pipe.Ask(number, verb, key, peer, request, deadline))
        try:
            return await waiting
        finally:
            self._waiting.pop(number, None)
            self._waiting_bytes -= len(request)

    async def watch(
        self, key: bytes, peer: str, asked: realtime_pb2.WatchRequest
    ) -> AsyncGenerator[pipe.Happened | None, None]:
        """What happens, until it is not wanted any more; first None, from when on it is told."""
        number = self._number()
        if len(self._watching) >= MAX_WATCHING:
            why = "too many are watching"
            raise Refusal(pipe.Refused(number, "rate.limited", why, 429, 1.0))
        queue: asyncio.Queue[pipe.Happened | Refusal | None] = asyncio.Queue(MAX_BEHIND)
        self._watching[number] = queue
        of = (tuple(asked.user_ids), tuple(asked.kinds), tuple(asked.receipt_ids))
        self.say(pipe.Watch(number, key, peer, *of))
        try:
            while True:
                happened = await queue.get()
                if isinstance(happened, Refusal):
                    raise happened
                yield happened
        finally:
            del self._watching[number]
            self.say(pipe.Unwatch(number))

    async def open(
        self, key: bytes, peer: str, worker: str, replay: bool
    ) -> tuple[int, asyncio.Queue[Any]]:
        """Let somebody work through booking queues: their number, and what they are told.

        :raises Refusal: they may not.
        """
        number = self._number()
        queue = self._watching[number] = asyncio.Queue(MAX_BEHIND_QUEUE)
        waiting: asyncio.Future[bytes] = self._loop.create_future()
        self._waiting[number] = waiting
        self.say(pipe.Open(number, key, peer, worker, replay))
        try:
            await waiting
        except BaseException:
            self.close(number)
            raise
        finally:
            self._waiting.pop(number, None)
        return number, queue

    def close(self, number: int) -> None:
        """They have gone."""
        del self._watching[number]
        self.say(pipe.Close(number))

    def _number(self) -> int:
        self._next += 1
        return self._next


def _replace(queue: asyncio.Queue[Any], last: Refusal) -> None:
    while not queue.empty():
        queue.get_nowait()
    queue.put_nowait(last)


class Roads:
    """The methods of the service."""

    def __init__(self, link: NodeLink) -> None:
        self._link = link

    def handlers(self) -> grpc.GenericRpcHandler:
        """All methods of `SERVICE`, as its descriptor has them."""
        found = {}
        for method in SERVICE.methods:
            request, response = map(GetMessageClass, (method.input_type, method.output_type))
            kinds: dict[str, Callable[..., grpc.RpcMethodHandler]] = {
                "PublishStream": grpc.stream_unary_rpc_method_handler,
                "Watch": grpc.unary_stream_rpc_method_handler,
                "Queue": grpc.stream_stream_rpc_method_handler,
            }
            behaviours: dict[str, Any] = {
                "PublishStream": self._publish_stream,
                "Watch": self._watch,
                "Queue": self._queue,
            }
            make = kinds.get(method.name, grpc.unary_unary_rpc_method_handler)
            behaviour = behaviours.get(method.name) or self._unary(verb_of(method.name), response)
            found[method.name] = make(
                behaviour,
                request_deserializer=request.FromString,
                response_serializer=response.SerializeToString,
            )
        return grpc.method_handlers_generic_handler(SERVICE.full_name, found)

    def _unary(self, verb: str, response: Any) -> Callable[[Message, Context], Awaitable[Any]]:
        async def unary(request: Message, context: Context) -> Message:
            try:
                return fill(response(), await self._ask(verb, request, context))
            except Refusal as refusal:
                await abort(context, refusal.refused)
                raise

        return unary

    async def _ask(self, verb: str, request: Message, context: Context) -> bytes:
        try:
            asked = to_json(request)
        except NotJson as error:
            raise Refusal(pipe.Refused(0, "publish.invalid", str(error), 400)) from None
        left = context.time_remaining()
        deadline = 0.0 if left is None or left > 10**6 else time.monotonic() + left
        return await self._link.ask(verb, key_of(context), context.peer(), asked, deadline)

    async def _publish_stream(
        self, requests: AsyncIterator[Message], context: Context
    ) -> realtime_pb2.PublishStreamResponse:
        told = realtime_pb2.PublishStreamResponse()
        unknown: list[Refusal] = []
        window = asyncio.Semaphore(WINDOW)
        under_way: set[asyncio.Task[None]] = set()

        async def one(index: int, asking: Awaitable[bytes]) -> None:
            try:
                answer = fill(realtime_pb2.PublishResponse(), await asking)
                told.accepted += 1
                told.repeated += answer.repeated
            except Refusal as refusal:
                told.refused += 1
                if len(told.errors) < MAX_ERRORS:
                    refused = refusal.refused
                    told.errors.add(index=index, code=refused.code, message=refused.message)
                if refusal.refused.status == 401:
                    unknown.append(refusal)
            finally:
                window.release()

        index = 0
        try:
            async for request in requests:
                await window.acquire()
                if unknown:
                    break
                # A task begins in the order in which it was made: so do the publications.
                task = asyncio.ensure_future(one(index, self._ask("publish", request, context)))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
                index += 1
            if under_way:
                await asyncio.gather(*under_way)
            if unknown:
                await abort(context, unknown[0].refused)
        finally:
            for task in under_way:
                task.cancel()
        told.errors.sort(key=lambda error: error.index)
        return told

    async def _watch(
        self, request: realtime_pb2.WatchRequest, context: Context
    ) -> AsyncIterator[realtime_pb2.WatchResponse]:
        watching = self._link.watch(key_of(context), context.peer(), request)
        try:
            async with contextlib.aclosing(watching):
                async for happened in watching:
                    if happened is None:
                        await context.send_initial_metadata(())
                        continue
                    response = realtime_pb2.WatchResponse()
                    fill(getattr(response, happened.kind), happened.data)
                    yield response
        except Refusal as refusal:
            await abort(context, refusal.refused)

    async def _queue(
        self, requests: AsyncIterator[realtime_pb2.QueueRequest], context: Context
    ) -> AsyncIterator[realtime_pb2.QueueResponse]:
        opened = await anext(requests, None)
        if opened is None or opened.WhichOneof("request") != "open":
            await abort(context, pipe.Refused(0, "message.invalid", "the first message is to be open", 400))
            return
        asked = opened.open
        try:
            number, told = await self._link.open(
                key_of(context), context.peer(), asked.worker, asked.replay
            )
            worker = QueueStream(self._link, self._ask, context, number, told)
            async for response in worker.responses(requests):
                yield response
        except Refusal as refusal:
            await abort(context, refusal.refused)


class QueueStream:
    """One worker of booking queues.

    :param ask: see `Roads._ask`.
    :param number: see `NodeLink.open`, as `told`.
    """

    #: What is asked by the stream, and how it is answered.
    KINDS: Final = {
        "positions": realtime_pb2.QueuePositionsResponse,
        "proceed": realtime_pb2.QueueProceedResponse,
        "remove": realtime_pb2.QueueRemoveResponse,
    }

    def __init__(
        self,
        link: NodeLink,
        ask: Callable[[str, Message, Context], Awaitable[bytes]],
        context: Context,
        number: int,
        told: asyncio.Queue[Any],
    ) -> None:
        self._link = link
        self._ask = ask
        self._context = context
        self._window = asyncio.Semaphore(WINDOW)
        self._under_way: set[asyncio.Task[None]] = set()
        self._number = number
        self._queue = told

    async def responses(
        self, requests: AsyncIterator[realtime_pb2.QueueRequest]
    ) -> AsyncGenerator[realtime_pb2.QueueResponse, None]:
        """What the worker is told, until it has no more to ask and is answered.

        :raises Refusal: it may not, or not any more.
        """
        reading = asyncio.ensure_future(self._read(requests))
        try:
            while (told := await self._queue.get()) is not None:
                if isinstance(told, Refusal):
                    raise told
                if isinstance(told, pipe.Happened):
                    response = realtime_pb2.QueueResponse()
                    fill(response.change, told.data)
                    yield response
                else:
                    self._window.release()
                    yield told
        finally:
            for task in (reading, *self._under_way):
                task.cancel()
            self._link.close(self._number)

    async def _read(self, requests: AsyncIterator[realtime_pb2.QueueRequest]) -> None:
        async for request in requests:
            kind = request.WhichOneof("request")
            if kind == "acknowledge":
                self._link.say(pipe.Acknowledge(self._number, tuple(request.acknowledge.ids)))
                continue
            # As many as are answered, and have taken their answer.
            await self._window.acquire()
            # A task begins in the order in which it was made: so is done what is asked.
            task = asyncio.ensure_future(self._answer(request, kind))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
        if self._under_way:
            await asyncio.gather(*self._under_way)
        await self._queue.put(None)

    async def _answer(self, request: realtime_pb2.QueueRequest, kind: str | None) -> None:
        response = realtime_pb2.QueueResponse(ref=request.ref)
        try:
            if kind not in self.KINDS:
                why = "expected acknowledge, positions, proceed or remove"
                raise Refusal(pipe.Refused(0, "message.invalid", why, 400))
            answer = await self._ask(f"queue_{kind}", getattr(request, kind), self._context)
            getattr(response, kind).CopyFrom(fill(self.KINDS[kind](), answer))
        except Refusal as refusal:
            response.error.code, response.error.message = refusal.refused.code, refusal.refused.message
        await self._queue.put(response)


def verb_of(method: str) -> str:
    """The verb of a method: ``HistoryRemove`` is ``history_remove``."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", method).lower()


def key_of(context: Context) -> bytes:
    """The API key that was sent; empty if there is none, or more than one."""
    found = [value for name, value in context.invocation_metadata() or () if name == "authorization"]
    if len(found) != 1:
        return b""
    text = found[0] if isinstance(found[0], str) else found[0].decode(errors="replace")
    scheme, _, key = text.partition(" ")
    return key.strip().encode() if scheme.lower() == "bearer" else b""


async def abort(context: Context, refused: pipe.Refused) -> None:
    """End a call with a status, and with details that say the stable code."""
    code = STATUSES.get(refused.status, grpc.StatusCode.INTERNAL)
    details = [any_pb2.Any(), any_pb2.Any()]
    details[0].Pack(error_details_pb2.ErrorInfo(reason=refused.code, domain=DOMAIN))
    if refused.retry_after is None:
        details.pop()
    else:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(round(refused.retry_after * 1000))
        details[1].Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    status = rpc_status.to_status(
        status_pb2.Status(code=code.value[0], message=refused.message, details=details)
    )
    await context.abort(status.code, status.details, status.trailing_metadata)


def credentials(options: pipe.Options) -> grpc.ServerCredentials:
    """TLS, with files that are read again when they change; mutual, where an authority is given."""
    last: list[tuple[float, ...]] = []
    paths = [path for path in (options.certificate, options.key, options.client_ca) if path]

    def read() -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration(
            [(Path(options.key).read_bytes(), Path(options.certificate).read_bytes())],
            Path(options.client_ca).read_bytes() if options.client_ca else None,
        )

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        try:
            changed = tuple(os.stat(path).st_mtime for path in paths)
            if last and last[0] == changed:
                return None
            configuration = read()
        except OSError:
            return None
        last[:] = [changed]
        return configuration

    last[:] = [tuple(os.stat(path).st_mtime for path in paths)]
    return grpc.dynamic_ssl_server_credentials(read(), fetch, bool(options.client_ca))


async def serve(options: pipe.Options) -> None:
    """Serve until the node wants no more."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[float] = loop.create_future()
    healthy = health.aio.HealthServicer()
    keep: set[asyncio.Task[None]] = set()

    def stop(grace: float) -> None:
        if not ended.done():
            ended.set_result(grace)

    def ready(ready: bool) -> None:
        kind = health_pb2.HealthCheckResponse
        status = kind.SERVING if ready else kind.NOT_SERVING
        for name in ("", SERVICE.full_name):
            task = loop.create_task(healthy.set(name, status))
            keep.add(task)
            task.add_done_callback(keep.discard)

    ready(False)
    link = NodeLink(options.max_waiting, stop, ready)
    await loop.connect_read_pipe(lambda: link, os.fdopen(pipe.FROM_NODE, "rb", 0))
    link.to_node, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(pipe.TO_NODE, "wb", 0))
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", options.max_message),
            ("grpc.so_reuseport", 0),
            ("grpc.max_concurrent_streams", MAX_STREAMS),
            ("grpc.http2.min_ping_interval_without_data_ms", 5000),
        ]
    )
    server.add_generic_rpc_handlers((Roads(link).handlers(),))
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    names = (SERVICE.full_name, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
    where = f"[{options.address}]" if ":" in options.address else options.address
    try:
        if options.certificate:
            port = server.add_secure_port(f"{where}:{options.port}", credentials(options))
        else:
            port = server.add_insecure_port(f"{where}:{options.port}")
        await server.start()
    except (RuntimeError, OSError, ValueError) as error:
        link.say(pipe.Failed(str(error)[:500]))
        await asyncio.wait([ended], timeout=10)
        return
    link.say(pipe.Listening(port))
    grace = await ended
    await server.stop(grace)


def main() -> None:
    # The node says when to end; a signal to the group is meant for the node.
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    asyncio.run(serve(msgspec.json.decode(sys.argv[1], type=pipe.Options)))


if __name__ == "__main__":
    main()
