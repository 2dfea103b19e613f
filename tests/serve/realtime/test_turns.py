"""When a user's turn begins and ends, by words or by loudness."""

import numpy as np
import pytest

from moshi_mlx.engines.stt import Pauses
from moshi_mlx.serve.protocols.realtime.turns import LoudTurns, WordTurns, silence_s
from tests.listening import noise

LOUD, QUIET = noise(0.08, 1), np.zeros(1920, np.float32)


def test_the_pause_that_ends_a_turn_is_what_the_client_chose():
    assert silence_s(None) == silence_s({"type": "server_vad"}) == 0.5
    assert silence_s({"type": "server_vad", "silence_duration_ms": 900}) == 0.9
    eager = [silence_s({"type": "semantic_vad", "eagerness": e}) for e in "hal"]
    assert eager == [2.0, 2.0, 2.0]  # what is unknown is as auto
    eager = ["high", "medium", "low"]
    chosen = [silence_s({"type": "semantic_vad", "eagerness": e}) for e in eager]
    assert chosen == [1.0, 2.0, 3.0]


def test_loudness_begins_a_turn_and_silence_ends_it():
    turns = LoudTurns(1920, 0.48)
    loud, quiet = noise(0.8, 1), np.zeros(24000, np.float32)
    found = [turns.push(pcm) for pcm in (quiet, loud, quiet, loud[:3840], quiet)]
    assert found == [[], [True], [False], [], []]


def test_a_models_pauses_end_the_turns_in_which_something_was_said():
    turns = WordTurns((0.5, 1.0, 2.0, 3.0), 1.1)
    ends = []
    for step in range(60):
        time_s = 0.08 * (step + 1)
        if step in (20, 21, 40):
            turns.word(time_s)
        paused = 25 <= step < 38 or step >= 50
        scores = (0.0, 0.9 if paused else 0.1, 0.0, 0.0)
        ends.append(turns.pauses(Pauses(time_s, scores)))
    assert [step for step, ended in enumerate(ends) if ended] == [25, 50]


def test_a_model_without_scores_ends_no_turn():
    turns = WordTurns((), 1.0)
    turns.word(0.5)
    assert not any(turns.pauses(Pauses(step, ())) for step in range(30))


def changes(turns: LoudTurns, *frames: np.ndarray) -> list[tuple[int, bool]]:
    """The frames at which a turn starts or ends."""
    found = [(n, change) for n, f in enumerate(frames) for change in turns.push(f)]
    return found


def test_the_third_loud_frame_in_a_row_starts_a_turn():
    frames = [LOUD, LOUD, QUIET, LOUD, LOUD, LOUD, LOUD]
    assert changes(LoudTurns(1920, 0.48), *frames) == [(5, True)]


@pytest.mark.parametrize("wanted_s, frames", [(0.0, 1), (0.08, 1), (0.4, 5), (0.52, 6)])
def test_a_turn_ends_once_after_as_many_quiet_frames_as_are_wanted(wanted_s, frames):
    turns = LoudTurns(1920, wanted_s)
    assert changes(turns, *[LOUD] * 3) == [(2, True)]
    assert changes(turns, *[QUIET] * (frames - 1)) == []
    assert changes(turns, LOUD, *[QUIET] * 20) == [(frames, False)]
    assert changes(turns, *[LOUD] * 3) == [(2, True)], "and the next one may begin"


def test_after_a_restart_nobody_speaks():
    turns = LoudTurns(1920, 0.48)
    assert changes(turns, *[LOUD] * 3) == [(2, True)]
    turns.restart()
    assert changes(turns, *[QUIET] * 20, LOUD, LOUD) == []
    turns.restart()
    assert changes(turns, *[LOUD] * 3) == [(2, True)]


def test_pieces_of_any_size_are_the_same_turns():
    sound = np.concatenate([LOUD] * 5 + [QUIET] * 10 + [LOUD] * 3)
    for size in (1, 700, 1920, 5000, len(sound)):
        turns = LoudTurns(1920, 0.4)
        pieces = [sound[at : at + size] for at in range(0, len(sound), size)]
        assert [c for p in pieces for c in turns.push(p)] == [True, False, True]
