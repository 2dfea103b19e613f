"""When a user's turn begins and ends, by words or by loudness."""

import numpy as np

from moshi_mlx.engines.stt import Pauses
from moshi_mlx.serve.protocols.realtime.turns import LoudTurns, WordTurns, silence_s
from tests.listening import noise


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
