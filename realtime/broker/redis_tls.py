"""TLS to Redis: the certificate has to be one of a trusted authority, and for the very host.

Twisted's own check lets a certificate that names nothing pass for any host: it swallows the error.
"""

from __future__ import annotations

from typing import Any, Final

from OpenSSL import SSL
from service_identity.hazmat import DNS_ID, IPAddress_ID, verify_service_identity
from service_identity.pyopenssl import extract_patterns
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import (
    Certificate,
    TLSVersion,
    optionsForClientTLS,
    platformTrust,
    trustRootFromCertificates,
)
from zope.interface import implementer

_END: Final = b"-----END CERTIFICATE-----"


def trusted(authorities: bytes) -> Any:
    """Whose certificates are trusted, for `Strict`.

    :param authorities: PEM certificates one after the other; the system's, if it is empty.
    :raises ValueError: there is no certificate among it, or one that can't be read.
    """
    if not authorities:
        return platformTrust()
    parts = [part + _END + b"\n" for part in authorities.split(_END)[:-1]]
    try:
        certificates = [Certificate.loadPEM(part) for part in parts]
    except Exception:
        certificates = []
    if not certificates:
        raise ValueError("it holds no certificates in PEM form")
    return trustRootFromCertificates(certificates)


@implementer(IOpenSSLClientConnectionCreator)
class Strict:
    """Makes the TLS side of a connection to one host.

    :param host: a name or an IP address.
    :param trust: see `trusted`.
    """

    def __init__(self, host: str, trust: Any) -> None:
        self._options = optionsForClientTLS(
            host,
            trustRoot=trust,
            extraCertificateOptions={"raiseMinimumTo": TLSVersion.TLSv1_2},
        )
        address = isIPAddress(host) or isIPv6Address(host)
        self._identity = IPAddress_ID(host) if address else DNS_ID(host)

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        connection = self._options.clientConnectionForTLS(tlsProtocol)
        connection.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, self._verify)
        return connection

    def _verify(self, connection: Any, certificate: Any, error: int, depth: int, good: int) -> bool:
        if depth or not good:
            return bool(good)
        try:
            verify_service_identity(extract_patterns(certificate), [self._identity], [])
        except Exception:
            return False
        return True
