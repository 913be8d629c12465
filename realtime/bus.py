"""Bus: makes the broker and the state store that the settings ask for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from .broker.interface import IAnnouncer, IBroker
from .broker.memory import MemoryBroker
from .broker.memory_receipts import MemoryReceipts
from .broker.memory_state import MemoryStateStore
from .broker.pipeline import IPlainEvents
from .broker.receipts import IReceiptStore
from .broker.redis import Links, RedisBroker
from .broker.redis_deployment import RedisDeployment
from .broker.redis_faults import LinkCounters
from .broker.redis_leases import StateTimes
from .broker.redis_link import SubscriberLink
from .broker.redis_receipts import RedisReceipts
from .broker.redis_state import RedisStateStore
from .broker.relay import LISTENING_TIMEOUT, Relay
from .broker.scripts import Scripts
from .broker.stream_reader import READ_TIMEOUT, STREAM, StreamReader
from .journal import Journal
from .redis_url import parse
from .settings import ConfigError, Settings

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


def deployment(settings: Settings, clock: Any, counters: LinkCounters, journal: Journal) -> RedisDeployment:
    """The Redis that REDIS_URL leads to.

    :raises ConfigError: REDIS_CA_FILE can't be read.
    """
    return RedisDeployment(
        clock,
        parse(settings.redis_url, settings.redis_password),
        authorities=_authorities(settings),
        timeout=settings.redis_command_timeout,
        counters=counters,
        slow=journal.slow,
        on_slow=journal.commanded,
    )


def shared(
    redis: RedisDeployment, settings: Settings, clock: Any, wall: Callable[[], float], node: str
) -> tuple[RedisBroker, RedisStateStore]:
    """The broker and the store that all nodes of a deployment share."""
    prefix = redis.prefix(settings.redis_database)
    times = StateTimes(
        window=settings.recovery_window,
        grace=settings.presence_grace,
        lease=_lease(settings),
        dead=_dead(settings),
    )
    names = {"PREFIX": prefix, "PUBLISH": "SPUBLISH" if redis.cluster else "PUBLISH"}
    scripts = Scripts({**names, **_constants(settings), **times.constants()})
    redis.called = scripts.called

    def connect(broker: RedisBroker) -> Links:
        given: dict[str, Any] = {"key": prefix, "prepare": scripts.load}
        return Links(
            redis.link("commands", durable=True, on_up=broker.commands_up, **given),
            redis.link("reads", **given),
            redis.subscriber(
                "subscriber",
                prefix,
                on_up=broker.subscriber_up,
                on_down=broker.subscriber_down,
                on_message=broker.message,
            ),
        )

    broker = RedisBroker(
        clock,
        node=node,
        prefix=prefix,
        scripts=scripts,
        connect=connect,
        sharded=redis.cluster,
        max_bytes=settings.recovery_max_bytes,
    )
    store = RedisStateStore(
        clock, broker, prefix=prefix, times=times, members=settings.max_room_members, wall=wall
    )
    return broker, store


def relay(
    redis: RedisDeployment, settings: Settings, clock: Any, broker: RedisBroker, events: IPlainEvents
) -> Relay:
    """This node's part of taking in what other services publish on Redis, the stream included."""

    def listen(relay: Relay) -> SubscriberLink:
        return redis.subscriber(
            "listener",
            on_up=relay.up,
            on_down=relay.down,
            on_message=relay.message,
            on_pmessage=relay.pmessage,
            timeout=LISTENING_TIMEOUT,
        )

    prefix = redis.prefix(settings.redis_database)
    made = Relay(clock, broker, events, prefix, listen)
    # On a Cluster the stream, which has no number, is in a slot of its own.
    timeout = max(settings.redis_command_timeout, READ_TIMEOUT)
    link = redis.link("stream", STREAM.decode(), timeout=timeout)
    made.follow(StreamReader(clock, broker, events, link, prefix, made.failed))
    return made


def _authorities(settings: Settings) -> bytes:
    if not settings.redis_ca_file:
        return b""
    try:
        with open(settings.redis_ca_file, "rb") as file:
            return file.read()
    except OSError as error:
        path = settings.redis_ca_file
        raise ConfigError(f"REDIS_CA_FILE={path!a}: can't be read ({error.strerror})") from None


def _dead(settings: Settings) -> float:
    """Seconds for which a dead transport may go unnoticed; the recovery window begins after it."""
    return settings.ws_ping_interval + settings.ws_ping_timeout


def _lease(settings: Settings) -> float:
    """Seconds for which a node is taken to live: more than it takes to lose a connection and be back."""
    return max(settings.presence_interval, 3 * settings.redis_command_timeout)


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
        "RECEIPT_TIMEOUT": round(settings.receipt_timeout * 1000),
        "RECEIPT_TTL": round(_receipt_ttl(settings) * 1000),
        "MAX_RECEIPTS": settings.receipt_max,
    }


def _receipt_ttl(settings: Settings) -> float:
    """Seconds for which a receipt is kept: at least while acknowledgements are awaited."""
    return max(settings.receipt_ttl, settings.receipt_timeout)


def receipts(
    broker: IBroker, settings: Settings, wall: Callable[[], float], forgotten: Callable[[int], object]
) -> IReceiptStore:
    """Where receipts are kept.

    :param forgotten: called with how many had to go for others.
    """
    if isinstance(broker, RedisBroker):
        broker.on_forgotten = forgotten
        return RedisReceipts(broker)
    assert isinstance(broker, MemoryBroker)
    return MemoryReceipts(
        broker,
        wall,
        timeout=settings.receipt_timeout,
        ttl=_receipt_ttl(settings),
        most=settings.receipt_max,
        forgotten=forgotten,
    )
