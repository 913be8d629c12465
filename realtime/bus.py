"""Bus: makes the broker and the state store that the settings ask for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from .broker.interface import IAnnouncer
from .broker.memory import MemoryBroker
from .broker.memory_state import MemoryStateStore
from .broker.pipeline import IPlainEvents
from .broker.redis import Links, RedisBroker
from .broker.redis_faults import LinkCounters
from .broker.redis_leases import StateTimes
from .broker.redis_link import Link, SubscriberLink
from .broker.redis_locate import Connector, FixedLocator, Locator, Place
from .broker.redis_state import RedisStateStore
from .broker.redis_url import RedisAddress, parse
from .broker.relay import LISTENING_TIMEOUT, Relay
from .broker.scripts import Scripts
from .broker.stream_reader import StreamReader
from .settings import Settings

#: Seconds for which Redis keeps what says where a silent channel stands: for days, so that a channel does
#: not begin anew while somebody still knows a place in it.
META_TTL: Final = 3 * 86400.0
#: Seconds for which Redis keeps the deployment's place in its log after the last publication.
LOG_TTL: Final = 30 * 86400.0


def embedded(
    settings: Settings, clock: Any, wall: Callable[[], float], announcer: IAnnouncer
) -> tuple[MemoryBroker, MemoryStateStore]:
    """The broker and the store of a node that runs alone."""
    broker = MemoryBroker(
        clock,
        retention=_retention(settings),
        idempotency=settings.recovery_window,
        max_messages=settings.recovery_max_messages,
        max_bytes=settings.recovery_max_bytes,
        history=settings.room_message_history,
        history_ttl=settings.room_history_ttl,
        max_channels=settings.max_channels,
        max_total=settings.max_log_bytes,
    )
    return broker, MemoryStateStore(clock, broker, announcer, window=settings.recovery_window, wall=wall)


def shared(
    settings: Settings, clock: Any, wall: Callable[[], float], node: str, counters: LinkCounters
) -> tuple[RedisBroker, RedisStateStore]:
    """The broker and the store that all nodes of a deployment share."""
    address = parse(settings.redis_url, settings.redis_password)
    sharded = address.kind == "cluster"
    prefix = _prefix(settings, address)
    times = StateTimes(
        window=settings.recovery_window,
        grace=settings.presence_grace,
        lease=settings.presence_interval,
        dead=_dead(settings),
    )
    publish = "SPUBLISH" if sharded else "PUBLISH"
    scripts = Scripts({"PREFIX": prefix, "PUBLISH": publish, **_constants(settings), **times.constants()})
    connector = Connector(clock, user=address.user, password=address.password, tls=address.tls)

    def connect(broker: RedisBroker) -> Links:
        where = _locator(address)
        given: dict[str, Any] = {"counters": counters, "prepare": scripts.load}
        return Links(
            Link(connector, where, name="commands", on_up=broker.commands_up, **given),
            Link(connector, where, name="reads", **given),
            SubscriberLink(
                connector,
                where,
                name="subscriber",
                on_up=broker.subscriber_up,
                on_down=broker.subscriber_down,
                on_message=broker.message,
                sharded=sharded,
                counters=counters,
            ),
        )

    broker = RedisBroker(
        clock,
        node=node,
        prefix=prefix,
        scripts=scripts,
        connect=connect,
        sharded=sharded,
        durable=address.kind in ("sentinel", "cluster"),
        max_bytes=settings.recovery_max_bytes,
    )
    store = RedisStateStore(
        clock, broker, prefix=prefix, times=times, members=settings.max_room_members, wall=wall
    )
    return broker, store


def relay(
    settings: Settings, clock: Any, broker: RedisBroker, events: IPlainEvents, counters: LinkCounters
) -> Relay:
    """This node's part of taking in what other services publish on Redis, the stream included."""
    address = parse(settings.redis_url, settings.redis_password)
    prefix = _prefix(settings, address)
    connector = Connector(clock, user=address.user, password=address.password, tls=address.tls)

    def listen(relay: Relay) -> SubscriberLink:
        return SubscriberLink(
            connector,
            _locator(address),
            name="listener",
            on_up=relay.up,
            on_down=relay.down,
            on_message=relay.message,
            on_pmessage=relay.pmessage,
            timeout=LISTENING_TIMEOUT,
            counters=counters,
        )

    made = Relay(clock, broker, events, prefix, listen)
    # TODO(cluster): the locator of the slot of STREAM
    link = Link(connector, _locator(address), name="stream", counters=counters)
    made.follow(StreamReader(clock, broker, events, link, prefix, made.failed))
    return made


def _prefix(settings: Settings, address: RedisAddress) -> str:
    # On a Cluster the number is the hash tag: all keys are in one slot, for scripts reach no two.
    number = str(settings.redis_database)
    return f"realtime:{{{number}}}:" if address.kind == "cluster" else f"realtime:{number}:"


def _locator(address: RedisAddress) -> Locator:
    if address.kind == "unix":
        return FixedLocator(Place(path=address.path))
    host, port = address.hosts[0]
    return FixedLocator(Place(host, port))


def _dead(settings: Settings) -> float:
    """Seconds for which a dead transport may go unnoticed; the recovery window begins after it."""
    return settings.ws_ping_interval + settings.ws_ping_timeout


def _retention(settings: Settings) -> float:
    return settings.recovery_window + _dead(settings)


def _constants(settings: Settings) -> dict[str, str | int]:
    """The constants of the scripts that publish and read, in milliseconds, counts and bytes."""
    return {
        "RETENTION": round(_retention(settings) * 1000),
        "MAX_MESSAGES": max(settings.recovery_max_messages, settings.room_message_history),
        "MAX_BYTES": settings.recovery_max_bytes,
        "HISTORY": settings.room_message_history,
        "HISTORY_TTL": round(settings.room_history_ttl * 1000),
        "META_TTL": round((META_TTL + settings.room_history_ttl) * 1000),
        "LOG_TTL": round((LOG_TTL + settings.room_history_ttl) * 1000),
        "KEY_TTL": round(settings.recovery_window * 1000),
    }
