"""Recovery over the transports that carry it: clients that are cut in whatever they are doing.

Real Engine.IO sessions over connections in memory. A client polls, upgrades, stops reading, loses an
answer, vanishes; it comes back with its pid and the last offset that it has seen. What it has got in
the end is everything, once and in order.
"""

from __future__ import annotations

import json
import random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from .house import House
from .transport.peer import CLOSE, Peer

ROOMS = ("lobby", "event:7")


class Client:
    """One socket.io-client: what it knows, and the transport that it has now.

    :ivar got: the numbers of the messages it has received.
    :ivar restored: of each CONNECT but the first, whether the session was its own.
    """

    def __init__(self, house: House, user: str) -> None:
        self.house = house
        self.user = user
        self.pid: str | None = None
        self.offset: str | None = None
        self.got: list[int] = []
        self.restored: list[bool] = []
        self.reset()

    def reset(self) -> None:
        """Without a transport."""
        self.websocket: Peer | None = None
        self.fetching: Peer | None = None
        self.probe: Peer | None = None
        self.polling = False
        self.live = False
        self.target = ""

    def peer(self) -> Peer:
        factory = next(factory for port, factory, *_ in self.house.clock.tcpServers if port == 3003)
        peer = Peer(factory, self.house.clock)
        peer.wire.mark = 4096
        return peer

    # -- coming

    def open(self, carrier: str) -> None:
        base = f"/socket.io/?EIO=4&transport={carrier}"
        if carrier == "websocket":
            self.websocket = self.peer()
            assert self.websocket.upgrade(base).status == 101
        else:
            self.fetching = self.peer()
            sid = json.loads(self.fetching.ask("GET", base).body[1:])["sid"]
            self.target = f"{base}&sid={sid}"
        auth: dict[str, Any] = {"token": self.house.token(self.user, ttl=1e6)}
        if self.pid is not None:
            auth["pid"] = self.pid
            if self.offset is not None:
                auth["offset"] = self.offset
        self.live = True
        self.tell("40" + json.dumps(auth))

    def tell(self, packet: str) -> None:
        if self.websocket is not None:
            self.websocket.say(packet)
        else:
            self.peer().request("POST", self.target, packet.encode())

    # -- being there

    def fetch(self) -> list[str]:
        """What has arrived, as packets."""
        self.house.clock.advance(0)
        if self.websocket is not None:
            frames = self.websocket.frames()
            return ["1" if opcode == CLOSE else payload.decode() for opcode, payload in frames]
        assert self.fetching is not None
        if not self.polling:
            self.fetching.request("GET", self.target)
            self.polling = True
            self.house.clock.advance(0)
        answer = self.fetching.answer()
        if answer is None:
            return []
        self.polling = False
        return answer.body.decode().split("\x1e") if answer.status == 200 else ["1"]

    def take(self, limit: int = 10**9) -> None:
        """Take what has arrived; all after so many packets is lost with the transport."""
        if not self.live:
            return
        packets = self.fetch()
        for packet in packets[:limit]:
            self.packet(packet)
        if len(packets) > limit or (self.websocket is not None and self.websocket.gone):
            self.vanish(noticed=True)

    def packet(self, packet: str) -> None:
        if packet == "2":
            self.tell("3")
        elif packet[:2] == "40":
            pid = json.loads(packet[2:])["pid"]
            if self.pid is not None:
                self.restored.append(pid == self.pid)
            self.pid = pid
        elif packet[:2] == "42":
            event = json.loads(packet[2:])
            if event[0] == "room:message":
                self.got.append(event[1]["data"]["n"])
            if isinstance(event[-1], str):
                self.offset = event[-1]
        elif packet == "1":
            self.vanish(noticed=True)

    def upgrade(self, steps: int) -> None:
        """Go over to a WebSocket, or a few steps of that."""
        if not self.live or self.websocket is not None:
            return
        self.probe = self.peer()
        target = self.target.replace("polling", "websocket")
        if self.probe.upgrade(target).status != 101 or steps < 1:
            return
        self.probe.say("2probe")
        if "3probe" not in self.probe.said() or steps < 2:
            return
        # The client pauses: it waits for the poll that is out, and sends no other.
        while self.polling and self.live:
            self.take()
        if steps < 3 or not self.live:
            return
        self.probe.say("5")
        self.websocket, self.probe = self.probe, None

    # -- going

    def vanish(self, *, noticed: bool) -> None:
        """Be gone with all that was not taken; noticed by the service, or left to find out."""
        peers = [peer for peer in (self.websocket, self.fetching, self.probe) if peer is not None]
        self.reset()
        if noticed:
            for peer in peers:
                peer.wire.hang_up()


class CarriedTests(SynchronousTestCase):
    """Every message once and in order."""

    def house(self, **settings: Any) -> House:
        house = House(
            recovery_window=1e5, ws_max_queue_bytes=20_000, rate_limit_max_connections=100, **settings
        )
        self.addCleanup(house.stop)
        return house

    def publish(self, house: House, number: int, size: int) -> None:
        room = ROOMS[number % 2]
        house.publish(f"room:{room}:message", {"data": {"n": number, "pad": "x" * size}})

    def live(self, seed: int) -> None:
        draw = random.Random(seed)
        house = self.house()
        clients = [Client(house, name) for name in ("alice", "alice", "bob")]
        for client in clients:
            client.open(draw.choice(("websocket", "polling")))
            client.take()
            for room in ROOMS:
                client.tell(f'42["room:join",{{"roomId":"{room}"}}]')
        number = 0
        for _ in range(120):
            for _ in range(draw.randrange(4)):
                number += 1
                self.publish(house, number, draw.choice((10, 10, 3000)))
            client = draw.choice(clients)
            if not client.live:
                client.open(draw.choice(("websocket", "polling")))
                if draw.random() < 0.3:
                    client.take(draw.randrange(4))
            else:
                self.step(draw, house, client)
        self.finish(clients)
        for client in clients:
            self.assertEqual(client.got, list(range(1, number + 1)), f"seed {seed}")
            self.assertTrue(all(client.restored), f"seed {seed}")

    def step(self, draw: random.Random, house: House, client: Client) -> None:
        kind = draw.randrange(8)
        if kind < 3:
            client.take()
        elif kind == 3:
            client.take(draw.randrange(4))
        elif kind == 4:
            client.vanish(noticed=draw.random() < 0.6)
        elif kind == 5:
            client.upgrade(draw.randrange(5))
            if client.probe is not None and draw.random() < 0.5:
                client.vanish(noticed=draw.random() < 0.5)
        elif kind == 6 and client.websocket is not None:
            client.websocket.wire.stalled = not client.websocket.wire.stalled
        else:
            house.clock.advance(draw.choice((0.1, 3.0)))

    def finish(self, clients: list[Client]) -> None:
        """All come back, if they are not there, and take all."""
        for client in clients:
            for _ in range(200):
                if not client.live:
                    client.open("websocket")
                if client.websocket is not None:
                    client.websocket.wire.stalled = False
                client.take()

    def test_whatever_happens(self) -> None:
        """Polls and sockets that end in the middle, upgrades that don't come about, readers too slow."""
        for seed in range(20):
            self.live(seed)
