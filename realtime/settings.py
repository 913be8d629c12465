"""Settings: one table of all that can be set, read from the environment and the command line.

The table is the class `Settings`. An attribute is the variable's name in lower case; the option of
``twistd realtime`` is the same name with dashes. A variable set to nothing counts as not set.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from . import redis_url, state
from .kinds import (
    ADDRESS,
    ALGORITHM,
    BOOLEAN,
    BYTES,
    COUNT,
    INSTANT,
    KEY,
    NETWORK,
    ORIGIN,
    PATH,
    PORT,
    TEXT,
    URL,
    YEAR,
    Kind,
    choice,
    integer,
    matching,
    milliseconds,
    secret,
    several,
)
from .names import valid_service


class ConfigError(Exception):
    """The settings can't be used, by themselves or on this machine.

    :ivar faults: all that is wrong, one line each: variable, value (secrets masked), what is accepted.
    """

    def __init__(self, *faults: str) -> None:
        self.faults = faults
        super().__init__("\n".join(faults))


@dataclass(frozen=True)
class Setting:
    """What is known of one setting besides its name.

    :ivar default: as text, ready for `Kind.parse`; nothing where there is none.
    :ivar production: the default in production, where it differs.
    """

    kind: Kind
    default: str
    help: str
    production: str

    @property
    def secret(self) -> bool:
        """Whether its value must not be shown."""
        return self.kind.name == "secret"

    def shown(self, value: Any) -> str:
        """The value as text, masked if it is a secret."""
        return mask(value) if self.secret else self.kind.show(value)

    def parse(self, text: str) -> Any:
        """The value of a text; raises `ValueError`."""
        return self.kind.parse(text) if text else self.kind.empty


def mask(value: str) -> str:
    """What may be shown of a secret: that it is set."""
    return f"*** ({len(value.encode(errors='replace'))} bytes)" if value else ""


def _set(kind: Kind, default: object, help: str, production: str = "") -> Any:
    text = str(default)
    value = kind.parse(text) if text else kind.empty
    shown = kind.show(value)
    setting = Setting(kind, shown, help, production or shown)
    return dataclasses.field(default=value, repr=not setting.secret, metadata={"setting": setting})


#: First parts of channels that name something other than a service, and those of our own.
_NO_SERVICES: Final = frozenset(("event", "room", "user", "role", "socket", "realtime"))


def _service(text: str) -> str:
    if not valid_service(text) or text in _NO_SERVICES:
        raise ValueError(text)
    return text


_SERVICE: Final = Kind("name", "a name of a-z 0-9 _ -, at most 32 characters, a letter first", _service)


#: What it must look like needs REDIS_PASSWORD to be said.
_REDIS_URL: Final = Kind("secret", redis_url.ACCEPTED, secret(1).parse)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The value of every setting.

    Variables are in milliseconds; the attributes hold **seconds**, as float, also
    `rate_limit_window_ms`. Lists are tuples. What is not set and has no default is empty text.
    Without arguments it holds the defaults of development: no secrets, and no origins yet.
    """

    port: int = _set(PORT, 3003, "Port for clients; 0 for any that is free.")
    bind_address: str = _set(ADDRESS, "127.0.0.1", "Address on which clients are served.", "0.0.0.0")
    api_port: int = _set(PORT, 8081, "Port of the HTTP API for other services.")
    health_check_port: int = _set(PORT, 8080, "Port of /health, /health/live and /health/ready.")
    metrics_port: int = _set(PORT, 9090, "Port of /metrics.")
    grpc_port: int = _set(PORT, 50051, "Port of the gRPC API for other services.")
    grpc_bind_address: str = _set(ADDRESS, "127.0.0.1", "Address of the gRPC API.")
    grpc_enabled: bool = _set(
        BOOLEAN,
        False,
        "Whether the gRPC API is served, by a process of its own; true as well where GRPC_PORT is set.",
    )
    grpc_tls_certificate: str = _set(
        TEXT,
        "",
        "File with the certificate, and its chain, of the gRPC API (PEM); unset, no TLS. Read again when it"
        " changes.",
    )
    grpc_tls_key: str = _set(TEXT, "", "File with the private key of GRPC_TLS_CERTIFICATE (PEM).")
    grpc_tls_client_ca: str = _set(
        TEXT,
        "",
        "File with the authorities of which a caller of the gRPC API has to show a certificate (PEM).",
    )
    api_bind_address: str = _set(ADDRESS, "127.0.0.1", "Address of the HTTP API, health and metrics.")
    realtime_env: str = _set(
        choice("development", "production"),
        "development",
        "Development makes its own secrets and serves this machine only; production needs them set."
        " NODE_ENV is read where this is not set.",
    )
    workers: int = _set(
        integer(1, 64, "count"),
        1,
        "Processes that serve clients, as one node, on the same ports; more than 1 need REDIS_URL. The"
        " limits of a node are shared out among them.",
    )
    realtime_state: str = _set(
        TEXT, "./.realtime", "File in which development mode keeps the secrets that it made."
    )

    realtime_config: str = _set(
        TEXT,
        "",
        "Configuration file (TOML): rights in rooms, routes, API keys, filters. Read again on SIGHUP.",
    )

    redis_url: str = _set(
        _REDIS_URL,
        "",
        "Redis by which any number of nodes behave as one; without it this node runs alone. The database is"
        " always 0.",
    )
    redis_password: str = _set(
        secret(1), "", "Password of Redis, and of its Sentinels; it wins over that in REDIS_URL."
    )
    redis_database: int = _set(
        integer(0, 15),
        3,
        "The number in the names of Redis keys and channels, by which deployments are kept apart.",
    )
    redis_ca_file: str = _set(
        TEXT,
        "",
        "PEM file of the authorities that may sign the certificate of a rediss:// server; without it those"
        " that the system trusts.",
    )
    redis_command_timeout: float = _set(
        milliseconds(100, 10000),
        1000,
        "Time for Redis to answer a command; then its connection is dropped, and what waits is refused.",
    )

    ws_path: str = _set(PATH, "/socket.io", "Path under which socket.io-client connects.")
    ws_direct_path: str = _set(
        PATH, "/ws", "Path under which clients of WAMP and of plain JSON connect by WebSocket."
    )
    ws_token_cookie: str = _set(
        matching(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}", "name", "a cookie's name"),
        "",
        "Cookie from which a token is taken under WS_DIRECT_PATH, with an origin; none while unset.",
    )
    wamp_realm: str = _set(
        matching(r"[A-Za-z][A-Za-z0-9_@.-]{2,254}", "name", "a letter, then 2 to 254 of A-Z a-z 0-9 _-@."),
        "realtime",
        "Realm that WAMP clients join.",
    )
    ws_allowed_origins: tuple[str, ...] = _set(
        several(ORIGIN),
        "",
        "Origins whose pages may connect, such as https://*.example.com. Development without any"
        " allows the pages of this machine.",
    )
    ws_cors_origin: tuple[str, ...] = _set(
        several(ORIGIN), "", "More origins, added to WS_ALLOWED_ORIGINS."
    )
    ws_require_origin: bool = _set(
        BOOLEAN,
        False,
        "Refuse clients that name no origin: where all of them are pages in browsers. What a page asks its"
        " own server for counts as named.",
    )
    ws_query_token: bool = _set(
        BOOLEAN, False, "Accept a token in the query string, where proxies and browsers may keep it."
    )
    ws_max_connections: int = _set(COUNT, 10000, "Connections of this node.")
    ws_connection_timeout: float = _set(
        milliseconds(1), 30000, "Time for a new connection to log in; then it is closed."
    )
    ws_handshake_timeout: float = _set(milliseconds(1), 5000, "Time for a request's head to arrive whole.")
    ws_message_timeout: float = _set(
        milliseconds(1), 10000, "Time for a message or a request's body, once begun, to arrive whole."
    )
    ws_ping_interval: float = _set(milliseconds(1), 25000, "Time between two pings to a client.")
    ws_ping_timeout: float = _set(milliseconds(1), 60000, "Time for the client to answer a ping.")
    ws_max_message_bytes: int = _set(BYTES, 1000000, "Size of a client's message.")
    ws_max_queue_bytes: int = _set(
        BYTES, 4194304, "Bytes that may wait for a slow client; past it the connection is closed."
    )
    ws_max_pending_events: int = _set(
        COUNT, 64, "Events of one connection that may wait for their turn; past it no more are read."
    )
    ws_batch_interval: float = _set(
        milliseconds(0, 1000),
        0,
        "Time from one write to clients to the next at least: what comes alone leaves at once, what follows"
        " within it leaves together at its end. 0: all of one turn of the reactor leaves together.",
    )
    ws_compression: bool = _set(
        BOOLEAN,
        False,
        "Whether messages over WebSockets are compressed for clients that offer it (permessage-deflate).",
    )
    ws_compression_threshold: int = _set(
        integer(0, unit="bytes"),
        1024,
        "Size from which answers to long-polling are compressed, and messages where WS_COMPRESSION is on.",
    )

    native_send: bool = _set(
        BOOLEAN,
        True,
        "Let the loop in C send what many clients get alike, where it was built; false for its pure twin.",
    )

    jwt_secret: str = _set(secret(32), "", "Secret that signs access tokens (HS256, HS384, HS512).")
    jwt_secret_previous: str = _set(
        secret(32), "", "The secret before JWT_SECRET; tokens that it signed are good for a while."
    )
    jwt_secret_previous_until: float = _set(
        INSTANT, "", "Until when JWT_SECRET_PREVIOUS is good; needed with it."
    )
    jwt_jwks_url: str = _set(
        URL, "", "Where the login service publishes its public keys (a JWK set); RS, PS, ES and EdDSA."
    )
    jwt_jwks_refresh: float = _set(
        milliseconds(1000), 600000, "Time after which the keys of JWT_JWKS_URL are fetched anew."
    )
    jwt_algorithms: tuple[str, ...] = _set(
        several(ALGORITHM),
        "",
        "The only algorithms that tokens may be signed with; unset, all that belong to the keys.",
    )
    jwt_refresh_secret: str = _set(secret(32), "", "Secret that signs refresh tokens (HS256).")
    jwt_audience: str = _set(TEXT, "", "What a token's aud must hold; not checked while unset.")
    jwt_issuer: str = _set(TEXT, "", "What a token's iss must be; not checked while unset.")
    jwt_leeway: float = _set(
        milliseconds(0, 300000), 0, "By how much the clock of who issues tokens may differ from ours."
    )
    auth_service_url: str = _set(
        URL, "", "Where the Auth Service says whether a token is still good (RFC 7662); unset, not asked."
    )
    auth_service_key: str = _set(KEY, "", "What the Auth Service is asked with: Authorization: Bearer KEY.")
    auth_service_timeout: float = _set(milliseconds(1, 60000), 2000, "Time for the Auth Service to answer.")
    auth_service_cache: float = _set(
        milliseconds(0), 30000, "For how long an answer of the Auth Service is good."
    )
    auth_service_down: str = _set(
        choice("refuse", "accept"),
        "refuse",
        "What happens to tokens while the Auth Service does not answer: they are refused for now, or"
        " accepted by their signature alone.",
    )
    token_refresh_threshold: float = _set(
        milliseconds(0), 300000, "How long before its token ends a client gets auth:token_expiring."
    )
    token_expiry_grace: float = _set(
        milliseconds(0), 5000, "How long after its token ended a connection is closed."
    )

    rate_limit_window_ms: float = _set(milliseconds(1), 60000, "Time over which messages are counted.")
    rate_limit_max_messages: int = _set(COUNT, 100, "Messages of one user or connection in that time.")
    rate_limit_max_connections: int = _set(COUNT, 5, "Connections of one user.")
    rate_limit_connection_policy: str = _set(
        choice("reject", "evict-oldest"),
        "reject",
        "What happens to one connection more of a user: it is refused, or the user's oldest makes room.",
    )
    rate_limit_address_messages: int = _set(
        integer(0, unit="count"),
        0,
        "Messages from one address in RATE_LIMIT_WINDOW_MS; 0 for any number. Of IPv6, from one /64.",
    )
    rate_limit_address_handshakes: int = _set(
        integer(0, unit="count"),
        0,
        "Connections that one address may begin in RATE_LIMIT_WINDOW_MS; 0 for any number.",
        "6000",
    )
    rate_limit_max_refusals: int = _set(
        COUNT,
        1000,
        "Messages over the limit, of one user in RATE_LIMIT_WINDOW_MS, after which a connection is closed.",
    )
    rate_limit_dry_run: bool = _set(
        BOOLEAN, False, "Count what is over the rate limits, and let it through."
    )
    trusted_proxies: tuple[str, ...] = _set(
        several(NETWORK),
        "",
        "Networks of the proxies that are believed when they tell a client's address (X-Forwarded-For).",
    )
    tls_certificate: str = _set(
        TEXT,
        "",
        "File with the certificate, and its chain, of the clients' port (PEM); unset, no TLS. Read again"
        " when it changes.",
    )
    tls_key: str = _set(TEXT, "", "File with the private key of TLS_CERTIFICATE (PEM).")
    tls_hsts: float = _set(
        milliseconds(0, YEAR),
        0,
        "For how long browsers are told to come by https only (Strict-Transport-Security); 0 for not.",
    )
    proxy_protocol: bool = _set(
        BOOLEAN,
        False,
        "Whether connections from TRUSTED_PROXIES begin with the PROXY protocol (version 1 or 2).",
    )
    max_pending_logins: int = _set(
        COUNT,
        4096,
        "Connections of this node that have not logged in, of one address half as many; the oldest makes"
        " room.",
    )
    max_rooms_per_connection: int = _set(COUNT, 100, "Rooms that one connection may have joined.")
    max_room_members: int = _set(COUNT, 1000, "Users in one room.")
    queue_ttl: float = _set(
        milliseconds(10_000, 7 * 86_400_000),
        300_000,
        "For how long a place in a booking queue is kept for a user who is not connected.",
    )
    queue_max_waiting: int = _set(COUNT, 100000, "Users that wait in the queue of one event.")
    queue_max_per_user: int = _set(COUNT, 10, "Booking queues that one user may be in.")
    queue_max_events: int = _set(COUNT, 10000, "Booking queues at a time.")
    queue_stream: bool = _set(
        BOOLEAN,
        False,
        "Whether what happens in booking queues is handed over by the Redis Stream realtime:queue, and not"
        " to workers that are connected.",
    )
    queue_stream_length: int = _set(COUNT, 100000, "Entries that realtime:queue keeps, about.")
    max_channels: int = _set(COUNT, 100000, "Channels whose log the embedded broker keeps.")

    max_memory_bytes: int = _set(
        integer(0, 1 << 50, "bytes"),
        0,
        "Memory of this process past which it takes no new connections; 0 for nine tenths of what its"
        " control group (a container's limit) may use, and for any if there is no limit.",
    )
    max_log_bytes: int = _set(
        BYTES, 268435456, "Bytes of payloads that the embedded broker keeps; the longest silent go first."
    )
    room_message_history: int = _set(
        integer(0, 100000, "count"), 100, "Messages of a room that its history shows."
    )
    room_history_ttl: float = _set(
        milliseconds(1, YEAR), 86400000, "How long a room's history is kept after its last message."
    )
    room_typing_timeout: float = _set(milliseconds(1), 3000, "When typing ends by itself.")
    presence_timeout: float = _set(
        milliseconds(1), 300000, "Time without an event until a connection is idle."
    )
    presence_interval: float = _set(milliseconds(1), 60000, "Time between two checks for idle connections.")
    presence_cleanup_interval: float = _set(
        milliseconds(1), 300000, "Time between two sweeps of what presence no longer needs."
    )
    presence_grace: float = _set(
        milliseconds(0), 5000, "How long a user whose transport was lost is not yet offline."
    )
    recovery_window: float = _set(
        milliseconds(1),
        120000,
        "How long after a cut a client gets all it missed; also for idempotency keys.",
    )
    recovery_max_messages: int = _set(COUNT, 5000, "Publications that one channel's log keeps.")
    recovery_max_bytes: int = _set(BYTES, 8388608, "Bytes that one recovery may replay.")
    receipt_timeout: float = _set(
        milliseconds(1000),
        120000,
        "How long acknowledgements of a publication with a receipt are awaited.",
    )
    receipt_ttl: float = _set(
        milliseconds(1000),
        3600000,
        "How long a receipt is kept, at least for RECEIPT_TIMEOUT.",
    )
    receipt_max: int = _set(
        COUNT, 100000, "Receipts kept by the deployment; for one more the oldest is forgotten."
    )
    receipt_max_connections: int = _set(
        COUNT, 100, "Connections of each node that a receipt tells of by name; the others are counted."
    )

    api_key: str = _set(KEY, "", "Key of the HTTP API: Authorization: Bearer KEY.")
    console: bool = _set(
        BOOLEAN,
        True,
        "Serve the console under /console/ on API_PORT; what it shows it asks for with an API key.",
        "false",
    )
    ingest_services: tuple[str, ...] = _set(
        several(_SERVICE),
        "",
        "Further services whose channels are accepted, beside booking, payment and so on.",
    )
    health_max_lag: float = _set(
        milliseconds(100, 60000),
        5000,
        "By how much the reactor may be late until /health/live says that it is stuck.",
    )
    log_format: str = _set(
        choice("auto", "json", "text"),
        "auto",
        "Lines of the log: JSON, or text for people, which auto chooses where the log goes to a terminal.",
    )
    log_messages: int = _set(
        integer(0),
        0,
        "One of so many messages that come in or go out is a line of the log; 0 for none.",
    )
    log_payloads: bool = _set(
        BOOLEAN,
        False,
        "Whether lines about messages show the beginning of what is in them; of payments and tokens never.",
    )
    log_slow: float = _set(
        milliseconds(0),
        500,
        "What takes longer is a line of the log: events of clients, commands of Redis, turns of the"
        " reactor; 0 for none.",
    )
    drain_settle: float = _set(
        milliseconds(0),
        0,
        "At the end: time in which the node is not ready and serves all the same, until balancers know.",
        "5000",
    )
    drain_rate: int = _set(
        COUNT,
        1000,
        "At the end: clients per second that other nodes are to take; connections are closed a little"
        " slower.",
    )
    drain_timeout: float = _set(
        milliseconds(0), 10000, "At the end: time for connections to be closed, after DRAIN_SETTLE."
    )

    @property
    def production(self) -> bool:
        """Whether this is production, not development."""
        return self.realtime_env == "production"

    @property
    def origins(self) -> tuple[str, ...]:
        """All origins whose pages may connect: lower case, ``:*`` for any port, also none."""
        return tuple(dict.fromkeys(self.ws_allowed_origins + self.ws_cors_origin))


#: The table by variable.
SETTINGS: Final[Mapping[str, Setting]] = {
    field.name.upper(): field.metadata["setting"] for field in dataclasses.fields(Settings)
}

_LOOPBACK: Final = tuple(
    f"{scheme}://{host}:*" for scheme in ("http", "https") for host in ("localhost", "127.0.0.1", "[::1]")
)
_PREFIXES: Final = (
    *(
        "API_",
        "AUTH_SERVICE_",
        "DRAIN_",
        "GRPC_",
        "HEALTH_",
        "INGEST_",
        "JWT_",
        "LOG_",
        "MAX_",
        "METRICS_",
        "PRESENCE_",
    ),
    *("PROXY_", "RATE_LIMIT_", "REALTIME_", "RECOVERY_", "REDIS_", "ROOM_", "TOKEN_", "TLS_", "TRUSTED_"),
    *("WAMP_", "WS_"),
)
#: Prefixes that other programs use too: such a variable is only ours if it looks like one of ours.
_SHARED: Final = ("API_", "GRPC_", "LOG_", "MAX_", "PROXY_", "ROOM_", "TLS_", "TOKEN_", "TRUSTED_")
#: What Kubernetes sets in every container for every service of the namespace.
_KUBERNETES: Final = re.compile(r"_SERVICE_(HOST|PORT)|_PORT_\d+_(TCP|UDP|SCTP)")


def option(name: str) -> str:
    """The command line's name of a variable: ``ws-path`` for ``WS_PATH``."""
    return name.lower().replace("_", "-")


def load(
    environ: Mapping[str, str], options: Mapping[str, str | None] | None = None, *, make_state: bool = True
) -> Settings:
    """Read all settings; in development also the state file, for the secrets that are not set.

    :param options: texts by option name (``ws-path``); one that is not None wins over the variable.
    :param make_state: whether to make a state file that is missing; else its secrets stay empty.
    :raises ConfigError: with everything that is wrong.
    """
    given = dict(_given(environ, options or {}))
    values, faults = _parsed(given)
    if "GRPC_PORT" in given and "GRPC_ENABLED" not in given:
        values["GRPC_ENABLED"] = True
    production = values.get("REALTIME_ENV") == "production"
    faults += _conflicts(values, given)
    if production:
        faults += _missing(values)
    else:
        if not values.get("WS_ALLOWED_ORIGINS") and not values.get("WS_CORS_ORIGIN"):
            values["WS_ALLOWED_ORIGINS"] = _LOOPBACK
        faults += _add_state(values, make_state and not faults)
    if faults:
        raise ConfigError(*faults)
    return Settings(**{name.lower(): value for name, value in values.items()})


def unknown(environ: Mapping[str, str]) -> list[str]:
    """A warning for each variable that looks like a setting and is none. Values are not shown."""
    warnings = []
    for name in sorted(environ):
        if name in SETTINGS or not name.startswith(_PREFIXES) or _KUBERNETES.search(name):
            continue
        shared = name.startswith(_SHARED)
        near = difflib.get_close_matches(name, SETTINGS, 1, 0.8 if shared else 0.6)
        if near:
            warnings.append(f"{name} is not a setting; did you mean {near[0]}?")
        elif not shared:
            warnings.append(f"{name} is not a setting; `realtime settings` lists all")
    return warnings


def _given(
    environ: Mapping[str, str], options: Mapping[str, str | None]
) -> Iterator[tuple[str, tuple[str, str]]]:
    """Per variable that is set: how to call it in a message, and its text."""
    for name, setting in SETTINGS.items():
        label, text = f"--{option(name)}", options.get(option(name))
        if text is None:
            label, text = name, environ.get(name)
            if not text and name == "REALTIME_ENV":
                label, text = "NODE_ENV", environ.get("NODE_ENV")
        if text and not setting.secret:
            text = text.strip()
        if text:
            yield name, (label, text)


def _parsed(given: Mapping[str, tuple[str, str]]) -> tuple[dict[str, Any], list[str]]:
    """The values of all settings that could be read, and a fault for each of the others."""
    values: dict[str, Any] = {}
    faults = []
    for name, setting in SETTINGS.items():
        if name in given:
            try:
                given[name][1].encode()
                values[name] = setting.parse(given[name][1])
            except ValueError:
                faults.append(_fault(name, given, f"accepted is {setting.kind.accepted}"))
    production = values.get("REALTIME_ENV") == "production"
    for name, setting in SETTINGS.items():
        if name not in given:
            values[name] = setting.parse(setting.production if production else setting.default)
    return values, faults


def _fault(name: str, given: Mapping[str, tuple[str, str]], why: str) -> str:
    label, text = given[name]
    shown = mask(text) if SETTINGS[name].secret else ascii(text[:100])
    return f"{label}={shown}: {why}"


def _conflicts(values: Mapping[str, Any], given: Mapping[str, tuple[str, str]]) -> Iterator[str]:
    """Faults of settings that are right by themselves and wrong together, or in this version."""
    yield from _redis(values, given)
    if values.get("WORKERS", 1) > 1 and not values.get("REDIS_URL"):
        yield _fault(
            "WORKERS", given, "workers share their state through Redis; accepted with it is REDIS_URL"
        )
    if values.get("WS_PATH") and values.get("WS_PATH") == values.get("WS_DIRECT_PATH"):
        yield f"WS_DIRECT_PATH={values['WS_PATH']}: WS_PATH is the same; accepted is a path of its own"
    if values.get("JWT_SECRET") and values.get("JWT_SECRET") == values.get("JWT_REFRESH_SECRET"):
        # Every access token would be a refresh token, and the other way round.
        yield _fault("JWT_REFRESH_SECRET", given, "JWT_SECRET is the same; accepted is a secret of its own")
    yield from _rotation(values, given)
    ports = [("PORT", "BIND_ADDRESS")]
    if values.get("GRPC_ENABLED"):
        ports.append(("GRPC_PORT", "GRPC_BIND_ADDRESS"))
    ports += [(name, "API_BIND_ADDRESS") for name in ("API_PORT", "HEALTH_CHECK_PORT", "METRICS_PORT")]
    for index, (name, address) in enumerate(ports):
        for other, other_address in ports[:index]:
            places = {values.get(address), values.get(other_address)}
            meet = len(places) == 1 or places & {"0.0.0.0", "::"}
            if meet and values.get(name) and values.get(name) == values.get(other):
                yield f"{name}={values[name]}: {other} is the same; accepted is a port of its own"


def _redis(values: Mapping[str, Any], given: Mapping[str, tuple[str, str]]) -> Iterator[str]:
    """Faults of REDIS_URL, and of what is of no use without it."""
    tls = False
    if "REDIS_URL" in given and "REDIS_URL" in values:
        try:
            tls = redis_url.parse(values["REDIS_URL"], values.get("REDIS_PASSWORD", "")).tls
        except ValueError as error:
            yield _fault("REDIS_URL", given, str(error))
            return
    elif "REDIS_PASSWORD" in given and "REDIS_URL" not in given:
        yield _fault("REDIS_PASSWORD", given, "it is of no use without REDIS_URL; accepted is no value")
    path = values.get("REDIS_CA_FILE")
    if path and not tls:
        yield _fault(
            "REDIS_CA_FILE", given, "it is of no use without rediss:// in REDIS_URL; accepted is no value"
        )
    elif path:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
        except (OSError, ValueError):
            yield _fault("REDIS_CA_FILE", given, "accepted is a file with certificates in PEM form")


def _rotation(values: Mapping[str, Any], given: Mapping[str, tuple[str, str]]) -> Iterator[str]:
    """Faults of secrets and keys that take each other's place."""
    previous = values.get("JWT_SECRET_PREVIOUS")
    if previous and "JWT_SECRET_PREVIOUS_UNTIL" not in given:
        why = f"JWT_SECRET_PREVIOUS_UNTIL is not set; accepted is {INSTANT.accepted}"
        yield _fault("JWT_SECRET_PREVIOUS", given, why)
    if previous and previous == values.get("JWT_REFRESH_SECRET"):
        why = "JWT_REFRESH_SECRET is the same; accepted is a secret of its own"
        yield _fault("JWT_SECRET_PREVIOUS", given, why)
    if values.get("PROXY_PROTOCOL") and not values.get("TRUSTED_PROXIES"):
        why = "it is of no use without TRUSTED_PROXIES; accepted is false"
        yield _fault("PROXY_PROTOCOL", given, why)
    if bool(values.get("TLS_CERTIFICATE")) != bool(values.get("TLS_KEY")):
        name = "TLS_CERTIFICATE" if values.get("TLS_CERTIFICATE") else "TLS_KEY"
        yield _fault(name, given, "TLS_CERTIFICATE and TLS_KEY go together; accepted are both or none")
    if bool(values.get("GRPC_TLS_CERTIFICATE")) != bool(values.get("GRPC_TLS_KEY")):
        name = "GRPC_TLS_CERTIFICATE" if values.get("GRPC_TLS_CERTIFICATE") else "GRPC_TLS_KEY"
        why = "GRPC_TLS_CERTIFICATE and GRPC_TLS_KEY go together; accepted are both or none"
        yield _fault(name, given, why)
    if values.get("GRPC_TLS_CLIENT_CA") and not values.get("GRPC_TLS_CERTIFICATE"):
        why = "it is of no use without GRPC_TLS_CERTIFICATE; accepted is no value"
        yield _fault("GRPC_TLS_CLIENT_CA", given, why)
    for name in ("GRPC_TLS_CERTIFICATE", "GRPC_TLS_KEY", "GRPC_TLS_CLIENT_CA"):
        if values.get(name) and not os.access(values[name], os.R_OK):
            yield _fault(name, given, "accepted is a file that can be read")
    if values.get("TLS_CERTIFICATE") and values.get("PROXY_PROTOCOL"):
        why = "the PROXY protocol is not taken before TLS; accepted is false, or TLS that the proxy ends"
        yield _fault("PROXY_PROTOCOL", given, why)
    if values.get("AUTH_SERVICE_KEY") and "AUTH_SERVICE_URL" not in given:
        why = "it is of no use without AUTH_SERVICE_URL; accepted is no value"
        yield _fault("AUTH_SERVICE_KEY", given, why)


def _missing(values: Mapping[str, Any]) -> Iterator[str]:
    """Faults of what production can't do without. What was refused already is not missing."""
    for name, accepted in (
        ("JWT_SECRET", "at least 32 bytes"),
        ("API_KEY", "at least 16 bytes"),
        ("WS_ALLOWED_ORIGINS", SETTINGS["WS_ALLOWED_ORIGINS"].kind.accepted),
    ):
        if name == "JWT_SECRET" and values.get("JWT_JWKS_URL"):
            continue
        if values.get(name) in ("", ()):
            yield f"{name} is not set: production needs it; accepted is {accepted}"
    if 0 < len(values.get("API_KEY", "")) < 16:
        yield f"API_KEY={mask(values['API_KEY'])}: accepted in production is at least 16 bytes"


def _add_state(values: dict[str, Any], make: bool) -> Iterator[str]:
    """Take the secrets that are not set from the state file."""
    path = values.get("REALTIME_STATE")
    lacking = [name for name in state.NAMES if values.get(name) == ""]
    if path is None or not lacking:
        return
    try:
        found = state.read(path)
        if found is None and make:
            found = state.make(path)
    except state.StateError as error:
        yield f"REALTIME_STATE={path!a}: {error}"
    else:
        values.update({name: found[name] for name in lacking} if found else {})
