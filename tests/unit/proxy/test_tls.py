"""SNI: which certificate is shown for which name. Handshakes are in memory; sockets are in tests/e2e/test_tls.py."""

import ssl
from pathlib import Path

import pytest
import trustme

from banish.edge.config import Certificate
from banish.errors import ConfigError
from banish.proxy.tls import Certificates


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


def issued(authority: trustme.CA, directory: Path, *names: str) -> Certificate:
    made = authority.issue_cert(*names)
    stem = directory / names[0].replace("*", "star")
    made.cert_chain_pems[0].write_to_path(f"{stem}.pem")
    made.private_key_pem.write_to_path(f"{stem}.key")
    return Certificate(certificate=f"{stem}.pem", key=f"{stem}.key")


@pytest.fixture(scope="module")
def context(authority: trustme.CA, directory: Path) -> ssl.SSLContext:
    """Of three certificates: the first for one name, one for a name and all below it, one for wildcards alone."""
    return Certificates(
        [
            issued(authority, directory, "first.example"),
            issued(authority, directory, "shop.example", "*.shop.example", "first.example"),
            issued(authority, directory, "*.example", "www.shop.example"),
        ]
    ).context


def names_shown(context: ssl.SSLContext, authority: trustme.CA, asked: str | None) -> set[str]:
    """The names in the certificate that a client asking for this one is shown."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    authority.configure_trust(trusting)
    client = trusting.wrap_bio(to_client, to_server, server_hostname=asked)
    server = context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(3):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    shown = client.getpeercert()
    assert shown is not None
    entries = shown["subjectAltName"]
    assert isinstance(entries, tuple)
    return {str(name) for _, name in entries}


FIRST = {"first.example"}
SHOP = {"shop.example", "*.shop.example", "first.example"}
STAR = {"*.example", "www.shop.example"}


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ("first.example", FIRST),  # named by two: the earlier one
        ("shop.example", SHOP),
        ("SHOP.Example", SHOP),
        ("a.shop.example", SHOP),
        ("www.shop.example", STAR),  # the exact name wins over another's wildcard
        ("other.example", STAR),
        ("a.b.shop.example", FIRST),  # a wildcard stands for one label
        ("unknown.test", FIRST),
        ("example", FIRST),
        (None, FIRST),
    ],
)
def test_the_name_asked_for_decides(
    context: ssl.SSLContext, authority: trustme.CA, asked: str | None, shown: set[str]
) -> None:
    assert names_shown(context, authority, asked) == shown


def test_a_single_certificate_is_shown_to_everybody(authority: trustme.CA, directory: Path) -> None:
    only = Certificates([issued(authority, directory, "only.example")]).context
    for asked in ("only.example", "other.example", None):
        assert names_shown(only, authority, asked) == {"only.example"}


def test_old_versions_are_not_spoken(context: ssl.SSLContext) -> None:
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


def test_renewed_files_are_shown_to_connections_to_come(authority: trustme.CA, directory: Path) -> None:
    first, second = (issued(authority, directory, name) for name in ("renewed.example", "second.example"))
    certificates = Certificates([first, second])
    again = authority.issue_cert("renewed.example", "added.example")
    again.cert_chain_pems[0].write_to_path(first.certificate)
    again.private_key_pem.write_to_path(first.key)
    assert names_shown(certificates.context, authority, "added.example") == {"renewed.example"}
    certificates.use(certificates.read())
    for asked in ("added.example", "renewed.example", "unknown.test"):
        assert names_shown(certificates.context, authority, asked) == {"renewed.example", "added.example"}
    assert names_shown(certificates.context, authority, "second.example") == {"second.example"}


def test_files_that_cannot_be_used_leave_what_was_in_force(authority: trustme.CA, directory: Path) -> None:
    only = issued(authority, directory, "damaged.example")
    certificates = Certificates([only])
    Path(only.key).write_text("no key")
    with pytest.raises(ConfigError):
        certificates.use(certificates.read())
    assert names_shown(certificates.context, authority, "damaged.example") == {"damaged.example"}


def test_a_missing_file_is_said_in_clear_words(directory: Path) -> None:
    missing = Certificate(certificate=str(directory / "no.pem"), key=str(directory / "no.key"))
    with pytest.raises(ConfigError, match=r"no\.pem.*cannot be used"):
        Certificates([missing])


def test_a_key_of_another_certificate_is_said_in_clear_words(authority: trustme.CA, directory: Path) -> None:
    one, other = issued(authority, directory, "one.example"), issued(authority, directory, "two.example")
    with pytest.raises(ConfigError, match="the key must belong to the certificate"):
        Certificates([Certificate(certificate=one.certificate, key=other.key)])
