"""Addresses: whose they are, and which are believed when they speak for another.

A proxy in front hides its clients' addresses, and tells them in a header field or in the PROXY
protocol. Anybody could: so only addresses of TRUSTED_PROXIES are believed, and of what they pass on
only the part that such an address has written (RELIABILITY.md section 2, rows 8 and 23).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: Hops of X-Forwarded-For that are looked at.
MAX_HOPS: Final = 32


@lru_cache(maxsize=16_384)
def block_of(address: str) -> str:
    """What stands for who has an address: itself; of IPv6 the /64 that one household has."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Address(int(parsed) >> 64 << 64)) + "/64"


class Proxies:
    """The proxies that are believed.

    :param networks: theirs, such as ``10.0.0.0/8``.
    """

    def __init__(self, networks: Iterable[str] = ()) -> None:
        self._networks: list[Network] = [ipaddress.ip_network(network) for network in networks]

    def __bool__(self) -> bool:
        return bool(self._networks)

    def trusts(self, address: str) -> bool:
        """Whether this is the address of a proxy that is believed."""
        if not self._networks:
            return False
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
        return any((mapped or parsed) in network for network in self._networks)

    def client(self, peer: str, forwarded: Iterable[bytes]) -> str:
        """The address of who is behind a connection.

        :param peer: the address that it comes from.
        :param forwarded: its X-Forwarded-For fields. They are read from the right: each address is
            believed if the one after it is a proxy's; what can't be read ends it.
        """
        address = peer
        if not self.trusts(peer):
            return address
        hops = b",".join(forwarded).split(b",")
        for hop in reversed(hops[-MAX_HOPS:]):
            told = _address(hop.strip(b" \t"))
            if told is None:
                break
            address = told
            if not self.trusts(address):
                break
        return address


def _address(text: bytes) -> str | None:
    """An address as proxies write it: perhaps with a port, IPv6 then in brackets."""
    if not 2 <= len(text) <= 64 or not text.isascii():
        return None
    word = text.decode()
    if word.startswith("["):
        word, bracket, port = word[1:].partition("]")
        if not bracket or (port and not _port(port)):
            return None
    elif word.count(":") == 1:
        word, _, number = word.partition(":")
        if not _port(f":{number}"):
            return None
    if "%" in word:
        return None
    try:
        return str(ipaddress.ip_address(word))
    except ValueError:
        return None


def _port(text: str) -> bool:
    return text[0] == ":" and text[1:].isdecimal() and len(text) <= 6
