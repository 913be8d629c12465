"""QueueVerbs: what services do with booking queues: who waits, where they stand, whose turn it is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from ..errors import InvalidMessage, InvalidPublication
from ..metrics import Metrics
from ..names import valid_user
from ..queueing import check_event
from ..queues.interface import IQueues, Proceed
from ..queues.payloads import position_payload
from . import shapes

if TYPE_CHECKING:
    from .verbs import Caller

#: To which channels a key must be allowed to publish.
POSITION = "queue:position"
PROCEED = "queue:proceed"
LEFT = "queue:left"


class QueueVerbs:
    """Does them; `table` has them by the name of the verb.

    :param wall: seconds since the epoch.
    """

    def __init__(self, queues: IQueues, metrics: Metrics, wall: Callable[[], float]) -> None:
        self._queues = queues
        self._metrics = metrics
        self._wall = wall
        self.table: Mapping[str, Callable[[Any, Caller], Awaitable[shapes.Answer]]] = {
            "queue_members": self._members,
            "queue_positions": self._positions,
            "queue_proceed": self._proceed,
            "queue_remove": self._remove,
        }

    async def _members(self, asked: shapes.QueueMembers, caller: Caller) -> shapes.Answer:
        check_event(asked.event_id)
        found, waiting = await self._queues.members(asked.event_id, asked.after, asked.limit + 1)
        more = found[asked.limit - 1].number if len(found) > asked.limit else None
        members = [
            shapes.QueueMember(
                *(one.user, one.number, one.since), UNSET if one.position is None else one.position
            )
            for one in found[: asked.limit]
        ]
        return shapes.QueueMembersTold(asked.event_id, waiting, members, more)

    async def _positions(self, asked: shapes.QueuePositions, caller: Caller) -> shapes.Answer:
        caller.key.check_channel(POSITION)
        event = asked.event_id
        check_event(event)
        now = int(self._wall() * 1000)
        told = [
            (
                _user(one.user_id),
                one.position,
                position_payload(event, one.position, one.total, one.estimated_wait, now),
            )
            for one in asked.positions
        ]
        absent = await self._queues.positions(event, told)
        self._metrics.queue_positions(len(told) - len(absent))
        return shapes.PositionsTold(len(told) - len(absent), absent)

    async def _proceed(self, asked: shapes.QueueProceed, caller: Caller) -> shapes.Answer:
        caller.key.check_channel(PROCEED)
        check_event(asked.event_id)
        made = asked.proceed_id
        if made is not None and not (0 < len(made) <= shapes.MAX_MESSAGE_ID and made.isprintable()):
            raise InvalidPublication(
                f"proceedId: expected a text of 1 to {shapes.MAX_MESSAGE_ID} printable characters"
            )
        proceed = Proceed(
            asked.event_id, _user(asked.user_id), made or "", asked.token, int(asked.expires_at)
        )
        done = await self._queues.proceed(proceed)
        outcome = "repeated" if done.repeated else done.state
        self._metrics.queue_proceeded(outcome, self._wall() - done.since / 1000)
        return shapes.Proceeded(done.id, done.state, done.repeated)

    async def _remove(self, asked: shapes.QueueRemove, caller: Caller) -> shapes.Answer:
        caller.key.check_channel(LEFT)
        check_event(asked.event_id)
        removed = await self._queues.leave(asked.event_id, _user(asked.user_id), "removed")
        return shapes.Removed(int(removed))


def _user(user: str) -> str:
    if not valid_user(user):
        raise InvalidMessage(
            "a user id is 1 to 128 printable characters, no space and none of : { } * ? [ ]"
        )
    return user
