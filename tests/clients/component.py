"""A component of autobahn-python as its users write them: ``component.py URL TICKET SERIALIZER``.

Tells on stdout, line by line, what came of it.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from autobahn.twisted.component import Component, run
from autobahn.wamp.exception import ApplicationError
from autobahn.wamp.types import PublishOptions

url, ticket, serializer = sys.argv[1:]

component = Component(
    transports=[{"type": "websocket", "url": url, "serializers": [serializer]}],
    realm="realtime",
    authentication={"ticket": {"authid": "alice", "ticket": ticket}},
)


def tell(**told: Any) -> None:
    sys.__stdout__.write(json.dumps(told) + "\n")
    sys.__stdout__.flush()


@component.subscribe("room.lobby.message")
def message(text: str, userId: str, **_: Any) -> None:
    tell(message=text, userId=userId)


@component.subscribe("booking.confirmed")
def confirmed(bookingId: int, **_: Any) -> None:
    tell(booking=bookingId)


@component.on_ready
async def ready(session: Any) -> None:
    options = PublishOptions(acknowledge=True, exclude_me=False)
    published = await session.publish("room.lobby.message", text="hello", options=options)
    tell(published=published.id)
    answer = await session.call("room.history", roomId="lobby")
    tell(history=[one["text"] for one in answer.kwresults["messages"]])
    try:
        await session.publish("booking.confirmed", bookingId=1, options=PublishOptions(acknowledge=True))
    except ApplicationError as error:
        tell(refused=error.error, code=error.kwargs["code"])
    await session.subscribe(tell, "room.lobby.goodbye")
    tell(ready=True)


run([component], log_level="critical")
