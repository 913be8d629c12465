"""Whose address a connection has: what proxies say is believed as far as they are, and no further."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from realtime.addresses import Proxies, block_of

from .generated import unhurried

PROXIES = Proxies(["10.0.0.0/8", "2001:db8::1/128"])


class BlockTests(SynchronousTestCase):
    def test_blocks(self) -> None:
        """An IPv4 address stands for itself, an IPv6 address for its /64."""
        for address, block in (
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
            ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
            ("", ""),
            ("unix", "unix"),
        ):
            self.assertEqual(block_of(address), block)


class ProxiesTests(SynchronousTestCase):
    """`Proxies.client`."""

    def client(self, peer: str, *fields: bytes) -> str:
        return PROXIES.client(peer, fields)

    def test_who_is_no_proxy_is_not_believed(self) -> None:
        self.assertEqual(self.client("192.0.2.9", b"6.6.6.6"), "192.0.2.9")
        self.assertEqual(Proxies().client("10.0.0.1", [b"6.6.6.6"]), "10.0.0.1")

    def test_from_the_right(self) -> None:
        """What stands left of an address that is no proxy's is what that one claims."""
        for field, address in (
            (b"192.0.2.1", "192.0.2.1"),
            (b"6.6.6.6, 192.0.2.1", "192.0.2.1"),
            (b"6.6.6.6, 192.0.2.1, 10.1.1.1", "192.0.2.1"),
            (b"6.6.6.6,10.2.2.2 ,\t10.1.1.1", "6.6.6.6"),
            (b"10.2.2.2, 10.1.1.1", "10.2.2.2"),
            (b"192.0.2.1:4711", "192.0.2.1"),
            (b"[2001:db8::5]:4711", "2001:db8::5"),
            (b"[2001:db8::5]", "2001:db8::5"),
            (b"2001:DB8:0::5", "2001:db8::5"),
            (b"192.0.2.1, 2001:db8::1", "192.0.2.1"),
        ):
            self.assertEqual(self.client("10.0.0.1", field), address, field)

    def test_several_fields_are_one_list(self) -> None:
        self.assertEqual(self.client("10.0.0.1", b"6.6.6.6", b"192.0.2.1, 10.1.1.1"), "192.0.2.1")

    def test_rubbish_ends_it(self) -> None:
        """The last address that could be read is believed; nothing else ever is."""
        for rubbish in (
            b"",
            b"unknown",
            b"1.2.3",
            b"1.2.3.4.5",
            b"0x1.2.3.4",
            b"1.2.3.4 5.6.7.8",
            b"1.2.3.4:",
            b"1.2.3.4:999999",
            b"[::1",
            b"[::1]x",
            b"fe80::1%eth0",
            b"\xff",
            b"x" * 9000,
        ):
            self.assertEqual(self.client("10.0.0.1", rubbish), "10.0.0.1", rubbish)
            self.assertEqual(self.client("10.0.0.1", rubbish + b",10.3.3.3"), "10.3.3.3", rubbish)

    def test_hops_are_bounded(self) -> None:
        self.assertEqual(
            self.client("10.0.0.1", b"6.6.6.6," + b"10.1.1.1," * 500 + b"10.1.1.1"), "10.1.1.1"
        )

    @unhurried
    @given(st.lists(st.binary(max_size=80), max_size=4))
    def test_anything(self, fields: list[bytes]) -> None:
        """Whatever is sent, what comes out is an address."""
        block_of(self.client("10.0.0.1", *fields))
        self.assertNotIn("\n", self.client("10.0.0.1", *fields))
