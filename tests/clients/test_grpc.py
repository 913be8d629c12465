"""The gRPC API, by generated clients: verbs, errors, streams, health, reflection, TLS, its process."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import grpc
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase

from realtime.front.convert import to_json
from realtime.ingress.paths import ROUTES
from realtime.v1 import realtime_pb2 as pb

from ..ingress.requests import NOT_DONE, PUBLICATION, REFUSED, REQUESTS
from ..redis_servers import RedisServer
from ..redis_tls import Authority
from .case import LiveCase
from .grpc_client import METHODS, SERVICE, GrpcClient, code_of, message, method_of
from .service import ROOT, Service

#: What differs between two answers to the same request.
VARYING = ("id", "offset", "issuedBefore")


class DriftTests(SynchronousTestCase):
    def test_generated(self) -> None:
        """realtime/v1 is what protoc makes of proto/ (`make proto`)."""
        folder = Path(self.mktemp())
        folder.mkdir(parents=True)
        outs = [f"--{kind}={folder}" for kind in ("python_out", "pyi_out", "grpc_python_out")]
        source = "proto/realtime/v1/realtime.proto"
        command = [sys.executable, "-m", "grpc_tools.protoc", "-I", str(ROOT / "proto"), *outs]
        done = subprocess.run([*command, str(ROOT / source)], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        made = sorted((folder / "realtime" / "v1").iterdir())
        self.assertEqual(len(made), 3)
        for path in made:
            kept = (ROOT / "realtime" / "v1" / path.name).read_text()
            self.assertEqual(path.read_text(), kept, f"{path.name}: run `make proto`")


class GrpcCase(LiveCase):
    async def start_grpc(self, **environ: str | None) -> GrpcClient:
        """Start a service with the gRPC API, and a client of it."""
        await self.start_service(**{"GRPC_PORT": "0", **environ})
        return self.client(f"127.0.0.1:{await self.port(self.service)}")

    async def port(self, service: Service, number: int = 0) -> int:
        """The port of the gRPC API, once its process is up; `number` times before."""
        found: list[int] = []

        async def listening() -> bool:
            entries = service.entries("listening")
            found[:] = [entry["port"] for entry in entries if entry["setting"] == "GRPC_PORT"]
            return len(found) > number

        await self.until(listening, "the gRPC API listens")
        return found[-1]

    def client(self, target: str, *arguments: Any, **more: Any) -> GrpcClient:
        client = GrpcClient(target, *arguments, **more)
        self.addCleanup(client.close)
        return client

    async def http(self, verb: str, request: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """Ask for a verb over HTTP; its answer, or the code of the refusal."""
        route = next(route for route in ROUTES if route.verb == verb)
        left = dict(request)
        path = route.path
        for field in route.fields:
            path = path.replace(f"{{{field}}}", quote(str(left.pop(field)), safe=""))
        body = left if route.body else None
        if left and not route.body:
            path += "?" + urlencode(left)
        answer = await self.service.request(route.method, path, body)
        if answer.status == 200:
            return "", answer.body
        return answer.body["error"]["code"], {}


class RoadTests(GrpcCase):
    """Every verb, on HTTP and gRPC."""

    async def test_every_verb(self) -> None:
        """The same answers, and the same refusals, by both roads."""
        client = await self.start_grpc()
        driver = await self.start_node()
        alice = await self.connect(driver, "alice")
        self.assertEqual(
            {*METHODS} - {"PublishStream", "Watch", "Queue"}, {method_of(verb) for verb in REQUESTS}
        )
        for verb in ("members", "presence", "history", "rooms", *REQUESTS):
            if verb == "presence":
                self.accepted(await alice.call("room:join", {"roomId": "lobby"}))
                self.accepted(await alice.call("room:message", {"roomId": "lobby", "text": "é"}))
            request = REQUESTS[verb]
            by_grpc, by_http = await client.verb(verb, request), await self.http(verb, request)
            self.assertEqual((by_grpc[0], by_http[0]), (NOT_DONE.get(verb, ""),) * 2, verb)
            kind = METHODS[method_of(verb)].output_type
            answers = [_stripped(kind, answer) for answer in (by_grpc[1], by_http[1])]
            if verb not in ("kick", "move", "disconnect", "history_remove") and "lift" not in str(answers):
                self.assertEqual(*answers, verb)
        for verb, change, code in REFUSED:
            request = {**REQUESTS[verb], **change}
            self.assertEqual((await client.verb(verb, request))[0], code, (verb, change))
            self.assertEqual((await self.http(verb, request))[0], code, (verb, change))

    async def test_one_key(self) -> None:
        """One idempotency key by HTTP, gRPC, Redis and a service's socket, over two nodes: one delivery."""
        redis = RedisServer(self.directory())
        await redis.start()
        self.addCleanup(redis.stop)
        other = await self.start_service(REDIS_URL=redis.url)
        client = await self.start_grpc(REDIS_URL=redis.url)
        nodes = (other, self.service)

        async def ready() -> bool:
            told = [
                await node.request("GET", "/health/ready", listener="HEALTH_CHECK_PORT") for node in nodes
            ]
            return all(one.status == 200 for one in told)

        await self.until(ready, "the nodes to hear what is published on Redis")
        driver = await self.start_node()
        alice = await self.connect(driver, "alice")
        bob = await self.connect(driver, "bob", url=other.url)
        request = {**PUBLICATION, "messageId": "m-1"}
        first = (await other.request("POST", "/v1/publish", request)).body
        _, again = await self.http("publish", request)
        self.assertEqual((again["id"], again["repeated"]), (first["id"], True))
        _, second = await client.verb("publish", request)
        self.assertEqual((second["id"], second["repeated"]), (first["id"], True))
        for verb, status, count in (("publish", "200", 1), ("publish", "401", 0)):
            counted = await self.service.metric("realtime_grpc_requests_total", verb=verb, status=status)
            self.assertEqual(counted, count)
        streamed = await client.call(
            "PublishStream", iter([message(pb.PublishRequest.DESCRIPTOR, request)] * 2)
        )
        self.assertEqual((streamed.accepted, streamed.repeated), (2, 2))
        fields = ("channel", "system:news", "data", '{"a":1}', "messageId", "m-1")
        await redis.command("XADD", "realtime:events", "*", *fields)
        await redis.command("PUBLISH", "system:news", '{"a":1,"messageId":"m-1"}')
        token = self.token("booking", service={"scopes": ["publish"]})
        service = await self.connect(driver, None, url=other.url, auth={"token": token})
        answer = self.accepted(await service.call("service:publish", request))
        self.assertEqual((answer["id"], answer["repeated"]), (first["id"], True))

        async def taken() -> bool:
            labels = {"kind": "system", "outcome": "repeated"}
            return sum([await node.metric("realtime_publications_total", **labels) for node in nodes]) >= 7

        await self.until(taken, "what was published on Redis is taken")
        await self.barrier()
        for user in (alice, bob):
            self.assertEqual(len(user.events("system:news")), 1)


class OtherNodeTests(GrpcCase):
    """Two nodes over Redis: what is asked of one is done on the other."""

    async def test_other_node(self) -> None:
        """Presence is told, users are moved, kicked and disconnected, history goes, wherever they are."""
        redis = RedisServer(self.directory())
        await redis.start()
        self.addCleanup(redis.stop)
        driver = await self.start_node()
        other = await self.start_service(REDIS_URL=redis.url)
        client = await self.start_grpc(REDIS_URL=redis.url)
        watch = client.stub.Watch(pb.WatchRequest(), metadata=client.metadata, timeout=60)
        self.addCleanup(watch.cancel)
        await client.call("Info", pb.InfoRequest())
        alice = await self.connect(driver, "alice", url=other.url)
        for room in ("lobby", "hall"):
            self.accepted(await alice.call("room:join", {"roomId": room}))
        online = (await deferToThread(next, watch)).presence
        self.assertEqual((online.event, online.user_id), ("user:online", "alice"))
        sent = self.accepted(await alice.call("room:message", {"roomId": "hall", "text": "x"}))
        gone = pb.HistoryRemoveRequest(room_id="hall", offset=sent["offset"])
        self.assertEqual((await client.call("HistoryRemove", gone)).removed, 1)
        await alice.event("room:message_removed", roomId="hall", offset=sent["offset"])
        moved = pb.MoveRequest(room_id="lobby", user_id="alice", to="event:7")
        self.assertEqual((await client.call("Move", moved)).connections, 1)
        await alice.event("room:left", roomId="lobby", reason="moved")
        await alice.event("room:joined", roomId="event:7")
        kick = pb.KickRequest(room_id="hall", user_id="alice", reason="spam")
        self.assertEqual((await client.call("Kick", kick)).connections, 1)
        await alice.event("room:left", roomId="hall", reason="spam")
        rooms = await client.call("Rooms", pb.RoomsRequest())
        self.assertEqual([room.room_id for room in rooms.rooms], ["event:7"])
        ended = pb.DisconnectRequest(user_id="alice", reason="closing time")
        self.assertEqual((await client.call("Disconnect", ended)).disconnected, 1)
        await alice.event("system:error", code="connection.kicked", message="closing time")
        offline = (await deferToThread(next, watch)).presence
        self.assertEqual((offline.event, offline.user_id), ("user:offline", "alice"))


def _stripped(kind: Any, answer: dict[str, Any]) -> Any:
    """An answer as a message of its kind, and that as JSON, without what varies."""

    def strip(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: strip(item) for name, item in value.items() if name not in VARYING}
        return [strip(item) for item in value] if isinstance(value, list) else value

    return strip(json.loads(to_json(message(kind, answer))))


class ServiceTests(GrpcCase):
    """What belongs to gRPC alone."""

    async def failure(self, client: GrpcClient, method: str, request: Any, **more: Any) -> tuple[Any, str]:
        with self.assertRaises(grpc.RpcError) as raised:
            await client.call(method, request, **more)
        return raised.exception.code(), code_of(raised.exception)

    async def test_calls(self) -> None:
        """Keys, statuses, bytes that are no JSON, deadlines, streams, health, reflection."""
        client = await self.start_grpc()
        news = pb.PublishRequest(channel="system:news", data=b'{"n":1.50}')
        code = grpc.StatusCode
        for metadata in ((), (("authorization", "Bearer wrong"),), client.metadata * 2):
            refused = await self.failure(client, "Publish", news, metadata=metadata)
            self.assertEqual(refused, (code.UNAUTHENTICATED, "api.unauthorized"))
        for data in (b"", b"{", b'{} , "channel": "x"', b'{}, "ttl": 5', b'"\xff"', b"[" * 100_000):
            bad = pb.PublishRequest(channel="system:news", data=data)
            refused = await self.failure(client, "Publish", bad)
            self.assertEqual(refused, (code.INVALID_ARGUMENT, "publish.invalid"), data[:20])
        kick = pb.KickRequest(room_id="user:a", user_id="a")
        refused = await self.failure(client, "Kick", kick)
        self.assertEqual(refused, (code.PERMISSION_DENIED, "room.forbidden"))
        block = pb.BlockRequest(user_id="a", until=1)
        self.assertEqual(
            await self.failure(client, "Block", block), (code.FAILED_PRECONDITION, "trust.past")
        )
        await self.streams(client)
        await self.held_back(client)
        await self.queue(client)
        await self.standard(client)

    async def streams(self, client: GrpcClient) -> None:
        driver = await self.start_node()
        alice = await self.connect(driver, "alice")

        def requests() -> Any:
            for n in range(500):
                channel = "booking:created" if n % 100 == 7 else "system:news"
                yield pb.PublishRequest(channel=channel, data=b'{"n":%d}' % n)

        told = await client.call("PublishStream", requests())
        self.assertEqual((told.accepted, told.refused), (495, 5))
        self.assertEqual([error.index for error in told.errors], [7, 107, 207, 307, 407])
        self.assertEqual({error.code for error in told.errors}, {"publish.no_owner"})
        await self.barrier()
        numbers = [payload["n"] for payload in alice.events("system:news")]
        self.assertEqual(numbers, [n for n in range(500) if n % 100 != 7])
        with self.assertRaises(grpc.RpcError) as raised:
            await client.call("PublishStream", requests(), metadata=())
        self.assertIs(raised.exception.code(), grpc.StatusCode.UNAUTHENTICATED)

        def slowly() -> Any:
            yield from itertools.islice(requests(), 1)
            time.sleep(0.2)

        with self.assertRaises(grpc.RpcError) as raised:
            await client.call("PublishStream", slowly(), metadata=())
        self.assertIs(raised.exception.code(), grpc.StatusCode.UNAUTHENTICATED)

    async def held_back(self, client: GrpcClient) -> None:
        """What a node that stands still does not take waits at the client; then nothing of it is lost."""
        drawn = 0

        def requests() -> Any:
            nonlocal drawn
            for _ in range(3000):
                drawn += 1
                yield pb.PublishRequest(channel="user:nobody:note", data=b'{"text":"%b"}' % (b"x" * 8000))

        self.service.signal("STOP")
        try:
            calling = client.call("PublishStream", requests(), timeout=60)
            before = -1
            while before != drawn:
                before = drawn
                await deferLater(reactor, 0.5)
            self.assertLess(drawn, 2000)
        finally:
            self.service.signal("CONT")
        self.assertEqual((await calling).accepted, 3000)

    async def queue(self, client: GrpcClient) -> None:
        """The stream of workers: how it begins, what is refused in it, how it ends."""

        def work(*requests: pb.QueueRequest, metadata: Any = client.metadata) -> Any:
            return deferToThread(
                lambda: list(client.stub.Queue(iter(requests), metadata=metadata, timeout=20))
            )

        opened = pb.QueueRequest(open=pb.QueueOpen(worker="w1"))
        for requests, metadata, code in (
            ((opened,), (), "api.unauthorized"),
            ((), client.metadata, "message.invalid"),
            ((pb.QueueRequest(ref=1),), client.metadata, "message.invalid"),
            ((pb.QueueRequest(open=pb.QueueOpen(worker="a b")),), client.metadata, "message.invalid"),
        ):
            with self.assertRaises(grpc.RpcError) as raised:
                await work(*requests, metadata=metadata)
            self.assertEqual(code_of(raised.exception), code)
        proceed = pb.QueueProceedRequest(event_id="7", user_id="x", token="t", expires_at=9 * 10**12)
        answers = await work(
            opened,
            pb.QueueRequest(acknowledge=pb.QueueAcknowledge(ids=[1, 2, 3])),
            pb.QueueRequest(ref=5, proceed=proceed),
            pb.QueueRequest(ref=6, remove=pb.QueueRemoveRequest(event_id="a b", user_id="x")),
            pb.QueueRequest(ref=7),
            pb.QueueRequest(ref=8, positions=pb.QueuePositionsRequest(event_id="7")),
        )
        found = {answer.ref: answer for answer in answers}
        self.assertEqual(found[5].proceed.state, "not_waiting")
        codes = [found[ref].error.code for ref in (6, 7, 8)]
        self.assertEqual(codes, ["message.invalid"] * 3)

    async def standard(self, client: GrpcClient) -> None:
        """The standard services, with standard clients."""
        health = health_pb2_grpc.HealthStub(client.channel)
        for name in ("", SERVICE.full_name):
            asked = health_pb2.HealthCheckRequest(service=name)
            answer = await deferToThread(health.Check, asked, timeout=20)
            self.assertEqual(answer.status, health_pb2.HealthCheckResponse.SERVING)
        stub = reflection_pb2_grpc.ServerReflectionStub(client.channel)
        question = reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE.full_name)
        (answer,) = await deferToThread(
            lambda: list(stub.ServerReflectionInfo(iter([question]), timeout=20))
        )
        (file,) = answer.file_descriptor_response.file_descriptor_proto
        self.assertEqual(FileDescriptorProto.FromString(file).service[0].name, "Realtime")

    async def test_watch(self) -> None:
        """Presence of users, from when it is asked for; only of those that are asked for."""
        client = await self.start_grpc()
        driver = await self.start_node()
        watch = client.stub.Watch(pb.WatchRequest(user_ids=["bob"]), metadata=client.metadata, timeout=60)
        every = client.stub.Watch(pb.WatchRequest(), metadata=client.metadata, timeout=60)
        for stream in (watch, every):
            self.addCleanup(stream.cancel)
            await deferToThread(stream.initial_metadata)
        bad = client.stub.Watch(pb.WatchRequest(kinds=["weather"]), metadata=client.metadata, timeout=20)
        with self.assertRaises(grpc.RpcError) as raised:
            await deferToThread(next, bad)
        self.assertEqual(code_of(raised.exception), "message.invalid")
        alice = await self.connect(driver, "alice")
        bob = await self.connect(driver, "bob")
        self.accepted(await bob.call("user:presence", {"status": "busy", "text": "é"}))
        alice.disconnect()

        def take(stream: Any, count: int) -> list[tuple[str, str, str]]:
            changes = [next(stream).presence for _ in range(count)]
            return [(change.event, change.user_id, change.text) for change in changes]

        of_bob = [("user:online", "bob", ""), ("user:status_change", "bob", "é")]
        self.assertEqual(await deferToThread(take, watch, 2), of_bob)
        told = await deferToThread(take, every, 4)
        self.assertEqual(told[:3], [("user:online", "alice", ""), *of_bob])
        self.assertEqual(told[3], ("user:offline", "alice", ""))
        with self.assertRaises(grpc.RpcError) as raised:
            await deferToThread(next, client.stub.Watch(pb.WatchRequest(), timeout=20))
        self.assertEqual(code_of(raised.exception), "api.unauthorized")

    async def test_tls(self) -> None:
        """TLS, with certificates of clients asked for; without one nobody gets in."""
        authority = Authority(self.directory())
        directories = [self.directory() for _ in range(2)]
        for directory in directories:
            directory.mkdir()
        certificate, key = authority.issue(directories[0])
        ours, our_key = authority.issue(directories[1])
        await self.start_service(
            GRPC_PORT="0",
            GRPC_TLS_CERTIFICATE=str(certificate),
            GRPC_TLS_KEY=str(key),
            GRPC_TLS_CLIENT_CA=str(authority.certificate),
        )
        target = f"localhost:{await self.port(self.service)}"
        roots = authority.certificate.read_bytes()
        mutual = grpc.ssl_channel_credentials(roots, our_key.read_bytes(), ours.read_bytes())
        info = await self.client(target, credentials=mutual).call("Info", pb.InfoRequest())
        self.assertEqual(info.connections, 0)
        for credentials in (grpc.ssl_channel_credentials(roots), None):
            stranger = self.client(target, credentials=credentials)
            with self.assertRaises(grpc.RpcError):
                await deferToThread(
                    stranger.stub.Info, pb.InfoRequest(), metadata=stranger.metadata, timeout=5
                )

    async def test_process(self) -> None:
        """Of a frozen node deadlines pass, and nothing is done late; a front that dies comes back."""
        client = await self.start_grpc()
        news = pb.PublishRequest(channel="system:news", data=b"{}")
        await client.call("Publish", news)
        self.service.signal("STOP")
        try:
            with self.assertRaises(grpc.RpcError) as raised:
                await client.call("Publish", news, timeout=0.3)
            self.assertIs(raised.exception.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
            # By the front's clock it is over a moment later than by the client's.
            await deferLater(reactor, 0.3)
        finally:
            self.service.signal("CONT")
        # Its deadline had passed before the node saw it: this is the second publication, not the third.
        self.assertEqual((await client.call("Publish", news)).offset, 2)
        self.service.forgiven.append("the gRPC front has ended")
        (front,) = _children(self.service.pid)
        os.kill(front, signal.SIGKILL)
        again = self.client(f"127.0.0.1:{await self.port(self.service, 1)}")
        self.assertEqual((await again.call("Publish", news)).offset, 3)
        self.assertEqual(await self.service.metric("realtime_grpc_front_restarts_total"), 1)
        (front,) = _children(self.service.pid)
        await self.service.kill()

        async def gone() -> bool:
            return not Path(f"/proc/{front}").exists()

        await self.until(gone, "the front of a node that is no more")


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
