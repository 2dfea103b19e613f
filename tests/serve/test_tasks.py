"""What waits can be cancelled at any moment."""

import asyncio

import pytest

from moshi_mlx.serve.tasks import cancel_all, within


@pytest.mark.parametrize("moment", range(6))
def test_a_cancellation_that_comes_together_with_a_message_is_not_lost(moment):
    async def main() -> bool:
        inbox: asyncio.Queue[int] = asyncio.Queue()

        async def read() -> None:
            while True:
                await within(inbox.get(), 60)

        reading = asyncio.ensure_future(read())
        await asyncio.sleep(0.01)
        inbox.put_nowait(1)
        for _ in range(moment):
            await asyncio.sleep(0)
        reading.cancel()
        await asyncio.wait({reading}, timeout=5)
        return reading.cancelled()

    assert asyncio.run(main())


def test_what_takes_too_long_is_ended_and_what_comes_in_time_is_given():
    async def main() -> None:
        ended = asyncio.Event()

        async def slow() -> None:
            try:
                await asyncio.sleep(60)
            finally:
                ended.set()

        with pytest.raises(asyncio.TimeoutError):
            await within(slow(), 0.01)
        assert ended.is_set()
        assert await within(asyncio.sleep(0, "here"), None) == "here"
        with pytest.raises(ZeroDivisionError):
            await within(_fail(), 5)

    asyncio.run(main())


async def _fail() -> None:
    raise ZeroDivisionError


def test_tasks_have_ended_once_they_are_cancelled_whatever_they_raise():
    async def main() -> None:
        tasks = [asyncio.ensure_future(job) for job in (_fail(), asyncio.sleep(60))]
        await asyncio.sleep(0)
        await cancel_all(*tasks)
        assert all(task.done() for task in tasks)

    asyncio.run(main())
