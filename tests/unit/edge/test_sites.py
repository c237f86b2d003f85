import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banish.caching.policy import CachePolicy
from banish.edge.config import Config, Rule
from banish.edge.config import Site as SiteConfig
from banish.edge.sites import Site, Sites


def site(name: str, *hosts: str, rules: tuple[Rule, ...] = ()) -> SiteConfig:
    return SiteConfig(name=name, hosts=hosts or ("*",), origin=("http://a",), rules=rules)


SITES = Sites(
    Config(
        sites=(
            site("exact", "www.shop.example", "[2001:DB8::1]"),
            site("below", "*.shop.example"),
            site("deeper", "*.eu.shop.example"),
            site("any", "*"),
        )
    )
)


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("www.shop.example", "exact"),
        ("www.shop.example:8080", "exact"),
        ("[2001:db8::1]", "exact"),
        ("[2001:db8::1]:8080", "exact"),
        ("img.shop.example", "below"),
        ("a.b.shop.example:81", "below"),
        ("de.eu.shop.example", "deeper"),
        ("eu.shop.example", "below"),
        ("shop.example", "any"),
        ("notshop.example", "any"),
        ("", "any"),
    ],
)
def test_exact_wins_over_the_longest_wildcard_over_any(host: str, name: str) -> None:
    found = SITES.match(host)
    assert found is not None
    assert found.name == name


def test_a_host_of_no_site_has_none() -> None:
    assert Sites(Config(sites=(site("a", "a.example", "*.b.example"),))).match("c.example") is None


def test_a_site_without_rules_has_one_policy() -> None:
    plain = Site(site("a"))
    assert plain.policy("/x") is plain.policy("/y")


def test_rules_that_match_apply_in_order_and_the_later_wins() -> None:
    ruled = Site(
        site(
            "a",
            rules=(
                Rule(path=("/static/*",), override_ttl_s=60.0, ignore_cookies=True),
                Rule(path=("*.html", "/static/now"), override_ttl_s=0.0),
                Rule(path=("/account*",), bypass=True, vary_on=("X-Plan",)),
            ),
        )
    )
    assert ruled.policy("/static/a.css").override_ttl_s == 60
    assert ruled.policy("/static/a.html").override_ttl_s == 0
    assert ruled.policy("/static/a.html").ignore_cookies
    assert ruled.policy("/static/now").override_ttl_s == 0
    assert ruled.policy("/").override_ttl_s is None
    assert ruled.policy("/account/1").bypass
    assert ruled.policy("/account/1").vary_on == ("x-plan",)
    assert ruled.policy("/static/a.css") is ruled.policy("/static/b.css")


@given(st.text("ab/*?", min_size=1, max_size=8), st.text("ab/\n", max_size=12))
def test_globs_match_as_globs_do(glob: str, path: str) -> None:
    ruled = Site(site("a", rules=(Rule(path=(glob,), bypass=True),)))
    assert ruled.policy(path).bypass is fnmatch.fnmatchcase(path, glob)


def test_what_is_special_elsewhere_stands_for_itself() -> None:
    ruled = Site(site("a", rules=(Rule(path=("/a.[b]+(c)$",), bypass=True),)))
    assert ruled.policy("/a.[b]+(c)$").bypass
    assert not ruled.policy("/axb").bypass


def test_the_digest_of_a_sites_rules_is_the_same_wherever_its_origin_is() -> None:
    def digest(**changes: object) -> bytes:
        return Site(SiteConfig(**{"name": "shop", "origin": ("http://a",), **changes})).rules_digest  # type: ignore[arg-type]

    assert digest() == digest(origin=("http://10.0.0.1",), host_header="inside.example")
    others = [
        digest(name="blog"),
        digest(cache=CachePolicy(query_sort=True)),
        digest(rules=(Rule(path=("/x",), bypass=True),)),
    ]
    assert len({digest(), *others}) == 4
