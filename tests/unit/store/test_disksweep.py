from pathlib import Path

import pytest

from banish.errors import IndexFailed, StoreError
from banish.purge.stamps import Verdict
from banish.purge.targets import (
    Target,
    everything_target,
    group_target,
    host_target,
    pattern_target,
    prefix_target,
    tag_target,
    url_target,
)
from banish.store import disksweep
from banish.store.diskwrites import DiskOutcome
from banish.store.index import Family
from banish.testing.clock import FakeClock
from banish.testing.index import Call, busy, damage, disk_error, disk_full
from tests.looped import looped
from tests.ondisk import LARGE, Disk, opened, threads_idle
from tests.stored import HOST, SITE, key_of, stored_response, url_of

EVERY_KIND = [
    (url_of("blog/1"), {"blog/1"}),
    (url_target(SITE, f"http://{HOST}/blog/1"), {"blog/1"}),
    (url_target("", f"https://{HOST}/blog/1"), {"blog/1"}),
    (url_target("other", f"https://{HOST}/blog/1"), set()),
    (url_target(SITE, f"https://{HOST}/v", [("x", "1")]), {"v"}),
    (prefix_target(SITE, f"{HOST}/blog"), {"blog/1", "blog/2", "blogs"}),
    (prefix_target(SITE, f"{HOST}/blog", boundary=True), {"blog/1", "blog/2"}),
    (host_target(SITE, HOST), {"blog/1", "blog/2", "blogs", "v", "tagged", "grouped"}),
    (host_target(SITE, f"{HOST}:8080"), set()),
    (host_target(SITE, "*.example"), {"blog/1", "blog/2", "blogs", "v", "tagged", "grouped"}),
    (tag_target(SITE, "t"), {"tagged"}),
    (tag_target("", "t"), {"tagged"}),
    (tag_target(SITE, "g"), set()),
    (group_target(SITE, f"https://{HOST}", "g"), {"grouped"}),
    (group_target(SITE, f"http://{HOST}", "g"), set()),
    (pattern_target(SITE, "*/blog/?"), {"blog/1", "blog/2"}),
    (pattern_target(SITE, f"{HOST}/blog/*"), {"blog/1", "blog/2"}),
    (pattern_target(SITE, "blog.$", regex=True), {"blogs"}),
    (everything_target(SITE), {"blog/1", "blog/2", "blogs", "v", "tagged", "grouped"}),
    (everything_target("other"), set()),
    (everything_target(), {"blog/1", "blog/2", "blogs", "v", "tagged", "grouped"}),
]


def fill(disk: Disk) -> set[str]:
    for name in ("blog/1", "blog/2", "blogs"):
        disk.store.put(stored_response(name))
    disk.store.put(stored_response("v", vary=("x",), selecting=("1",)))
    disk.store.put(stored_response("tagged", tags=("t", "u")))
    disk.store.put(stored_response("grouped", groups=("g",)))
    return {"blog/1", "blog/2", "blogs", "v", "tagged", "grouped"}


# What goes


@pytest.mark.parametrize(("target", "hit"), EVERY_KIND, ids=[str(target) for target, _ in EVERY_KIND])
@looped
async def test_a_hard_purge_deletes_what_it_matches_and_nothing_else(
    tmp_path: Path, target: Target, hit: set[str]
) -> None:
    async with opened(tmp_path) as disk:
        names = fill(disk)
        index = disk.purge([target])
        disk.sweep()
        assert {name for name in names if not await disk.load(name)} == hit
        assert disk.store.swept == index
        assert disk.store.has_swept(index)


@pytest.mark.parametrize(("target", "hit"), EVERY_KIND, ids=[str(target) for target, _ in EVERY_KIND])
@looped
async def test_a_soft_purge_marks_what_it_matches_once_it_can_no_longer_be_taken_back(
    tmp_path: Path, target: Target, hit: set[str]
) -> None:
    async with opened(tmp_path) as disk:
        names = fill(disk)
        index = disk.purge(soft=[target])
        disk.sweep()
        assert disk.store.swept == 0
        assert not disk.store.has_swept(index)
        assert not disk.purged
        disk.store.release_soft(index)
        disk.sweep()
        assert disk.store.swept == index
        assert {name for name in names if (await disk.load(name))[0].soft_at == index} == hit
        assert {key for key, _, _ in disk.purged} == {key_of(name) for name in hit}
        assert {finding.verdict for _, _, finding in disk.purged} <= {Verdict.SOFT}


@looped
async def test_the_body_goes_too_small_or_large(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        disk.store.put(stored_response("a", tags=("t",)))
        disk.store.put(large := stored_response("b", body=LARGE, tags=("t",)))
        await disk.store.settled()
        disk.purge([tag_target(SITE, "t")])
        disk.sweep()
        await threads_idle(disk)
        assert not any(disk.rows(family) for family in Family if family is not Family.META)
        assert not list(disk.files.names())
        assert disk.unfiled == [(key_of("b"), large.serial)]
        assert {(key, n_bytes) for key, n_bytes, _ in disk.purged} == {(key_of("a"), 5), (key_of("b"), len(LARGE))}


@looped
async def test_rule_4_what_was_fetched_after_the_purge_stays_and_the_next_purge_finds_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        target = tag_target(SITE, "t")
        disk.store.put(stored_response("old", tags=("t",)))
        disk.purge([target])
        disk.store.put(stored_response("new", tags=("t",), fence=1))
        disk.sweep()
        assert (len(await disk.load("old")), len(await disk.load("new"))) == (0, 1)
        disk.purge([target])
        disk.sweep()
        assert not await disk.load("new")


@looped
async def test_a_response_that_several_targets_match_is_told_of_once(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        disk.store.put(stored_response("a", tags=("t", "u")))
        disk.purge([tag_target(SITE, "t"), tag_target(SITE, "u"), url_of("a")])
        disk.sweep()
        assert [key for key, _, _ in disk.purged] == [key_of("a")]


@looped
async def test_rows_that_lead_nowhere_are_taken_away(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        disk.store.put(stored_response("a", tags=("t",)))
        disk.overwrite(Family.OBJECTS, b"\x01garbage")
        disk.purge([tag_target(SITE, "t")])
        disk.sweep()
        assert not disk.rows(Family.TAGS)
        assert not disk.rows(Family.OBJECTS)


# Everything (rule 16)


@looped
async def test_rule_16_a_hard_purge_of_everything_is_done_in_the_step_of_the_stamp(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        fill(disk)
        index = disk.purge([everything_target(SITE)])
        assert len(disk.store) == 0
        assert disk.store.swept == index
        assert not any(disk.rows(family) for family in (Family.OBJECTS, Family.TAGS, Family.SMALL))
        ((target, at, count, n_bytes),) = disk.emptied
        assert (target, at, count) == (everything_target(SITE), index, 6)
        assert n_bytes > 0


@looped
async def test_rule_16_what_is_stored_after_it_is_in_the_new_generation_and_outlives_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        fill(disk)
        index = disk.purge([everything_target(SITE)])
        disk.store.put(stored_response("a", fence=index))
        await disk.crash()  # the purge is applied again from the log: it concerns what is older alone
        assert disk.table.index == index
        assert len(await disk.load("a")) == 1
        disk.sweep()
        assert len(await disk.load("a")) == 1


@looped
async def test_rule_16_if_its_batch_is_lost_the_log_repeats_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        fill(disk)
        await disk.store.sync()
        disk.purge([everything_target(SITE)])
        await disk.crash(power=True)
        assert len(disk.store) == 0


@looped
async def test_rule_16_if_the_disk_fails_in_it_nothing_is_found_and_it_is_done_later(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        names = fill(disk)
        disk.twin.fail(Call.WRITE, disk_full())
        index = disk.purge([everything_target(SITE)])
        assert disk.store.swept == 0
        assert not any([await disk.load(name) for name in names])
        await disk.recover()
        disk.sweep()
        assert disk.store.swept == index
        assert len(disk.store) == 0


@looped
async def test_rule_16_if_the_disk_does_not_keep_up_it_is_done_soon(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        fill(disk)
        disk.twin.fail(Call.WRITE, busy())
        index = disk.purge([everything_target(SITE)])
        assert not disk.store.has_swept(index)
        disk.sweep()
        assert disk.store.has_swept(index)
        assert len(disk.store) == 0


# Soft purges (rule 14)


@looped
async def test_rule_14_a_soft_purge_that_was_taken_back_leaves_no_mark(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        disk.store.put(stored_response("a"))
        index = disk.purge(soft=[url_of("a")])
        disk.undo(index)
        disk.sweep()
        assert disk.store.swept == index
        assert (await disk.load("a"))[0].soft_at == 0


@looped
async def test_rule_14_a_mark_names_the_oldest_purge_whatever_order_they_are_released_in(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        disk.store.put(stored_response("a", tags=("t",)))
        disk.store.put(stored_response("b", tags=("t",)))
        first = disk.purge(soft=[url_of("a")])
        second = disk.purge(soft=[tag_target(SITE, "t")])
        disk.store.release_soft(second)
        disk.sweep()
        assert not disk.store.has_swept(second)  # which is the oldest is not known yet
        disk.store.release_soft(first)
        disk.sweep()
        assert disk.store.swept == second
        assert [(await disk.load(name))[0].soft_at for name in "ab"] == [first, second]


@looped
async def test_rule_14_when_the_first_is_taken_back_the_second_is_the_oldest(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        disk.store.put(stored_response("a", tags=("t",)))
        first = disk.purge(soft=[url_of("a")])
        second = disk.purge(soft=[tag_target(SITE, "t")])
        disk.store.release_soft(second)
        disk.undo(first)
        disk.sweep()
        assert (await disk.load("a"))[0].soft_at == second


@looped
async def test_a_soft_purge_in_its_window_holds_up_the_floor_but_not_the_others(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        disk.store.put(stored_response("a"))
        disk.store.put(stored_response("b"))
        soft = disk.purge(soft=[url_of("a")])
        hard = disk.purge([url_of("b")])
        disk.sweep()
        assert disk.store.swept == soft - 1
        assert disk.store.has_swept(hard)
        assert not await disk.load("b")
        disk.store.release_soft(soft)
        disk.sweep()
        assert disk.store.swept == hard


@looped
async def test_what_is_stored_between_release_and_sweep_is_marked_as_it_is_written(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        record = stored_response("a", body=LARGE)
        disk.store.put(record)  # on its way
        index = disk.purge(soft=[url_of("a")])
        disk.store.release_soft(index)
        disk.sweep()
        assert disk.store.swept == index
        await disk.store.settled()
        assert (await disk.load("a"))[0].soft_at == index


@looped
async def test_what_is_stored_within_the_window_is_marked_by_the_sweep(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        record = stored_response("a", body=LARGE)
        disk.store.put(record)
        index = disk.purge(soft=[url_of("a")])
        await disk.store.settled()
        assert (await disk.load("a"))[0].soft_at == 0
        disk.store.release_soft(index)
        disk.sweep()
        assert (await disk.load("a"))[0].soft_at == index


# Order and slices


@looped
async def test_swept_moves_in_the_order_of_indexes(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        fill(disk)
        first = disk.purge([pattern_target(SITE, "*/none*")])  # takes a pass
        second = disk.purge([url_of("blogs")])
        seen = []
        for _ in range(20):
            disk.store.sweep(0.0, disk.clock.monotonic)
            seen.append((disk.store.swept, disk.store.has_swept(second)))
        assert (first - 1, True) in seen
        assert (first - 1, False) == seen[0]
        assert seen[-1] == (second, True)


@looped
async def test_a_sweep_gives_way_and_goes_on_where_it_was(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        for number in range(100):
            disk.store.put(stored_response(str(number), tags=("t",)))
        disk.purge([tag_target(SITE, "t")])
        progress = disk.store.sweep(0.0, disk.clock.monotonic)
        assert (progress.examined, progress.deleted, progress.idle) == (disksweep.SLICE, disksweep.SLICE, False)
        assert disk.sweep() == 100 - disksweep.SLICE


@looped
async def test_a_purge_during_a_pass_waits_for_the_next(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        for number in range(100):
            disk.store.put(stored_response(f"{number:02}"))
        first = disk.purge([pattern_target(SITE, "*9")])
        for _ in range(3):
            disk.store.sweep(0.0, disk.clock.monotonic)
        second = disk.purge([pattern_target(SITE, "*/0?")])
        while not disk.store.has_swept(first):
            disk.store.sweep(0.0, disk.clock.monotonic)
        assert not disk.store.has_swept(second)
        disk.sweep()
        assert len(disk.store) == 100 - 10 - 9


@looped
async def test_many_targets_are_swept_by_one_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disksweep, "TARGETS_MIN", 4)
    async with opened(tmp_path) as disk:
        for number in range(5):
            disk.store.put(stored_response(str(number)))
        for number in range(4):
            disk.purge([url_of(str(number)), url_of(f"none{number}")])
        disk.sweep()
        assert disk.store.swept == 4
        assert len(disk.store) == 1
        assert disk.tally("banish_disk_sweeps_total")["pass",] == 1


@looped
async def test_while_targets_come_in_great_number_passes_do_for_all_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disksweep, "TARGETS_MIN", 4)
    async with opened(tmp_path) as disk:
        for number in range(5):
            disk.store.put(stored_response(str(number)))
        disk.purge([url_of(f"none{number}") for number in range(6)])
        disk.store.sweep(0.0, disk.clock.monotonic)
        during = disk.purge([url_of("1")])
        disk.sweep()
        assert (disk.store.swept, len(disk.store)) == (during, 4)
        assert disk.tally("banish_disk_sweeps_total") == {("pass",): 2}
        after = disk.purge([url_of("2")])
        disk.sweep()
        assert (disk.store.swept, len(disk.store)) == (after, 3)
        assert disk.tally("banish_disk_sweeps_total") == {("pass",): 2, ("target",): 1}


@looped
async def test_between_two_passes_it_rests_and_looks_for_single_targets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as disk:
        fill(disk)

        def a_moment_later() -> float:
            disk.clock.advance(0.001)
            return FakeClock.monotonic(disk.clock)

        monkeypatch.setattr(disk.clock, "monotonic", a_moment_later)
        first = disk.purge([pattern_target(SITE, "*/none*")])
        disk.sweep()
        assert disk.store.has_swept(first)
        second = disk.purge([pattern_target(SITE, "*/blog/?")])
        third = disk.purge([url_of("blogs")])
        disk.sweep()
        assert (disk.store.has_swept(second), disk.store.has_swept(third)) == (False, True)
        disk.clock.advance(disksweep.PASS_REST_S_MAX)
        disk.sweep()
        assert disk.store.swept == third


@looped
async def test_after_a_restart_the_purges_above_the_floor_are_swept_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        fill(disk)
        index = disk.purge([url_of("blogs"), pattern_target(SITE, "*/blog/1")])
        await disk.crash()
        assert disk.store.swept < index
        disk.sweep()
        assert disk.store.swept == index
        assert len(disk.store) == 4


# Failures (rule 4)


@pytest.mark.parametrize("error", [damage(), disk_error()])
@looped
async def test_rule_4_a_range_that_cannot_be_read_is_made_up_for_by_a_pass(tmp_path: Path, error: StoreError) -> None:
    async with opened(tmp_path) as disk:
        fill(disk)
        index = disk.purge([tag_target(SITE, "t")])
        disk.twin.fail(Call.READ, error)
        disk.sweep()
        assert disk.store.swept == index
        assert len(disk.store) == 5
        assert disk.tally("banish_disk_sweep_failures_total") == {("pass",): 1}


@looped
async def test_rule_4_if_the_pass_fails_too_the_site_is_dropped(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        fill(disk)
        index = disk.purge([tag_target(SITE, "t")])
        disk.twin.fail(Call.READ, damage())
        disk.twin.fail(Call.READ, damage(), after=1)
        disk.sweep()
        assert disk.store.swept == index
        assert len(disk.store) == 0
        assert disk.tally("banish_disk_sweep_failures_total") == {("pass",): 1, ("drop",): 1}
        assert disk.store.put(stored_response("a", fence=index)) is DiskOutcome.STORED


@looped
async def test_rule_4_the_floor_never_passes_a_sweep_that_could_not_be_written(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        fill(disk)
        index = disk.purge([tag_target(SITE, "t")])
        disk.twin.fail(Call.WRITE, disk_full())
        disk.sweep()
        assert disk.store.failed
        assert disk.store.swept == 0
        assert not disk.store.has_swept(index)
        await disk.recover()
        disk.sweep()
        assert disk.store.swept == index
        assert not await disk.load("tagged")
        assert len(disk.store) == 5


@looped
async def test_a_slice_that_could_not_be_written_for_now_is_done_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        fill(disk)
        index = disk.purge([tag_target(SITE, "t")])
        disk.twin.fail(Call.WRITE, busy())
        assert not disk.store.sweep(1.0, disk.clock.monotonic).idle
        assert not disk.purged
        disk.sweep()
        assert disk.store.swept == index
        assert len(disk.purged) == 1


@looped
async def test_a_damaged_row_met_by_a_pass_goes(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        disk.store.put(stored_response("a"))
        disk.overwrite(Family.OBJECTS, b"\x01garbage")
        disk.store.put(stored_response("b"))
        disk.purge([pattern_target(SITE, "*none*")])
        disk.sweep()
        assert len(disk.rows(Family.OBJECTS)) == 1
        assert disk.tally("banish_disk_damaged_total") == {(): 1}


@looped
async def test_too_many_that_wait_are_made_up_for_by_dropping_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disksweep, "WAITING_MAX", 3)
    async with opened(tmp_path) as disk:
        fill(disk)
        disk.twin.fail(Call.WRITE, disk_full())
        purges = [disk.purge([url_of("blog/1")])]
        disk.sweep()
        purges += [disk.purge([url_of(str(number))], [url_of("v")]) for number in range(6)]
        assert disk.store.failed
        disk.purge()  # of nothing
        assert not any(map(disk.store.has_swept, purges))
        assert disk.store.swept == 0
        with pytest.raises(IndexFailed):
            disk.store.persist_floor(0)
        await disk.recover()
        for index in purges:
            disk.store.release_soft(index)
        disk.sweep()
        assert all(map(disk.store.has_swept, purges))
        assert disk.store.swept == purges[-1] + 1
        assert disk.tally("banish_disk_sweep_failures_total")["drop all",] >= 1


@looped
async def test_dropping_all_takes_sites_that_were_opened_meanwhile_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disksweep, "WAITING_MAX", 3)
    async with opened(tmp_path) as disk:
        soft = disk.purge(soft=[url_of("a")])  # holds the others up
        disk.store.put(stored_response("a", fence=soft))
        for number in range(3):
            disk.purge([url_of("a")], [url_of(str(number))])
        assert disk.store.swept == soft - 1
        disk.sweep()
        assert disk.store.swept == disk.table.index
        assert not disk.rows(Family.OBJECTS)


# Surveys


@pytest.mark.parametrize(("target", "hit"), EVERY_KIND, ids=[str(target) for target, _ in EVERY_KIND])
@looped
async def test_a_survey_finds_what_a_purge_would_and_changes_nothing(
    tmp_path: Path, target: Target, hit: set[str]
) -> None:
    async with opened(tmp_path) as disk:
        names = fill(disk)
        found = [matched for some in disk.store.survey(target) for matched in some]
        assert sorted(matched.key for matched in found) == sorted(key_of(name) for name in hit)
        assert len(disk.store) == len(names)


@looped
async def test_a_pattern_without_meaning_here_means_more_than_it_says(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        names = fill(disk)
        target = pattern_target(SITE, f"{HOST}/blog/(", regex=True)
        assert sum(map(len, disk.store.survey(target))) == len(names)
        disk.purge([target])  # is stamped as the next wider one
        disk.sweep()
        assert len(disk.store) == 0


@looped
async def test_a_survey_leaves_out_what_is_dead_already(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        fill(disk)
        disk.purge([url_of("blog/1")])
        found = [matched.key for some in disk.store.survey(prefix_target(SITE, f"{HOST}/blog/")) for matched in some]
        assert found == [key_of("blog/2")]
