"""The runner's arithmetic. The suite itself is run by `make conformance`."""

import json
from typing import Any

import pytest

from tests.conformance import run


def suite_of(**needs: list[str]) -> run.Tests:
    return {name: {"id": name, "kind": "required", "needs": needed} for name, needed in needs.items()}


def test_a_test_counts_only_if_all_that_it_needs_passed() -> None:
    tests = suite_of(base=[], child=["base"], grandchild=["child"], other=[])
    results: dict[str, Any] = {"base": ["Assertion", "no"], "child": True, "grandchild": True, "other": True}
    assert run._judge(tests, results) == {
        "base": "Assertion: no",
        "child": "needs base",
        "grandchild": "needs child",
        "other": "pass",
    }


def test_a_test_without_result_was_not_run() -> None:
    assert run._judge(suite_of(lost=[]), {}) == {"lost": "not run"}


def test_all_that_a_test_needs_is_run_with_it() -> None:
    tests = suite_of(base=[], child=["base"], grandchild=["child"], other=[])
    assert sorted(run._with_needs(["grandchild"], tests)) == ["base", "child", "grandchild"]


def test_a_score_below_the_record_and_a_declined_test_that_passes_are_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    floor = {"required": 10, "optimal": 5}
    assert run._gate({"required": 10, "optimal": 6}, floor, {}, {}) == 0
    assert run._gate({"required": 9, "optimal": 6}, floor, {}, {}) == 1
    assert run._gate({"required": 10, "optimal": 5}, floor, {"a": "why"}, {"a": "pass"}) == 1
    assert capsys.readouterr().err == (
        "conformance: required fell from 10 to 9\nconformance: a is declined, but passes\n"
    )


def test_what_is_declined_is_recorded_as_failing() -> None:
    recorded = json.loads(run.SCORES.read_text())
    lists = run._lists()
    assert len(lists["declined"]) <= run.DECLINED_MAX
    assert set(lists["npm"]) <= set(recorded["npm"]["failing"])
    assert set(lists["declined"]) <= set(recorded["current"]["failing"])


def test_every_test_recorded_as_failing_has_a_reason() -> None:
    recorded = json.loads(run.SCORES.read_text())
    lists = run._lists()
    known = lists["declined"] | lists["explained"]
    assert set(recorded["current"]["failing"]) <= set(known)
    assert set(recorded["npm"]["failing"]) <= set(known | lists["npm"])
