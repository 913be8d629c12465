"""What is kept in Redis is bounded, documented, and written with care."""

from __future__ import annotations

import re
from pathlib import Path

from realtime.broker.interface import Preferences

from ..redis_servers import until
from .contract import WINDOW, publication, session_of
from .nodes import NodesCase, as_held
from .redis_bus import LEASE, PREFIX, Node


class KeyTests(NodesCase):
    """What is kept is bounded, in time and in number."""

    a: Node
    b: Node

    async def busy(self) -> None:
        """A bit of everything."""
        owners = [await self.begin(self.a, f"u{n % 5}", str(n), "lobby", "event:7") for n in range(9)]
        await self.b.store.prefer("u1", Preferences(frozenset(("a:b",))))
        await self.b.store.choose("u1", "busy", "text")
        await self.begin(self.b, "u1", "x")
        await self.a.store.touch(owners[2], True)
        await self.a.store.join(owners[3], session_of(owners[3]), "third", True, 9)
        await self.a.broker.publish(publication("lobby"), "key")
        await self.a.store.suspend(owners[0], session_of(owners[0]), 0.0)
        await self.a.store.withdraw(owners[0], session_of(owners[0]))
        await self.take_over(self.b, owners[0])
        await self.a.store.suspend(owners[1], session_of(owners[1]), 0.0)
        await self.a.store.forget(owners[4], session_of(owners[4]))
        await self.a.store.compare([as_held(owners[5], "lobby")], False)

    async def test_every_key_ends(self) -> None:
        """Every key has a time to live, also when renewed and compared, and is in docs/redis.rst."""
        await self.busy()
        for node in self.nodes:
            await node.store.leases.keep()
        keys = await self.server.command("KEYS", "*")
        self.assertGreater(len(keys), 20)
        page = (Path(__file__).parents[2] / "docs" / "redis.rst").read_text("utf-8")
        documented = set(re.findall(r"^``P:(\w+)", page, re.MULTILINE))
        for key in keys:
            self.assertTrue(key.startswith(PREFIX.encode()), key)
            self.assertIn(key.decode().removeprefix(PREFIX).partition(":")[0], documented)
            self.assertGreater(await self.server.command("PTTL", key), 0, key)

    async def test_nothing_stays(self) -> None:
        """Once all sessions have ended nothing is left of them."""
        await self.busy()
        for n in range(5):
            await self.b.store.forget_user(f"u{n}")
        self.assertEqual(await self.server.command("ZCARD", PREFIX + "waiting"), 0)
        await self.advance(WINDOW + 1)
        keys = {key.decode() for key in await self.server.command("KEYS", "*")}
        kinds = {key.removeprefix(PREFIX).partition(":")[0] for key in keys}
        self.assertEqual(kinds & {"session", "user", "room", "rooms", "node", "waiting"}, set(), keys)

    async def test_live_sessions_are_kept(self) -> None:
        """However long they are silent, what belongs to live sessions stays."""
        await self.begin(self.a, "alice", "1", "lobby")
        for key in await self.server.command("KEYS", PREFIX + "*"):
            await self.server.command("PEXPIRE", key, 1_000_000)
        for _ in range(8):
            await self.advance(900)
            for node in self.nodes:
                await node.store.leases.keep()
        self.assertEqual(await self.members(self.a, "lobby"), ["alice"])
        self.assertEqual(dict(await self.a.store.rooms()), {"lobby": 1})

    async def test_read_before_written(self) -> None:
        """A script has read all keys that it writes before it writes the first.

        While a Cluster's slot moves, a script fails where it first meets a key that is not there; what
        it had written by then would stay half done.
        """
        monitor = await self.server.client()
        self.addCleanup(monitor.transport.abortConnection)
        await monitor.command("MONITOR")
        await self.busy()
        owner = await self.begin(self.b, "dora", "d", "lobby", "event:9")
        await self.b.store.leave(owner, session_of(owner), "lobby")
        await self.b.store.forget_user("u2")
        await self.b.die()
        await self.begin(self.a, "dora", "a", "lobby")
        await self.advance(LEASE + 1)
        await self.a.broker.publish(publication("lobby"), "other key")
        await self.advance(WINDOW + 1)
        await self.a.store.leases.keep()
        await self.server.command("FLUSHALL")
        await self.a.store.leases.beat()
        await self.server.command("ECHO", "the end")

        async def ended() -> bool:
            return any(b"the end" in line for line in monitor.pushed)

        await until(ended, "the end of the commands")
        self.assertGreater(len(written_by(monitor.pushed)), 12)


def written_by(lines: list[bytes]) -> set[str]:
    """The scripts that wrote something, by what MONITOR says, each after it had read all of it.

    :raises AssertionError: one had not.
    """
    wrote = set()
    for name, commands in _scripts(lines):
        read: set[str] = set()
        writing = False
        for command, keys in commands:
            if command in _WRITES:
                writing = True
                assert set(keys) <= read, f"{name}: {command}"
            elif not writing:
                read.update(keys)
        if writing:
            wrote.add(name)
    return wrote


#: What scripts write with.
_WRITES = frozenset(
    (
        "HSET",
        "HDEL",
        "ZADD",
        "ZREM",
        "SADD",
        "SREM",
        "DEL",
        "PEXPIRE",
        "XADD",
        "XTRIM",
        "SET",
        "ZREMRANGEBYSCORE",
        "INCR",
    )
)


def _scripts(lines: list[bytes]) -> list[tuple[str, list[tuple[str, list[str]]]]]:
    """Of what MONITOR says: for each script that was run its digest, and its commands with their keys."""
    found: list[tuple[str, list[tuple[str, list[str]]]]] = []
    for line in lines:
        head, _, rest = line.decode(errors="replace").partition("] ")
        words = [word.strip('"') for word in rest.split(" ")]
        command = words[0].upper()
        if command in ("EVALSHA", "EVAL"):
            found.append((words[1][:12], []))
        elif head.endswith(" lua") and command not in ("TIME", "PUBLISH"):
            keys = words[1:] if command in ("EXISTS", "DEL") else words[1:2]
            found[-1][1].append((command, keys))
    return found
