"""The certificate authority of a mesh: who may speak on its links, said by certificates.

    authority     EC P-256, self-signed; its key stays where invitations are made
    an edge's     EC P-256, signed by the authority. CN = the edge's id, OU = its name, for people; SAN = the hosts of
                  its endpoints; for both ends of a connection

The common name is what links are admitted by (`zenoh_config.py`). It is the id and not the name because an id is never
used twice: whoever is forgotten stays out, though its certificate is still valid and another edge may have its name.

Not here: files (`directory.py`); the key that records are signed with (`store/identity.py`).
Source: RFC 5280; CA/Browser Forum baseline for key and digest. Units: days.
"""

import datetime
from collections.abc import Sequence
from typing import NamedTuple, Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from banish.errors import ConfigError
from banish.mesh.endpoints import Endpoint, parse_endpoint

AUTHORITY_DAYS = 3650
"""How long an authority is valid. Exchanging it means a new mesh, so long; its key can be kept off line."""

EDGE_DAYS = 365
"""How long an edge's certificate is valid. `banish mesh renew` makes a new one."""

BACKDATED = datetime.timedelta(minutes=5)
"""Certificates are valid from a little before they were made: clocks differ."""

NAME_MAX = 64
"""Characters of the name of an edge: what an OU can hold (RFC 5280, appendix A)."""


class Certified(NamedTuple):
    """A certificate and its key, both PEM. The key is a secret."""

    certificate: bytes
    key: bytes


class Authority:
    """Makes certificates for the edges of one mesh."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        """For `create` and `load`."""
        self._certificate = certificate
        self._key = key

    @classmethod
    def create(cls, name: str, now: float) -> Self:
        """A new authority. Its key exists nowhere else yet."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = _usage(key_cert_sign=True, crl_sign=True)
        certificate = (
            _builder(subject, subject, key.public_key(), now, AUTHORITY_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        return cls(certificate, key)

    @classmethod
    def load(cls, kept: Certified) -> Self:
        """The authority that was kept so. Raises ConfigError."""
        certificate, key = _load(kept, "the authority's")
        return cls(certificate, key)

    @property
    def certificate(self) -> bytes:
        """What every edge trusts. PEM."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def kept(self) -> Certified:
        """All there is of it, to be kept."""
        return Certified(self.certificate, _pem(self._key))

    def certify(
        self, edge: str, name: str, endpoints: Sequence[str], now: float, *, days: int = EDGE_DAYS
    ) -> Certified:
        """A certificate for an edge, and a new key. Raises ConfigError if an endpoint is none."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, name),
                x509.NameAttribute(NameOID.COMMON_NAME, edge),
            ]
        )
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = (
            _builder(subject, self._certificate.subject, key.public_key(), now, days)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .add_extension(_names([parse_endpoint(text) for text in endpoints], edge), critical=False)
        )
        return Certified(_bytes(builder.sign(self._key, hashes.SHA256())), _pem(key))


def check(certified: Certified, authority: bytes, edge: str, endpoints: Sequence[str], now: float) -> float:
    """Until when an edge can use this certificate. Raises ConfigError: it is not this edge's, not of this authority,
    not valid now, or not for these endpoints.
    """
    certificate, _ = _load(certified, "the edge's")
    try:
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(authority))
    except (InvalidSignature, ValueError, TypeError) as error:
        raise ConfigError("the edge's certificate is not of the authority of this mesh") from error
    holder = _holder(certificate)
    if holder != edge:
        raise ConfigError(f"the certificate is that of the edge {holder}, and this is {edge}")
    first, last = certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
    if not first <= now < last:
        what = "has ended" if now >= last else "begins later: is the clock right?"
        raise ConfigError(f"the validity of the edge's certificate {what}; banish mesh renew makes a new one")
    hosts = _hosts(certificate)
    for endpoint in map(parse_endpoint, endpoints):
        host = endpoint.host.lower() if endpoint.address is None else str(endpoint.address)
        if endpoint.protocol == "tls" and host not in hosts:
            raise ConfigError(f"the edge's certificate is not for {endpoint.host}; banish mesh renew makes one that is")
    return last


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: float, days: int
) -> x509.CertificateBuilder:
    at = datetime.datetime.fromtimestamp(now, datetime.UTC).replace(microsecond=0)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - BACKDATED)
        .not_valid_after(at + datetime.timedelta(days=days))
    )


def _usage(*, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _names(endpoints: Sequence[Endpoint], edge: str) -> x509.SubjectAlternativeName:
    """What others may dial; for an edge that nobody dials, its id: some libraries refuse a certificate without."""
    found: list[x509.GeneralName] = []
    for host in dict.fromkeys(endpoint.host.lower() for endpoint in endpoints):
        address = Endpoint("tls", host, 1).address
        found.append(x509.DNSName(host) if address is None else x509.IPAddress(address))
    return x509.SubjectAlternativeName(found or [x509.DNSName(edge)])


def _hosts(certificate: x509.Certificate) -> set[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    dns = {name.lower() for name in names.get_values_for_type(x509.DNSName)}
    return dns | {str(address) for address in names.get_values_for_type(x509.IPAddress)}


def _holder(certificate: x509.Certificate) -> str:
    found = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else ""


def _load(kept: Certified, whose: str) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """Both, if they belong together. Raises ConfigError."""
    try:
        certificate = x509.load_pem_x509_certificate(kept.certificate)
        key = serialization.load_pem_private_key(kept.key, password=None)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{whose} certificate or key is damaged, or not in PEM: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise ConfigError(f"{whose} key does not belong to its certificate")
    return certificate, key


def _bytes(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
