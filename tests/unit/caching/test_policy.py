from banish.caching.policy import DEFAULT_POLICY, CachePolicy


def test_the_defaults_add_nothing_to_what_http_says() -> None:
    policy = CachePolicy()
    assert policy == DEFAULT_POLICY
    assert (policy.override_ttl_s, policy.default_ttl_s) == (None, None)
    assert (policy.vary_on, policy.vary_ignore, policy.query_drop) == ((), (), ())
    flags = {policy.bypass, policy.store_set_cookie, policy.ignore_cookies, policy.query_sort}
    assert flags == {False}
