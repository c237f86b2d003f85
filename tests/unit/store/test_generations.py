import pytest

from banish.errors import IndexDamaged
from banish.store.generations import SERIALS_BLOCK, Generation, Generations, Serials
from banish.store.index import Batch, Family
from banish.store.rows import site_key
from banish.testing.index import Call, MemoryIndex, disk_full


def opened(generations: Generations, index: MemoryIndex, name: str, at: int = 0) -> Generation:
    batch = Batch()
    generation = generations.opening(batch, name, at)
    index.write(batch)
    generations.enter(generation)
    return generation


def closed(generations: Generations, index: MemoryIndex, old: Generation) -> None:
    batch = Batch()
    generations.closing(batch, old)
    index.write(batch)
    generations.leave(old)


class TestGenerations:
    def test_a_key_is_in_the_generation_of_its_site_and_rules(self) -> None:
        index = MemoryIndex()
        generations = Generations(index)
        shop = opened(generations, index, "shop#1")
        assert generations.named("shop#1 https://shop.example/") is shop
        assert generations.named("shop#1+de https://shop.example/") is shop
        assert generations.named("shop#2 https://shop.example/") is None
        assert generations.numbered(shop.gen) is shop
        assert shop.site == "shop"

    def test_a_site_has_all_its_generations(self) -> None:
        index = MemoryIndex()
        generations = Generations(index)
        first, second = opened(generations, index, "shop#1"), opened(generations, index, "shop#2")
        other = opened(generations, index, "shop")
        assert generations.of_site("shop") == [first, second, other]
        assert generations.of_site("") == [first, second, other]
        assert generations.of_site("blog") == []

    def test_what_was_counted_is_there_at_the_next_start(self) -> None:
        index = MemoryIndex()
        generations = Generations(index)
        shop = opened(generations, index, "shop#1", at=17)
        generations.add(shop, 3, 300)
        batch = Batch()
        generations.save(batch, shop)
        index.write(batch)
        again = Generations(index)
        (found,) = again
        assert (found.key_name, found.gen, found.opened_at, found.count, found.bytes) == ("shop#1", 1, 17, 3, 300)
        assert (again.count, again.bytes) == (3, 300)

    def test_a_dropped_one_is_remembered_until_it_is_forgotten(self) -> None:
        index = MemoryIndex()
        generations = Generations(index)
        old = opened(generations, index, "shop#1")
        generations.add(old, 3, 300)
        closed(generations, index, old)
        assert (generations.count, generations.bytes) == (0, 0)
        assert generations.named("shop#1 https://shop.example/") is None
        assert generations.dropped == Generations(index).dropped == {old.gen}
        batch = Batch()
        generations.forgetting(batch, old.gen)
        index.write(batch)
        assert not Generations(index).dropped

    @pytest.mark.parametrize("taken", [(), (7,)])
    def test_a_number_is_never_given_twice(self, taken: tuple[int, ...]) -> None:
        index = MemoryIndex()
        generations = Generations(index, taken)
        old = opened(generations, index, "shop#1")
        closed(generations, index, old)
        batch = Batch()
        generations.forgetting(batch, old.gen)
        index.write(batch)
        assert opened(Generations(index), index, "shop#1").gen == old.gen + 1 > max(taken, default=0)

    def test_a_row_that_cannot_be_read_is_damage_of_all(self) -> None:
        index = MemoryIndex()
        batch = Batch()
        batch.put(Family.META, site_key("shop#1"), b"\x01\xc1")
        index.write(batch)
        with pytest.raises(IndexDamaged):
            Generations(index)


class TestSerials:
    def test_they_go_on_behind_what_was_reserved(self) -> None:
        index = MemoryIndex()
        serials = Serials(index)
        assert [serials.take(index) for _ in range(3)] == [1, 2, 3]
        assert Serials(index).take(index) == SERIALS_BLOCK + 1

    def test_the_next_block_is_reserved_long_before_it_is_needed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("banish.store.generations.SERIALS_BLOCK", 8)
        index = MemoryIndex()
        serials = Serials(index)
        for _ in range(100):
            taken = serials.take(index)
            assert Serials(MemoryIndex.reopened(index)).first > taken + 3
            index = index.reopened()

    def test_an_index_that_was_opened_again_gives_none_twice(self) -> None:
        index = MemoryIndex()
        serials = Serials(index)
        taken = serials.take(index)
        index.cut_back()
        assert Serials(index, serials.next).take(index) > taken

    def test_without_a_reservation_there_is_none(self) -> None:
        index = MemoryIndex()
        index.fail(Call.WRITE, disk_full())
        with pytest.raises(Exception, match="No space left"):
            Serials(index)
