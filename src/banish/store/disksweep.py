"""The sweep of the disk: finds what purges have killed there, so that the purges can be forgotten.

Each target of a purge is looked for where the index has it together: a tag in its rows up to the stamp, a URL, a
prefix or a host in a range of the objects. What has no such range (patterns without a fixed beginning, soft purges
of everything), what met a read error, and what comes in greater number than there are objects waits for a *pass*
over all objects, which settles every purge so far; from then on all targets do, until one has ended with none behind
it. A hard purge of everything opens new generations at once.

    purge ─┬─ hard targets ───────────────────────▶ ranges ──▶ swept
           ├─ hard everything ─▶ new generations ─────────────▶ swept
           └─ soft targets ──▶ held until they can no longer be taken back ──▶ ranges ──▶ swept
    a range cannot be read ──▶ pass;  an object's row in a pass cannot ──▶ deleted;  the pass cannot ──▶ site dropped

A range says where to look; whether a response goes is for the table of stamps alone to say. Rows written while a
sweep is under way were matched as they were written, so a sweep need not see them.

Not here: stamps (`purge/stamps.py`); when to sweep and for how long (`disk.py`).
Source: PURGE rules 3, 4, 14, 16.
Units: apply indexes; slices are numbers of rows.
Invariants: `swept` never passes a purge of which anything may be left; a slice is one batch, and is done again if
it could not be written.
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol

import msgspec

from banish.clock import Clock
from banish.errors import IndexBusy, IndexDamaged, IndexFailed, StoreError
from banish.purge.names import names_of
from banish.purge.stamps import Finding, PurgeTable, Verdict
from banish.purge.targets import Kind, Target, everything_target
from banish.store.edits import Edit, Place, marked
from banish.store.generations import Generation
from banish.store.index import Family, Range, Row
from banish.store.ranges import has_range, ranges
from banish.store.rows import StoredRow, decode_pointer, gen_range, read_tag_key
from banish.store.shelf import Shelf
from banish.store.upkeep import Step
from banish.tables import Accounts, Metric

SLICE = 16
"""Rows looked at in one step: about a millisecond's work if all of them go."""

TARGETS_MAX = 100_000
"""Targets that wait to be looked for one by one. Past it, or past the number of objects if that is less and more
than TARGETS_MIN, a pass over all objects does for all of them."""

TARGETS_MIN = 256
"""Targets that may wait however few objects there are."""

PASS_REST_TIMES = 199.0
"""How much longer than its work took a pass rests before the next: while targets come in such numbers that passes do
for them, a two-hundredth of the time goes into sweeping the disk. Single targets are looked for at once."""

PASS_REST_S_MAX = 10.0
"""Longer it does not rest, however much is stored: its purges are kept for `purge.stamp_min_age_s` anyway."""

WAITING_MAX = 1_000_000
"""Purges that wait to be swept, as while the disk cannot be written. Past it, all sites are dropped once it can."""

DISK_SWEEPING = Metric(
    "banish_disk_sweep_waiting", "gauge", "What the sweep of the disk has yet to look for.", ("what",)
)
DISK_SWEPT = Metric(
    "banish_disk_sweeps_total", "counter", "Sweeps of the disk that ended, by how: of a target, or a pass.", ("how",)
)
DISK_SWEEP_FAILED = Metric(
    "banish_disk_sweep_failures_total",
    "counter",
    "Sweeps of the disk that met a read error, or waited in too great a number, by what was done instead: a pass, "
    "dropping the site, or dropping all.",
    ("instead",),
)


class _Job(msgspec.Struct):
    """One target to be looked for; or, of a hard purge of everything, generations to be dropped."""

    index: int
    target: Target
    drops: bool = False


class _Purge(msgspec.Struct):
    """What is left of one purge to be swept."""

    jobs: int = 0
    passes: int = 0
    """The pass that will have settled it; 0: none is needed."""
    held: tuple[Target, ...] = ()
    """Soft targets that are not looked for yet."""
    released: bool = False
    """Whether they can no longer be taken back."""

    @property
    def done(self) -> bool:
        return not (self.jobs or self.passes or self.held)


class Told(Protocol):
    """Who is told what came of purges; see `DiskStore`."""

    on_purged: Callable[[str, int, Finding], None]
    on_emptied: Callable[[Target, int, int, int], None]
    on_swept: Callable[[], None]


class DiskSweep:
    """What is left to be swept, and doing so a step at a time."""

    def __init__(self, shelf: Shelf, table: PurgeTable, told: Told, clock: Clock, accounts: Accounts) -> None:
        self._told = told
        self._clock = clock
        self.examined = 0
        self.deleted = 0
        self._shelf = shelf
        self._table = table
        self._newest = 0  # of those told
        self._waiting: dict[int, _Purge] = {}  # by index, in their order
        self._held: dict[int, _Purge] = {}  # those of them with soft targets held back
        self._together = range(0)  # purges for all of which the one behind them waits
        self._jobs: deque[_Job] = deque()
        self._job: Iterator[Step] | None = None  # looks for the first of them
        self._pass: Iterator[Step] | None = None
        self._next_pass = 1
        self._pass_wanted = False
        self._pass_s = 0.0  # what the pass under way has taken
        self._rest_until = float("-inf")
        self._flooded = False  # so many targets come that a pass does for each
        self._turn = False
        self._ended = accounts.tally(DISK_SWEPT)
        self._failed = accounts.tally(DISK_SWEEP_FAILED)
        accounts.read(
            DISK_SWEEPING,
            lambda: [
                (("purges",), len(self._waiting)),
                (("targets",), len(self._jobs)),
                (("passes",), int(self._pass is not None) + self._pass_wanted),
            ],
        )

    # What is to be swept

    @property
    def swept(self) -> int:
        """No purge up to this apply index matches anything on disk that is not marked with it."""
        return self._first - 1 if self._waiting else self._told_upto

    def has_swept(self, index: int) -> bool:
        """Whether this purge is swept, whatever those before it are."""
        return index <= self._told_upto and index not in self._waiting and index not in self._together

    def waits(self, upto: int) -> bool:
        """Whether any purge up to this apply index is not swept."""
        return bool(self._waiting) and self._first <= upto

    @property
    def _first(self) -> int:
        return self._together.start if self._together else next(iter(self._waiting))

    @property
    def _told_upto(self) -> int:
        return max(self._newest, self._table.floor)

    @property
    def final(self) -> int:
        """No soft purge up to this apply index can be taken back any more: marks on disk name no later one."""
        return next(iter(self._held)) - 1 if self._held else self._table.index

    def applied(self, index: int, hard: tuple[Target, ...], soft: tuple[Target, ...]) -> None:
        """A purge was applied: look for what it matches. In the order of indexes."""
        assert index > self._newest, "purges are swept in their order, and once"
        self._newest = index
        purge = self._waiting[index] = _Purge(held=soft)
        if soft:
            self._held[index] = purge
        if self._flooded and hard:
            self._want_pass(purge)
            hard = tuple([target for target in hard if target.kind is Kind.EVERYTHING])
        for target in hard:
            job = _Job(index, target, drops=target.kind is Kind.EVERYTHING)
            if not (job.drops and self._dropped(job)):
                self._want(purge, job)
        self._bound()
        self._settle(index)

    def release_soft(self, index: int) -> None:
        """The soft targets of this purge can no longer be taken back: look for them, once those before it are
        settled. A mark names the oldest purge that matches, so it must be known which that is."""
        if index in self._held:
            self._held[index].released = True
            self._look_for_released()

    def undo(self, index: int) -> None:
        """The soft targets of this purge were taken back."""
        purge = self._held.pop(index, None)
        if purge is not None:
            purge.held = ()
            self._settle(index)
            self._look_for_released()

    def _look_for_released(self) -> None:
        while self._held and (first := next(iter(self._held.items())))[1].released:
            index, purge = first
            del self._held[index]
            held, purge.held = purge.held, ()
            for target in held:
                self._want(purge, _Job(index, target))
            self._bound()
            self._settle(index)

    def outrun(self, row: StoredRow) -> None:
        """A row goes before the sweep has come to it: if a purge has matched it, it counts for that purge."""
        finding = self._table.finding(names_of(row.meta), max(row.fence, self._table.floor))
        if finding.verdict.dead or (finding.verdict is Verdict.SOFT and not row.soft_at):
            self._told.on_purged(row.meta.key, row.size, finding)

    def restart(self) -> None:
        """The index was opened again, and may have lost deletions: look for every purge above the floor anew."""
        held = self._held
        self._begin_anew()
        self._together = range(0)
        newest, self._newest = self._newest, self._table.floor
        for index in range(self._table.floor + 1, newest + 1):
            hard, soft = self._table.stamped(index)
            if not (hard or soft):
                continue
            self.applied(index, hard, soft)
            if index not in held or held[index].released:
                self.release_soft(index)
        self._newest = max(newest, self._newest)

    def _want(self, purge: _Purge, job: _Job) -> None:
        if not job.drops and (self._flooded or not has_range(job.target)):
            self._want_pass(purge)
            return
        purge.jobs += 1
        self._jobs.append(job)

    def _want_pass(self, purge: _Purge) -> None:
        purge.passes = self._next_pass
        self._pass_wanted = True

    def _bound(self) -> None:
        """Have one pass do for all that wait, if these are too many."""
        if len(self._waiting) > WAITING_MAX:
            self._drop_all()
        if len(self._jobs) <= min(TARGETS_MAX, max(TARGETS_MIN, self._shelf.generations.count)):
            return
        self._flooded = True
        for job in self._jobs:
            purge = self._waiting[job.index]
            purge.jobs = 0
            self._want_pass(purge)
        self._jobs.clear()
        self._job = None

    def _drop_all(self) -> None:
        """Have all sites dropped in place of every purge that waits: these are more than can be told apart."""
        self._failed.add("drop all")
        self._together = range(self._first, self._newest)
        self._begin_anew()
        self._waiting[self._newest] = _Purge(jobs=1)
        self._jobs.append(_Job(self._newest, everything_target(), drops=True))

    def _begin_anew(self) -> None:
        self._waiting, self._held = {}, {}
        self._jobs.clear()
        self._job = self._pass = None
        self._pass_wanted = self._flooded = False

    def _settle(self, index: int) -> None:
        if index in self._waiting and self._waiting[index].done:
            del self._waiting[index]
            if index == self._together.stop:
                self._together = range(0)
            self._told.on_swept()

    def _dropped(self, job: _Job) -> bool:
        """Drop what a hard purge of everything is about: whether that came about. What was opened by it stays."""
        gone = [old for old in self._shelf.generations.of_site(job.target.site) if old.opened_at < job.index]
        if not gone:
            return not self._shelf.failed
        held = [(old.count, old.bytes) for old in gone]
        try:
            self._shelf.drop(gone, renewed_at=self._table.index)
        except IndexFailed:
            return False
        for count, n_bytes in held:
            self._told.on_emptied(job.target, job.index, count, n_bytes)
        return True

    # Sweeping

    def step(self) -> Step:
        """Look at one slice of rows."""
        if self._shelf.failed:
            return Step.STUCK
        began = self._clock.monotonic()
        passing = self._pass is not None or (self._pass_wanted and began >= self._rest_until)
        if not self._jobs and not passing:
            return Step.IDLE
        self._turn = passing and not (self._turn and self._jobs)
        if not self._turn:
            return self._step_job()
        step = self._step_pass()
        now = self._clock.monotonic()
        self._pass_s += now - began
        if self._pass is None:
            self._rest_until = now + min(PASS_REST_TIMES * self._pass_s, PASS_REST_S_MAX)
            self._pass_s = 0.0
        return step

    def _step_job(self) -> Step:
        job = self._jobs[0]
        if self._job is None:
            self._job = self._look_for(job)
        try:
            return next(self._job)
        except StopIteration:
            self._ended.add("target")
            self._finish(job)
        except StoreError:
            self._job = None
            if self._shelf.failed:
                return Step.STUCK
            self._failed.add("pass")
            self._want_pass(self._waiting[job.index])
            self._finish(job)
        return Step.WORKED

    def _finish(self, job: _Job) -> None:
        self._job = None
        self._jobs.popleft()
        self._waiting[job.index].jobs -= 1
        self._settle(job.index)

    def _step_pass(self) -> Step:
        if self._pass is None:
            self._pass_wanted = False
            self._next_pass += 1
            self._pass = self._whole_pass()
        try:
            return next(self._pass)
        except StopIteration:
            self._pass = None
            self._flooded = self._pass_wanted
            self._ended.add("pass")
            for index, purge in list(self._waiting.items()):
                if purge.passes < self._next_pass:
                    purge.passes = 0
                    self._settle(index)
        except StoreError:
            self._pass = self._whole_pass()
            if self._shelf.failed:
                return Step.STUCK
        return Step.WORKED

    def _look_for(self, job: _Job) -> Iterator[Step]:
        while job.drops and not self._dropped(job):
            yield Step.STUCK
        if not job.drops:
            for generation in self._shelf.generations.of_site(job.target.site):
                for family, span in ranges(generation.gen, job.target, job.index):
                    yield from self._sweep(generation, family, span)

    def _whole_pass(self) -> Iterator[Step]:
        for generation in self._shelf.generations:
            try:
                yield from self._sweep(generation, Family.OBJECTS, gen_range(generation.gen))
            except StoreError:
                if self._shelf.failed:
                    raise
                self._failed.add("drop")
                self._shelf.drop([generation], renewed_at=self._table.index)

    def _sweep(self, generation: Generation, family: Family, span: Range) -> Iterator[Step]:
        """Judge all that a range leads to, a slice at a time."""
        start = span.start
        while self._shelf.generations.numbered(generation.gen) is generation:
            rows = self._shelf.index.scan(family, start, span.end, SLICE)
            if not rows:
                return
            try:
                self._judge(generation, family, rows)
            except IndexBusy:
                yield Step.STUCK
                continue
            start = rows[-1][0] + b"\0"
            yield Step.WORKED

    def _judge(self, generation: Generation, family: Family, rows: list[Row]) -> None:
        edit, news = self._shelf.edit(), _News()
        if family is Family.OBJECTS:
            for key, value in rows:
                place = Place(generation, key)
                for row in edit.know(place, value):
                    self._judge_one(edit, place, row, news)
        else:
            self._judge_tagged(edit, generation, rows, news)
        self._shelf.commit(edit)
        self.examined += len(rows)
        for cache_key, n_bytes, finding in news:
            self.deleted += finding.verdict.dead
            self._told.on_purged(cache_key, n_bytes, finding)

    def _judge_tagged(self, edit: Edit, generation: Generation, rows: list[Row], news: "_News") -> None:
        """Judge what rows of `tags` lead to; those that lead nowhere go."""
        for key, value in rows:
            try:
                serial, place = read_tag_key(key)[3], Place(generation, decode_pointer(value))
            except IndexDamaged:
                edit.changed.delete(Family.TAGS, key)
                continue
            row = next((row for row in edit.variants(place) if row.serial == serial), None)
            if row is None:
                edit.changed.delete(Family.TAGS, key)
            else:
                self._judge_one(edit, place, row, news)

    def _judge_one(self, edit: Edit, place: Place, row: StoredRow, news: "_News") -> None:
        names, since = names_of(row.meta), max(row.fence, self._table.floor)
        finding = self._table.finding(names, since)
        if finding.verdict.dead:
            edit.drop(place, row)
        elif finding.verdict is Verdict.SOFT and not row.soft_at:
            finding = self._table.finding(names, since, self.final)
            if finding.verdict is not Verdict.SOFT:
                return
            edit.swap(place, row, marked(row, finding.index))
        else:
            return
        news.append((row.meta.key, row.size, finding))


class _News(list[tuple[str, int, Finding]]):
    """What is to be told of a slice once it is written."""
