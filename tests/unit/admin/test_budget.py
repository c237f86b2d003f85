import asyncio

from banish.admin.budget import budgeted


def test_a_walk_lets_the_loop_go_round_when_its_time_is_up() -> None:
    time_s = [0.0]

    async def main() -> list[int]:
        turns: list[int] = []
        others = 0

        def other() -> None:
            nonlocal others
            others += 1
            asyncio.get_running_loop().call_soon(other)

        asyncio.get_running_loop().call_soon(other)
        async for _ in budgeted(range(10), step_s=0.001, timer=lambda: time_s[0]):
            turns.append(others)
            time_s[0] += 0.0004  # three items fill a step
        return turns

    assert asyncio.run(main()) == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3]


def test_every_item_comes_in_order() -> None:
    async def main() -> list[int]:
        return [item async for item in budgeted(range(100), step_s=0.0)]

    assert asyncio.run(main()) == list(range(100))
