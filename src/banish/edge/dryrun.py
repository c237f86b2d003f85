"""A dry run: what a purge would match now, and what it would cost the origin.

The targets are applied to a table of stamps of their own, and every stored response that may match is asked of it
as if it had been fetched before: the rules of matching are the very ones that a purge obeys.

A stored response that is asked for `r` times a second is asked for at least once within `t` seconds with the
probability 1 - e^(-r·t) (requests as a Poisson process), and then costs the origin one request, since requests
for one URL are collapsed onto one fetch. The sum over what matches is the expected number of origin requests that
the purge brings about, soft or hard.

Not here: finding what may match (`store/`).
Units: bytes of bodies; hits in 1/s, lately and in memory: what is only on disk counts as not asked for, so the
estimates are lower bounds.
"""

import heapq
import math
from collections.abc import AsyncIterator, Sequence

from banish.edge.receipts import DryRun, Sample, TargetCount
from banish.purge.given import Given
from banish.purge.stamps import Mode, PurgeTable, Verdict
from banish.purge.targets import Target
from banish.store.tiers import Held

SAMPLES_MAX = 20
"""Stored responses named in a dry run: the hottest."""

EXAMINED_MAX = 5_000_000
"""Stored responses looked at: more than that, and the dry run says that it is not complete."""

SECOND_S = 1.0
MINUTE_S = 60.0


async def dry_run(
    held: AsyncIterator[Held],
    given: Sequence[Given],
    canonical: Sequence[tuple[Target, ...]],
    *,
    mode: Mode,
    sites: tuple[str, ...],
    widened: tuple[str, ...] = (),
) -> DryRun:
    """What `given`, which became `canonical` here, would match of what is `held`.

    `held` may give more than matches, and everything at most once.
    """
    findings = _Findings(canonical)
    complete = True
    examined = 0
    async for response in held:
        if examined == EXAMINED_MAX:
            complete = False
            break
        examined += 1
        findings.take(response)
    counts = findings.counts
    return DryRun(
        mode=mode,
        sites=sites,
        matched=sum(count[0] for count in counts),
        bytes=sum(count[1] for count in counts),
        targets=tuple(
            [
                TargetCount(target=target, matched=matched, bytes=n_bytes)
                for target, (matched, n_bytes) in zip(given, counts, strict=True)
            ]
        ),
        samples=findings.samples(),
        origin_requests_first_second=round(findings.first_second, 2),
        origin_requests_first_minute=round(findings.first_minute, 2),
        widened=widened,
        complete=complete,
    )


class _Findings:
    """What was found so far."""

    def __init__(self, canonical: Sequence[tuple[Target, ...]]) -> None:
        self.counts = [[0, 0] for _ in canonical]
        self.first_second = 0.0
        self.first_minute = 0.0
        self._hottest: list[tuple[float, int, Held]] = []
        self._matched = 0
        self._numbers: dict[Target, int] = {}
        for at, targets in enumerate(canonical):
            for target in targets:
                self._numbers.setdefault(target, at)
        self._table = PurgeTable()
        self._table.apply(hard=self._numbers)

    def take(self, response: Held) -> None:
        """Count a response, if it matches."""
        finding = self._table.finding(response.names, 0)
        if finding.verdict is Verdict.CLEAN:
            return
        # A table that had to widen knows no target; the first one speaks for it.
        count = self.counts[self._numbers.get(finding.target, 0) if finding.target is not None else 0]
        count[0] += 1
        count[1] += response.bytes
        self.first_second -= math.expm1(-response.hits_per_s * SECOND_S)
        self.first_minute -= math.expm1(-response.hits_per_s * MINUTE_S)
        self._matched += 1
        place = (response.hits_per_s, -self._matched, response)
        if len(self._hottest) < SAMPLES_MAX:
            heapq.heappush(self._hottest, place)
        elif place > self._hottest[0]:
            heapq.heapreplace(self._hottest, place)

    def samples(self) -> tuple[Sample, ...]:
        """The hottest, hottest first."""
        return tuple(
            [
                Sample(url=held.names.url, site=held.names.site, bytes=held.bytes, hits_per_s=round(held.hits_per_s, 3))
                for _, _, held in sorted(self._hottest, reverse=True)
            ]
        )
