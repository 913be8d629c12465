"""Sockets for several processes at one address."""

from __future__ import annotations

import socket

from twisted.trial.unittest import SynchronousTestCase

from realtime.settings import ConfigError
from realtime.shared_ports import open_shared, passed


class SharedTests(SynchronousTestCase):
    """`open_shared`, `passed`."""

    def opened(self, port: int, count: int, address: str = "127.0.0.1") -> list[socket.socket]:
        made = open_shared("PORT", address, port, count)
        for one in made:
            self.addCleanup(one.close)
        return made

    def test_any_port(self) -> None:
        """All have the same, and all listen."""
        made = self.opened(0, 3)
        ports = {one.getsockname()[1] for one in made}
        self.assertEqual(len(ports), 1)
        with socket.create_connection(("127.0.0.1", ports.pop())):
            pass

    def test_that_port_again(self) -> None:
        """A port that was given up can be had; one that is in use can't, by another service either."""
        (one,) = self.opened(0, 1)
        port = one.getsockname()[1]
        with self.assertRaises(ConfigError) as caught:
            self.opened(port, 2)
        self.assertIn(f"PORT={port}: 127.0.0.1 port {port} can't be bound", str(caught.exception))
        one.close()
        self.assertEqual({made.getsockname()[1] for made in self.opened(port, 2)}, {port})

    def test_ipv6(self) -> None:
        made = self.opened(0, 2, "::1")
        self.assertEqual({one.family for one in made}, {socket.AF_INET6})

    def test_passed(self) -> None:
        """A socket that systemd has opened is the same one for all."""
        (one,) = self.opened(0, 1)
        copies = passed(one.fileno(), 2)
        for copy in copies:
            self.addCleanup(copy.close)
        self.assertEqual({copy.getsockname() for copy in copies}, {one.getsockname()})
