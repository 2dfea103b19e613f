"""Token streams and their delays, as lists that never forget."""

from dataclasses import dataclass, field


@dataclass
class StreamsOracle:
    """One row's token streams with lists that never forget.

    A stream's token for step t is what it was given ``delay`` steps before (other
    side), or what was sampled in the step before (own); the initial token stands
    where ``t <= delay``.
    """

    delays: list[int]
    initial: list[int]
    own: int
    heard: list[list[int]] = field(default_factory=list)
    said: list[list[int]] = field(default_factory=list)

    def hear(self, frame: list[int]) -> None:
        self.heard.append(frame)

    def input(self) -> list[int]:
        t = len(self.heard) - 1
        column = []
        for k, delay in enumerate(self.delays):
            if t <= delay:
                column.append(self.initial[k])
            elif k < self.own:
                column.append(self.said[t - 1][k])
            else:
                column.append(self.heard[t - delay][k - self.own])
        return column

    def say(self, frame: list[int]) -> list[int] | None:
        """Take what was sampled; return the frame that this completes."""
        self.said.append(frame)
        longest = max(self.delays)
        if len(self.said) <= longest:
            return None
        first = len(self.said) - 1 - longest
        return [self.said[first + self.delays[k]][k] for k in range(self.own)]
