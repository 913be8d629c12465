"""``--workers 2``: one node of two processes, as its clients and its operators see it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor

from ..redis_servers import RedisServer
from .case import TRANSPORTS, LiveCase
from .drivers import Client
from .raw import Raw, request, upgrade

ROOM = "event:42"

#: Connections by which it is seen how they are spread: by chance unevenly in one of 16,000 runs.
MANY = 400


def runs(pid: int) -> bool:
    """Whether a process is there, and not only waits for somebody to take notice of its end."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class WorkersTests(LiveCase):
    """Two workers over Redis."""

    async def start(self, **environ: str) -> None:
        redis = RedisServer(self.directory())
        await redis.start()
        self.addCleanup(redis.stop)
        given = {"REDIS_URL": redis.url, "RATE_LIMIT_MAX_CONNECTIONS": "50", **environ}
        await self.start_service("--workers", "2", **given)
        await self.all_up()
        self.driver = await self.start_node()

    async def report(self) -> Any:
        return (await self.service.request("GET", "/health", listener="HEALTH_CHECK_PORT")).body

    async def pids(self) -> dict[str, int]:
        return {name: told.get("pid", 0) for name, told in (await self.report())["workers"].items()}

    async def all_up(self) -> None:
        async def healthy() -> bool:
            return bool((await self.report())["status"] == "healthy")

        await self.until(healthy, "both workers to be up")

    async def crowd(self, count: int, **options: Any) -> list[Client]:
        clients = [self.open(self.driver, f"user{n}", **options) for n in range(count)]
        for client in clients:
            client.user = (await client.connected())["userId"]
            self.accepted(await client.call("room:join", {"roomId": ROOM}))
        return clients

    async def spoken(self, clients: list[Client], first: int) -> None:
        """Each sends a message; all see all of them."""
        for n, client in enumerate(clients, first):
            self.accepted(await client.call("room:message", {"roomId": ROOM, "data": {"n": n}}))
        await self.barrier(*clients)
        for client in clients:
            seen = [message["data"]["n"] for message in client.events("room:message")]
            self.assertEqual(seen, list(range(first + len(clients))), client)

    async def test_one_node(self) -> None:
        """Clients of every transport are spread over both, and see each other."""
        await self.start()
        clients = []
        for number, options in enumerate(TRANSPORTS.values()):
            for n in range(4):
                clients.append(self.open(self.driver, f"user{number}-{n}", **options))
        for client in clients:
            await client.connected()
            self.accepted(await client.call("room:join", {"roomId": ROOM}))
        await self.spoken(clients, 0)
        self.assertEqual((await self.report())["connections"]["open"], len(clients))
        members = await self.service.request("GET", f"/v1/rooms/{ROOM}/members")
        self.assertEqual(len(members.body["members"]), len(clients))
        await self.over_one_socket()
        await self.spread()
        # both have the metrics of a node, and the parent its own
        self.assertEqual(await self.service.metric("realtime_workers"), 2)
        for worker in "12":
            self.assertEqual(await self.service.metric("realtime_ready", worker=worker), 1)
        self.service.terminate()
        self.assertEqual(await self.service.exited(), 0)

    async def over_one_socket(self) -> None:
        """A request on a socket that is in use goes to the worker that holds the session, too."""
        raw = await Raw.open(self.service.ports["PORT"])
        self.addCleanup(raw.drop)
        for n in range(12):
            other = await Raw.open(self.service.ports["PORT"])
            other.send(request("GET", "/socket.io/?EIO=4&transport=polling"))
            sid = (await other.answer())[2].partition(b'"sid":"')[2].partition(b'"')[0].decode()
            other.drop()
            path = f"/socket.io/?EIO=4&transport=polling&sid={sid}"
            token = self.token(f"user{n}")
            raw.send(request("POST", path, f'40{{"token":"{token}"}}'.encode()))
            self.assertEqual((await raw.answer())[::2], (200, b"ok"))
            raw.send(request("GET", path))
            self.assertTrue((await raw.answer())[2].startswith(b"40"))
        raw.send(request("GET", "/socket.io/?EIO=4&transport=polling&sid=1x7.nobody"))
        status, _, body = await raw.answer()
        self.assertEqual((status, b'"code":1' in body), (400, True))

    async def spread(self) -> None:
        """Connections are spread evenly."""
        before = {worker: await self.open_at(worker) for worker in "12"}
        for n in range(MANY):
            head = upgrade("/ws", Authorization=f"Bearer {self.token(f'many{n}')}")
            raw = await Raw.open(self.service.ports["PORT"], head)
            self.addCleanup(raw.drop)
            await raw.until(b"system:connected")
        one, other = [await self.open_at(worker) - before[worker] for worker in "12"]
        self.assertEqual(one + other, MANY)
        self.assertLess(abs(one - MANY / 2), MANY / 2 * 0.2)

    async def open_at(self, worker: str) -> float:
        return await self.service.metric("realtime_connections", worker=worker)

    async def test_killed(self) -> None:
        """A worker that is killed is back soon; clients of the other notice nothing, its own recover."""
        await self.start()
        self.service.forgiven.append("has ended and is started again")
        polling = await self.crowd(8, transports=["polling"])
        before = await self.pids()
        its_users = await self.users_at("1")
        hit = {client: client.user in its_users for client in polling}
        self.assertEqual(len(its_users | await self.users_at("2")), len(polling))
        began = reactor.seconds()
        os.kill(before["1"], signal.SIGKILL)

        async def back() -> bool:
            now = await self.pids()
            return now["1"] not in (0, before["1"])

        await self.until(back, "the worker to be back")
        self.assertLess(reactor.seconds() - began, 2 + self.slack(began))
        for client, its in hit.items():
            if its:
                await client.report("disconnect")
                self.assertIs((await client.connected())["recovered"], True)
        await self.spoken(polling, 0)
        for client, its in hit.items():
            ends = [report for report in client.reports if report["report"] == "disconnect"]
            self.assertEqual(len(ends), int(its), client)
        self.assertEqual(await self.service.metric("realtime_worker_restarts_total"), 1)
        self.assertEqual(await self.service.metric("realtime_workers"), 2)
        pids = [*(await self.pids()).values()]
        await self.service.kill()

        async def gone() -> bool:
            return not any(map(runs, pids))

        await self.until(gone, "the workers to follow their parent")

    @staticmethod
    def slack(began: float) -> float:
        """Seconds to add on a machine on which others run."""
        return os.getloadavg()[0]

    async def users_at(self, worker: str) -> set[str]:
        """The users whose sessions a worker holds."""
        node = (await self.report())["workers"][worker]["node"]
        found = await self.service.request("GET", f"/v1/users?limit=100&node={node}")
        return {told["userId"] for told in found.body["users"]}

    async def test_reload(self) -> None:
        """SIGHUP replaces one after the other, and nothing is lost; a bad file changes nothing."""
        config = self.directory()
        config.parent.mkdir(exist_ok=True)
        config.write_text("")
        await self.start(REALTIME_CONFIG=str(config))
        clients = await self.crowd(4)
        await self.spoken(clients, 0)
        before = await self.pids()
        config.write_text("nonsense = 1\n")
        self.service.forgiven.append("stays as it was")
        self.service.signal("HUP")
        await self.until(self.logged("the configuration stays"), "the refusal")
        self.assertEqual(await self.pids(), before)
        config.write_text("")
        self.service.signal("HUP")

        async def replaced() -> bool:
            now = await self.pids()
            return not set(now.values()) & {0, *before.values()}

        await self.until(replaced, "both workers to be replaced")
        await self.until(self.logged("the workers were replaced"), "the end of that")
        for client in clients:
            await client.report("disconnect")
            self.assertIs((await client.connected())["recovered"], True)
        await self.spoken(clients, len(clients))

    def logged(self, message: str) -> Callable[[], Any]:
        async def found() -> bool:
            return any(f'"message":"{message}' in line for line in self.service.log)

        return found
