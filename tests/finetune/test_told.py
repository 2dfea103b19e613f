"""What a model is told while it learns: conditions, prompts, silence."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.checkpoint.build import load_lm, load_tokenizer
from moshi_mlx.checkpoint.info import CheckpointInfo
from moshi_mlx.errors import ConfigError
from moshi_mlx.finetune.examples import Examples, condition_of_rows
from moshi_mlx.finetune.loss import LossWeights, losses
from moshi_mlx.finetune.prepare import PreparedTraining, prepare
from moshi_mlx.finetune.settings import TrainSettings
from moshi_mlx.finetune.words import encoder
from moshi_mlx.modules.conditioner import ConditionAttributes
from tests import tiny
from tests.adapted import SIZES
from tests.checkpoint.folders import write_with_codec
from tests.finetune.made import listed, recording
from tests.persona import personaplex_folder
from tests.tiny import BASE, number
from tests.tiny_mimi import golden_mimi

DESCRIBED = {
    "conditioners": {
        "description": {
            "type": "lut",
            "lut": {
                "n_bins": 4,
                "dim": 6,
                "tokenizer": "noop",
                "possible_values": ["very_bad", "very_good"],
            },
        }
    },
    "fuser": {"sum": ["description"], "cross": [], "prepend": []},
    "model_type": "hibiki",
}
WORDS = [("hello", 0.2, 0.5), ("there", 0.6, 0.9)]


def data(folder: Path, *abouts: dict[str, Any], channels: int = 2) -> Path:
    """A recording of 1 s for each, with what its JSON file says beside the words."""
    lines = []
    for n, about in enumerate(abouts):
        lines.append(recording(folder, f"r{n}", 1.0, WORDS, channels, seed=n))
        file = folder / f"r{n}.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **about}))
    return listed(folder / "train.jsonl", *lines)


def prepared(model: Path, listing: Path, **changes: Any) -> PreparedTraining:
    values = {"model": str(model), "data": str(listing), "rank": 2, "window": 1.04}
    values |= {"iters": 2, "learning_rate": 1e-2, "batch_size": 2, "save_every": 0}
    values |= {"adapter_path": str(listing.parent / "run")} | changes
    return prepare(TrainSettings().with_values(values).check())


def test_the_beginning_of_a_row_need_not_count():
    lm, codes = tiny.lm(), tiny.codes(BASE, 2, 9)
    start = mx.array([3, 0])
    found = losses(lm, codes, LossWeights(), start=start)
    hidden = mx.array(codes)
    hidden[0, :, :3] = -1  # nothing there to be learnt, but also nothing to be heard
    out = lm.teacher_forced(codes)
    each = -mx.log(mx.softmax(out.text_logits, axis=-1))
    weights = LossWeights().text(lm, codes[:, :1]) * (hidden[:, :1] >= 0)
    picked = mx.take_along_axis(each, codes[:, :1, :, None], axis=-1)[..., 0]
    expected = (picked * weights).sum() / weights.sum()
    assert number(found.text) == pytest.approx(number(expected), rel=1e-5)
    whole = losses(lm, codes, LossWeights())
    assert number(found.tokens) == number(whole.tokens) - 3 * (1 + lm.dep_q)


def test_hibiki_is_told_what_each_recording_says(tmp_path: Path):
    model = write_with_codec(tmp_path / "hibiki", **SIZES, **DESCRIBED)
    bad = {"text_conditions": {"description": "very_bad"}}
    listing = data(tmp_path / "data", {}, bad)
    training = prepared(model, listing)
    told = [a.text["description"] for a in training.attributes]
    assert told == ["very_good", "very_bad"]
    run = training.training()
    batch = run.batches[0]
    assert isinstance(batch, Examples) and sorted(batch.told.tolist()) == [0, 1]  # type: ignore[type-var]
    # in a batch as alone, with the condition that the model is told when it runs
    lm, total = training.lm, 0.0
    for row, one in enumerate(batch.told.tolist()):  # type: ignore[arg-type]
        assert lm.condition_provider is not None
        ct = lm.condition_provider.condition_tensor("description", told[one])
        found = losses(lm, batch.codes[row : row + 1], training.weights(), [ct])
        total += number(found.audio)
    joined = number(run.step.losses(batch).audio)
    assert joined == pytest.approx(total / 2, rel=1e-4)
    before = dict(training.trainable.arrays)
    run.run()
    # the way in of the conditions learns, too
    name = "condition_provider.conditioners.description.output_proj.lora_B.weight"
    assert number(mx.abs(before[name]).max()) == 0
    assert number(mx.abs(training.trainable.arrays[name]).max()) > 0
    adapted = load_lm(CheckpointInfo.find(model, lora_weights=tmp_path / "data/run"))
    after = [
        condition_of_rows(m.condition_provider, training.attributes, mx.array([0]))
        for m in (adapted, training.lm)
    ]
    assert after[0] is not None and after[1] is not None
    assert mx.allclose(after[0].tensor, after[1].tensor, atol=2e-2)  # bfloat16 files


def test_conditions_run_beside_quantised_weights():
    lm = tiny.lm(**DESCRIBED)
    provider = lm.condition_provider
    assert provider is not None
    from moshi_mlx.finetune.trainable import add_adapters

    before = provider.condition_tensor("description", "very_good").tensor
    add_adapters(lm, rank=2)
    after = provider.condition_tensor("description", "very_good").tensor
    assert mx.allclose(before, after)
    attributes = [ConditionAttributes({"description": "very_bad"})]
    one = condition_of_rows(provider, attributes, mx.array([0, 0]))
    assert one is not None and one.tensor.shape[0] == 2


@pytest.mark.parametrize(
    "told, words",
    [
        ({"description": "good"}, "'good' is unknown: use one of very_bad, very_good"),
        ({"mood": "calm"}, "'mood' is unknown: the model has description"),
        ({"description": 3}, "write them as"),
    ],
)
def test_unknown_conditions_are_told(tmp_path: Path, told: Any, words: str):
    model = write_with_codec(tmp_path / "hibiki", **SIZES, **DESCRIBED)
    with pytest.raises(ConfigError, match=words):
        prepared(model, data(tmp_path / "data", {"text_conditions": told}))


def test_a_model_without_conditions_leaves_them_out(tmp_path: Path):
    model = write_with_codec(tmp_path / "moshi", **SIZES)
    listing = data(tmp_path / "data", {"text_conditions": {"mood": "calm"}})
    assert prepared(model, listing, batch_size=1).plain


def test_personaplex_hears_its_prompt_and_does_not_learn_it(tmp_path: Path):
    model = personaplex_folder(tmp_path / "persona", text_card=SIZES["text_card"])
    recording(tmp_path / "data", "voice", 1.5)
    teacher = {"text_prompt": "You are a teacher.", "voice_prompt": "voice.wav"}
    listing = data(tmp_path / "data", {}, teacher)
    training = prepared(model, listing)
    (windows,) = training.data.recorded
    assert not training.plain
    plain, prompted = windows.start(0), windows.start(1)
    assert plain == 11  # two pauses of six frames, the first frame of which is unheard
    assert prompted > plain + 12  # and a voice, and words
    streams, bare = windows[1], windows[1][:, prompted:]
    own, other = slice(1, 7), slice(7, 13)
    assert bare.shape[1] == 13 and (bare[:, 0] >= 0).all()
    tone = streams[other, :prompted]
    assert (tone == tone[:, :1]).all()  # the user is a constant tone
    spoken = streams[0, :prompted]
    assert (spoken != 3).sum() > 4  # the persona, spelled by the text
    silence = streams[own, prompted - 6 : prompted]
    assert (silence == silence[:, :1]).all()
    batch = training.training().batches[0]
    assert isinstance(batch, Examples)
    assert batch.codes.shape == (2, 13, windows.longest)
    assert sorted(batch.start.tolist()) == sorted([plain, prompted])  # type: ignore[type-var]
    assert training.training(resume=True).run().step == 2


def test_a_prompt_that_cannot_be_is_told(tmp_path: Path):
    model = personaplex_folder(tmp_path / "persona", text_card=SIZES["text_card"])
    long = {"text_prompt": "You teach. " * 60}
    with pytest.raises(ConfigError, match="shorten it"):
        prepared(model, data(tmp_path / "one", long))
    with pytest.raises(ConfigError, match="text_prompt that is no text"):
        prepared(model, data(tmp_path / "two", {"text_prompt": 3}))


def test_an_ear_hears_the_silence_that_it_hears_when_it_runs(tmp_path: Path):
    listens = {"dep_q": 0, "n_q": 3, "delays": [0] * 4, "model_type": "stt"}
    told = {"audio_silence_prefix_seconds": 0.4, "audio_delay_seconds": 0.48}
    ear = write_with_codec(tmp_path / "ear", **SIZES, **listens, stt_config=told)
    listing = data(tmp_path / "data", {}, channels=1)
    (windows,) = prepared(ear, listing, window=2.4, batch_size=1).data.recorded
    streams = windows[0]
    assert len(windows) == 1 and streams.shape[1] == 30
    assert (streams[1:] >= 0).all()  # silence before it and after it, sound between
    quiet = np.array(golden_mimi().encode(mx.zeros((1, 1, 9600)), 3))[0]
    assert (streams[1:, :5] == quiet).all()
    said = np.flatnonzero(streams[0] > 3)
    assert said[0] == int((0.4 + 0.2 + 0.48) * 12.5)


def test_words_may_be_said_whole_however_late(tmp_path: Path):
    model = write_with_codec(tmp_path / "moshi", **SIZES)
    words = [("hello", 0.2, 0.25), ("there", 0.24, 0.3), ("again", 0.28, 0.4)]
    line = recording(tmp_path / "data", "r", 1.0, words)
    listing, pieces = listed(tmp_path / "data" / "train.jsonl", line), []
    for shifted in (False, True):
        training = prepared(model, listing, batch_size=1, keep_and_shift=shifted)
        streams = training.data.recorded[0][0]
        pieces.append(int((streams[0] > 3).sum()))
    encode = encoder(load_tokenizer(training.info))
    assert pieces[1] == sum(len(encode(word)) for word, _, _ in words) > pieces[0]
