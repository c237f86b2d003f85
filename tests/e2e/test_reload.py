"""A reload of a running edge: what is found of what was stored before, and what is left of the former configuration.

As a process told by SIGHUP it is in test_process.py.
"""

import asyncio
import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trustme
from tests.support import Play, Stage, answered

from banish.caching.policy import CachePolicy
from banish.edge.config import Certificate, Config, Listener, Log, Rule
from banish.errors import ConfigError
from banish.proxy import serve
from banish.testing.origin import ScriptedOrigin

FRESH = "Cache-Control: max-age=600"
HOOKS = "def on_response(request, response):\n    response.fields['x-version'] = '{}'\n"


def with_site(config: Config, **changes: Any) -> Config:
    """The same configuration, its only site changed."""
    (site,) = config.sites
    return msgspec.structs.replace(config, sites=(msgspec.structs.replace(site, **changes),))


def with_cache(config: Config, **changes: Any) -> Config:
    """The same configuration, the caching policy of its only site changed."""
    return with_site(config, cache=msgspec.structs.replace(config.sites[0].cache, **changes))


async def settled(stage: Stage) -> None:
    """Wait until nothing is done in the background."""
    await stage.settled()
    await stage.until(lambda: not stage.edge._tasks)


# --- what was stored before

FORGET: dict[str, Callable[[Config], Config]] = {
    "vary_on": lambda config: with_cache(config, vary_on=("x-user",)),
    "vary_ignore": lambda config: with_cache(config, vary_ignore=("accept",)),
    "ignore_cookies": lambda config: with_cache(config, ignore_cookies=True),
    "store_set_cookie": lambda config: with_cache(config, store_set_cookie=False),
    "query_drop": lambda config: with_cache(config, query_drop=("utm_*",)),
    "host_header": lambda config: with_site(config, host_header="origin"),
    "a rule": lambda config: with_site(config, rules=(Rule(path=("/a",), vary_on=("x-user",)),)),
}
KEEP: dict[str, Callable[[Config], Config]] = {
    "nothing": lambda config: config,
    "stale windows": lambda config: with_cache(
        config, stale_when_unreachable_s=5, stale_while_revalidate_s=5, stale_if_error_s=5
    ),
    "stale windows of a rule": lambda config: with_site(config, rules=(Rule(path=("/a",), stale_if_error_s=5),)),
    "log": lambda config: msgspec.structs.replace(config, log=Log(access="off", level="warning")),
    "limits": lambda config: msgspec.structs.replace(
        config, limits=msgspec.structs.replace(config.limits, request_fields=50)
    ),
}


@pytest.mark.parametrize("change", FORGET.values(), ids=FORGET)
def test_under_other_rules_nothing_is_found_of_what_was_stored_before(
    change: Callable[[Config], Config], play: Play
) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.play_always("/a", answered(b"hello", FRESH, "Set-Cookie: id=1"))
        for hit in (False, True, True):  # the last of them out of the hot table
            assert (await stage.get("/a", "X-User: 1")).hit is hit
        stage.edge.reload(change(stage.edge.config))
        assert not (await stage.get("/a", "X-User: 2")).hit
        await settled(stage)
        assert len(stage.origin.requests) == 2
        assert len(stage.edge.store) <= 1, "what nobody can find is still there"

    play(scene, cache=CachePolicy(store_set_cookie=True))


@pytest.mark.parametrize("change", KEEP.values(), ids=KEEP)
def test_what_decides_neither_key_nor_storing_leaves_what_is_stored(
    change: Callable[[Config], Config], play: Play
) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.play("/a", answered(b"hello", FRESH))
        await stage.get("/a")
        stage.edge.reload(change(stage.edge.config))
        for _ in range(3):
            assert (await stage.get("/a")).hit
        await settled(stage)
        assert len(stage.edge.store) == 1

    play(scene)


def test_another_origin_is_asked_for_all_anew(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.play("/a", answered(b"of the first", FRESH))
        await stage.get("/a")
        async with ScriptedOrigin() as second:
            second.play("/a", answered(b"of the second", FRESH))
            stage.edge.reload(with_site(stage.edge.config, origin=(second.url,)))
            for _ in range(3):
                assert (await stage.get("/a")).body == b"of the second"
            await settled(stage)
        assert len(stage.edge.store) == 1

    play(scene)


def test_an_edited_hook_shapes_everything_anew(play: Play, tmp_path: Path) -> None:
    hooks = tmp_path / "hooks.py"
    hooks.write_text(HOOKS.format("one"))

    async def scene(stage: Stage) -> None:
        stage.origin.play_always("/a", answered(b"hello", FRESH))
        assert (await stage.get("/a"))["x-version"] == "one"
        stage.edge.reload(stage.edge.config)
        assert (await stage.get("/a")).hit
        hooks.write_text(HOOKS.format("two"))
        stage.edge.reload(stage.edge.config)
        for _ in range(3):
            assert (await stage.get("/a"))["x-version"] == "two"
        await settled(stage)
        assert len(stage.edge.store) == 1

    play(scene, hooks=str(hooks))


@pytest.mark.parametrize("name", ["a shop", "a+b", "a#b"])
def test_sites_of_any_name_keep_what_is_theirs(name: str, play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.play("/a", answered(b"hello", FRESH))
        await stage.get("/a")
        stage.edge.reload(stage.edge.config)
        await settled(stage)
        assert (await stage.get("/a")).hit

    play(scene, name=name)


def test_what_another_site_has_stored_stays(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        (site,) = stage.edge.config.sites
        other = msgspec.structs.replace(site, name="other", hosts=("other.example",))
        both = msgspec.structs.replace(stage.edge.config, sites=(site, other))
        stage.edge.reload(both)
        stage.origin.play_always("/a", answered(b"hello", FRESH))
        await stage.get("/a")
        await stage.get("/a", host="other.example")
        changed = msgspec.structs.replace(other, cache=CachePolicy(vary_on=("x-user",)))
        stage.edge.reload(msgspec.structs.replace(both, sites=(site, changed)))
        await settled(stage)
        assert (await stage.get("/a")).hit
        assert not (await stage.get("/a", host="other.example")).hit

    play(scene)


# --- what is left of the former configuration


def samplers(stage: Stage) -> int:
    """How many are asked for figures at each scrape."""
    return sum(1 for _ in stage.edge.accounts._each())


def test_former_configurations_are_let_go(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "RETIRED_S", 0.0)

    async def scene(stage: Stage) -> None:
        stage.origin.play_always("/a", answered(b"hello", "Cache-Control: no-store"))
        former: list[weakref.ref[Any]] = []
        asked = []
        for _ in range(4):
            await stage.get("/a")
            former.append(weakref.ref(stage.edge._pipeline.runtimes.match("site.example").origin))  # type: ignore[union-attr]
            stage.edge.reload(stage.edge.config)
            await stage.until(lambda: not stage.edge._retired and not stage.edge._tasks)
            asked.append(samplers(stage))
        await asyncio.sleep(0)
        gc.collect()
        assert [group for group in former if group() is not None] == []
        assert len(set(asked)) == 1, "each reload leaves something in the books"

    play(scene)


def test_counters_do_not_fall_when_a_former_configuration_is_let_go(
    play: Play, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(serve, "RETIRED_S", 0.0)
    hooks = tmp_path / "hooks.py"
    hooks.write_text(HOOKS.format("one"))

    async def scene(stage: Stage) -> None:
        def counters() -> dict[tuple[str, tuple[str, ...]], float]:
            books = stage.edge.accounts.collect()
            return {
                (metric.name, labels): value
                for metric, figures in books
                if metric.kind == "counter"
                for labels, value in figures.items()
            }

        stage.origin.play_always("/a", answered(b"hello", "Cache-Control: no-store"))
        for count in range(1, 4):
            await stage.get("/a")
            before = counters()
            stage.edge.reload(stage.edge.config)
            await stage.until(lambda: not stage.edge._retired and not stage.edge._tasks)
            after = counters()
            assert {name: value for name, value in before.items() if after.get(name, 0) < value} == {}
            assert stage.count("banish_hook_runs_total", "default", "on_response") == count

    play(scene, hooks=str(hooks))


def test_a_refused_reload_leaves_no_books_behind(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        (site,) = stage.edge.config.sites
        broken = msgspec.structs.replace(site, name="b", hosts=("b.example",), hooks="/nowhere/hooks.py")
        asked = []
        for _ in range(3):
            with pytest.raises(ConfigError):
                stage.edge.reload(msgspec.structs.replace(stage.edge.config, sites=(site, broken)))
            asked.append(samplers(stage))
        assert len(set(asked)) == 1
        assert [named.name for named in stage.edge.sites.all] == ["default"]

    play(scene)


def test_certificates_that_cannot_be_used_refuse_the_whole_reload(play: Play, tmp_path: Path) -> None:
    """Whatever the order of its parts, a reload happens as a whole or not at all."""
    authority = trustme.CA()
    pairs = []
    for name in ("one", "two"):
        made, pair = authority.issue_cert(f"{name}.example"), (f"{tmp_path}/{name}.pem", f"{tmp_path}/{name}.key")
        made.cert_chain_pems[0].write_to_path(pair[0])
        made.private_key_pem.write_to_path(pair[1])
        pairs.append(Certificate(certificate=pair[0], key=pair[1]))

    async def scene(stage: Stage) -> None:
        stage.origin.play("/a", answered(b"hello", FRESH))
        async with stage.client() as client:
            await client.get("/a")
            before, shown = samplers(stage), [vars(each).copy() for each in stage.edge._certificates]
            Path(pairs[1].key).write_text("damaged")
            with pytest.raises(ConfigError):
                stage.edge.reload(with_cache(stage.edge.config, vary_on=("x-user",)))
            assert samplers(stage) == before
            assert [vars(each) for each in stage.edge._certificates] == shown
            assert (await client.get("/a")).hit

    listen = (
        Listener(address="127.0.0.1:0"),
        *[Listener(address="127.0.0.1:0", tls=(pair,)) for pair in pairs],
    )
    play(scene, listen=listen)
