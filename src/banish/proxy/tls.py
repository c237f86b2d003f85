"""TLS for listeners: the certificate is chosen by the name the client asks for (SNI), and can be renewed at work.

Source: RFC 6066 section 3; RFC 9325 for the least version. The names are those in the certificates themselves.
"""

import ssl
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509

from banish.edge.config import Certificate
from banish.errors import ConfigError

Chosen = tuple[ssl.SSLContext, dict[str, ssl.SSLContext]]
"""The context for whoever asks for no known name, and those for the names."""


class Certificates:
    """The certificates of one listener. `context` is what the listener uses, for as long as it listens."""

    def __init__(self, certificates: Sequence[Certificate]) -> None:
        """Raises ConfigError if a file is missing or is not what it should be."""
        self._certificates = tuple(certificates)
        self.context = _context(self._certificates[0])
        self.context.sni_callback = lambda connection, asked, _: self._choose(connection, asked)
        self.use(self.read())

    def read(self) -> Chosen:
        """What the files hold now. Raises ConfigError."""
        contexts = [_context(certificate) for certificate in self._certificates]
        by_name: dict[str, ssl.SSLContext] = {}
        for certificate, context in zip(self._certificates, contexts, strict=True):
            for name in _names(certificate):
                by_name.setdefault(name, context)
        return contexts[0], by_name

    def use(self, read: Chosen) -> None:
        """Show these to connections to come."""
        self._default, self._by_name = read

    def _choose(self, connection: ssl.SSLObject | ssl.SSLSocket, asked: str | None) -> None:
        """Put in the context of the certificate for this name; the first where none fits."""
        name = (asked or "").lower()
        wildcard = "*." + name.partition(".")[2]
        connection.context = self._by_name.get(name) or self._by_name.get(wildcard) or self._default


def _context(certificate: Certificate) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate.certificate, certificate.key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"certificate {certificate.certificate!r} with key {certificate.key!r} cannot be used: {error}; "
            "both must be PEM files, and the key must belong to the certificate"
        ) from error
    return context


def _names(certificate: Certificate) -> list[str]:
    """The DNS names that a certificate is for, in lower case."""
    try:
        leaf = x509.load_pem_x509_certificate(Path(certificate.certificate).read_bytes())
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    except ValueError as error:
        raise ConfigError(f"certificate {certificate.certificate!r} cannot be read: {error}") from error
    return [name.lower() for name in names.get_values_for_type(x509.DNSName)]
