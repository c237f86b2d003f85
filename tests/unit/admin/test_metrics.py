import asyncio

from prometheus_client.parser import text_string_to_metric_families

from banish.admin.metrics import render
from banish.tables import Accounts, Metric

HITS = Metric("test_hits_total", "counter", "Hits, by site.", ("site",))
BYTES = Metric("test_memory_bytes", "gauge", "Memory.")


def test_what_is_counted_is_what_prometheus_reads() -> None:
    accounts = Accounts()
    accounts.tally(HITS).add("a", n=2)
    accounts.tally(HITS).add('b"\n', n=3)
    accounts.read(BYTES, lambda: [((), 12.5)])
    text = asyncio.run(render(accounts)).decode()
    read = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.startswith("process_")
    }
    assert read == {("test_hits_total", "a"): 2, ("test_hits_total", 'b"\n'): 3, ("test_memory_bytes",): 12.5}
    assert "# HELP test_hits_total Hits, by site.\n# TYPE test_hits_total counter\n" in text


def test_two_who_count_one_thing_are_summed() -> None:
    accounts = Accounts()
    for _ in range(2000):  # as many reloads
        accounts.tally(HITS).add("a")
    assert b'test_hits_total{site="a"} 2000.0' in asyncio.run(render(accounts))


def test_a_histogram_has_buckets_a_count_and_a_sum() -> None:
    lag = Metric("test_lag_seconds", "histogram", "Lag.", ("member",))
    accounts = Accounts()
    accounts.read(lag, lambda: [(("a", "0.1"), 2), (("a", "+Inf"), 3), (("a", "sum"), 1.5)])
    text = asyncio.run(render(accounts)).decode()
    assert "# TYPE test_lag_seconds histogram\n" in text
    assert 'test_lag_seconds_bucket{le="0.1",member="a"} 2.0\n' in text
    assert 'test_lag_seconds_count{member="a"} 3.0\n' in text
    assert 'test_lag_seconds_sum{member="a"} 1.5\n' in text
