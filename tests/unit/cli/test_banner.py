import pytest

from banish.cli.banner import show_banner, url
from banish.cli.report import console
from banish.edge.config import Config, Listener, Site
from banish.edge.units import Address


def banner(config: Config, ports: list[int], capsys: pytest.CaptureFixture[str]) -> str:
    show_banner(config, ports, console())
    return capsys.readouterr().err


def test_it_names_the_ports_in_use_and_a_request_that_works(capsys: pytest.CaptureFixture[str]) -> None:
    config = Config(
        listen=(Listener(address=":80", redirect_to_https=True), Listener(address="127.0.0.1:0")),
        sites=(Site(origin=("http://a",), hosts=("*.b.example", "shop.example")),),
    )
    said = banner(config, [80, 4321], capsys)
    assert "http://localhost/  (redirects to https)" in said
    assert "http://127.0.0.1:4321/" in said
    assert "curl -i -H 'Host: shop.example' http://127.0.0.1:4321/" in said


def test_a_site_for_any_host_needs_no_host_field(capsys: pytest.CaptureFixture[str]) -> None:
    config = Config(sites=(Site(origin=("http://a",)),))
    assert "curl -i http://127.0.0.1:8080/" in banner(config, [8080], capsys)


@pytest.mark.parametrize(
    ("scheme", "address", "shown"),
    [
        ("http", Address(None, 80), "http://localhost/"),
        ("https", Address("::", 443), "https://localhost/"),
        ("https", Address("::1", 8443), "https://[::1]:8443/"),
        ("http", Address("192.0.2.1", 443), "http://192.0.2.1:443/"),
    ],
)
def test_an_address_becomes_something_to_click_on(scheme: str, address: Address, shown: str) -> None:
    assert url(scheme, address) == shown
