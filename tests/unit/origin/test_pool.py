"""The pool's decisions, told as stories over its books. No socket, no wait."""

import asyncio
from dataclasses import dataclass

from banish.origin.addresses import Address
from banish.origin.limits import Limits
from banish.origin.pool import AVOID_ADDRESS_S, Pool, Turn

A, B = Address("http", "a", 80), Address("http", "b", 80)


@dataclass(eq=False)
class Fake:
    address: Address = A
    usable: bool = True


def pool(*addresses: Address, **limits: int) -> Pool[Fake]:
    return Pool(addresses or (A,), Limits(**limits))


def turn() -> "asyncio.Future[Turn[Fake]]":
    return asyncio.Future(loop=_loop)


_loop = asyncio.new_event_loop()
_loop.close()  # futures only need it to schedule callbacks, and these have none


def test_the_newest_idle_connection_is_taken_first() -> None:
    books = pool()
    old, new = Fake(), Fake()
    assert books.take(0).address == A
    assert books.take(0).address == A
    books.give(old)
    books.give(new)
    assert repr(books) == "<Pool: 0 taken, 2 idle, 0 waiting>"
    assert books.take(0) == Turn(connection=new)
    assert books.take(0) == Turn(connection=old)
    assert books.take(0) == Turn(address=A)
    assert repr(books) == "<Pool: 3 taken, 0 idle, 0 waiting>"


def test_an_idle_connection_that_died_is_handed_out_to_be_closed() -> None:
    books = pool()
    dead = Fake(usable=False)
    books.take(0)
    books.give(dead)
    assert books.take(0) == Turn(address=A, close=(dead,))
    books.gone(dead)
    assert repr(books) == "<Pool: 1 taken, 0 idle, 0 waiting>"


def test_connections_are_bounded_and_the_next_wait_in_line() -> None:
    books = pool(connections_max=1)
    books.take(0)
    assert books.take(0) == Turn()
    first, second = turn(), turn()
    assert books.wait(first)
    assert books.wait(second)
    connection = Fake()
    books.give(connection)
    assert first.result() == Turn(connection=connection)
    assert not second.done()
    books.gone(connection)
    assert second.result() == Turn(address=A)
    assert repr(books) == "<Pool: 1 taken, 0 idle, 0 waiting>"


def test_the_line_is_bounded_and_those_who_left_it_do_not_count() -> None:
    books = pool(connections_max=1, waiting_max=1)
    books.take(0)
    impatient = turn()
    assert books.wait(impatient)
    assert not books.wait(turn())
    assert not impatient.done()


def test_idle_connections_are_bounded_the_oldest_going_first() -> None:
    books = pool(idle_max=1)
    old, new = Fake(), Fake()
    books.take(0)
    books.take(0)
    assert books.give(old) == ()
    assert books.give(new) == (old,)
    books.gone(old)
    assert repr(books) == "<Pool: 0 taken, 1 idle, 0 waiting>"


def test_a_fresh_connection_takes_the_place_of_the_oldest_idle_one() -> None:
    books = pool(connections_max=1)
    idle = Fake()
    books.take(0)
    books.give(idle)
    assert books.take(0, fresh=True) == Turn(address=A, close=(idle,))
    books.gone(idle)
    assert repr(books) == "<Pool: 1 taken, 0 idle, 0 waiting>"


def test_addresses_share_connections_evenly() -> None:
    books = pool(A, B)
    assert [books.take(0).address for _ in range(4)] == [A, B, A, B]


def test_an_address_that_took_no_connection_is_the_last_choice_for_a_while() -> None:
    books = pool(A, B)
    assert books.take(0).address == A
    books.failed(A, 0)
    assert [books.take(1).address for _ in range(3)] == [B, B, B]
    assert books.take(1, tried={B}).address == A
    assert books.take(AVOID_ADDRESS_S).address == A


def test_an_address_that_works_again_is_a_choice_again() -> None:
    books = pool(A, B)
    books.take(0)
    books.failed(A, 0)
    books.worked(A)
    assert books.take(1).address == A


def test_addresses_tried_in_vain_are_out_of_question() -> None:
    books = pool(A, B)
    assert books.take(0, tried={A, B}) == Turn()
