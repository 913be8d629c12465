"""TLS: the certificate that clients are shown, read again when its files change; TLS 1.2 and newer."""

from __future__ import annotations

import os
from typing import Any, Final

from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator, IReactorTime
from twisted.internet.ssl import CertificateOptions, TLSVersion
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from ..periodic import Periodic
from ..settings import ConfigError

_log = Logger()

#: Seconds between looks whether the files have changed.
LOOK: Final = 2.0


def half_close(transport: Any) -> None:
    """Say that nothing more is sent, and go on receiving; over TLS, where that can't be, close."""
    if isinstance(transport, TLSMemoryBIOProtocol):
        transport.loseConnection()
    else:
        getattr(transport, "loseWriteConnection", transport.loseConnection)()


@implementer(IOpenSSLServerConnectionCreator)
class Certificates:
    """What a TLS port needs.

    :param certificate: file with the certificate and the chain below the root (PEM).
    :param key: file with its private key (PEM).
    :raises ConfigError: they can't be used.
    """

    def __init__(self, clock: IReactorTime, certificate: str, key: str) -> None:
        self._files = (certificate, key)
        self._changed = self._times()
        self._context = self._read()
        self._periodic = Periodic(clock, (LOOK, self.look))

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """See `IOpenSSLServerConnectionCreator`."""
        return SSL.Connection(self._context, None)

    def start(self) -> None:
        """Begin to look for changes."""
        self._periodic.start()

    def stop(self) -> None:
        """Look no more."""
        self._periodic.stop()

    def look(self) -> None:
        """Take what is in the files if they have changed; what can't be used changes nothing."""
        changed = self._times()
        if changed == self._changed:
            return
        self._changed = changed
        try:
            self._context = self._read()
        except ConfigError as error:
            _log.error("the certificate stays as it was: {fault}", fault=str(error))
        else:
            _log.info("the certificate was read again")

    def _times(self) -> list[int]:
        found = []
        for name in self._files:
            try:
                found.append(os.stat(name).st_mtime_ns)
            except OSError:
                found.append(0)
        return found

    def _read(self) -> SSL.Context:
        certificate, key = self._files
        context: SSL.Context = CertificateOptions(raiseMinimumTo=TLSVersion.TLSv1_2).getContext()
        try:
            context.use_certificate_chain_file(certificate)
        except SSL.Error:
            raise ConfigError(
                f"TLS_CERTIFICATE={certificate!a}: accepted is a file with a certificate in PEM form"
            ) from None
        try:
            context.use_privatekey_file(key)
            context.check_privatekey()
        except SSL.Error:
            raise ConfigError(
                f"TLS_KEY={key!a}: accepted is a file with the certificate's private key in PEM form"
            ) from None
        return context
