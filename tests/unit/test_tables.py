from banish.tables import Accounts, Metric

SEEN = Metric("seen_total", "counter", "Seen.", ("who",))
OPEN = Metric("open", "gauge", "Open.")


def figures(accounts: Accounts) -> dict[str, dict[tuple[str, ...], float]]:
    return {metric.name: samples for metric, samples in accounts.collect()}


def test_tallies_of_one_metric_are_summed() -> None:
    accounts = Accounts()
    accounts.tally(SEEN).add("a")
    accounts.tally(SEEN).add("a", n=2)
    accounts.tally(SEEN).add("b")
    assert figures(accounts) == {"seen_total": {("a",): 3, ("b",): 1}}


def test_a_parts_figures_are_among_those_of_the_whole() -> None:
    accounts = Accounts()
    accounts.tally(SEEN).add("a")
    part = accounts.part()
    part.tally(SEEN).add("a")
    part.read(OPEN, lambda: [((), 5)])
    assert figures(accounts) == {"seen_total": {("a",): 2}, "open": {(): 5}}
    assert figures(part) == {"seen_total": {("a",): 1}, "open": {(): 5}}


def test_when_a_part_is_closed_what_was_counted_stays_and_what_was_read_goes() -> None:
    accounts = Accounts()
    for _ in range(3):
        part = accounts.part()
        part.tally(SEEN).add("a")
        part.tally(SEEN).add("b", n=2)
        part.read(OPEN, lambda: [((), 5)])
        accounts.close_part(part)
        accounts.close_part(part)
    assert figures(accounts) == {"seen_total": {("a",): 3, ("b",): 6}}


def test_parts_that_come_and_go_do_not_lengthen_the_books() -> None:
    accounts = Accounts()
    lengths = []
    for _ in range(4):
        part = accounts.part()
        part.tally(SEEN).add("a")
        accounts.close_part(part)
        lengths.append(sum(1 for _ in accounts._each()))
    assert lengths == [1, 1, 1, 1]
