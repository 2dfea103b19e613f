"""How a request is refused: a status and a sentence, in each protocol's own form."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ...errors import MoshiError, NoPlace, NotServed

RETRY = {"retry-after": "1"}  # seconds, if all places are taken


class Refused(Exception):
    """Raised by a route to refuse its request.

    Attributes:
        status: the HTTP status.
        words: one sentence for people.
        param, code: the wrong field, and a word for programs, as in OpenAI's API.
        headers: additional ones.
    """

    def __init__(
        self,
        status: int,
        words: str,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ):
        super().__init__(words)
        self.status, self.words, self.code, self.param = status, words, code, param
        self.headers = dict(headers or {})

    @classmethod
    def of(cls, error: MoshiError) -> "Refused":
        """The refusal for an error of the engines."""
        if isinstance(error, NoPlace):
            return cls(503, str(error), code="busy", headers=dict(RETRY))
        if isinstance(error, NotServed):
            return cls(501, str(error), code="not_served")
        return cls(400, str(error))


Shape = Callable[[Refused], tuple[str, bytes]]  # media type and body of an answer


def plain(refused: Refused) -> tuple[str, bytes]:
    """A line of text."""
    return "text/plain; charset=utf-8", f"{refused.words}\n".encode()


@dataclass(frozen=True)
class Manners:
    """How a protocol's paths are guarded.

    Attributes:
        prefixes: its paths, including those below them.
        shape: form of its refusals.
        refused: returns the refusal for an error.
        open: (method, path) pairs that need no token on this machine, because programs
            ask for them without one.
    """

    prefixes: Sequence[str] = ()
    shape: Shape = plain
    open: Sequence[tuple[str, str]] = field(default=())
    refused: Callable[[MoshiError], Refused] = Refused.of

    def covers(self, path: str) -> bool:
        return any(f"{path}/".startswith(f"{prefix}/") for prefix in self.prefixes)
