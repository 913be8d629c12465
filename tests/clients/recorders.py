"""Recorders: many clients in one process of Node, that note what they get; and `Recording`, the notes.

See ``recorder.mjs`` for the rows.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred

from .children import DEADLINE, Late, within
from .drivers import NodeDriver

Row = list[Any]


class Sent(NamedTuple):
    """What became of a message that a recorder sent.

    :ivar outcome: ``ok``, the code of the refusal, or ``nothing`` where no acknowledgement came.
    """

    series: str
    n: int
    outcome: str
    tries: int


class Recording:
    """What one client was told to do, and what happened to it.

    :ivar rooms: those that it joins, and joins again whenever its session is a new one.
    :ivar granted: those that come with its token.
    :ivar rows: all that it noted, in order, without its name.
    :ivar heard: series -> numbers, in the order in which they came.
    :ivar count: how many messages under test came.
    :ivar acknowledged: how many of the messages that it sent were taken or refused.
    """

    def __init__(self, driver: Recorders, name: str, user: str, rooms: Iterable[str]) -> None:
        self.name = name
        self.user = user
        self.rooms = set(rooms)
        self.granted: set[str] = set()
        self.rows: list[Row] = []
        self.heard: defaultdict[str, list[int]] = defaultdict(list)
        self.count = 0
        self.acknowledged = 0
        self._alive = False
        self._entering = set(self.rooms)
        self._driver = driver
        self._calls = 0

    def __repr__(self) -> str:
        return f"<{self.name}>"

    def noted(self, row: Row) -> None:
        """Take in one row."""
        self.rows.append(row)
        kind = row[0]
        if kind == "e":
            self.heard[row[2]].append(row[3])
            self.count += 1
        elif kind == "s":
            self._alive = True
            if not row[1]:
                self._entering = set(self.rooms)
        elif kind == "j" and row[2]:
            self._entering.discard(row[1])
        elif kind == "a":
            self.acknowledged += 1
        elif kind in ("d", "x"):
            self._alive = False

    @property
    def settled(self) -> bool:
        """Whether it is connected, and in all its rooms again if its session is a new one."""
        return self._alive and not self._entering

    def of(self, kind: str) -> list[Row]:
        """The rows of a kind, without it."""
        return [row[1:] for row in self.rows if row[0] == kind]

    def told(self, event: str) -> list[dict[str, Any]]:
        """The payloads of the events of a name that are not under test."""
        return [payload for name, payload, _ in self.of("o") if name == event]

    @property
    def sent(self) -> list[Sent]:
        """What became of the messages that it sent."""
        return [Sent(*row) for row in self.of("a")]

    def life(self) -> list[Row]:
        """All rows but those of messages."""
        return [row for row in self.rows if row[0] not in ("e", "a", "o")]

    @property
    def connects(self) -> int:
        """How often it was told ``system:connected``."""
        return len(self.of("s"))

    @property
    def disconnects(self) -> list[Row]:
        """Reason and code of each disconnect."""
        return self.of("d")

    def join(self, *rooms: str) -> None:
        """Join more rooms."""
        self.rooms.update(rooms)
        self._entering.update(rooms)
        self._tell("join", rooms=rooms)

    def leave(self, *rooms: str) -> None:
        """Leave rooms."""
        self.rooms.difference_update(rooms)
        self._entering.difference_update(rooms)
        self._tell("leave", rooms=rooms)

    def flow(
        self,
        series: str,
        rooms: Iterable[str],
        count: int,
        every: int,
        size: int = 1,
        *,
        again: bool = False,
    ) -> None:
        """Send `count` room messages, `size` of them each `every` milliseconds, into the rooms in turn.

        Their series are named ``{series}:{room}``.

        :param again: whether a temporary refusal is repeated until it is taken.
        """
        self._tell(
            "flow", series=series, rooms=list(rooms), count=count, every=every, size=size, again=again
        )

    async def call(self, event: str, *args: Any) -> dict[str, Any]:
        """Emit an event; its acknowledgement."""
        self._calls += 1
        self._tell("call", event=event, args=args, call=self._calls)
        return await self._driver.answer(self.name, self._calls)

    def cut(self) -> None:
        """Destroy its socket; it comes back by itself."""
        self._tell("cut")

    def stop(self) -> None:
        """Disconnect it for good."""
        self._tell("stop")

    def _tell(self, do: str, **more: Any) -> None:
        self._driver.tell({"do": do, "id": self.name, **more})


class Recorders(NodeDriver):
    """A process of recorders.

    :ivar recordings: one for each, in the order of their beginning.
    """

    script = "recorder.mjs"

    def __init__(self) -> None:
        super().__init__()
        self.recordings: list[Recording] = []
        self._by_name: dict[str, Recording] = {}
        self._answers: dict[tuple[str, int], Deferred[dict[str, Any]]] = {}
        self._waiting: list[tuple[Callable[[], bool], Deferred[None]]] = []

    def record(
        self, url: str, token: str, user: str, rooms: Iterable[str] = (), **options: Any
    ) -> Recording:
        """A new client, that begins to connect at once. `options` are those of ``io()``."""
        recording = Recording(self, f"{len(self.recordings)}-{user}", user, rooms)
        self.recordings.append(recording)
        self._by_name[recording.name] = recording
        quick = {"reconnectionDelay": 20, "reconnectionDelayMax": 200, "randomizationFactor": 0.5}
        given = {"transports": ["websocket"], "auth": {"token": token}, **quick, **options}
        self.tell({"do": "open", "id": recording.name, "url": url, "options": given, "rooms": list(rooms)})
        return recording

    async def until(
        self, holds: Callable[[], bool], what: Callable[[], str], seconds: float = DEADLINE
    ) -> None:
        """Wait until something holds of the recordings; looked at whenever there are new rows.

        :raises Late: it did not, within `seconds`.
        """
        if holds():
            return
        waiting: Deferred[None] = Deferred()
        entry = (holds, waiting)
        self._waiting.append(entry)
        try:
            await within(seconds, waiting, what)
        except Late:
            self._waiting.remove(entry)
            raise

    async def settled(self, *recordings: Recording, seconds: float = DEADLINE) -> None:
        """Wait until these (else all) are connected and in their rooms."""
        waiting = list(recordings or self.recordings)

        def holds() -> bool:
            waiting[:] = [one for one in waiting if not one.settled]
            return not waiting

        def what() -> str:
            return "; ".join(f"{one} settled, has {one.life()[-9:]}" for one in waiting[:4])

        await self.until(holds, what, seconds)

    async def answer(self, name: str, call: int) -> dict[str, Any]:
        """The acknowledgement of a call."""
        waiting = self._answers[name, call] = Deferred()
        answer = await within(DEADLINE, waiting, lambda: f"{name}: an acknowledgement")
        assert isinstance(answer, dict)
        return answer

    def _line(self, line: str) -> None:
        try:
            report = json.loads(line)
            kind = report["report"]
        except (ValueError, TypeError, KeyError):
            self._unreadable(line)
            return
        if kind == "rows":
            for name, *row in report["rows"]:
                self._by_name[name].noted(row)
            self._look()
        elif kind == "answer":
            self._answers.pop((report["id"], report["call"])).callback(report["value"])
        else:
            self.faults.append(f"{report.get('id')}: {report['message']}")

    def _look(self) -> None:
        for entry in list(self._waiting):
            holds, waiting = entry
            if holds():
                self._waiting.remove(entry)
                waiting.callback(None)
