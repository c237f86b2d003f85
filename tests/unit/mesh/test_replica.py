"""What edges make of each other: lost, pulled, confirmed; heard and not; old, new, doubled, forgotten."""

from banish.mesh.frontier import dump, load
from banish.mesh.members import Members
from banish.mesh.replica import AskFor, Effect, Publish, SendAck, SendDigest, Stage, Standing
from tests.unit.mesh.hands import SETTINGS, Table, member


def standings(table: Table, name: str, position: object) -> set[Standing]:
    receipts = table[name].replica.receipts(position, table.now)  # type: ignore[arg-type]
    return {receipt.standing for receipt in receipts}


def test_a_purge_is_applied_by_all_who_are_there_and_confirmed_by_each() -> None:
    table = Table("a", "b", "c")
    table.start()
    position = table.purge("a")
    table.deliver()
    table.wait(0.1)
    assert all(hand.replica.held.has(position) for hand in table.hands.values())
    assert standings(table, "a", position) == {Standing.APPLIED}
    assert table["a"].replica.copies(position) == 3


def test_a_lone_edge_is_caught_up_and_not_behind() -> None:
    table = Table("a")
    table.start()
    assert table["a"].replica.stage is Stage.CAUGHT_UP
    assert not table["a"].replica.behind(table.now + 1e6)


def test_what_is_lost_and_followed_by_more_is_asked_for_at_once() -> None:
    table = Table("a", "b")
    table.start()
    lost = table.purge("a")
    table.post.clear()
    table.purge("a")
    table.deliver()
    assert table["b"].replica.held.has(lost)


def test_what_a_child_says_is_in_effect_there_is_asked_of_it_before_any_digest_tells() -> None:
    table = Table("a", "b", "c")
    table.start()
    own, other = table.purge("a"), table.purge("c")
    table.post = [post for post in table.post if "b" not in post[:2]]
    table.deliver()
    marks = {(position.edge, position.epoch): position.seq for position in (own, other)}
    table.do("b", table["b"].replica.wanted(marks, table["a"].edge, table.now))
    table.deliver()
    assert table["b"].replica.received.covers(marks)


def test_what_one_who_is_no_member_says_is_in_effect_is_waited_for_and_asked_of_nobody() -> None:
    table = Table("a", "b")
    table.start()
    own = table.purge("a")
    table.post.clear()
    asked = len(table.does("b", AskFor))
    table.do("b", table["b"].replica.wanted({(own.edge, own.epoch): own.seq}, "f" * 16, table.now))
    assert len(table.does("b", AskFor)) == asked


def test_a_lost_last_record_is_said_again_until_it_is_confirmed() -> None:
    table = Table("a", "b")
    table.start()
    lost = table.purge("a")
    table.post.clear()
    table.wait(0.5)
    assert table["b"].replica.held.has(lost)
    said = len(table.does("a", Publish))
    table.wait(60)
    assert len(table.does("a", Publish)) == said


def test_a_record_is_applied_once_however_often_it_comes() -> None:
    table = Table("a", "b")
    table.start()
    applied = len(table["b"].applied)
    table.purge("a")
    table.post *= 3
    table.deliver()
    assert len(table["b"].applied) == applied + 1


def test_a_record_that_its_issuer_has_not_signed_is_not_taken() -> None:
    table = Table("a", "b")
    table.start()
    applied = len(table["b"].applied)
    _, record = table["a"].record()
    table.do("b", table["b"].replica.record(record[:-1] + b"\0", table.now))
    assert len(table["b"].applied) == applied


def test_records_of_one_who_is_not_known_yet_wait_for_its_joining() -> None:
    table = Table("a", "b")
    table.start()
    position, record = Table("x", "y")["x"].record()
    table.do("b", table["b"].replica.record(record, table.now))
    assert not table["b"].replica._known.received.has(position)
    table.do("b", table["b"].replica.joined(member("x"), table.now))
    assert table["b"].replica.held.has(position)


def test_whoever_is_not_heard_for_a_lease_makes_others_behind() -> None:
    table = Table("a", "b", "c")
    table.start()
    table.wait(30)
    assert not table["a"].replica.behind(table.now)
    table.cut = {frozenset("ab"), frozenset("bc")}
    table.wait(SETTINGS.lease_s + 1)
    assert all(table[name].replica.behind(table.now) for name in "abc")
    position = table.purge("a")
    table.deliver()
    assert standings(table, "a", position) == {Standing.UNREACHABLE, Standing.APPLIED}
    table.cut = set()
    table.link("b")
    table.wait(5)
    assert not any(table[name].replica.behind(table.now) for name in "abc")
    assert table["b"].replica.held.has(position)


def test_a_one_way_link_is_not_enough_to_be_heard() -> None:
    table = Table("a", "b")
    table.start()

    def to_a(sender: str, receiver: str, effect: Effect) -> bool:
        return receiver == "a"

    table.wait(SETTINGS.lease_s + 2, to_a)
    assert table["a"].replica.behind(table.now)
    assert table["b"].replica.behind(table.now)  # it hears digests, and none that proves itself fresh


def test_a_goodbye_is_not_silence() -> None:
    table = Table("a", "b", "c")
    table.start()
    table.do("b", table["b"].replica.goodbye(table.now))
    table.deliver()
    table.wait(60)
    assert not table["a"].replica.behind(table.now)
    table.restart("c")
    table.wait(10)
    assert table["c"].replica.stage is Stage.CAUGHT_UP
    assert not table["c"].replica.behind(table.now)  # others have told it
    table.restart("b")
    table.cut = {frozenset("ab")}
    table.wait(SETTINGS.lease_s + 2)
    assert table["a"].replica.behind(table.now)


def test_an_invited_edge_that_never_came_holds_nobody_up() -> None:
    table = Table("a", "b", "c")
    del table.hands["c"]
    table.raised.pop("c")
    table.start("a", "b")
    table.wait(60)
    assert not table["a"].replica.behind(table.now)
    assert len(table["a"].replica.counted) == 1


def test_an_edge_back_after_an_absence_pulls_what_it_missed_before_it_is_caught_up() -> None:
    table = Table("a", "b")
    table.start()
    table.cut = {frozenset("ab")}
    positions = [table.purge("a") for _ in range(2000)]
    table.post.clear()
    table.cut = set()
    table.restart("b")
    table.wait(2)
    assert table["b"].replica.stage is Stage.CAUGHT_UP
    assert table["b"].replica.held.has(positions[-1])
    assert len(table.does("b", AskFor)) < 10


def test_what_the_issuer_lost_reach_of_is_pulled_from_others() -> None:
    table = Table("a", "b", "c")
    table.start()
    table.cut = {frozenset("ac")}
    for name, other in (("a", "c"), ("c", "a")):
        table.do(name, table[name].replica.linked(table[other].edge, False, table.now))
    position = table.purge("a")
    table.deliver()
    assert not table["c"].replica.held.has(position)
    table.wait(4)
    assert table["c"].replica.held.has(position)


def test_an_epoch_that_ended_without_its_last_record_known_is_pulled_when_the_next_begins() -> None:
    table = Table("a", "b")
    table.start()
    lost = table.purge("a")
    table.post.clear()
    table.restart("a")
    table.wait(1)
    assert table["b"].replica.held.has(lost)


def test_own_records_that_were_lost_here_come_back_from_others() -> None:
    table = Table("a", "b")
    table.start()
    position = table.purge("a")
    table.deliver()
    hand = table["a"]
    del hand.log[position]
    lesser = {stream: mark - (stream == hand.own) for stream, mark in hand.replica.held.marks.items()}
    hand.replica.held = type(hand.replica.held)(lesser)
    hand.sequence -= 1
    table.restart("a")
    table.wait(3)
    assert position in table["a"].log


def test_ended_epochs_fold_once_all_hold_them() -> None:
    table = Table("a", "b", "c")
    table.start()
    for _ in range(5):
        table.purge("b")
        table.deliver()
        table.restart("b")
        table.wait(1)
    table.wait(4 * SETTINGS.lease_s)
    for hand in table.hands.values():
        epochs = [stream for stream in hand.replica.held.marks if stream[0] == table["b"].edge]
        assert sorted(epochs) == sorted([(table["b"].edge, "5-"), table["b"].own])
        assert hand.replica._known.gaps.streams == {}


def test_an_edge_whose_disk_was_restored_is_heard_though_its_starts_are_counted_anew() -> None:
    table = Table("a", "b", "c")
    table.start()
    kept = table["b"].again()
    for _ in range(3):
        table.restart("b")
        table.wait(1)
    table.wait(4 * SETTINGS.lease_s)
    assert table["a"].replica.held.folds == {table["b"].edge: 3}
    kept.start = 1
    table.hands["b"] = kept
    table.restart("b")
    assert table["b"].start == 2
    table.wait(3 * SETTINGS.period_s)
    position = table.purge("b")
    table.deliver()
    table.wait(3 * SETTINGS.period_s)
    assert position in table["a"].log
    assert table["b"].replica.copies(position) == 3
    table["a"].frontier = load(dump(table["a"].replica.held))
    assert table["a"].frontier.has(position)


def test_one_whose_log_is_needed_no_more_reaches_back_covers_everything_and_goes_on() -> None:
    table = Table("a", "b")
    table.start()
    table.cut = {frozenset("ab")}
    for _ in range(20):
        table.purge("a")
    table.post.clear()
    for position in sorted(table["a"].log, key=lambda position: position.seq)[:10]:
        del table["a"].log[position]
    table.cut = set()
    table.restart("b")
    table.wait(1)
    assert [effect.alarm.value for effect in table.raised["b"]] == ["too-old"]
    assert table["b"].replica.stage is Stage.CAUGHT_UP
    after = table.purge("a")
    table.deliver()
    assert table["b"].replica.held.has(after)


def test_a_number_that_nobody_has_any_more_is_covered_after_a_while() -> None:
    table = Table("a", "b")
    table.start()
    lost = table.purge("a")
    table.post.clear()
    del table["a"].log[lost]
    table.purge("a")
    table.deliver()
    table.wait(SETTINGS.gap_limit_s / 2)
    assert table["b"].replica.behind(table.now)
    assert not table.raised["b"]
    table.wait(SETTINGS.gap_limit_s)
    assert [effect.alarm.value for effect in table.raised["b"]] == ["lost"]
    assert not table["b"].replica.behind(table.now)


def test_a_copied_directory_is_found_out_and_the_newcomer_gives_way() -> None:
    table = Table("a", "b")
    table.start()
    table.wait(60)
    copy = table["a"].again()
    table.hands["copy"] = copy
    table.raised["copy"] = []
    table.do("copy", copy.issue(table.now))
    table.do("copy", copy.replica.start(table.now))
    table.wait(30)
    assert copy.replica.stage is Stage.DOUBLED
    assert table["a"].replica.stage is Stage.CAUGHT_UP
    assert "double" in {effect.alarm.value for effect in table.raised["a"]}


def test_a_restart_is_not_taken_for_a_copy() -> None:
    table = Table("a", "b")
    table.start()
    for _ in range(5):
        table.wait(3)
        table.restart("a")
    table.wait(30)
    assert table["a"].replica.stage is Stage.CAUGHT_UP
    assert not table.raised["a"]


def test_a_forgotten_edge_learns_it_when_it_speaks() -> None:
    table = Table("a", "b", "c")
    table.start()
    for name in "ab":
        table.do(name, table[name].replica.forgotten(table["c"].edge, table.now))
    table.deliver()
    table.wait(5)
    assert table["c"].replica.stage is Stage.FORGOTTEN
    assert not table["a"].replica.behind(table.now + SETTINGS.lease_s / 2)
    position = table.purge("c")
    table.deliver()
    assert position not in table["a"].log


def test_what_was_issued_before_it_was_forgotten_still_spreads() -> None:
    table = Table("a", "b", "c")
    table.start()
    position = table.purge("c")
    table.deliver(lambda sender, receiver, effect: receiver == "b" and isinstance(effect, Publish))
    for name in "ab":
        table.do(name, table[name].replica.forgotten(table["c"].edge, table.now))
    table.wait(5)
    assert table["b"].replica.held.has(position)


def test_lists_of_members_that_differ_are_brought_together() -> None:
    table = Table("a", "b")
    table.start()
    table["a"].members.join(member("z"))
    table.wait(3 * SETTINGS.lease_s)
    assert table["b"].members.version == table["a"].members.version


def test_a_newcomer_adopts_what_is_too_much_to_pull() -> None:
    table = Table("a", "b")
    table.start("a")
    for _ in range(11_000):
        table.purge("a")
    table.post.clear()
    table.start("b")
    table.wait(3)
    assert table["b"].replica.stage is Stage.CAUGHT_UP
    assert table["b"].replica.held.mark(table["a"].own) >= 11_000
    assert len(table["b"].applied) < 100
    assert not table.raised["b"]


def test_acks_go_to_the_issuer_alone_and_in_batches() -> None:
    table = Table("a", "b", "c")
    table.start()
    table.wait(1)
    before = len(table.does("b", SendAck))
    for _ in range(100):
        table.purge("a")
    table.deliver()
    table.wait(0.1)
    acks = table.does("b", SendAck)[before:]
    assert len(acks) <= 3
    assert {effect.edge for effect in acks if isinstance(effect, SendAck)} == {table["a"].edge}


def test_a_quiet_mesh_says_a_digest_a_period_and_nothing_else() -> None:
    table = Table("a", "b", "c")
    table.start()
    table.wait(5)
    before = len(table["a"].did)
    table.wait(20)
    said = table["a"].did[before:]
    assert all(isinstance(effect, SendDigest) for effect in said)
    assert len(said) <= 11


def test_what_a_parent_has_not_confirmed_is_told() -> None:
    table = Table("a", "b")
    table.start()
    table.wait(10)
    assert table["a"].replica.unconfirmed(table["b"].edge) == {}
    position = table.purge("a")
    assert table["a"].replica.unconfirmed(table["b"].edge) == {table["a"].own: position.seq}
    table.deliver()
    table.wait(0.1)
    assert table["a"].replica.unconfirmed(table["b"].edge) == {}
    assert table["a"].own in table["a"].replica.unconfirmed("nobody")


def test_a_member_list_of_one_is_enough_to_begin() -> None:
    table = Table("a", "b")
    table.hands["a"].members = Members([member("a")])
    table.start("a")
    table.wait(1)
    assert table["a"].replica.stage in (Stage.CAUGHT_UP, Stage.STARTING)


def test_records_of_one_who_was_forgotten_before_it_was_known_are_pulled_with_its_key() -> None:
    table = Table("a", "b", "c")
    table.start("a", "c")
    position = table.purge("c")
    table.deliver()
    table.do("a", table["a"].replica.forgotten(table["c"].edge, table.now))
    gone = table.hands.pop("c")
    table["b"].replica.members.forget(gone.edge)
    table["b"].replica.members._former.clear()
    table["b"].replica._known.belongs_no_more(gone.edge)
    table.start("b")
    table.wait(5)
    assert table["b"].replica.held.has(position)
    assert table["b"].replica.stage is Stage.CAUGHT_UP
