"""The server's event loop, which ends within seconds of being asked to."""

import asyncio
import contextlib
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from threading import Thread
from typing import Any

PATIENCE_S = 2.0  # for tasks, and then for the threads that work beside the loop


def run(main: Coroutine[Any, Any, None], patience_s: float = PATIENCE_S) -> None:
    """Run ``main`` in an event loop of its own, then cancel what it left behind.

    ``asyncio.run`` would wait without a limit. A task that frees a model's row waits
    for the model's thread, which may be loading another model.

    Args:
        patience_s: time for the rest to end.
    """
    loop, workers = asyncio.new_event_loop(), ThreadPoolExecutor()
    loop.set_default_executor(workers)
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(main)
    finally:
        try:
            loop.run_until_complete(_end(patience_s))
        finally:
            asyncio.set_event_loop(None)
            ending = Thread(
                target=workers.shutdown, kwargs={"cancel_futures": True}, daemon=True
            )
            ending.start()
            ending.join(patience_s)
            loop.close()


async def _end(patience_s: float) -> None:
    loop = asyncio.get_running_loop()
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=patience_s)
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(loop.shutdown_asyncgens(), patience_s)
