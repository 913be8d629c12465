"""Inquiries: what operators ask of any node, over the bus; each node answers for itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from . import signals
from .broker.interface import IBroker
from .errors import BrokerUnavailable, NotFound, TooManyConnections

_log = Logger()

#: Seconds for nodes to answer.
PATIENCE: Final = 1.0

#: Questions under way at a time.
MAX_QUESTIONS: Final = 64

#: Nodes that are remembered, and the seconds after which one that said nothing is not waited for.
MAX_NODES: Final = 1000
MEMORY: Final = 30.0

#: Bytes of an answer that goes over the bus.
MAX_BODY: Final = 524_288

_NOTHING: Final = b"null"
_NULL: Final = msgspec.Raw(_NOTHING)

Arguments = Mapping[str, str]
#: By node.
Answers = dict[str, msgspec.Raw]


class _Question:
    """One question under way.

    :ivar waits_for: those of whom an answer is awaited.
    :ivar known: whether nobody else is to be expected.
    """

    def __init__(self, waits_for: set[str], known: bool) -> None:
        self.waits_for = waits_for
        self.known = known
        self.answers: Answers = {}
        self.done: Deferred[Answers] = Deferred()


class Inquiries:
    """Asks, and answers what it is asked.

    :param node: this node's id.
    :param answers: by what is asked: makes the answer of this node; None where it has none.
    :param alone: whether there can be no other node.
    """

    def __init__(
        self,
        clock: IReactorTime,
        node: str,
        broker: IBroker,
        answers: Mapping[str, Callable[[Arguments], object]],
        *,
        alone: bool = False,
    ) -> None:
        self.node = node
        self._clock = clock
        self._broker = broker
        self._answers = answers
        self._number = 0
        self._questions: dict[int, _Question] = {}
        self._alone = alone
        # when all who are there had the time to answer
        self._explored = -MEMORY
        # when another node last answered
        self._nodes: dict[str, float] = {}

    async def all(self, what: str, arguments: Arguments) -> Answers:
        """The answers of all nodes, this one's first; who is slow, or came just now, may be missing."""
        own = {self.node: self._own(what, arguments)}
        if self._alone:
            return own
        now = self._clock.seconds()
        known = {node for node, heard in self._nodes.items() if now - heard < MEMORY}
        try:
            explored = now - self._explored < MEMORY
            return own | await self._ask("", known, explored, what, arguments)
        except BrokerUnavailable:
            return own

    async def one(self, node: str, what: str, arguments: Arguments) -> msgspec.Raw:
        """The answer of a node; empty for this one.

        :raises NotFound: it does not answer, or has none.
        """
        if node in ("", self.node):
            body = self._own(what, arguments)
        else:
            answers = await self._ask(node, {node}, True, what, arguments)
            body = answers.get(node, _NULL)
        if bytes(body) == _NOTHING:
            raise NotFound("there is no such node, or nothing of the kind on it")
        return body

    async def _ask(
        self, to: str, waits_for: set[str], known: bool, what: str, arguments: Arguments
    ) -> Answers:
        if self._alone:
            return {}
        if len(self._questions) >= MAX_QUESTIONS:
            raise TooManyConnections("too many questions are under way; try again")
        self._number += 1
        number = self._number
        question = self._questions[number] = _Question(waits_for, known)
        late = self._clock.callLater(PATIENCE, self._late, number)
        try:
            asked = signals.Asked(self.node, number, to, what, dict(arguments))
            await self._broker.signal(*signals.encode(asked))
            return await question.done
        finally:
            self._questions.pop(number, None)
            if late.active():
                late.cancel()

    def _late(self, number: int) -> None:
        self._explored = self._clock.seconds()
        self._settle(number)

    def _settle(self, number: int) -> None:
        question = self._questions.pop(number, None)
        if question is not None:
            question.done.callback(question.answers)

    def _own(self, what: str, arguments: Arguments) -> msgspec.Raw:
        answer = self._answers.get(what)
        if answer is None:
            return _NULL
        try:
            return msgspec.Raw(msgspec.json.encode(answer(arguments)))
        except Exception:
            # what another node asks, perhaps one of another version, must not harm the bus
            _log.failure("an inquiry could not be answered")
            return _NULL

    # -- from the bus

    def asked(self, signal: signals.Signal) -> None:
        """A node asks."""
        assert isinstance(signal, signals.Asked)
        if signal.by == self.node:
            self._came_round(signal.number)
            return
        if signal.to not in ("", self.node):
            return
        body = self._own(signal.what, signal.arguments)
        if len(bytes(body)) > MAX_BODY:
            body = _NULL
        told = signals.Told(self.node, signal.by, signal.number, body)
        self._broker.signal(*signals.encode(told)).addErrback(
            lambda failure: failure.trap(BrokerUnavailable)
        )

    def _came_round(self, number: int) -> None:
        """Our own question: if lately nobody was there to answer, nobody is waited for."""
        question = self._questions.get(number)
        if question is not None and question.known and not question.waits_for:
            self._settle(number)

    def told(self, signal: signals.Signal) -> None:
        """A node answers."""
        assert isinstance(signal, signals.Told)
        if signal.to != self.node:
            return
        if signal.by in self._nodes or len(self._nodes) < MAX_NODES:
            self._nodes[signal.by] = self._clock.seconds()
        question = self._questions.get(signal.number)
        if question is None:
            return
        question.answers[signal.by] = signal.body
        question.waits_for.discard(signal.by)
        if question.known and not question.waits_for:
            self._settle(signal.number)
