import pytest
from structlog.testing import capture_logs

from banish.cli.banner import announce, show_banner, url
from banish.cli.report import console
from banish.edge.config import Certificate, Config, Listener, Log, Parent, Site
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


def test_over_tls_the_name_is_asked_for_as_well(capsys: pytest.CaptureFixture[str]) -> None:
    config = Config(
        listen=(Listener(address=":0", tls=(Certificate(certificate="c.pem", key="k.pem"),)),),
        sites=(Site(origin=("http://a",), hosts=("shop.example",)),),
    )
    request = "curl -i --resolve shop.example:8443:127.0.0.1 https://shop.example:8443/"
    assert request in banner(config, [8443], capsys)


def test_a_log_in_json_is_told_in_json() -> None:
    config = Config(log=Log(format_app="json"), sites=(Site(origin=("http://a",)),))
    with capture_logs() as logged:
        announce(config, [8080], console())
    assert (logged[0]["event"], logged[0]["listening"]) == ("serving", ["http://127.0.0.1:8080/"])


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


def test_it_names_the_edges_that_a_site_asks_before_its_origin(capsys: pytest.CaptureFixture[str]) -> None:
    parents = (Parent(url="https://paris.example"), Parent(url="http://10.0.0.1", member="lagos"))
    config = Config(sites=(Site(name="shop", hosts=("shop.example",), origin=("http://a",), parent=parents),))
    assert "shop.example → paris, lagos → http://a" in banner(config, [8080], capsys)
