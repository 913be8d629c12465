"""Policy: what the configuration file decides, in the objects that are asked about it.

A new file takes effect in all of them at once, or in none if anything in it is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from .api_keys import ApiKey, ApiKeys, master_key
from .config_file import Config, KeyRule
from .rights import Rights
from .routing import RULES, Routing, Target
from .settings import Settings

#: Targets by their word in the file.
_TARGETS: Final = {target.value: target for target in Target}


class Policy:
    """The decisions of one deployment.

    :param wall: seconds since the epoch.
    :raises ConfigError: the configuration is wrong.
    """

    def __init__(self, settings: Settings, config: Config, wall: Callable[[], float]) -> None:
        self._settings = settings
        self.rights = Rights()
        self.api_keys = ApiKeys((), wall)
        self.routing = Routing(settings.ingest_services)
        self.apply(config)

    def apply(self, config: Config) -> None:
        """Decide by this configuration from now on.

        :raises ConfigError: it is wrong; nothing has changed then.
        """
        keys = [*map(_key, config.api_keys)]
        if self._settings.api_key:
            keys.append(master_key(self._settings.api_key))
        routes = {route.service: _TARGETS[route.audience] for route in config.routes}
        self.rights.replace(config.rooms, config.reserved)
        self.api_keys.replace(keys)
        self.routing.replace(self._settings.ingest_services, {**RULES, **routes})


def _key(rule: KeyRule) -> ApiKey:
    until = math.inf if rule.until is None else rule.until.timestamp()
    return ApiKey(rule.name, bytes.fromhex(rule.sha256), rule.channels, frozenset(rule.scopes), until)
