"""Waiting with a limit, parallel tasks, and calls from other threads."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

T = TypeVar("T")


async def within(work: Awaitable[T], seconds: float | None) -> T:
    """The result of ``work``.

    Before Python 3.12 ``asyncio.wait_for`` ignores a cancellation that comes together
    with the result. A loop that reads messages would then continue, and anyone who
    waits for its end would wait forever.

    Raises: asyncio.TimeoutError if it takes longer; None is no limit.
    """
    working = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait({working}, timeout=seconds)
        if not done:
            working.cancel()
            await asyncio.wait({working})
            if working.cancelled():
                raise asyncio.TimeoutError
        return working.result()
    finally:
        if not working.done():
            working.cancel()
        elif not working.cancelled():
            working.exception()  # nobody asks for it if this was cancelled


async def cancel_all(*tasks: "asyncio.Future[Any]") -> None:
    """Cancel tasks and wait until they have ended; their errors are ignored."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def post(
    loop: asyncio.AbstractEventLoop, function: Callable[..., object], *args: object
) -> None:
    """Call ``function`` on the event loop, from any thread; once the server has stopped
    nothing happens."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(function, *args)
