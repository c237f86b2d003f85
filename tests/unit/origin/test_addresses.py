import pytest

from banish.errors import ConfigError
from banish.origin.addresses import Address, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("http://a.example", Address("http", "a.example", 80)),
        ("https://A.example/", Address("https", "a.example", 443)),
        ("http://10.0.0.1:8080", Address("http", "10.0.0.1", 8080)),
        ("http://[::1]:8080", Address("http", "::1", 8080)),
        ("unix:/run/app.sock", Address("unix", "/run/app.sock", 0)),
    ],
)
def test_an_address_is_read(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        *("", "a.example", "ftp://a.example", "http://", "http://a:0", "http://a:99999", "http://a:x"),
        *("http://a/path", "http://a?q", "http://u:p@a", "unix:relative", "http://[::1"),
    ],
)
def test_what_cannot_be_connected_to_is_refused_with_words(text: str) -> None:
    with pytest.raises(ConfigError, match="origin"):
        parse_address(text)
