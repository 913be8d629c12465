"""``wamp.subscription.get_events``: which of a topic's past events are asked for.

Arguments as the WAMP protocol's advanced profile has them ("Event History"): the subscription, and
``limit``, ``reverse``, ``topic``; ``from_``, ``after_``, ``before_``, ``until_`` with ``publication`` or
``time``. Without a beginning the newest are meant. They come oldest first, unless ``reverse``.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from ..errors import InvalidMessage
from ..messages import Placed, Publication
from .wamp_realm import publication_number
from .wamp_topics import Subscription, topic_of

_Id = Annotated[int, Meta(ge=0, le=2**53)]
_Limit = Annotated[int, Meta(ge=1, le=1000)]


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for."""

    subscription: _Id
    limit: _Limit | None = None
    reverse: bool = False
    topic: str | None = None
    from_publication: _Id | None = None
    after_publication: _Id | None = None
    before_publication: _Id | None = None
    until_publication: _Id | None = None
    from_time: datetime | None = None
    after_time: datetime | None = None
    before_time: datetime | None = None
    until_time: datetime | None = None


def read(arguments: bytes = b"[]", named: bytes = b"{}") -> Page:
    """The arguments of a call: the subscription, perhaps the limit; and those with names.

    :raises InvalidMessage: they are not as expected.
    """
    try:
        listed = msgspec.json.decode(arguments, type=list[msgspec.Raw])
        given = msgspec.json.decode(named, type=dict[str, msgspec.Raw])
        if len(listed) > 2:
            raise InvalidMessage("expected the subscription, and the limit")
        given.update(zip(("subscription", "limit"), listed, strict=False))
        unknown = given.keys() - set(Page.__struct_fields__)
        if unknown:
            raise InvalidMessage(f"known arguments are {', '.join(Page.__struct_fields__)}")
        page = msgspec.json.decode(msgspec.json.encode(given), type=Page)
    except msgspec.MsgspecError as error:
        raise InvalidMessage(f"the arguments are not as expected: {error}") from None
    moments = (page.from_time, page.after_time, page.before_time, page.until_time)
    if any(moment is not None and moment.tzinfo is None for moment in moments):
        raise InvalidMessage("a time says its offset from UTC, such as 2026-11-25T01:00:00Z")
    return page


def events(placed: Placed, subscription: Subscription) -> list[dict[str, Any]]:
    """The publications that a subscription matches, as the protocol tells them."""
    found = []
    for publication in placed:
        if isinstance(publication, Publication) and subscription.matches(topic := topic_of(publication)):
            moment = datetime.fromtimestamp(publication.time / 1000, UTC)
            found.append(
                {
                    "publication": publication_number(publication),
                    "timestamp": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                    "subscription": subscription.id,
                    "topic": topic,
                    "args": [],
                    "kwargs": msgspec.Raw(publication.payload()),
                }
            )
    return found


def choose(told: list[dict[str, Any]], page: Page) -> list[dict[str, Any]]:
    """Those of a topic's events, oldest first, that are asked for."""
    begins = page.from_publication is not None or page.after_publication is not None
    begins = begins or page.from_time is not None or page.after_time is not None
    found = [event for event in told if _asked(event, page)]
    if page.limit is not None:
        found = found[: page.limit] if begins else found[-page.limit :]
    return found[::-1] if page.reverse else found


def _asked(event: dict[str, Any], page: Page) -> bool:
    if page.topic is not None and event["topic"] != page.topic:
        return False
    number, moment = event["publication"], datetime.fromisoformat(event["timestamp"])
    return (
        _within(number, page.from_publication, page.after_publication, *_ends(page, "publication"))
    ) and _within(moment, page.from_time, page.after_time, *_ends(page, "time"))


def _ends(page: Page, of: str) -> tuple[Any, Any]:
    return getattr(page, f"before_{of}"), getattr(page, f"until_{of}")


def _within(value: Any, first: Any, after: Any, before: Any, until: Any) -> bool:
    return not (
        (first is not None and value < first)
        or (after is not None and value <= after)
        or (before is not None and value >= before)
        or (until is not None and value > until)
    )
