"""Answers that are sent while they are made."""

from collections.abc import AsyncGenerator, AsyncIterator


async def begun(pieces: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
    """The same pieces, the first of which is made now.

    What fails before it can still be told with a status. And what ``pieces`` holds is
    given back even where nobody ever asks for one: only a generator that has begun is
    closed when it is forgotten.
    """
    first = await anext(pieces)

    async def everything() -> AsyncIterator[bytes]:
        try:
            yield first
            async for piece in pieces:
                yield piece
        finally:
            await pieces.aclose()

    return everything()
