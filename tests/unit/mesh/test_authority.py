"""Certificates: whose they are, by whom, for what, until when."""

import ssl
import time

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from banish.errors import ConfigError
from banish.mesh.authority import EDGE_DAYS, Authority, Certified, check

NOW = time.time()
EDGE = "0123456789abcdef"
ENDPOINTS = ("tls/Paris.example:7447", "tls/192.0.2.1:7447", "tls/[2001:DB8::1]:7447")


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.create("a mesh", NOW)


def test_an_edge_is_known_by_its_id_and_people_read_its_name(authority: Authority) -> None:
    certificate = x509.load_pem_x509_certificate(authority.certify(EDGE, "paris", ENDPOINTS, NOW).certificate)
    subject = certificate.subject
    assert [one.value for one in subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == [EDGE]
    assert [one.value for one in subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)] == ["paris"]


def test_it_is_for_the_hosts_of_its_endpoints_and_for_both_ends(authority: Authority) -> None:
    certificate = x509.load_pem_x509_certificate(authority.certify(EDGE, "paris", ENDPOINTS, NOW).certificate)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["paris.example"]
    assert [str(one) for one in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.1", "2001:db8::1"]
    usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usages) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}


def test_tls_takes_it(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> None:
    home = tmp_path_factory.mktemp("tls")
    certified = authority.certify(EDGE, "paris", ENDPOINTS, NOW)
    for name, data in (
        ("edge.pem", certified.certificate),
        ("edge.key", certified.key),
        ("ca.pem", authority.certificate),
    ):
        (home / name).write_bytes(data)
    context = ssl.create_default_context(cafile=str(home / "ca.pem"))
    context.load_cert_chain(home / "edge.pem", home / "edge.key")


def test_it_fits_its_edge(authority: Authority) -> None:
    certified = authority.certify(EDGE, "paris", ENDPOINTS, NOW)
    until = check(certified, authority.certificate, EDGE, ENDPOINTS, NOW)
    assert until == pytest.approx(NOW + EDGE_DAYS * 86400, abs=2)


def test_an_edge_that_nobody_dials_needs_no_hosts(authority: Authority) -> None:
    assert check(authority.certify(EDGE, "paris", (), NOW), authority.certificate, EDGE, (), NOW) > NOW


def test_what_was_kept_makes_certificates_of_the_same_authority(authority: Authority) -> None:
    again = Authority.load(authority.kept)
    check(again.certify(EDGE, "paris", (), NOW), authority.certificate, EDGE, (), NOW)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"edge": "fedcba9876543210"}, "is that of the edge"),
        ({"authority": Authority.create("another", NOW).certificate}, "not of the authority"),
        ({"now": NOW + EDGE_DAYS * 86400 + 1}, "has ended"),
        ({"now": NOW - 86400}, "begins later"),
        ({"endpoints": ("tls/berlin.example:7447",)}, "not for berlin.example"),
        ({"certified": Certified(b"?", b"?")}, "damaged"),
    ],
    ids=["another edge's", "another authority's", "too old", "too new", "another host's", "damaged"],
)
def test_what_does_not_fit_is_said(authority: Authority, change: dict[str, object], what: str) -> None:
    told = {
        "certified": authority.certify(EDGE, "paris", ENDPOINTS, NOW),
        "authority": authority.certificate,
        "edge": EDGE,
        "endpoints": ENDPOINTS,
        "now": NOW,
        **change,
    }
    with pytest.raises(ConfigError, match=what):
        check(**told)  # type: ignore[arg-type]


def test_a_key_of_another_certificate_is_found_out(authority: Authority) -> None:
    one, other = (authority.certify(EDGE, "paris", (), NOW) for _ in range(2))
    with pytest.raises(ConfigError, match="does not belong"):
        check(Certified(one.certificate, other.key), authority.certificate, EDGE, (), NOW)


def test_an_edge_is_no_authority(authority: Authority) -> None:
    forger = Authority.load(authority.certify(EDGE, "paris", (), NOW))
    forged = forger.certify("fedcba9876543210", "berlin", (), NOW)
    with pytest.raises(ConfigError, match="not of the authority"):
        check(forged, authority.certificate, "fedcba9876543210", (), NOW)
