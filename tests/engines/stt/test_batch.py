"""Live sounds in a running batch: each hears what it would hear alone."""

import numpy as np
import pytest

from moshi_mlx.engines.stt import Pauses, Word
from moshi_mlx.engines.stt.batch import Flush, Marker, STTBatch, STTRow
from moshi_mlx.errors import NoPlace
from tests.listening import listener, noise
from tests.waits import READ, START, WAIT, device_calls

FRAME = 1920


def fed(batch: STTBatch, *sounds: tuple[STTRow, list]) -> list[list]:
    """Events of rows that are given a list of things each, one of each a step."""
    told: list[list] = [[] for _ in sounds]
    for row, items in sounds:
        row.inbox.extend(items)
    while any(row.inbox or row.waiting for row, _ in sounds):
        heard = batch.step([row for row, _ in sounds], ())
        for mine, reply in zip(told, heard, strict=True):
            mine += reply.events
    return told


def pieces(pcm: np.ndarray, size: int = FRAME) -> list:
    return [*(pcm[i : i + size] for i in range(0, len(pcm), size)), Flush(last=True)]


@pytest.mark.parametrize("prefix_s", [0.0, 0.3])
def test_each_row_hears_what_a_session_of_its_own_hears(prefix_s: float):
    stt = listener(prefix_s=prefix_s)
    sounds = [noise(1.7, 1), noise(2.2, 2), noise(0.9, 3)]
    alone = []
    for pcm in sounds:
        session = stt.session()
        alone.append([*session.feed(pcm), *session.flush()])
    batch = STTBatch(stt, 2)
    first, second = batch.open(), batch.open()
    told = fed(batch, (first, pieces(sounds[0], 700)), (second, pieces(sounds[1])))
    assert told == alone[:2]
    first.close()
    third = batch.open()
    assert fed(batch, (third, pieces(sounds[2]))) == alone[2:]
    assert any(isinstance(event, Word) for event in alone[0])


def test_a_step_is_told_for_every_frame_of_sound_and_none_for_silence_of_ours():
    batch = STTBatch(listener(prefix_s=0.16), 1)
    (told,) = fed(batch, (batch.open(), pieces(noise(2.4))))
    assert sum(isinstance(event, Pauses) for event in told) == 30


def test_a_mark_is_echoed_once_the_words_before_it_are_out_whatever_others_do():
    batch = STTBatch(listener(delay_s=0.4), 2)
    marked, other = batch.open(), batch.open()
    sound = pieces(noise(1.6))[:-1]
    told, _ = fed(
        batch,
        (marked, [*sound[:4], Marker(7), *sound[4:]]),
        (other, pieces(noise(3.0))),
    )
    steps = [e for e in told if isinstance(e, Pauses | Marker)]
    assert steps.index(Marker(7)) == 4 + 5
    (again,) = fed(batch, (marked, [Flush(id=8)]))
    assert again[-1] == Marker(8)


def test_a_flush_takes_no_time():
    stt = listener()
    batch, pcm = STTBatch(stt, 1), noise(1.6)
    row = batch.open()
    (told,) = fed(batch, (row, [pcm, Flush(), pcm, Flush(last=True)]))
    times = [e.time_s for e in told if isinstance(e, Pauses)]
    np.testing.assert_allclose(times, np.arange(1, 41) * 0.08)


def test_places_come_back():
    batch = STTBatch(listener(), 1)
    row = batch.open()
    with pytest.raises(NoPlace, match="all 1 places"):
        batch.open()
    row.close()
    batch.open()
    assert batch.taken == 1


def test_a_frame_is_waited_for_once():
    """Alone and in a batch: the step is started before the codes are there."""
    stt, pcm = listener(), noise(0.24)
    session = stt.session()
    session.feed(pcm)
    with device_calls() as calls:
        session.feed(pcm[:FRAME])
    # encoder, step; tokens with scores; tokens, scores and the frame's codes are copied
    assert calls == [START, START, WAIT, READ, READ, READ]
    batch = STTBatch(stt, 2)
    rows = [batch.open(), batch.open()]
    for _ in range(2):
        for row in rows:
            row.inbox.append(pcm[:FRAME])
        with device_calls() as calls:
            batch.step(rows, ())
    assert [call for call in calls if call != READ] == [START] * 3 + [WAIT]
    assert calls.index(WAIT) < calls.index(READ)
