import gc

from banish.purge.targets import Kind, group_target, url_target


def test_targets_of_two_sites_differ() -> None:
    assert url_target("shop", "https://a.example/") != url_target("blog", "https://a.example/")


def test_a_group_and_a_url_of_one_value_differ() -> None:
    group = group_target("shop", "https://a.example", "news")
    assert group != url_target("shop", group.value)
    assert group.kind is Kind.GROUP


def test_a_group_is_scoped_to_its_origin() -> None:
    assert group_target("shop", "https://a.example", "x") != group_target("shop", "http://a.example", "x")


def test_equal_targets_hash_alike() -> None:
    assert len({url_target("shop", "https://a.example/") for _ in range(3)}) == 1


def test_a_tuple_of_targets_leaves_the_collectors_reach() -> None:
    targets = (url_target("shop", "https://a.example/"),)
    gc.collect()
    assert not gc.is_tracked(targets[0])
    assert not gc.is_tracked(targets)
