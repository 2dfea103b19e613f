"""A text that is known beforehand is written first, as it was given."""

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.engines.stt import Stalled, Transcript, Word
from moshi_mlx.engines.stt.prompt import Prompts
from moshi_mlx.engines.stt.reader import BOUNDARY, PAD
from moshi_mlx.engines.stt.rows import Frame, Rows
from moshi_mlx.errors import ConfigError
from tests.listening import (
    PAUSING,
    echo,
    listen,
    listener,
    long_talk,
    noise,
    sentence,
    words,
)
from tests.speech import tokenizer

TEXT = "hello there"


def prompted(prompt: str = TEXT, **options) -> Rows:
    return Rows(echo(), tokenizer(), 0.0, prompt=prompt, **options)


def test_a_beginning_that_is_said_is_written_and_the_rest_follows():
    talk = [PAUSING, *sentence("hello", "there"), *sentence("how", "are", "you")]
    assert words(listen(prompted(), talk)[0]) == ["hello", "there", "how", "are", "you"]


@pytest.mark.parametrize("seed", range(5))
def test_whatever_is_heard_the_prompt_is_written_first(seed: int):
    prompts = Prompts(tokenizer(), TEXT, 2)
    rng, written = np.random.default_rng(seed), [[], []]
    for _ in range(60):
        logits = mx.array(rng.normal(size=(2, 1, 97)).astype(np.float32))
        prompts.restrict(logits)
        for row, token in enumerate(np.array(logits)[:, 0].argmax(-1).tolist()):
            assert prompts.wrote(row, token) == token
            if token not in (PAD, BOUNDARY):
                written[row].append(token)
    tokens = tokenizer().encode(TEXT)
    for mine in written:
        assert len(mine) > len(tokens) and mine[: len(tokens)] == tokens


@pytest.mark.parametrize("delay_s, stalls", [(0.0, False), (2.2, True)])
def test_a_prompt_that_is_not_said_is_given_up_and_costs_no_word(delay_s, stalls):
    """At the stall, or with a small window and little delay at the first pause."""
    talk = sentence("how", "are", "you") + [3] * 130 + sentence("in", "paris", "today")
    rows = Rows(echo(), tokenizer(), delay_s, prompt=TEXT)
    (events,) = listen(rows, talk, loud=True)
    assert any(isinstance(event, Stalled) for event in events) == stalls
    assert words(events) == ["how", "are", "you", "in", "paris", "today"]
    (plain,) = listen(Rows(echo(), tokenizer(), delay_s), talk, loud=True)
    assert [e for e in events if isinstance(e, Word)] == [
        e for e in plain if isinstance(e, Word)
    ]
    assert len(rows.rows[0].given) <= 39 + delay_s / 0.08  # 3 s and the delay, as ever


def test_a_prompt_of_which_half_is_said_costs_no_word():
    talk = [PAUSING, *sentence("hello"), *sentence("how", "are")] + [3] * 130
    (events,) = listen(prompted(), talk + sentence("you"), loud=True)
    assert words(events) == ["hello", "how", "are", "you"]


def test_a_prompt_that_is_not_said_is_given_up_without_refresh_too():
    talk = sentence("how", "are", "you") + [3] * 130 + sentence("in", "paris", "today")
    (events,) = listen(prompted(refresh=False), talk, loud=True)
    assert words(events) == ["in", "paris", "today"]


def spoken_before(*said: str) -> tuple[list[np.ndarray], list[Frame]]:
    """Codes of a recording, and its frames, which take no time."""
    codes = [np.array([c, 0], np.int32) for c in sentence(*said, pause=3)]
    return codes, [Frame(code, 0.0, 0.0) for code in codes]


def test_a_recording_before_the_sound_is_not_told():
    lead, ahead = spoken_before("hello", "there")
    rows = prompted(lead=lead, aside=True)
    rows.rows[0].waiting.extend(ahead)
    talk = sentence("how", "are", "you")
    (events,) = listen(rows, talk)
    (plain,) = listen(Rows(echo(), tokenizer(), 0.0), talk)
    assert words(events) == ["how", "are", "you"]
    told = [event for event in events if isinstance(event, Word)]
    assert told == [event for event in plain if isinstance(event, Word)]


def test_a_recording_is_heard_again_at_each_refresh_and_never_told():
    lead, ahead = spoken_before("hello", "there")
    codes, said = long_talk(25)
    rows = prompted(lead=lead, aside=True)
    rows.rows[0].waiting.extend(ahead)
    (events,) = listen(rows, codes)
    assert rows.refreshes >= 2 and words(events) == said


def test_a_recording_of_something_else_costs_no_more_than_its_time():
    lead, ahead = spoken_before("how", "are", "you")
    rows = prompted(lead=lead, aside=True)
    rows.rows[0].waiting.extend(ahead)
    talk = [PAUSING] * 13 + sentence("in", "paris", "today")
    assert words(listen(rows, talk)[0]) == ["in", "paris", "today"]


def test_rows_of_a_batch_are_the_rows_alone():
    sounds = [sentence("hello", "there", "how"), sentence("how"), sentence("hello")]
    together = listen(prompted(batch_size=3), *sounds)
    for events, codes in zip(together, sounds, strict=True):
        assert listen(prompted(), codes)[0] == events


def test_files_and_live_sound_agree_about_prompts():
    stt, pcm = listener(0.5, 0.1), noise(3.0)
    options = {"prompt": TEXT, "prompt_sound": noise(0.5, 1)}
    told = stt.transcribe(pcm, **options)
    session = stt.session(**options)
    for _ in range(2):
        events = [*session.feed(pcm), *session.flush()]
        assert Transcript.of(events, session.time_s).text == told.text
        session.reset()
    assert told.words and 0 <= told.words[0].start_s <= told.words[-1].end_s <= 3.0


@pytest.mark.parametrize(
    "options, sentence",
    [
        ({"prompt_sound": noise(0.5)}, "without its text"),
        ({"prompt_sound": noise(4.0), "prompt": "hello"}, r"is 4\.0 s long.*at most"),
        ({"prompt": "\u0436\u0443\u043a"}, "cannot write the prompt"),
    ],
)
def test_refusals(options: dict, sentence: str):
    with pytest.raises(ConfigError, match=sentence):
        listener().transcribe(noise(1.0), **options)
