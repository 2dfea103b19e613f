"""A conversation without devices: what a restart does, and in which order."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from moshi_mlx.documents.recording import Recording
from moshi_mlx.engines.thread import ModelThread
from moshi_mlx.live.conversation import Conversation
from moshi_mlx.live.sound import SoundOptions
from moshi_mlx.live.talk import Talk

FRAME = np.zeros(1920, np.float32)
WAIT = 120  # seconds: only ever used up by a test that fails


@dataclass
class Counting:
    """A session that says which one it is, and how many frames it has heard."""

    number: int
    heard: int = 0

    def step(self, frame: np.ndarray) -> Any:
        self.heard += 1
        text = f" {self.number}.{self.heard}"
        return SimpleNamespace(pcm=frame, text=text)


class NoSound:
    """Neither ears nor mouth."""

    def __init__(self, *_: Any):
        self.ends = SimpleNamespace(latency_s=0.0)

    def play(self, pcm: np.ndarray, heard_at: float) -> None: ...
    def hush(self) -> None: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...


def test_a_restart_comes_between_the_texts_and_is_recorded_there(tmp_path):
    talk = Talk(SimpleNamespace())  # type: ignore[arg-type]
    made = iter(range(1, 9))
    thread = ModelThread()
    conversation = Conversation(
        thread,
        lambda: Counting(next(made)),
        SoundOptions(),
        talk.on_text,
        talk.on_notice,
        talk.on_end,
        Recording(tmp_path / "a.wav"),
        sound=NoSound,  # type: ignore[arg-type]
    )
    conversation.start()
    told: list[tuple[str, object]] = []

    def hear(until: str) -> None:
        conversation.line.put(FRAME)
        while not told or told[-1][1] != until:
            told.append(talk.events.get(timeout=WAIT))

    try:
        hear(" 1.1")
        hear(" 1.2")
        conversation.restart(lambda: talk.events.put(("restart", None)))
        told.append(talk.events.get(timeout=WAIT))  # what waits till then is forgotten
        hear(" 2.1")
    finally:
        conversation.stop()
        thread.close()
    assert told == [
        ("text", " 1.1"),
        ("text", " 1.2"),
        ("restart", None),
        ("text", " 2.1"),
    ]
    lines = (tmp_path / "a.txt").read_text().splitlines()
    assert [line.partition("] ")[2] for line in lines] == [
        "1.1 1.2",
        "[a new conversation]",
        "2.1",
    ]
