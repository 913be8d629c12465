"""TLS of the clients' port: who may speak it, and a certificate that is renewed while clients stay."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
from pathlib import Path
from typing import Any

from twisted.internet.threads import deferToThread

from tests.clients.raw import POLLING, frame, request, upgrade
from tests.redis_tls import Authority

from .case import LiveCase


class TLSTests(LiveCase):
    async def _start(self, **environ: str) -> Authority:
        folder = self.directory()
        authority = Authority(folder)
        certificate, key = authority.issue(folder)
        self.files = (certificate, key)
        await self.start_service(TLS_CERTIFICATE=str(certificate), TLS_KEY=str(key), **environ)
        return authority

    def _connect(self, authority: Authority, **options: Any) -> ssl.SSLSocket:
        context = ssl.create_default_context(cafile=str(authority.certificate))
        for name, value in options.items():
            setattr(context, name, value)
        plain = socket.create_connection(("127.0.0.1", self.service.ports["PORT"]), 10)
        return context.wrap_socket(plain, server_hostname="localhost")

    def _ask(self, authority: Authority, data: bytes, until: bytes, **options: Any) -> bytes:
        with self._connect(authority, **options) as connection:
            connection.sendall(data)
            answer = b""
            while until not in answer:
                got = connection.recv(65536)
                if not got:
                    break
                answer += got
            return answer

    async def test_clients(self) -> None:
        """Polling and WebSocket over TLS 1.2 and 1.3; browsers are told to stay with https."""
        authority = await self._start(TLS_HSTS="86400000")
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            bound = {"minimum_version": version, "maximum_version": version}
            polled = await deferToThread(self._ask, authority, request("GET", POLLING), b"}", **bound)
            self.assertTrue(polled.startswith(b"HTTP/1.1 200 "), polled)
            self.assertIn(b"Strict-Transport-Security: max-age=86400\r\n", polled)
            packet = frame(b"40" + json.dumps({"token": self.token("alice")}).encode())
            sent = upgrade() + packet
            told = await deferToThread(self._ask, authority, sent, b"system:connected", **bound)
            self.assertIn(b"system:connected", told)

    async def test_whoever_speaks_no_tls(self) -> None:
        """Older versions and plain HTTP get nothing; the service goes on."""
        authority = await self._start()
        old = {"minimum_version": ssl.TLSVersion.TLSv1, "maximum_version": ssl.TLSVersion.TLSv1_1}

        def too_old() -> str:
            try:
                self._ask(authority, b"", b"}", **old)
            except (ssl.SSLError, OSError) as error:
                return type(error).__name__
            return ""

        self.assertTrue(await deferToThread(too_old))

        def plain() -> bytes:
            with socket.create_connection(("127.0.0.1", self.service.ports["PORT"]), 10) as connection:
                connection.sendall(request("GET", POLLING))
                return connection.recv(1000)

        self.assertNotIn(b"HTTP/1.1 200", await deferToThread(plain))
        polled = await deferToThread(self._ask, authority, request("GET", POLLING), b"}")
        self.assertNotIn(b"Strict-Transport-Security", polled)

    async def test_renewal(self) -> None:
        """A new certificate is shown once its files are there; one that is broken changes nothing."""
        authority = await self._start()
        connected = await deferToThread(self._connect, authority)
        self.addCleanup(connected.close)
        before = connected.getpeercert(True)
        folder = self.directory()
        folder.mkdir()
        certificate, key = authority.issue(folder)
        self.service.forgiven.append("the certificate stays as it was")
        Path(self.files[0]).write_text("no certificate")

        async def refused() -> bool:
            return bool(self.service.entries("the certificate was read again")) or any(
                "the certificate stays as it was" in line for line in self.service.log
            )

        await self.until(refused, "the broken certificate to be refused")
        shutil.copy(key, self.files[1])
        shutil.copy(certificate, self.files[0])

        async def renewed() -> bool:
            shown = await deferToThread(self._connect, authority)
            with shown:
                return bool(shown.getpeercert(True) != before)

        await self.until(renewed, "the new certificate to be shown")
        connected.sendall(request("GET", POLLING))
        self.assertTrue((await deferToThread(connected.recv, 1000)).startswith(b"HTTP/1.1 200 "))
