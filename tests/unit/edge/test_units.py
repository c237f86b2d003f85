import pytest
from hypothesis import given
from hypothesis import strategies as st

from banish.edge.units import Address, format_bytes, parse_address, parse_bytes, parse_duration


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0", 0),
        ("1024", 1024),
        ("256MiB", 256 * 1024**2),
        ("1.5 GiB", 1536 * 1024**2),
        ("64k", 65536),
        ("1MB", 10**6),
        ("2 tib", 2 * 1024**4),
    ],
)
def test_bytes_take_units(text: str, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "MiB", "-1", "12 potatoes", "1,5MiB", "1MiB2"])
def test_other_sizes_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="256MiB"):
        parse_bytes(text)


@given(st.integers(0, 2**50))
def test_formatted_bytes_read_back_as_they_were(count: int) -> None:
    assert parse_bytes(format_bytes(count)) == count


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("-1", -1),
        ("1.5s", 1.5),
        ("250ms", 0.25),
        ("1h 30m", 5400),
        ("10 minutes", 600),
        ("2weeks", 1209600),
    ],
)
def test_durations_take_units(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "10x", "1 month", "1h30", "5 m s"])
def test_other_durations_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="1h 30m"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", Address("127.0.0.1", 8080)),
        ("[::1]:80", Address("::1", 80)),
        (":443", Address(None, 443)),
        ("8080", Address(None, 8080)),
        ("edge.example:0", Address("edge.example", 0)),
    ],
)
def test_addresses_are_read(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["", "localhost", "::1:80", "host:65536", "host:-1", "ho st:80", "h:8²"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        parse_address(text)


@pytest.mark.parametrize(
    ("text", "loopback"),
    [("127.0.0.1:1", True), ("127.8.0.1:1", True), ("[::1]:1", True), ("localhost:1", True),
     (":1", False), ("0.0.0.0:1", False), ("127.evil.example:1", False), ("[::]:1", False)],
)  # fmt: skip
def test_loopback_is_told_from_the_rest(text: str, loopback: bool) -> None:
    assert parse_address(text).loopback is loopback
