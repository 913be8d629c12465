"""Tests of the greeting of a development server."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from realtime.banner import banner
from realtime.settings import Settings


class BannerTests(SynchronousTestCase):
    """It holds the address, the token, and a client of three lines that uses both."""

    def client(self, settings: Settings) -> list[str]:
        """The lines of the snippet."""
        return (
            banner(settings, 4711, "the.token", "the-key")
            .partition("socket.io-client):\n")[2]
            .strip()
            .split("\n")
        )

    def test_text(self) -> None:
        text = banner(Settings(), 4711, "the.token", "the-key")
        self.assertIn("http://127.0.0.1:4711/socket.io\n", text)
        self.assertIn("\nhttp://127.0.0.1:4711/try/#key=the-key\n", text)
        self.assertIn("\nthe.token\n", text)
        self.assertTrue(text.endswith("\n"))

    def test_client(self) -> None:
        self.assertEqual(
            self.client(Settings()),
            [
                'import { io } from "socket.io-client";',
                'const socket = io("http://127.0.0.1:4711", { auth: { token: "the.token" } });',
                "socket.onAny((event, ...data) => console.log(event, ...data));",
            ],
        )

    def test_path(self) -> None:
        """A path that is not the client's default is given to it."""
        self.assertIn(
            'io("http://127.0.0.1:4711", { path: "/live", auth: {',
            self.client(Settings(ws_path="/live"))[1],
        )

    def test_tls(self) -> None:
        """With a certificate the addresses are those of TLS."""
        text = banner(Settings(tls_certificate="a.pem"), 4711, "the.token", "the-key")
        self.assertIn("\nhttps://127.0.0.1:4711/try/#key=the-key\n", text)

    def test_address(self) -> None:
        """All addresses are none to connect to; IPv6 goes into brackets."""
        for bound, shown in (
            ("0.0.0.0", "http://localhost:4711"),
            ("::", "http://localhost:4711"),
            ("::1", "http://[::1]:4711"),
            ("10.0.0.1", "http://10.0.0.1:4711"),
        ):
            self.assertIn(f'io("{shown}"', self.client(Settings(bind_address=bound))[1])
