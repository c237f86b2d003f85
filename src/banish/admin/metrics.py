"""The books of an edge in the text that Prometheus reads.

Counting is done in plain tallies (`tables.py`); only here, when somebody asks, do they become samples.
Families are rendered one by one, so that a scrape holds the event loop for no longer than `budget.py` allows.
After them come those of the process (memory, CPU, open files), as prometheus-client reads them on Linux.

Source: Prometheus text format 0.0.4, rendered by prometheus-client.
"""

from collections.abc import Iterable, Iterator
from itertools import chain

from prometheus_client import ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from banish.admin.budget import budgeted
from banish.tables import Accounts, Metric

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
PROCESS = ProcessCollector(registry=None)


async def render(accounts: Accounts) -> bytes:
    """All metrics as text."""
    all_families = chain(families(accounts), PROCESS.collect())
    return b"".join([generate_latest(_One(family)) async for family in budgeted(all_families)])


def families(accounts: Accounts) -> Iterator[Family]:
    """Each metric with its samples, as prometheus-client knows them."""
    for metric, samples in accounts.collect():
        if metric.kind == "histogram":
            yield _histogram(metric, samples)
            continue
        family = family_of(metric)
        for labels, value in samples.items():
            family.add_metric(labels, value)
        yield family


def _histogram(metric: Metric, samples: dict[tuple[str, ...], float]) -> HistogramMetricFamily:
    """A histogram: the last label of its samples is an upper bound, or `sum`."""
    family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    buckets: dict[tuple[str, ...], list[tuple[str, float]]] = {}
    for (*labels, bound), value in samples.items():
        if bound != "sum":
            buckets.setdefault(tuple(labels), []).append((bound, value))
    for labels_, found in buckets.items():
        family.add_metric(labels_, found, samples[*labels_, "sum"])
    return family


def family_of(metric: Metric) -> CounterMetricFamily | GaugeMetricFamily:
    """An empty family for one row of the metrics table."""
    make = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    return make(metric.name, metric.help, labels=metric.labels)


class _One(Collector):
    """A registry of one family, which is what the renderer takes."""

    def __init__(self, family: Family) -> None:
        self._family = family

    def collect(self) -> Iterable[Family]:
        return [self._family]
