"""Declarations: what a metric is, declared once, used for counting, scraping and the reference page.

Each package declares its own rows next to the code that counts. A tally is a plain dictionary of integers:
adding to one costs a dictionary store, where a prometheus counter costs 0.5 to 2 µs. The admin listener reads
tallies at scrape time.

Not here: how samples are rendered (`admin/metrics.py`).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of the metrics table.

    `name` is the full exported name, with its unit as last word; counters end in `_total`. The samples of a histogram
    have one label more than it names, the last: an upper bound, of all that are not above it, or `sum`.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()


class Tally:
    """The counts of one metric: label values → number."""

    __slots__ = ("counts", "metric")

    def __init__(self, metric: Metric) -> None:
        self.metric = metric
        self.counts: dict[tuple[str, ...], float] = {} if metric.labels else {(): 0}

    def add(self, *labels: str, n: float = 1) -> None:
        """Add `n` to the count that these label values name."""
        self.counts[labels] = self.counts.get(labels, 0) + n

    def get(self, *labels: str) -> float:
        """The count that these label values name; 0 if never added to."""
        return self.counts.get(labels, 0)


Samples = Iterable[tuple[tuple[str, ...], float]]


class Accounts:
    """The books of one edge: every tally, and every figure that is read when asked for.

    Handed to each part at its making, so two edges in one process keep separate books.
    """

    def __init__(self) -> None:
        self._read: dict[str, tuple[Metric, list[Callable[[], Samples]]]] = {}
        self._parts: list[Accounts] = []
        self._closed: dict[str, Tally] = {}
        """What parts had counted when their books were closed."""

    def part(self) -> "Accounts":
        """Books within these, for something that may end before the edge does."""
        part = Accounts()
        self._parts.append(part)
        return part

    def close_part(self, part: "Accounts") -> None:
        """Close a part's books: what was counted stays counted, what was read is read no more."""
        if part not in self._parts:
            return
        self._parts.remove(part)
        for metric, figures in part.collect():
            if metric.kind == "counter":
                self._carry_over(metric, figures)

    def _carry_over(self, metric: Metric, figures: dict[tuple[str, ...], float]) -> None:
        if metric.name not in self._closed:
            self._closed[metric.name] = self.tally(metric)
        for labels, value in figures.items():
            self._closed[metric.name].add(*labels, n=value)

    def tally(self, metric: Metric) -> Tally:
        """A tally to add to. Two tallies of one metric are summed at scrape."""
        tally = Tally(metric)
        self.read(metric, lambda: list(tally.counts.items()))
        return tally

    def read(self, metric: Metric, samples: Callable[[], Samples]) -> None:
        """Have `samples` called at each scrape for this metric's figures."""
        self._read.setdefault(metric.name, (metric, []))[1].append(samples)

    def collect(self) -> Iterable[tuple[Metric, dict[tuple[str, ...], float]]]:
        """Each metric with its figures, summed over those who count it."""
        totals: dict[str, tuple[Metric, dict[tuple[str, ...], float]]] = {}
        for metric, figures in self._each():
            total = totals.setdefault(metric.name, (metric, {}))[1]
            for labels, value in figures:
                total[labels] = total.get(labels, 0) + value
        yield from totals.values()

    def _each(self) -> Iterable[tuple[Metric, Samples]]:
        for metric, readers in list(self._read.values()):
            for samples in readers:
                yield metric, samples()
        for part in self._parts:
            yield from part._each()
