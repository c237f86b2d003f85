import gc

from banish.caching.keys import split_key
from banish.caching.stored import Metadata
from banish.http.fields import Fields
from banish.purge.names import Names, names_of

NAMES = Names("shop", "https://a.example:8443/x?y", ("news", "sport"))


def meta(key: str) -> Metadata:
    return Metadata(
        key,
        200,
        "OK",
        Fields.of([]),
        0.0,
        0.0,
        0.0,
        0.0,
        60.0,
        vary=("dnt",),
        selecting=("1",),
        groups=("g",),
        tags=("t",),
    )


def test_parts_of_the_url() -> None:
    assert NAMES.place == "a.example:8443/x?y"
    assert NAMES.host == "a.example:8443"
    assert NAMES.origin == "https://a.example:8443"


def test_a_url_within_a_query_is_no_scheme() -> None:
    assert Names("shop", "https://a.example/?u=http://b.example/").place == "a.example/?u=http://b.example/"


def test_names_of_a_response_are_those_of_its_key_and_metadata() -> None:
    found = names_of(meta("shop#0123abcd+de https://a.example/x"))
    assert found == Names("shop", "https://a.example/x", ("t",), ("g",), ("dnt",), ("1",))


def test_names_take_keys_apart_as_keys_are_taken_apart() -> None:
    for key in (
        "shop https://a/",
        "a b https://a/",
        "a#b#c+d+e https://a/?x",
        "#1 https://a/",
        "my+shop#12+x https://a/",
    ):
        found, parts = names_of(meta(key)), split_key(key)
        assert (found.site, found.url) == (parts.site, parts.url)


def test_names_are_out_of_the_collectors_reach() -> None:
    assert not gc.is_tracked(NAMES)
