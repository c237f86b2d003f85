from banish.http.messages import IDEMPOTENT_METHODS, SAFE_METHODS, reason_phrase


def test_reason_phrases_are_the_usual_ones_or_empty() -> None:
    assert reason_phrase(404) == "Not Found"
    assert reason_phrase(599) == ""


def test_safe_methods_may_be_repeated_and_unknown_ones_are_not_safe() -> None:
    assert SAFE_METHODS < IDEMPOTENT_METHODS
    assert "PURGE" not in SAFE_METHODS
    assert "POST" not in IDEMPOTENT_METHODS
