"""Receipts, with real clients of every protocol: issue 6, "Must show" 4."""

from __future__ import annotations

import time
from typing import Any

from twisted.internet.threads import deferToThread

from realtime.v1 import realtime_pb2 as pb

from ..redis_servers import RedisServer
from .proxy import Proxy
from .service import Service
from .test_grpc import GrpcCase

TIMEOUT = 2500


class ReceiptTests(GrpcCase):
    """Two nodes over Redis, and alice's devices on both."""

    async def receipt(self, service: Service, name: str) -> dict[str, Any]:
        answer = await service.request("GET", f"/v1/receipts/{name}")
        self.assertEqual(answer.status, 200, answer.body)
        found: dict[str, Any] = answer.body
        return found

    async def until_counts(self, service: Service, name: str, **counts: int) -> dict[str, Any]:
        """The receipt, once its counts are these."""
        found: dict[str, Any] = {}

        async def so() -> bool:
            found.update(await self.receipt(service, name))
            return all(found["counts"][what] == count for what, count in counts.items())

        await self.until(so, f"{counts} in {found}")
        return found

    async def publish(self, service: Service, **data: Any) -> str:
        """Publish with a receipt, on a node; the publication's id."""
        given = {"channel": "booking:created", "data": {"userId": "alice", **data}, "receipt": True}
        answer = await service.request("POST", "/v1/publish", given)
        self.assertEqual(answer.status, 200, answer.body)
        name: str = answer.body["id"]
        return name

    async def test_devices_over_nodes(self) -> None:
        """Three devices over two nodes: one is frozen, then a node is killed; no receipt lies."""
        redis = RedisServer(self.directory())
        await redis.start()
        self.addCleanup(redis.stop)
        settings = {"REDIS_URL": redis.url, "RECEIPT_TIMEOUT": str(TIMEOUT)}
        client = await self.start_grpc(**settings)
        first = self.service
        second = await self.start_service(**settings)
        driver = await self.start_node()
        proxy = Proxy(second.ports["PORT"])
        self.addCleanup(proxy.stop)
        kept = {"reconnection": False}
        browser = await self.connect(driver, "alice", url=first.url)
        phone = self.direct(driver, "alice", "plain", second.url)
        await phone.connected()
        await self.connect(driver, "alice", url=proxy.url, **kept)
        for node in (first, second):
            all_three = await self.publish(node, n=0)
            await self.until_counts(first, all_three, targeted=3, written=3, acknowledged=3, expired=0)
        proxy.freeze()

        watched = pb.WatchRequest(kinds=["receipts"])
        watch = client.stub.Watch(watched, metadata=client.metadata, timeout=60)
        self.addCleanup(watch.cancel)
        await client.call("Info", pb.InfoRequest())
        name = await self.publish(first, n=1)
        found = await self.until_counts(second, name, targeted=3, acknowledged=2)
        states = sorted(one["state"] for one in found["connections"])
        self.assertEqual(states[:2], ["acknowledged"] * 2)
        self.assertIn(states[2], ("targeted", "written"))
        self.assertEqual({one["userId"] for one in found["connections"]}, {"alice"})

        def news() -> list[tuple[str, int, int]]:
            told = []
            for one in watch:
                counts = one.receipt.counts
                told.append((one.receipt.id, counts.acknowledged, counts.expired))
                if told[-1] == (name, 2, 1):
                    return told
            return told

        watching = deferToThread(news)
        # The other node dies after it was written to, before all is acknowledged.
        cut = await self.publish(second, n=2)
        await self.until_counts(first, cut, targeted=3, acknowledged=2)
        second.forgiven.append("")
        await second.kill()
        lost = await self.publish(first, n=3)
        found = await self.until_counts(first, lost, targeted=1, acknowledged=1)
        for published, counts in ((name, (3, 2, 1)), (cut, (3, 2, 1)), (lost, (1, 1, 0))):
            found = await self.until_counts(first, published, expired=counts[2])
            told = found["counts"]
            self.assertEqual((told["targeted"], told["acknowledged"], told["expired"]), counts)
            states = sorted(one["state"] for one in found["connections"])
            self.assertEqual(states, ["acknowledged"] * counts[1] + ["expired"] * counts[2])
            self.assertGreater(time.time() * 1000, found["expiresAt"] if counts[2] else 0)
        fields = ("channel", "booking:created", "data", '{"userId":"alice","n":4}', "receipt", "true")
        entry = await redis.command("XADD", "realtime:events", "*", *fields)
        await browser.event("booking:created", n=4)
        await self.until_counts(first, entry.decode(), targeted=1, acknowledged=1)
        self.assertIn((name, 2, 0), await watching)
        by_grpc = await client.call("Receipt", pb.ReceiptRequest(id=name))
        self.assertEqual((by_grpc.counts.targeted, by_grpc.counts.expired), (3, 1))
        self.assertEqual([event["n"] for event in browser.events("booking:created")], [0, 0, 1, 2, 3, 4])
