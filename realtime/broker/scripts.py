"""Scripts: the Lua files of ``scripts/``, run by their digest.

The text of a script is a line ``local NAME = value`` for each constant, ``prelude.lua``, the files that
it names by lines ``-- uses NAME.lua``, and its own file. What precedes them takes the last argument
away: the time (milliseconds, the server's clock) from which on the caller has given up. Redis runs what
it finds in its sockets even when their other end is long gone; a script that comes so late does nothing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, Final

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from ..errors import BrokerUnavailable
from .redis_link import Link, settled
from .redis_protocol import Argument, RedisConnection, RedisError

#: What a script answers that was run after its time.
_LATE: Final = [b"LATE"]
_GUARD: Final = """\
do
  local now, ends = redis.call('TIME'), table.remove(ARGV)
  if now[1] * 1000 + now[2] / 1000 > tonumber(ends) then return {'LATE'} end
end
"""
_PRELUDE: Final = "prelude.lua"
_USES: Final = re.compile(r"^-- uses (\w+\.lua)$", re.MULTILINE)


class Scripts:
    """All scripts of the service.

    :param constants: what every script finds as a local variable: text or a number.
    :param folder: where the files are.
    """

    def __init__(self, constants: Mapping[str, str | int], folder: Traversable | None = None) -> None:
        folder = files(__package__).joinpath("scripts") if folder is None else folder
        prelude = folder.joinpath(_PRELUDE)
        head = _GUARD + "".join(f"local {name} = {_literal(value)}\n" for name, value in constants.items())
        head += prelude.read_text("utf-8") + "\n" if prelude.is_file() else ""
        names = sorted(file.name for file in folder.iterdir() if file.name.endswith(".lua"))
        texts = {name: folder.joinpath(name).read_text("utf-8") for name in names if name != _PRELUDE}
        uses = {name: _USES.findall(text) for name, text in texts.items()}
        parts = {part for used in uses.values() for part in used}
        self._texts = {
            name.removesuffix(".lua"): head + "".join(texts[part] for part in uses[name]) + text
            for name, text in texts.items()
            if name not in parts
        }
        self._digests = {name: _digest(text) for name, text in self._texts.items()}

    def called(self, command: tuple[Argument, ...]) -> str:
        """What a command is called: a script by its name, without what it is about."""
        word = str(command[0])
        if word not in ("EVALSHA", "EVAL"):
            return word
        known = self._digests if word == "EVALSHA" else self._texts
        return next((f"{name}.lua" for name, body in known.items() if body == command[1]), word)

    def load(self, connection: RedisConnection) -> Deferred[Any]:
        """Give a server all scripts that it does not have yet; for `Link`'s `prepare`."""
        if not self._digests:
            return succeed(None)

        def told(known: list[int]) -> Deferred[Any]:
            lacking = [name for name, has in zip(self._digests, known, strict=True) if not has]
            return settled([connection.command("SCRIPT", "LOAD", self._texts[name]) for name in lacking])

        return connection.command("SCRIPT", "EXISTS", *self._digests.values()).addCallback(told)

    def run(self, link: Link, name: str, *args: Argument) -> Deferred[Any]:
        """Run a script.

        Its ARGV[1] is the run id of the server, the rest is `args`; KEYS is empty, but on a Cluster
        holds the key by which the link is led. A failure with `BrokerUnavailable` leaves open whether
        it was run, but it will not be run after the link's time-out.

        :returns: its reply, raw.
        """
        return self._evaluate(link, "EVALSHA", self._digests[name], name, args, again=True)

    def run_once(self, link: Link, name: str, *args: Argument) -> Deferred[Any]:
        """Like `run`, but what would have to be sent once more, and lose its turn, fails as temporary."""

        def replied(reply: Any) -> Any:
            if reply != _LATE:
                return reply
            link.read_clock().addErrback(_unanswered)
            raise link.unavailable()

        def failed(failure: Failure) -> Failure:
            if isinstance(failure.value, RedisError) and failure.value.kind == "NOSCRIPT":
                link.command("SCRIPT", "LOAD", self._texts[name]).addErrback(_unanswered)
                raise link.unavailable()
            return failure

        return link.repeatable(
            lambda: self._command(link, "EVALSHA", self._digests[name], args)
        ).addCallbacks(replied, failed)

    def _command(
        self, link: Link, command: str, body: str, args: tuple[Argument, ...]
    ) -> tuple[Argument, ...]:
        keys = () if link.key is None else (link.key,)
        return (command, body, len(keys), *keys, link.run, *args, link.ends())

    def _evaluate(
        self, link: Link, command: str, body: str, name: str, args: tuple[Argument, ...], again: bool
    ) -> Deferred[Any]:
        def replied(reply: Any) -> Any:
            if reply != _LATE:
                return reply
            if not again:
                raise link.unavailable()
            # In time, by our clock: then the server's clock was moved.
            return link.read_clock().addCallback(
                lambda _: self._evaluate(link, command, body, name, args, again=False)
            )

        def failed(failure: Any) -> Any:
            if failure.check(RedisError) and failure.value.kind == "NOSCRIPT" and command == "EVALSHA":
                return self._evaluate(link, "EVAL", self._texts[name], name, args, again)
            return failure

        return link.repeatable(lambda: self._command(link, command, body, args)).addCallbacks(
            replied, failed
        )


def _unanswered(failure: Failure) -> None:
    """It will be found out again when the next script is run."""
    failure.trap(BrokerUnavailable, RedisError)


def _digest(text: str) -> str:
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def _literal(value: str | int) -> str:
    """A value as Lua reads it."""
    if isinstance(value, int):
        return str(value)
    return '"' + "".join(f"\\{byte:03d}" if _special(byte) else chr(byte) for byte in value.encode()) + '"'


def _special(byte: int) -> bool:
    return not 0x20 <= byte < 0x7F or byte in b'"\\'
