import asyncio

import pytest

from banish.admin.access import NO_TOKEN, UNNAMED
from banish.admin.app import make_app
from tests.unit.admin.asking import Client, ask, get
from tests.unit.admin.subject import FakeEdge
from tests.unit.admin.tokens import bearer, digest, guarded

PURGE = {"tag": "news"}


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8081", "localhost:8081", "[::1]:8081", "192.0.2.1"])
def test_it_answers_to_its_addresses(host: str) -> None:
    assert get(FakeEdge(), "/config", host=host).status == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:8081", ""])
def test_a_name_that_someone_pointed_at_loopback_is_refused(host: str) -> None:
    assert get(FakeEdge(), "/config", host=host).status == 421
    assert ask(FakeEdge(), "POST", "/purges", PURGE, host=host).status == 421


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_page_of_another_site_may_not_ask(site: str) -> None:
    edge = FakeEdge()
    assert ask(edge, "POST", "/purges", PURGE, sec_fetch_site=site).status == 403
    assert get(edge, "/purges/feed?wait=30", sec_fetch_site=site).status == 403
    assert edge.purger.asked == []
    assert get(edge, "/purges", sec_fetch_site="none").status == 200


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_what_a_form_of_another_page_can_send_purges_nothing(content_type: str) -> None:
    edge = FakeEdge()
    answer = ask(edge, "POST", "/purges", PURGE, **{"content-type": content_type})
    assert answer.status == 415
    assert edge.purger.asked == []


def test_with_a_token_set_only_its_bearer_gets_in() -> None:
    edge = FakeEdge(**{"admin.token_sha256": digest()})
    for wrong in ({}, bearer("nonsense"), {"authorization": "Basic open sesame"}, bearer("")):
        refused = get(edge, "/config", **wrong)
        assert refused.status == 401
        assert refused.fields["www-authenticate"] == 'Bearer realm="banish"'
    assert get(edge, "/config", host="edge.example", **bearer()).status == 200
    assert get(edge, "/readyz").status == 200


def test_an_empty_token_is_none_even_if_somebody_configured_its_digest() -> None:
    edge = FakeEdge(**{"admin.token_sha256": digest("")})
    assert get(edge, "/config").status == 401
    assert get(edge, "/config", **bearer("")).status == 401


def test_the_history_knows_callers_by_the_names_of_their_tokens_and_their_addresses() -> None:
    unnamed = FakeEdge(**{"admin.token_sha256": digest()})
    for edge, name in ((FakeEdge(), NO_TOKEN), (unnamed, UNNAMED), (guarded("deploy"), "deploy")):
        assert ask(edge, "POST", "/purges", PURGE, **bearer()).status == 202
        (_, caller) = edge.purger.asked[0]
        assert (caller.name, caller.source, caller.sites) == (name, "192.0.2.7", None)


def test_what_is_no_address_does_not_get_into_the_history_as_one() -> None:
    edge = FakeEdge()

    async def main() -> None:
        await Client(make_app(edge), address="<script>" * 1000).ask("POST", "/purges", PURGE)

    asyncio.run(main())
    assert edge.purger.asked[0][1].source == ""


def test_a_token_for_some_sites_purges_with_no_more_than_these() -> None:
    edge = guarded(sites=("shop",), site_names=("shop", "press"))
    assert ask(edge, "POST", "/purges", PURGE, **bearer()).json["sites"] == ["shop"]
    assert edge.purger.asked[0][1].sites == ("shop",)
    refused = ask(edge, "POST", "/purges", {**PURGE, "site": "press"}, **bearer())
    assert refused.status == 403


def test_a_token_that_may_read_may_not_purge_but_try_what_it_would_do() -> None:
    edge = guarded("grafana", rights=("read",))
    refused = ask(edge, "POST", "/purges", PURGE, **bearer())
    assert (refused.status, refused.error) == (403, 'the token "grafana" may not purge')
    assert ask(edge, "POST", "/purges", {**PURGE, "dry_run": True}, **bearer()).status == 200
    assert ask(edge, "DELETE", "/purges/x", **bearer()).status == 403
    assert edge.purger.entries == []
    assert get(edge, "/metrics", **bearer()).status == 200


@pytest.mark.parametrize("path", ["/metrics", "/config", "/objects", "/explain?url=http://a/", "/purges/export"])
def test_a_token_that_may_purge_may_not_read(path: str) -> None:
    refused = get(guarded("deploy", rights=("purge",)), path, **bearer())
    assert (refused.status, refused.error) == (403, 'the token "deploy" lacks the right: read')


def test_a_token_that_may_only_purge_follows_its_own_purges_and_no_others() -> None:
    edge = guarded("deploy", rights=("purge",))
    own = ask(edge, "POST", "/purges", {**PURGE, "mode": "soft"}, **bearer()).json["id"]
    edge.config = guarded("other").config
    other = ask(edge, "POST", "/purges", {**PURGE, "mode": "soft"}, **bearer()).json["id"]
    edge.config = guarded("deploy", rights=("purge",)).config
    assert get(edge, f"/purges/{own}", **bearer()).status == 200
    assert [entry["id"] for entry in get(edge, "/purges", **bearer()).json["purges"]] == [own]
    assert [entry["id"] for entry in get(edge, "/purges/feed", **bearer()).json["purges"]] == [own]
    for method in ("GET", "DELETE"):
        assert ask(edge, method, f"/purges/{other}", **bearer()).status == 404
    assert get(edge, "/purges?actor=other", **bearer()).status == 403
    assert ask(edge, "DELETE", f"/purges/{own}", **bearer()).json["state"] == "undone"


@pytest.mark.parametrize("path", ["/", "/openapi.json"])
def test_the_lists_of_what_there_is_are_for_every_token(path: str) -> None:
    assert get(guarded(rights=("purge",)), path, **bearer()).status == 200
    assert get(guarded(), path).status == 401
