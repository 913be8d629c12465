"""A gRPC client of the service, as generated code makes it; each call in a thread."""

from __future__ import annotations

import json
from typing import Any

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from realtime.front.convert import fill, to_json
from realtime.v1 import realtime_pb2, realtime_pb2_grpc

from .service import API_KEY

SERVICE = realtime_pb2.DESCRIPTOR.services_by_name["Realtime"]
METHODS = {method.name: method for method in SERVICE.methods}


def method_of(verb: str) -> str:
    """The method of a verb."""
    return "".join(part.capitalize() for part in verb.split("_"))


def code_of(error: grpc.RpcError) -> str:
    """The stable code in the details of an error."""
    status = rpc_status.from_call(error)
    info = error_details_pb2.ErrorInfo()
    if status is None or not status.details[0].Unpack(info):
        return ""
    if info.domain != "realtime":
        raise AssertionError(info)
    return info.reason


class GrpcClient:
    """One channel.

    :param key: the API key that is sent.
    """

    def __init__(self, target: str, key: str = API_KEY, credentials: Any = None, options: Any = ()) -> None:
        if credentials is None:
            self.channel = grpc.insecure_channel(target, options)
        else:
            self.channel = grpc.secure_channel(target, credentials, options)
        self.stub = realtime_pb2_grpc.RealtimeStub(self.channel)
        self.metadata = (("authorization", f"Bearer {key}"),) if key else ()

    def call(self, method: str, request: Any, timeout: float = 20, metadata: Any = None) -> Deferred[Any]:
        """Call a method; what it answers, or `grpc.RpcError`."""
        return deferToThread(
            getattr(self.stub, method),
            request,
            timeout=timeout,
            metadata=self.metadata if metadata is None else metadata,
            wait_for_ready=True,
        )

    async def verb(self, verb: str, request: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """Ask for a verb with JSON; its answer as JSON, or the code of the refusal."""
        method = METHODS[method_of(verb)]
        try:
            answer = await self.call(method.name, message(method.input_type, request))
        except grpc.RpcError as error:
            return code_of(error), {}
        return "", json.loads(to_json(answer))

    def close(self) -> None:
        self.channel.close()


def message(kind: Any, told: dict[str, Any]) -> Message:
    """A message with these fields, named as in JSON."""
    return fill(getattr(realtime_pb2, kind.name)(), json.dumps(told).encode())
