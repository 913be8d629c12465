"""``python -m benchmarks.redis_link``: processor time that the links to Redis cost, by themselves.

Against a redis-server of its own on this machine: per message heard, per command and per script at
several windows, with and without waiting for a replica. Figures are of this process alone.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor, task
from twisted.internet.defer import Deferred, gatherResults

from realtime.broker.redis_link import Link, SubscriberLink
from realtime.broker.redis_locate import Connector, FixedLocator, Place
from realtime.broker.scripts import Scripts
from tests.redis_servers import HOST, RedisServer, until

MESSAGES = 100_000
COMMANDS = 20_000
WINDOWS = (1, 20, 500)
PAYLOAD = b"x" * 200
FLOOD = "for i = 1, ARGV[2] do redis.call('PUBLISH', 'channel', ARGV[1]) end"
SCRIPT = "redis.call('INCR', 'key') return {1, 'a', ARGV[2]}"


async def up(link: Link) -> Any:
    """Start a link and wait until it is up."""
    link.start()

    async def holds() -> bool:
        return link.up

    await until(holds, "the link to be up")
    return link


async def heard(
    subscriber: SubscriberLink, server: RedisServer, arrived: Callable[[], Deferred[None]]
) -> None:
    """Print what a message costs that is heard."""
    await subscriber.subscribe([b"channel"])
    for _ in range(3):
        done = arrived()
        began = time.process_time()
        await server.command("EVAL", FLOOD, 0, PAYLOAD, MESSAGES)
        await done
        print(f"message heard: {(time.process_time() - began) / MESSAGES * 1e6:.2f} us")


async def asked(what: str, ask: Callable[[], Deferred[Any]]) -> None:
    """Print what a question costs, at several numbers in flight."""
    for window in WINDOWS:
        used, began = time.process_time(), time.monotonic()
        for _ in range(COMMANDS // window):
            await gatherResults([ask() for _ in range(window)])
        used, took = time.process_time() - used, time.monotonic() - began
        print(f"{what}, window {window}: {used / COMMANDS * 1e6:.1f} us, {COMMANDS / took:,.0f} a second")


async def measure(directory: Path) -> None:
    """All figures."""
    (directory / "lua").mkdir()
    (directory / "lua" / "count.lua").write_text(SCRIPT)
    scripts = Scripts({}, directory / "lua")
    primary, replica = RedisServer(directory / "primary"), RedisServer(directory / "replica")
    count = 0
    done: Deferred[None] = Deferred()

    def message(channel: bytes, data: bytes) -> None:
        nonlocal count
        count += 1
        if count % MESSAGES == 0:
            done.callback(None)

    def arrived() -> Deferred[None]:
        nonlocal done
        done = Deferred()
        return done

    await primary.start()
    await replica.start()
    links: list[Link] = []
    try:
        await primary.command("CONFIG", "SET", "repl-diskless-sync-delay", 0)
        await replica.command("REPLICAOF", HOST, primary.port)
        connector, locator = Connector(reactor), FixedLocator(Place(HOST, primary.port))
        subscriber = SubscriberLink(connector, locator, name="subscribe", on_message=message)
        plain = Link(connector, locator, name="plain", prepare=scripts.load)
        durable = Link(connector, locator, name="durable", prepare=scripts.load, replicas=1)
        links += [subscriber, plain, durable]
        for link in links:
            await up(link)

        async def linked() -> bool:
            return await replica.info("replication", "master_link_status") == "up"

        await until(linked, "the replica to be in step")
        await heard(subscriber, primary, arrived)
        await asked("command", lambda: plain.command("SET", "key", PAYLOAD))
        await primary.command("DEL", "key")
        await asked("script", lambda: scripts.run(plain, "count", PAYLOAD))
        await asked("script that a replica has", lambda: scripts.run(durable, "count", PAYLOAD))
    finally:
        await gatherResults([link.stop() for link in links])
        await replica.stop()
        await primary.stop()


def main() -> None:
    """Measure, in a directory that is removed after it."""
    with tempfile.TemporaryDirectory() as directory:
        task.react(lambda _: Deferred.fromCoroutine(measure(Path(directory))))


if __name__ == "__main__":
    main()
