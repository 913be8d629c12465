"""Scripts: loaded, run by their digest, and not run when their time is over."""

from __future__ import annotations

import time
from pathlib import Path

from twisted.internet.defer import gatherResults

from realtime.broker.redis_protocol import RedisError
from realtime.broker.scripts import Scripts
from realtime.errors import BrokerUnavailable

from .links import LinkCase

CONSTANTS = {"P": 'realtime:3:"\\\n\u2028', "TTL": 120_000}


class ScriptTests(LinkCase):
    """`Scripts.run`."""

    def scripts(self, **texts: str) -> Scripts:
        folder = Path(self.mktemp())
        folder.mkdir()
        for name, text in texts.items():
            (folder / f"{name}.lua").write_text(text)
        return Scripts(CONSTANTS, folder)

    async def called(self) -> dict[str, int]:
        """How often each command was called."""
        text = (await self.server.command("INFO", "commandstats")).decode()
        lines = (line.partition(":") for line in text.splitlines() if line.startswith("cmdstat_"))
        return {
            name.removeprefix("cmdstat_"): int(rest.split(",")[0].removeprefix("calls="))
            for name, _, rest in lines
        }

    async def test_arguments(self) -> None:
        """A script finds the constants, the prelude, the run id, and its arguments unchanged."""
        await self.start_server()
        scripts = self.scripts(
            prelude="local function twice(text) return text .. text end",
            show="return {P, TTL, twice(ARGV[2]), ARGV[1], #ARGV, ARGV[3], #KEYS}",
        )
        link = await self.link(prepare=scripts.load)
        self.assertEqual(
            await scripts.run(link, "show", b"\xff", 7),
            [CONSTANTS["P"].encode(), 120_000, b"\xff\xff", link.run.encode(), 3, b"7", 0],
        )
        with self.assertRaises(KeyError):
            scripts.run(link, "prelude")

    def test_called(self) -> None:
        """A command is called by its first word, a script by its name, and by nothing that it is about."""
        scripts = self.scripts(a="return 'a'", b="return 'b'")
        for command, name in (
            (("EVALSHA", scripts._digests["b"], 0, "run", "alice"), "b.lua"),
            (("EVAL", scripts._texts["a"], 0), "a.lua"),
            (("EVALSHA", "unknown", 0), "EVALSHA"),
            (("GET", "key"), "GET"),
        ):
            self.assertEqual(scripts.called(command), name)

    async def test_loaded(self) -> None:
        """A link loads what the server lacks before it is up; then each run is one command."""
        await self.start_server()
        scripts = self.scripts(a="return 'a'", b="return 'b'")
        link = await self.link(prepare=scripts.load)
        for _ in range(10):
            self.assertEqual(await scripts.run(link, "a"), b"a")
        await self.link(prepare=scripts.load)
        called = await self.called()
        self.assertEqual((called["evalsha"], called["script|load"]), (10, 2))
        self.assertNotIn("eval", called)

    async def test_flushed(self) -> None:
        """Scripts that the server has forgotten are sent anew."""
        await self.start_server()
        scripts = self.scripts(a="return ARGV[2]")
        link = await self.link(prepare=scripts.load)
        await self.server.command("SCRIPT", "FLUSH")
        self.assertEqual(await scripts.run(link, "a", "x"), b"x")
        self.assertEqual(await scripts.run(link, "a", "y"), b"y")
        self.assertEqual((await self.called())["eval"], 1)

    async def test_failing(self) -> None:
        """An error in a script is a `RedisError`."""
        await self.start_server()
        scripts = self.scripts(
            a="return redis.call('INCR', ARGV[2])", b="error('no')", c="return nonsense.x"
        )
        link = await self.link()
        await self.server.command("SET", "key", "text")
        for name in "abc":
            with self.assertRaises(RedisError):
                await scripts.run(link, name, "key")

    async def test_late(self) -> None:
        """A script that was given up is not run when a frozen server goes on."""
        await self.start_server()
        scripts = self.scripts(write="return redis.call('SET', ARGV[2], 1)")
        link = await self.link(prepare=scripts.load)
        self.server.freeze()
        with self.assertRaises(BrokerUnavailable):
            await scripts.run(link, "write", "key")
        self.server.thaw()
        await self.reach(lambda: link.up, "the link to be up", 3)
        self.assertEqual(await link.command("DBSIZE"), 0)
        # It had come through to the server, and had been run at once without its time.
        self.assertEqual((await self.called())["evalsha"], 1)

    async def test_moved_clock(self) -> None:
        """A step of the server's clock costs a repetition, not the script."""
        await self.start_server(movable_clock=True)
        scripts = self.scripts(count="return redis.call('INCR', 'key')")
        link = await self.link(prepare=scripts.load)
        self.assertLess(abs(link.ends() / 1000 - 1 - time.time()), 0.1)
        self.assertEqual(await scripts.run(link, "count"), 1)
        self.server.advance(3600)
        runs = [scripts.run(link, "count") for _ in range(5)]
        self.assertEqual(sorted(await gatherResults(runs)), [2, 3, 4, 5, 6])
        self.assertLess(abs(link.ends() / 1000 - 1 - time.time() - 3600), 0.1)
        self.assertEqual(await scripts.run(link, "count"), 7)
