from banish.store.sieve import Bits, Door, Sieve


def test_what_was_not_asked_for_goes_and_what_was_stays_once() -> None:
    sieve = Sieve()
    sieve.touch(2)
    assert [sieve.passes(serial) for serial in (1, 2, 3)] == [False, True, False]
    assert sieve.hand == 4
    sieve.turn()
    assert sieve.hand == 0
    assert not sieve.passes(2)


def test_marks_are_bounded_and_a_shared_one_only_lets_stay() -> None:
    sieve = Sieve(marks=8)
    sieve.touch(1)
    assert sieve.passes(9)
    assert not sieve.passes(1)


def test_the_hand_goes_on_where_it_was() -> None:
    assert Sieve(17).hand == 17


def test_the_door_knows_who_came_before() -> None:
    door = Door()
    assert not door.knows("a")
    assert not door.knows("b")
    assert door.knows("a")
    assert door.knows("a")


def test_the_door_forgets_after_a_while() -> None:
    door = Door(keys_max=10)
    door.knows("a")
    for number in range(9):
        door.knows(number)
    assert door.knows("a")  # in the older half, and in the younger one again
    for number in range(100, 120):
        door.knows(number)
    assert not door.knows("a")


def test_strangers_are_rarely_taken_for_acquaintances() -> None:
    door = Door(keys_max=1 << 12, bits=1 << 16)
    taken = sum(door.knows(f"key {number}") for number in range(1 << 13))
    assert taken < (1 << 13) * 0.03


def test_bits_are_each_their_own() -> None:
    bits = Bits(64)
    for number in (0, 7, 8, 63):
        bits.add(number)
    assert [number for number in range(64) if number in bits] == [0, 7, 8, 63]
    bits.discard(7)
    assert [number for number in range(64) if number in bits] == [0, 8, 63]
