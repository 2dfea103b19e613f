"""What public voice servers do with a model that they keep: look at it, and start anew
by hand, as moshi_mlx 0.3.0 made them."""

import json
from threading import Thread
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx import models
from moshi_mlx.models.mimi import Mimi, MimiConfig
from tests.golden import golden
from tests.tiny import DATA, GREEDY, greedy, heard, lm, parameters, run

FRAME = 1920


def test_a_generator_says_how_its_streams_are_laid_out():
    gen = greedy(lm())
    assert gen.num_codebooks == 1 + 6
    assert gen.audio_delays == [0, 1, 2, 0, 1, 2]
    assert gen.audio_padding_token == 24
    assert gen.max_delay == 2


def test_all_caches_are_cleared_before_the_next_conversation():
    model = lm()
    frames = heard(model, 1, 12)
    first = run(greedy(model), frames)
    for cache in model.transformer_cache + model.depformer_cache:
        cache.reset()
    assert np.array_equal(run(greedy(model), frames), first)


def test_all_caches_are_replaced_before_the_next_conversation():
    model = lm()
    frames = heard(model, 1, 12)
    first = run(greedy(model), frames)
    new = model.transformer.make_rot_cache()
    model.transformer_cache = new  # type: ignore[assignment]
    assert hasattr(model, "depformer_cache")
    depth = model.depformer.slices[0].transformer
    model.depformer_cache = depth.make_cache()  # type: ignore[assignment]
    assert model.transformer_cache is new
    model.forward_text(mx.array([[5, 6]]))
    assert new[0].self_attn.offset == 2
    assert np.array_equal(run(greedy(model), frames), first)
    assert not any("cache" in name for name in parameters(model))


def test_nothing_stays_in_the_depth_transformer_between_frames():
    model = lm()
    run(greedy(model), heard(model, 1, 4))
    assert [c.self_attn.offset for c in model.depformer_cache] == [0, 0]
    assert golden("lm_stt").lm.depformer_cache == []


def test_a_generator_begins_anew_when_its_step_is_set_to_0():
    model = lm()
    frames = heard(model, 1, 12)
    gen = greedy(model)
    first = run(gen, frames)
    assert gen.step_idx == 12
    gen.step_idx = 0
    assert gen.step_idx == 0
    assert np.array_equal(run(gen, frames), first)
    with pytest.raises(ValueError, match="only 0"):
        gen.step_idx = 5


def test_a_single_row_may_come_without_its_axis():
    model = lm()
    frames = heard(model, 1, 12)
    gen, rows = greedy(model), []
    for t in range(12):
        text, _ = gen.step(frames[0, :, t])
        rows.append(text.item())
    assert rows == run(greedy(model), frames)[0, 0].tolist()
    with pytest.raises(ValueError, match=r"give \[2, 3\]"):
        models.LmGen(model, batch_size=2).step(frames[0, :, 0])


def test_a_frame_may_be_numpys_as_rustymimi_returns_it():
    model = lm()
    frames = heard(model, 1, 4)
    of_numpy: Any = np.array(frames).astype(np.uint32)
    assert np.array_equal(run(greedy(model), of_numpy), run(greedy(model), frames))


def test_one_step_takes_its_hooks_after_the_guidance():
    model, seen = lm(), []
    tokens = mx.array([[40]]), [mx.array([[24]])] * 6, GREEDY, GREEDY
    model.sample(*tokens, None, None, 1.0, seen.append, seen.append)
    assert [array.shape for array in seen] == [(1, 1), (1, 3, 1)]
    with pytest.raises(ValueError, match="LmGen has"):
        model.sample(*tokens, cfg_coef=2.0)


def test_the_codecs_caches_are_those_of_its_default_stream():
    config = json.loads((DATA / "mimi" / "mimi_config.json").read_text())
    config = MimiConfig.from_config_dict(config, 8)
    file = DATA / "mimi" / "mimi_released_names.safetensors"
    mimi = Mimi(config).load_pytorch_weights(file)
    layers = config.transformer.num_layers
    for caches in (mimi.encoder_cache, mimi.decoder_cache):
        assert [cache.self_attn.offset for cache in caches] == [0] * layers
    codes = mimi.encode_step(mx.zeros((2, 1, 3 * FRAME)))  # a batch may still begin
    mimi.decode_step(codes[..., :2])
    assert mimi.encoder_cache[0].self_attn.offset == 6  # two positions a frame
    assert mimi.decoder_cache[0].self_attn.offset == 4
    for cache in mimi.encoder_cache + mimi.decoder_cache:
        cache.reset()
    assert mimi.encoder_cache[0].self_attn.offset == 0
    assert mimi.decoder_cache[-1].self_attn.offset == 0


def test_a_generator_may_step_on_another_thread_than_it_was_made_on():
    # As in the callback of a sound device.
    model = lm()
    model.warmup()
    frames = heard(model, 1, 6)
    wanted = run(greedy(model), frames)
    given, gen, found = np.array(frames), greedy(model), []

    def callback() -> None:
        try:
            found.append(run(gen, mx.array(given)))
        finally:
            mx.clear_streams()

    thread = Thread(target=callback)
    thread.start()
    thread.join()
    assert np.array_equal(found[0], wanted)
