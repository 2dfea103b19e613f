"""Models as the transformers library saves them: its logits, within rounding."""

from functools import cache

import mlx.core as mx
import numpy as np
import pytest

import moshi_mlx
from moshi_mlx.checkpoint.build import load_lm, load_mimi
from moshi_mlx.checkpoint.formats import format_of_config
from moshi_mlx.checkpoint.info import CheckpointInfo
from moshi_mlx.errors import CheckpointError, ConfigError
from moshi_mlx.models.lm import Lm
from tests.checkpoint.folders import write
from tests.tiny import DATA, assert_close, greedy

FOLDER = DATA / "transformers"
TOL = 1e-5  # of the largest value; both sides compute in float32


@cache
def golden(name: str) -> tuple[Lm, dict[str, mx.array]]:
    io = mx.load(str(FOLDER / name / "io.safetensors"))
    assert isinstance(io, dict)
    return load_lm(CheckpointInfo.find(FOLDER / name)), io


def test_moshi_s_logits_are_the_library_s():
    lm, io = golden("moshi")
    audio = mx.concatenate([io["moshi_audio_codes"], io["user_audio_codes"]], axis=1)
    hidden = lm.hidden(io["text_ids"], audio)
    assert_close(hidden, io["last_hidden_state"], TOL)
    assert_close(lm.text_logits(hidden), io["text_logits"], TOL)
    told = io["depth_input_ids"].T[None]
    depth = lm.depformer.teacher_forced(hidden, told)
    assert_close(depth[0].swapaxes(0, 1), io["depth_logits"], TOL)


def test_moshi_s_config_is_kyutai_s():
    cfg = golden("moshi")[0].cfg
    assert (cfg.audio_codebooks, cfg.generated_codebooks) == (8, 4)
    assert cfg.audio_delays == [0, 1, 1, 1, 0, 1, 1, 1]
    assert CheckpointInfo.find(FOLDER / "moshi").kind.converses


def test_speech_to_text_s_logits_are_the_library_s():
    lm, io = golden("stt")
    tokens = io["input_ids"]
    hidden = lm.hidden(tokens[..., 0], tokens[..., 1:].swapaxes(1, 2))
    own = io["logits"][..., :-1]  # the library's last one is never said
    assert_close(lm.text_logits(hidden), own, TOL)
    assert CheckpointInfo.find(FOLDER / "stt").kind.transcribes


def test_helium_s_logits_and_tokens_are_the_library_s():
    lm, io = golden("helium")
    tokens = io["greedy_ids"]
    logits = lm.text_logits(lm.hidden(tokens, None))
    assert_close(logits, io["logits"], TOL)
    prompt = io["input_ids"].shape[1]
    said = mx.argmax(logits[:, prompt - 1 : -1], axis=-1)
    assert said.tolist() == tokens[:, prompt:].tolist()


@pytest.mark.parametrize("name", ["moshi", "stt"])
def test_the_codec_in_the_same_file_is_found(name):
    info = CheckpointInfo.find(FOLDER / name)
    mimi = load_mimi(info)
    pcm = mx.random.normal((1, 1, 4 * mimi.frame_size), key=mx.random.key(0)) / 10
    codes = mimi.encode(pcm)
    assert codes.shape == (1, info.num_codebooks, 4)
    assert len(np.unique(np.array(codes))) > 4
    assert mimi.decode(codes).shape == pcm.shape


def test_the_codec_alone_is_loaded_from_such_a_file():
    codec = moshi_mlx.load_codec(FOLDER / "stt")
    assert codec.num_codebooks == 4


def test_moshi_converses():
    lm, io = golden("moshi")
    gen = greedy(lm)
    for t in range(1, 6):
        gen.step(io["user_audio_codes"][:, :, t])
    audio = gen.last_audio_tokens()
    assert audio is not None and audio.shape == (1, 4)


def test_other_architectures_are_named():
    config = {"architectures": ["LlamaForCausalLM"], "hidden_size": 8}
    with pytest.raises(CheckpointError, match="a LlamaForCausalLM of the transformers"):
        format_of_config(config)
    with pytest.raises(CheckpointError, match=r"a 'a\\nb' of the transformers"):
        format_of_config({"architectures": ["a\nb"]})


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"num_codebooks": None}, "num_codebooks None: expected a whole number"),
        ({"ffn_dim": 7}, "ffn_dim 7 with a width"),
        ({"rms_norm_eps": 0.5}, "rms_norm_eps 0.5"),
        ({"head_dim": 5}, "head_dim 5"),
        ({"num_key_value_heads": 5}, "num_key_value_heads 5"),
        ({"codec_config": None, "num_hidden_layers": -1}, "num_hidden_layers -1"),
    ],
)
def test_a_config_that_cannot_be_is_refused_with_its_key(tmp_path, changes, words):
    stated = CheckpointInfo.find(FOLDER / "stt").stated
    folder = write(tmp_path, {"x": mx.ones(1)}, {**stated, **changes})
    with pytest.raises(ConfigError, match=words):
        CheckpointInfo.find(folder)
