"""TLS for listeners: one context a listener, the certificate chosen by the name the client asks for (SNI).

Source: RFC 6066 section 3; RFC 9325 for the least version. Names are those in the certificates themselves.
"""

import ssl
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509

from banish.edge.config import Certificate
from banish.errors import ConfigError


def server_context(certificates: Sequence[Certificate]) -> ssl.SSLContext:
    """A context that offers the first certificate, or the one whose names cover what the client asks for.

    Raises ConfigError if a file is missing or is not what it should be.
    """
    contexts = [_context(certificate) for certificate in certificates]
    by_name: dict[str, ssl.SSLContext] = {}
    for certificate, context in zip(certificates, contexts, strict=True):
        for name in _names(certificate):
            by_name.setdefault(name, context)
    if len(contexts) > 1:
        contexts[0].sni_callback = lambda connection, asked, _: _choose(connection, asked, by_name)
    return contexts[0]


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
    """DNS names and addresses that a certificate is for, in lower case."""
    try:
        leaf = x509.load_pem_x509_certificate(Path(certificate.certificate).read_bytes())
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    except ValueError as error:
        raise ConfigError(f"certificate {certificate.certificate!r} cannot be read: {error}") from error
    return [name.lower() for name in names.get_values_for_type(x509.DNSName)]


def _choose(connection: ssl.SSLObject | ssl.SSLSocket, asked: str | None, by_name: dict[str, ssl.SSLContext]) -> None:
    """Put the fitting certificate's context in; the first stays where none fits."""
    if asked is None:
        return
    name = asked.lower()
    context = by_name.get(name) or by_name.get("*." + name.partition(".")[2])
    if context is not None:
        connection.context = context
