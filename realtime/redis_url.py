"""REDIS_URL: where Redis is, and how it is reached.

===============================================  ================================================
``redis://[user:password@]host[:6379]``          one server
``rediss://…``                                   the same by TLS
``unix://[user:password@]/path/of.sock``         one server on this machine
``redis+sentinel://[…@]host[:26379],…/service``  the primary that these Sentinels name
``redis+cluster://[…@]host[:6379],…``            a Redis Cluster that these nodes belong to
===============================================  ================================================

``rediss+sentinel://`` and ``rediss+cluster://`` are by TLS. Percent-encoding stands for characters
that a URL can't hold. A database may be named (``/0``), but only 0: deployments are kept apart by
REDIS_DATABASE, a number in the names of keys and channels.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

_SCHEMES: Final = {
    "redis": ("single", False),
    "rediss": ("single", True),
    "unix": ("unix", False),
    "redis+sentinel": ("sentinel", False),
    "rediss+sentinel": ("sentinel", True),
    "redis+cluster": ("cluster", False),
    "rediss+cluster": ("cluster", True),
}
#: What a refusal says is accepted.
ACCEPTED: Final = (
    "redis://host:6379, rediss://, unix:///path, redis+sentinel://host:26379,…/service"
    " or redis+cluster://host:6379,…"
)
_HOST: Final = re.compile(
    r"(\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(:(?P<port>[0-9]{1,5}))?"
)
_SERVICE: Final = re.compile(r"[A-Za-z0-9._-]+")
#: Hosts that one address may name.
_MAX_HOSTS: Final = 64


@dataclass(frozen=True)
class RedisAddress:
    """What a REDIS_URL says.

    :ivar kind: ``single``, ``unix``, ``sentinel`` or ``cluster``.
    :ivar hosts: host and port of the server, the Sentinels, or some nodes of the Cluster.
    :ivar path: of the unix socket.
    :ivar service: the name by which the Sentinels know the primary.
    :ivar user: of the access control list; empty for the default user.
    """

    kind: str
    hosts: tuple[tuple[str, int], ...] = ()
    path: str = ""
    service: str = ""
    user: str = dataclasses.field(default="", repr=False)
    password: str = dataclasses.field(default="", repr=False)
    tls: bool = False


def parse(text: str, password: str = "") -> RedisAddress:
    """Read a REDIS_URL.

    :param password: REDIS_PASSWORD, which wins over the URL's.
    :raises ValueError: it can't be read; the text says why, and nothing of what may be secret.
    """
    scheme, separator, rest = text.partition("://")
    kind, tls = _SCHEMES.get(scheme.lower(), ("", False))
    if not separator or not kind:
        raise ValueError(f"accepted is {ACCEPTED}")
    if "?" in rest or "#" in rest:
        raise ValueError("it has options or a fragment; accepted is neither")
    # What follows the last @ is places, which have none, but in the path of a socket.
    at = rest.rfind("@") if kind != "unix" else -1 if rest.startswith("/") else rest.find("@/")
    credentials, places = ("", rest) if at < 0 else (rest[:at], rest[at + 1 :])
    user, given = _credentials(credentials)
    place, slash, path = places.partition("/")
    address = RedisAddress(kind, user=user, password=password or given, tls=tls)
    if user and not address.password:
        raise ValueError("it names a user without a password; accepted is both, or REDIS_PASSWORD")
    if kind == "unix":
        return dataclasses.replace(address, path=_socket(place, slash + path))
    return dataclasses.replace(address, hosts=_hosts(kind, place), service=_service(kind, path))


def _credentials(text: str) -> tuple[str, str]:
    user, colon, password = text.partition(":")
    try:
        found = unquote_to_bytes(user).decode(), unquote_to_bytes(password).decode()
    except UnicodeDecodeError:
        raise ValueError("its user or password is not UTF-8; accepted is UTF-8, percent-encoded") from None
    if text and not colon:
        raise ValueError("its user has no password; accepted is user:password@ or :password@")
    return found


def _socket(host: str, path: str) -> str:
    if host or not path.strip("/"):
        raise ValueError("accepted is unix:///path/of/the.sock, an absolute path")
    found = unquote_to_bytes(path)
    if b"\0" in found or len(found) > 107:
        raise ValueError("its path is too long for a unix socket; accepted is one of at most 107 bytes")
    return found.decode(errors="surrogateescape")


def _hosts(kind: str, text: str) -> tuple[tuple[str, int], ...]:
    parts = text.split(",")
    if kind == "single" and len(parts) > 1:
        raise ValueError(
            "it names several hosts; accepted is one, or redis+sentinel:// or redis+cluster://"
        )
    if len(parts) > _MAX_HOSTS:
        raise ValueError(f"it names {len(parts)} hosts; accepted is a list of at most {_MAX_HOSTS}")
    return tuple(dict.fromkeys(_host(part, 26379 if kind == "sentinel" else 6379) for part in parts))


def _host(text: str, port: int) -> tuple[str, int]:
    found = _HOST.fullmatch(text)
    if found is None:
        raise ValueError(
            "it names no host, or one that can't be; accepted is host, host:port or [IPv6]:port"
        )
    number = int(found["port"] or port)
    if not 0 < number < 65536:
        raise ValueError("its port is out of range; accepted is 1 to 65535")
    return found["ipv6"] or found["name"], number


def _service(kind: str, path: str) -> str:
    path = path.rstrip("/")
    if kind == "sentinel":
        if _SERVICE.fullmatch(path) is None:
            raise ValueError(
                "it names no service; accepted is redis+sentinel://host:26379,host:26379/service"
            )
        return path
    if path not in ("", "0"):
        what = "a Redis Cluster has only database 0" if kind == "cluster" else "the database is always 0"
        raise ValueError(
            f"it names a database or a path, and {what}; accepted is none (REDIS_DATABASE is a number in"
            " the names of keys and channels)"
        )
    return ""
