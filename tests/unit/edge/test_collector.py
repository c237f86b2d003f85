import gc

from banish.edge.collector import GC_COLLECTIONS, GC_PAUSE_SECONDS, GC_PAUSE_SECONDS_MAX, Pauses
from banish.tables import Accounts


def test_pauses_are_counted_summed_and_the_longest_kept() -> None:
    accounts = Accounts()
    ticks = iter([10.0, 10.5, 20.0, 20.25])
    pauses = Pauses(accounts, timer=lambda: next(ticks))
    gc.disable()
    pauses.start()
    try:
        gc.collect(2)
        gc.collect(2)
    finally:
        pauses.stop()
        gc.enable()
    gc.collect(2)
    books = {metric.name: samples for metric, samples in accounts.collect()}
    assert books[GC_COLLECTIONS.name] == {("0",): 0, ("1",): 0, ("2",): 2}
    assert books[GC_PAUSE_SECONDS.name][("2",)] == 0.75
    assert books[GC_PAUSE_SECONDS_MAX.name][("2",)] == 0.5
