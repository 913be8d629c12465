"""Policy: what the configuration file decides, in the objects that are asked about it.

A new file takes effect in all of them at once, or in none if anything in it is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from .api_keys import ApiKey, ApiKeys, master_key
from .bans import Bans
from .config_file import Config, KeyRule
from .content import NoFilter, content_filter
from .limits import RateLimit
from .metrics import Metrics
from .moderation import Moderation
from .rights import Rights
from .routing import RULES, Routing, Target
from .security import Security
from .settings import ConfigError, Settings

#: Targets by their word in the file.
_TARGETS: Final = {target.value: target for target in Target}


class Policy:
    """The decisions of one deployment.

    :param wall: seconds since the epoch.
    :raises ConfigError: the configuration is wrong.
    """

    def __init__(
        self,
        settings: Settings,
        config: Config,
        bans: Bans,
        metrics: Metrics,
        security: Security,
        wall: Callable[[], float],
    ) -> None:
        self._settings = settings
        self.rights = Rights()
        self.api_keys = ApiKeys((), wall)
        self.routing = Routing(settings.ingest_services)
        self.limit = RateLimit(
            settings.rate_limit_max_messages,
            settings.rate_limit_window_ms,
            address_messages=settings.rate_limit_address_messages,
            dry_run=settings.rate_limit_dry_run,
        )
        self.limit.counts = metrics
        self.moderation = Moderation(self.rights, bans, metrics, security, wall)
        self.apply(config)

    def apply(self, config: Config) -> None:
        """Decide by this configuration from now on.

        :raises ConfigError: it is wrong; nothing has changed then.
        """
        keys = [*map(_key, config.api_keys)]
        if self._settings.api_key:
            keys.append(master_key(self._settings.api_key))
        found = content_filter(config.content)
        if isinstance(found, NoFilter) and any(rule.filter not in (None, "off") for rule in config.rooms):
            raise ConfigError("rooms: a filter needs languages, words or patterns in [content] to look for")
        routes = {route.service: _TARGETS[route.audience] for route in config.routes}
        limits = config.limits.events
        self.limit.limit_events(
            {event: (rule.messages, rule.window_ms / 1000) for event, rule in limits.items()}
        )
        self.moderation.replace(config.content, found, config.spam)
        self.rights.replace(config.rooms, config.reserved)
        self.api_keys.replace(keys)
        self.routing.replace(self._settings.ingest_services, {**RULES, **routes})


def _key(rule: KeyRule) -> ApiKey:
    until = math.inf if rule.until is None else rule.until.timestamp()
    return ApiKey(rule.name, bytes.fromhex(rule.sha256), rule.channels, frozenset(rule.scopes), until)
