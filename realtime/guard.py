"""Guard: all of a node that decides whom to trust, who may do what, and how much of it; built and run.

`Node` asks it for the parts that others need, and hands it what it is to guard.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from . import config_file
from .addresses import block_of
from .bans import Bans
from .broker.interface import IBroker
from .broker.redis import RedisBroker
from .connections import Connection, Connections, State
from .endings import Endings
from .enforcement import Enforcement
from .errors import Close, RateLimited
from .escalation import Escalation
from .fetching import Fetcher
from .limits import Buckets
from .login import authenticator
from .memberships import Memberships
from .metrics import Metrics
from .policy import Policy
from .security import Security
from .settings import ConfigError, Settings
from .shared_limit import SharedLimit
from .trust.interface import ITrust
from .trust.memory import MemoryTrust
from .trust.redis import RedisTrust

_log = Logger()


class Guard:
    """The guard of one node.

    :param clock: the reactor.
    :param wall: seconds since the epoch.
    :raises ConfigError: the configuration file is wrong.
    """

    def __init__(
        self, settings: Settings, *, clock: Any, wall: Callable[[], float], metrics: Metrics
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._wall = wall
        self._metrics = metrics
        self.security = Security(clock.seconds)
        self.bans = Bans(wall)
        config = config_file.load(settings.realtime_config)
        self.policy = Policy(settings, config, self.bans, metrics, self.security, wall)
        self._fetcher = Fetcher(clock)
        self._handshakes = _handshakes(settings)
        self.escalation = Escalation(
            clock,
            settings.rate_limit_max_refusals,
            settings.rate_limit_window_ms,
            close=self._close,
            began=self._tell_limited,
        )

    def share(self, broker: IBroker) -> None:
        """Know what all nodes on this bus know."""
        self.trust: ITrust = MemoryTrust(self._wall)
        self._shared_limit: SharedLimit | None = None
        self.banned: Callable[[bytes], None] = _unheard
        if isinstance(broker, RedisBroker):
            self.trust = shared = RedisTrust(self._clock, broker, self._wall)
            self.banned = shared.signalled
            self._shared_limit = SharedLimit(self._clock, self.policy.limit, shared)
        self.authenticator = authenticator(
            self._settings, self.bans, self.trust, self._fetcher, clock=self._clock, wall=self._wall
        )

    def watch(
        self,
        connections: Connections,
        memberships: Memberships,
        endings: Endings,
        traced: Callable[[], object],
    ) -> None:
        """Guard these.

        :param traced: see `Enforcement`.
        """
        self._connections = connections
        self._memberships = memberships
        self._endings = endings
        self.enforcement = Enforcement(
            self.bans,
            trust=self.trust,
            authenticator=self.authenticator,
            connections=connections,
            endings=endings,
            traced=traced,
        )
        self._metrics.watch_trust(
            bans=lambda: len(self.bans),
            pending_logins=lambda: len(endings.nobodies),
            limited_users=lambda: len(self.policy.limit),
            keys_age=lambda: self.authenticator.keys_age,
        )

    def start(self) -> None:
        """Begin."""
        self.enforcement.start()
        self.authenticator.start()
        if self._shared_limit is not None:
            self._shared_limit.start()

    async def stop(self) -> None:
        """End."""
        self.authenticator.stop()
        self.enforcement.stop()
        if self._shared_limit is not None:
            self._shared_limit.stop()
        await self._fetcher.stop()

    def sweep(self) -> None:
        """Forget what is over."""
        now = self._clock.seconds()
        self.policy.limit.sweep(now)
        self.escalation.sweep(now)
        self.bans.sweep()
        if self._handshakes is not None:
            self._handshakes.sweep(now)

    def reload(self) -> Deferred[None]:
        """Read the configuration file again, and decide by it; a bad one changes nothing; fetch keys."""
        self.authenticator.refetch()
        return Deferred.fromCoroutine(self._reload())

    async def _reload(self) -> None:
        try:
            self.policy.apply(config_file.load(self._settings.realtime_config))
        except ConfigError as error:
            for fault in error.faults:
                _log.error("the configuration stays as it was: {fault}", fault=fault)
            return
        _log.info("the configuration was read again")
        for connection in self._connections:
            if connection.state is State.LIVE:
                await self._memberships.recheck(connection)

    def check_handshake(self, address: str) -> None:
        """Let an address begin one more connection.

        :raises RateLimited: it has begun too many.
        """
        if self._handshakes is None:
            return
        wait = self._handshakes.take(block_of(address), self._clock.seconds())
        if wait:
            self._metrics.rate_limited("handshake")
            if not self._settings.rate_limit_dry_run:
                raise RateLimited("too many connections from this address", retry_after=wait)

    def origin_refused(self, address: str) -> None:
        """A page of a foreign origin came from this address."""
        self.security.tell("origin refused", address=address, reason="forbidden")

    def _close(self, connection: Connection) -> None:
        self._endings.tell("rate limited", connection, f"{Close.RATE_LIMITED.reason}, closed")
        self._endings.end(connection, Close.RATE_LIMITED)

    def _tell_limited(self, connection: Connection) -> None:
        self._endings.tell("rate limited", connection, RateLimited.code)


def _handshakes(settings: Settings) -> Buckets | None:
    number = settings.rate_limit_address_handshakes
    return Buckets(number, settings.rate_limit_window_ms) if number else None


def _unheard(data: bytes) -> None:
    """No other node makes bans."""
