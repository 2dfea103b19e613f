"""What a model answers itself is learnt again; and voices that are no sound."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.audio.files import read
from moshi_mlx.errors import ConfigError
from moshi_mlx.finetune import rehearsal
from moshi_mlx.finetune.dataset import batch_of
from moshi_mlx.finetune.examples import Examples
from moshi_mlx.finetune.loss import LossWeights, losses
from moshi_mlx.finetune.prepare import PreparedTraining, prepare
from moshi_mlx.finetune.settings import TrainSettings
from moshi_mlx.finetune.windows import Windows
from tests.adapted import SIZES
from tests.checkpoint.folders import write_with_codec
from tests.finetune.made import listed, recording
from tests.finetune.test_told import DESCRIBED
from tests.persona import personaplex_folder
from tests.tiny import number
from tests.tiny_mimi import golden_mimi

GREEDY = {"lm_gen_config": {"temp": 0, "temp_text": 0}}
FRAMES = 20  # of a window


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A recording to learn from, and users in ``asked``: one channel, two channels."""
    folder = tmp_path / "data"
    line = recording(folder, "r", 1.0, [("hello", 0.2, 0.5)])
    recording(folder / "asked", "one", 0.8, channels=1, seed=1)
    recording(folder / "asked", "two", 2.0, channels=2, seed=2)
    for file in (folder / "asked").glob("*.json"):
        file.unlink()  # nobody wrote down what they say
    return listed(folder / "train.jsonl", line)


def prepared(model: Path, data: Path, /, **changes: Any) -> PreparedTraining:
    values = {"model": str(model), "data": str(data), "rank": 2, "window": 1.6}
    values |= {"rehearse": str(data.parent / "asked"), "iters": 2, "batch_size": 2}
    values |= {"adapter_path": str(data.parent / "run"), "learning_rate": 1e-2}
    return prepare(TrainSettings().with_values(values | changes).check())


def assert_most_likely(training: PreparedTraining, windows: Windows) -> None:
    """Of a model that draws nothing: every token of its own side, after any prompt."""
    lm = training.lm
    for place in range(len(windows)):
        batch = batch_of([windows], [(0, place)], plain=False)
        assert isinstance(batch, Examples)
        embedded: dict[str, Any] = {
            "embedded": batch.embedded,
            "embedded_steps": batch.embedded_steps,
        }
        ct = training.condition(windows, place)
        out = lm.teacher_forced(batch.codes, ct, **embedded)
        own, begin = 1 + lm.dep_q, windows.start(place)
        assert out.audio_logits is not None and out.audio_mask is not None
        logits = [out.text_logits[:, 0], *out.audio_logits.swapaxes(0, 1)][:own]
        masks = [out.text_mask[:, 0], *out.audio_mask.swapaxes(0, 1)][:own]
        for stream, (scores, mask) in enumerate(zip(logits, masks, strict=True)):
            here = np.array(mask)[0, begin:]
            assert here.sum() >= FRAMES - 2, "delays alone are masked"
            likely = np.array(mx.argmax(scores, axis=-1))[0, begin:]
            given = np.array(batch.codes)[0, stream, begin:]
            assert (likely == given)[here].all(), stream


def test_a_model_rehearses_what_it_says_itself(tmp_path: Path, data: Path):
    model = write_with_codec(tmp_path / "moshi", **SIZES, **GREEDY, context=40)
    training = prepared(model, data)
    (asked,) = training.data.rehearsed
    assert len(asked) == 3  # a window, and two
    assert [asked[n].shape for n in range(3)] == [(7, FRAMES)] * 3
    assert_most_likely(training, asked)
    # it hears the one channel, or the right one, and silence to the end
    users = data.parent / "asked"
    one, two = (read(users / f"{n}.wav", mono=False) for n in ("one", "two"))
    heard = [one[0], two[1][:38_400], two[1][38_400:]]
    for place, pcm in enumerate(heard):
        whole = np.pad(pcm, (0, 38_400 - len(pcm)))
        codes = np.array(golden_mimi().encode(mx.array(whole[None, None]), 3))[0]
        assert (asked[place][4:] == codes).all()


def test_replies_are_kept_and_come_from_the_model_as_it_is(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
):
    model = write_with_codec(tmp_path / "moshi", **SIZES)
    first = prepared(model, data)
    assert first.training().run().step == 2
    asked = [first.data.rehearsed[0][n] for n in range(3)]
    begun = {"resume_adapter_file": str(tmp_path / "data" / "run")}
    learnt = prepared(model, data, **begun).data.rehearsed[0]
    assert any((learnt[n] != asked[n]).any() for n in range(3))
    monkeypatch.setattr(rehearsal, "replies", None)  # as a training that is resumed
    again = prepared(model, data).data.rehearsed[0]
    assert all((again[n] == asked[n]).all() for n in range(3))


def test_old_and_new_are_drawn_equally_often(tmp_path: Path, data: Path):
    model = write_with_codec(tmp_path / "moshi", **SIZES)
    for weight, wanted in ((1, 0.5), (3, 0.75)):
        named = f"{data.parent / 'asked'}:{weight}"
        training = prepared(model, data, data=f"{data}:2,{data}:4", rehearse=named)
        run = training.training().batches
        places = [run._order[n][0] for n in range(600)]  # type: ignore[attr-defined]
        share = sum(source == 2 for source in places) / 600
        assert share == pytest.approx(wanted, abs=0.07)


def test_ears_and_hibiki_rehearse_as_well(tmp_path: Path, data: Path):
    listens = {"dep_q": 0, "n_q": 3, "delays": [0] * 4, "model_type": "stt"}
    listens["stt_config"] = {"audio_delay_seconds": 0.48}
    ear = write_with_codec(tmp_path / "ear", **SIZES, **listens)
    (asked,) = prepared(ear, data).data.rehearsed
    assert len(asked) == 3 and asked[0].shape[0] == 4
    assert 20 >= asked[0].shape[1] > 10  # and the silence after it
    hibiki = write_with_codec(tmp_path / "hibiki", **SIZES, **DESCRIBED, **GREEDY)
    training = prepared(hibiki, data)
    assert_most_likely(training, training.data.rehearsed[0])
    assert training.training().run().step == 2


def test_no_recordings_of_users_are_told(tmp_path: Path, data: Path):
    model = write_with_codec(tmp_path / "moshi", **SIZES)
    (tmp_path / "empty").mkdir()
    for given in (tmp_path / "gone", tmp_path / "empty"):
        with pytest.raises(ConfigError, match=given.name):
            prepared(model, data, rehearse=str(given))


def embedded_voice(file: Path, frames: int) -> None:
    """A voice as NVIDIA keeps its own: what the transformer reads, and last tokens."""
    file.parent.mkdir(exist_ok=True)
    embeddings = mx.random.normal((frames, 1, 1, 48), key=mx.random.key(frames))
    cache = mx.random.randint(4, 60, (1, 13, 4), key=mx.random.key(1))
    mx.save_safetensors(str(file), {"embeddings": embeddings, "cache": cache})


def test_nvidia_s_voices_are_heard_as_when_the_model_runs(tmp_path: Path):
    model = personaplex_folder(
        tmp_path / "persona", text_card=SIZES["text_card"], **GREEDY
    )
    embedded_voice(model / "voices" / "NATF2.safetensors", 9)
    embedded_voice(model / "voices" / "NATM1.safetensors", 5)
    folder, lines = tmp_path / "data", []
    for name in ("NATF2", "NATM1", ""):
        lines.append(recording(folder, f"r{name}", 1.0, [("hello", 0.2, 0.5)]))
        told = json.dumps({"alignments": [], "voice_prompt": name})
        (folder / f"r{name}.json").write_text(told)
    training = prepared(model, listed(folder / "train.jsonl", *lines), rehearse=folder)
    learnt, asked = training.data.recorded[0], training.data.rehearsed[0]
    assert learnt.start(0) == learnt.start(1) + 4 == learnt.start(2) + 10
    assert_most_likely(training, asked)
    # rows of a batch begin with voices of their own, or with none
    batch = batch_of([learnt], [(0, n) for n in range(3)], plain=False)
    assert isinstance(batch, Examples) and batch.embedded_steps is not None
    assert batch.embedded_steps.tolist() == [9, 5, 0]
    step = training.training().step
    text = 0.0
    for place in range(3):
        one = batch_of([learnt], [(0, place)], plain=False)
        text += number(step.losses(one).text) / 3
    assert number(step.losses(batch).text) == pytest.approx(text, rel=1e-4)
    deaf = losses(training.lm, batch.codes, LossWeights(), (), start=batch.start)
    assert number(deaf.text) != pytest.approx(text, rel=1e-3)
    assert training.training(resume=True).run().step == 2
