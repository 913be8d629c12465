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
from .broker.relay import LISTENING_TIMEOUT, Relay
from .broker.scripts import Scripts
from .broker.stream_reader import READ_TIMEOUT, StreamReader
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


class Redis:
    """The Redis of a deployment: where it is, how it is reached, and what the names of keys begin with.

    :raises ConfigError: REDIS_CA_FILE can't be read.
    """

    def __init__(self, settings: Settings, clock: Any, counters: LinkCounters) -> None:
        address = parse(settings.redis_url, settings.redis_password)
        self.settings = settings
        self.clock = clock
        self.sharded = address.kind == "cluster"
        self.durable = address.kind in ("cluster", "sentinel")
        # On a Cluster the number is the hash tag: all keys are in one slot, for scripts reach no two.
        number = f"{{{settings.redis_database}}}" if self.sharded else str(settings.redis_database)
        self.prefix = f"realtime:{number}:"
        self._address = address
        self._connector = Connector(
            clock,
            user=address.user,
            password=address.password,
            tls=address.tls,
            authorities=_authorities(settings),
        )
        self._counters = counters

    def link(self, name: str, **more: Any) -> Link:
        """A connection for commands."""
        return Link(self._connector, self._locator(), **self._given(name, more))

    def subscriber(self, name: str, **more: Any) -> SubscriberLink:
        """A connection for pub/sub."""
        return SubscriberLink(self._connector, self._locator(), **self._given(name, more))

    def _given(self, name: str, more: dict[str, Any]) -> dict[str, Any]:
        known = {"timeout": self.settings.redis_command_timeout, "counters": self._counters}
        return {"name": name, **known, **more}

    def _locator(self) -> Locator:
        if self._address.kind == "unix":
            return FixedLocator(Place(path=self._address.path))
        host, port = self._address.hosts[0]
        return FixedLocator(Place(host, port))


def shared(redis: Redis, wall: Callable[[], float], node: str) -> tuple[RedisBroker, RedisStateStore]:
    """The broker and the store that all nodes of a deployment share."""
    settings = redis.settings
    times = StateTimes(
        window=settings.recovery_window,
        grace=settings.presence_grace,
        lease=settings.presence_interval,
        dead=_dead(settings),
    )
    names = {"PREFIX": redis.prefix, "PUBLISH": "SPUBLISH" if redis.sharded else "PUBLISH"}
    scripts = Scripts({**names, **_constants(settings), **times.constants()})

    def connect(broker: RedisBroker) -> Links:
        return Links(
            redis.link("commands", on_up=broker.commands_up, prepare=scripts.load),
            redis.link("reads", prepare=scripts.load),
            redis.subscriber(
                "subscriber",
                on_up=broker.subscriber_up,
                on_down=broker.subscriber_down,
                on_message=broker.message,
                sharded=redis.sharded,
            ),
        )

    broker = RedisBroker(
        redis.clock,
        node=node,
        prefix=redis.prefix,
        scripts=scripts,
        connect=connect,
        sharded=redis.sharded,
        durable=redis.durable,
        max_bytes=settings.recovery_max_bytes,
    )
    store = RedisStateStore(
        redis.clock, broker, prefix=redis.prefix, times=times, members=settings.max_room_members, wall=wall
    )
    return broker, store


def relay(redis: Redis, broker: RedisBroker, events: IPlainEvents) -> Relay:
    """This node's part of taking in what other services publish on Redis, the stream included."""

    timeout = redis.settings.redis_command_timeout

    def listen(relay: Relay) -> SubscriberLink:
        return redis.subscriber(
            "listener",
            on_up=relay.up,
            on_down=relay.down,
            on_message=relay.message,
            on_pmessage=relay.pmessage,
            timeout=max(timeout, LISTENING_TIMEOUT),
        )

    made = Relay(redis.clock, broker, events, redis.prefix, listen)
    link = redis.link("stream", timeout=max(timeout, READ_TIMEOUT))
    made.follow(StreamReader(redis.clock, broker, events, link, redis.prefix, made.failed))
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
