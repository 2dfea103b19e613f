"""Recordings become streams: found, encoded once, cut, put in order."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.audio.files import write_wav
from moshi_mlx.errors import ConfigError
from moshi_mlx.finetune.codes import CodeLayout, CodeStore
from moshi_mlx.finetune.dataset import Batches, in_order
from moshi_mlx.finetune.order import Order
from moshi_mlx.finetune.recordings import DataSource, TrainingRecording, find_sources
from moshi_mlx.finetune.windows import Shape, Windows, recorded
from moshi_mlx.finetune.words import TextRules
from moshi_mlx.models.config import LmConfig
from tests.finetune.made import listed, recording, sound
from tests.tiny import BASE
from tests.tiny_mimi import golden_mimi


def never():
    raise AssertionError("an epoch costs no codec")


def letters(text: str) -> list[int]:
    return [ord(c) - ord("a") + 10 for c in text if c.isalpha()]


def test_lists_are_moshi_finetune_s(tmp_path: Path):
    one = recording(tmp_path / "a", "one", 1.0, [("hi", 0.2, 0.4)])
    listed(tmp_path / "a" / "all.jsonl", one)
    two = recording(tmp_path / "b", "two", 0.5, channel=1)
    listed(tmp_path / "b" / "train.jsonl", two)
    listed(tmp_path / "b" / "valid.jsonl", two, two)
    data = f"{tmp_path}/a/all.jsonl:2,{tmp_path}/b"
    found = find_sources(data)
    assert [source.weight for source in found] == [2, 1]
    assert found[0].recordings == [TrainingRecording(tmp_path / "a" / "one.wav", 1.0)]
    assert found[1].recordings[0].channel == 1
    words = found[0].recordings[0].words()
    assert words is not None
    assert words[0].text == "hi" and words[0].end == 0.4
    valid = find_sources(data, "valid")
    assert [len(source.recordings) for source in valid] == [2]


def test_a_folder_without_a_list_is_its_recordings(tmp_path: Path):
    recording(tmp_path, "one", 0.5)
    recording(tmp_path, "two", 0.25)
    (source,) = find_sources(str(tmp_path))
    assert [r.duration for r in source.recordings] == [0.5, 0.25]


@pytest.mark.parametrize(
    "line, words",
    [
        ('{"path": "gone.wav", "duration": 1}', "names .*gone.wav'.* is not there"),
        ('{"path": "one.wav"}', "line 1 of .* is not a recording"),
        ("nonsense", "line 1 of .* is not a recording"),
        ("[" * 100_000, "line 1 of .* is not a recording"),
        ('{"path": "one.wav", "duration": -1}', "duration must be above 0"),
        ("", "names no recordings"),
    ],
)
def test_bad_lists_are_told_in_a_sentence(tmp_path: Path, line: str, words: str):
    recording(tmp_path, "one", 0.1)
    (tmp_path / "x.jsonl").write_text(line)
    with pytest.raises(ConfigError, match=words):
        find_sources(str(tmp_path / "x.jsonl"))


def test_only_a_new_line_ends_a_line_of_a_list(tmp_path: Path):
    recording(tmp_path, "one\u2028two", 0.1)
    line = '{"path": "one\u2028two.wav", "duration": 0.1}\n'
    (tmp_path / "x.jsonl").write_text(2 * line, encoding="utf-8")
    (source,) = find_sources(str(tmp_path / "x.jsonl"))
    assert len(source.recordings) == 2


def test_a_list_that_is_no_text_is_told(tmp_path: Path):
    (tmp_path / "data.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="should be text in UTF-8"):
        find_sources(str(tmp_path / "data.jsonl"))


def test_bad_transcripts_are_told_in_a_sentence(tmp_path: Path):
    recording(tmp_path, "one", 0.1)
    one = TrainingRecording(tmp_path / "one.wav", 0.1)
    for text in ("[]", "{}", '{"alignments": [["a", [1]]]}', "{", "\x00", "[" * 10**5):
        one.transcript.write_text(text)
        with pytest.raises(ConfigError, match=r"one\.json is not a transcript"):
            one.words()
    one.transcript.unlink()
    with pytest.raises(ConfigError, match="moshi-mlx annotate"):
        one.words()


def store(folder: Path | None, sides: int = 2, window: float = 0.8) -> CodeStore:
    return CodeStore(folder, golden_mimi, CodeLayout(sides, 4), window)


def test_windows_are_encoded_once_and_each_anew(tmp_path: Path):
    recording(tmp_path, "one", 2.0)
    one = TrainingRecording(tmp_path / "one.wav", 2.0)
    first = store(tmp_path / "codes")
    codes = first.of(one)
    assert [c.shape for c in codes] == [(8, 10), (8, 10), (8, 5)]
    assert first.encoded == 3
    again = store(tmp_path / "codes")
    assert all(map(np.array_equal, again.of(one), codes))
    assert again.encoded == 0
    # a window knows nothing of the one before it, nor one side of the other
    from moshi_mlx.audio.files import read

    pcm = mx.array(read(one.path, mono=False)[1:, 19_200:38_400][None])
    alone = np.array(golden_mimi().encode(pcm, 4))[0]
    assert np.array_equal(codes[1][4:], alone)


def test_codes_are_computed_again_for_anything_else(tmp_path: Path):
    recording(tmp_path, "one", 1.0)
    one = TrainingRecording(tmp_path / "one.wav", 1.0)
    folder = tmp_path / "codes"
    store(folder).of(one)
    other = store(folder, window=0.4)
    other.of(one)
    assert other.encoded == 3
    listens = store(folder, sides=1)
    assert [c.shape for c in listens.of(one)] == [(4, 10), (4, 3)]
    recording(tmp_path, "one", 1.0, seed=1)
    changed = store(folder)
    changed.of(one)
    assert changed.encoded == 2
    for file in folder.iterdir():
        file.write_bytes(b"torn")
    torn = store(folder)
    torn.of(one)
    assert torn.encoded == 2


def test_channels_that_are_missing_are_told(tmp_path: Path):
    recording(tmp_path, "one", 0.2, channels=1)
    with pytest.raises(ConfigError, match="has one channel, and this model learns"):
        store(None).of(TrainingRecording(tmp_path / "one.wav", 0.2))
    with pytest.raises(ConfigError, match="not a channel 1"):
        store(None, sides=1).of(TrainingRecording(tmp_path / "one.wav", 0.2, 1))


def windows(tmp_path: Path, window: float = 0.8, **cards: Any) -> Windows:
    words = [("ab", 0.08, 0.2), ("c", 0.9, 1.0)]
    recording(tmp_path, "one", 1.2, words)
    source = DataSource("x", [TrainingRecording(tmp_path / "one.wav", 1.2)])
    shape = Shape(CodeLayout(2, 4), TextRules(), **cards)
    return recorded(source, store(None, window=window), letters, shape)


def test_streams_are_text_own_and_user(tmp_path: Path):
    found = windows(tmp_path)
    assert len(found) == 2
    first, last = found[0], found[1]
    assert first.shape == last.shape == (9, 10)
    assert first[0].tolist() == [0, 10, 11, 3, 3, 3, 3, 3, 3, 3]
    assert last[0].tolist() == [0, 12, 3, 3, 3, 3, 3, 3, 3, 3]
    assert (first[1:] >= 0).all()
    assert (last[1:, :5] >= 0).all() and (last[1:, 5:] == -1).all()


def test_codes_that_the_model_does_not_know_are_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="token 12 and the model knows 12: give"):
        windows(tmp_path, text_card=12)
    with pytest.raises(ConfigError, match=r"the codec gives the code .* knows 8"):
        windows(tmp_path, audio_card=8)


def test_processes_share_a_batch(tmp_path: Path):
    found = windows(tmp_path, 0.4)
    whole = Batches([found], 2, seed=5)
    parts = [Batches([found], 2, 5, rank, 2) for rank in (0, 1)]
    for number in range(4):
        rows = mx.concatenate([part[number] for part in parts])
        assert mx.array_equal(whole[number], rows)
    with pytest.raises(ConfigError, match="3 cannot be shared by 2"):
        Batches([found], 3, 5, 0, 2)


def test_evaluation_sees_every_window_once(tmp_path: Path):
    found = windows(tmp_path, 0.4)
    one, two = list(in_order([found], 2))
    assert np.array_equal(np.array(one), np.stack([found[0], found[1]]))
    assert np.array_equal(np.array(two[0]), found[2])
    assert (np.array(two[1]) == -1).all()
    late = list(in_order([found], 2, 1, 2))
    assert [batch.shape[0] for batch in late] == [1, 1]


def test_an_order_is_a_function_of_the_place():
    one, two = (Order([5, 3], [1.0, 3.0], seed=7) for _ in range(2))
    places = [one[n] for n in range(400)]
    assert two[399] == places[399] and two[13] == places[13]
    share = sum(source == 1 for source, _ in places) / 400
    assert 0.68 < share < 0.82
    epochs = [w for source, w in places if source == 0][:10]
    assert sorted(epochs[:5]) == sorted(epochs[5:]) == list(range(5))
    assert epochs[:5] != epochs[5:]
    other = Order([5, 3], [1.0, 3.0], seed=8)
    assert [other[n] for n in range(40)] != places[:40]


def test_a_model_that_listens_writes_later():
    config = {**BASE, "dep_q": 0, "n_q": 4, "delays": [0] * 5}
    shape = Shape.of(LmConfig.from_config_dict(config), {"audio_delay_seconds": 0.5})
    assert shape.layout == CodeLayout(1, 4)
    assert shape.text.delay_s == 0.5
    both = Shape.of(LmConfig.from_config_dict(BASE), {})
    assert both.layout == CodeLayout(2, 3)
    assert json.dumps(both.text.delay_s) == "0.0"


def test_silence_of_the_model_s_side_may_have_the_same_codes_everywhere(tmp_path: Path):
    sides = sound(3.2)
    sides[0, :9600], sides[0, 19_200:] = 0, 0  # it speaks from 0.4 to 0.8 s
    write_wav(tmp_path / "one.wav", sides)
    one = TrainingRecording(tmp_path / "one.wav", 3.2)
    usual, steady = (
        CodeStore(None, golden_mimi, CodeLayout(2, 4, steady=on), 3.2).of(one)[0]
        for on in (False, True)
    )
    silence = np.array(golden_mimi().encode(mx.zeros((1, 1, 48_000)), 4))[0, :, -1:]
    assert (steady[:4, :5] == silence).all() and (usual[:4, :5] != silence).any()
    assert (steady[:4, 22:] == silence).all()
    assert (steady[:4, 5:22] == usual[:4, 5:22]).all()  # a sound, and a second after it
    assert (steady[4:] == usual[4:]).all()  # the user's side is heard as it is
