"""What programs do with speech to text: Kyutai's stt_from_file_mlx.py and
stt_from_mic_mlx.py, on the small model whose every token PyTorch has computed."""

import json

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx import models, utils
from moshi_mlx.models.mimi import Mimi, MimiConfig
from tests.golden import golden
from tests.listening import noise
from tests.speech import TTS
from tests.tiny import DATA

NAME = "lm_stt"
STEPS = 40


@pytest.fixture
def model(tmp_path) -> models.Lm:
    """Loaded from MLX names, as from the -mlx repositories."""
    path = tmp_path / "model.safetensors"
    golden(NAME).lm.save_weights(str(path))
    config = json.loads((DATA / NAME / "config.json").read_text())
    lm = models.Lm(models.LmConfig.from_config_dict(config))
    lm.set_dtype(mx.bfloat16)
    lm.load_weights(str(path), strict=True)
    lm.warmup()
    return lm


def generator(model: models.Lm) -> models.LmGen:
    return models.LmGen(
        model=model,
        max_steps=4096,
        text_sampler=utils.Sampler(top_k=25, temp=0),
        audio_sampler=utils.Sampler(top_k=250, temp=0.8),
        check=False,
    )


def test_the_file_script_encodes_blocks_and_prints_pieces(model):
    config = json.loads((TTS / "mimi_config.json").read_text())
    mimi = Mimi(MimiConfig.from_config_dict(config, num_codebooks=8))
    mimi.load_pytorch_weights(str(TTS / "mimi.safetensors"), strict=True)
    audio = mx.concat([mx.array(noise(1.0)[None]), mx.zeros((1, 4800))], axis=-1)
    gen, tokens = generator(model), []
    for start in range(0, audio.shape[-1] // 1920 * 1920, 1920):
        block = audio[:, None, start : start + 1920]
        other = mx.array(mimi.encode_step(block)).transpose(0, 2, 1)
        other = mx.minimum(other, 47)  # this model knows fewer codes than the codec
        text_token = gen.step(other[0])
        text_token = text_token[0].item()
        assert gen.last_audio_tokens() is None or model.dep_q == 0
        tokens.append(text_token)
    assert len(tokens) == 15
    assert all(isinstance(token, int) for token in tokens)


@pytest.mark.parametrize("vad", [False, True])
def test_the_microphone_script_reads_words_and_pause_scores(model, vad: bool):
    gen, io, tokens, scores = generator(model), golden(NAME).io, [], []
    for t in range(STEPS):
        encoded = np.array(io["user_codes"])[..., t : t + 1].astype(np.uint32)
        other = mx.array(encoded).transpose(0, 2, 1)[:, :, : model.cfg.other_codebooks]
        if vad:
            text_token, vad_heads = gen.step_with_extra_heads(other[0])
            scores.append(vad_heads[2][0, 0, 0].item())
        else:
            text_token = gen.step(other[0])
        tokens.append(text_token[0].item())
    expected = np.array(io["step_text_tokens"])[0, :STEPS].tolist()
    assert tokens == expected
    if vad:
        wanted = np.array(io["extra_heads"])[0, :STEPS, 2, 0]
        np.testing.assert_allclose(scores, wanted, atol=1e-4)
