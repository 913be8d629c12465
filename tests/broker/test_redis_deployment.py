"""What a REDIS_URL leads to: the links that fit, and the names of keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet import reactor

from realtime.broker.redis_deployment import RedisDeployment
from realtime.broker.redis_protocol import IDLE
from realtime.errors import BrokerUnavailable
from realtime.redis_url import parse

from ..redis_servers import until
from ..redis_sets import start_cluster, start_sentinels
from ..redis_tls import Authority
from .links import LinkCase


class DeploymentTests(LinkCase):
    timeout = 90

    async def check(self, url: str, password: str = "", authorities: bytes = b"") -> RedisDeployment:
        """Everything works there: a durable command, a publication, both kinds of subscription."""
        made = RedisDeployment(reactor, parse(url, password), authorities=authorities, counters=self.counts)
        prefix = made.prefix(3)
        self.messages.clear()
        hear: dict[str, Any] = {"on_message": self.hear, "on_pmessage": self.hear}
        key = f"{prefix}log"
        link = made.link("publish", key, durable=True)
        stream = made.link("stream", "realtime:events", timeout=3.0)
        room, plain = made.subscriber("rooms", key, **hear), made.subscriber("plain", **hear)
        links = [link, stream, room, plain]
        self.addCleanup(made.stop)
        for one in links:
            self.addCleanup(one.stop)
            one.start()
        await self.reach(lambda: all(one.up for one in links), "the links to be up")

        async def written() -> bool:
            # on a busy machine the replica may take its time
            try:
                return await link.command("SET", key, "x") == b"OK"
            except BrokerUnavailable:
                return False

        await until(written, "a durable write")
        await stream.command("XADD", "realtime:events", "*", "data", "x")
        read = stream.command("XREAD", "BLOCK", 1500, "STREAMS", "realtime:events", "$")
        self.assertIsNone(await read)
        await room.subscribe([f"{prefix}lobby".encode()])
        await plain.psubscribe([b"booking:*"])
        publish = "SPUBLISH" if made.cluster else "PUBLISH"
        self.assertEqual(await link.command(publish, f"{prefix}lobby", "1"), 1)
        await stream.command("PUBLISH", "booking:created", "2")
        await self.heard(2)
        self.assertEqual({message[-1] for message in self.messages}, {b"1", b"2"})
        await self.probed(made)
        for one in links:
            await one.stop()
        self.assertEqual([one.probe for one in made.links], [None] * 4)
        await made.stop()
        return made

    async def probed(self, made: RedisDeployment) -> None:
        """Each connection is asked whether it is there, again and again, and says when and how quickly."""
        self.assertEqual([one.name for one in made.links], ["publish", "stream", "rooms", "plain"])
        first = [one.probe for one in made.links]
        for probe in first:
            assert probe is not None
            self.assertGreater(probe[1], 0)

        async def all_fresh() -> bool:
            return all(one.probe is not None and one.probe[0] < IDLE / 2 for one in made.links)

        await until(all_fresh, "an answer to a probe on each connection")

    async def test_single(self) -> None:
        """By TCP, by TLS and by a unix socket, with a password of either kind."""
        authority = Authority(Path(self.mktemp()))
        server = await self.start_server(tls=authority, unixsocket=True, password="secret")
        trusted = authority.certificate.read_bytes()
        for url, password in (
            (server.url, "secret"),
            (f"redis://:secret@127.0.0.1:{server.port}/0", ""),
            (f"rediss://default:secret@localhost:{server.tls_port}", ""),
            (f"unix://{server.socket}", "secret"),
        ):
            made = await self.check(url, password, trusted)
            self.assertEqual(made.prefix(3), "realtime:3:")
            self.assertFalse(made.replicated)

    async def test_sentinel(self) -> None:
        servers = await start_sentinels(self, password="secret")
        made = await self.check(servers.url, "secret")
        self.assertTrue(made.replicated)

    async def test_cluster(self) -> None:
        cluster = await start_cluster(self, replicas=1, password="secret")
        made = await self.check(cluster.url, "secret")
        self.assertEqual(made.prefix(3), "realtime:{3}:")
