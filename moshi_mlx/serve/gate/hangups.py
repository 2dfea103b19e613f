"""Clients that have hung up while nobody reads what they sent before."""

import select
from collections.abc import Collection

# Linux says so by POLLRDHUP, however much waits to be read; macOS by POLLHUP.
_ASKED = getattr(select, "POLLIN", 0) | getattr(select, "POLLRDHUP", 0)
_GONE = 0
for _name in ("POLLRDHUP", "POLLHUP", "POLLERR"):
    _GONE |= getattr(select, _name, 0)


def hung_up(numbers: Collection[int]) -> set[int]:
    """The sockets, by file number, that their clients have closed.

    A socket shows its end only to a reader, after everything that came before. If the
    system cannot be asked for more (Windows), none is found.
    """
    if not numbers or not hasattr(select, "poll"):
        return set()
    poller = select.poll()
    for number in numbers:
        poller.register(number, _ASKED)
    return {number for number, events in poller.poll(0) if events & _GONE}
