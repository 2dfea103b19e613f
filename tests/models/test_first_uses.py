"""A long conversation uses no operation that the warm-up did not."""

from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from moshi_mlx.models import LmGen
from moshi_mlx.utils.sampling import Sampler
from tests import tiny
from tests.first_uses import operations
from tests.tiny_mimi import changed, random_mimi

FRAMES = 400
SAMPLERS = {
    "text_sampler": Sampler(0.7, top_p=0, top_k=9),
    "audio_sampler": Sampler(0.8, top_p=0, top_k=9),
}


@pytest.mark.parametrize(
    "model, options",
    [({}, {}), ({}, {"cfg_coef": 2.0}), ({"num_heads": 1}, {"kv_bits": 8})],
    ids=str,
)
def test_a_generator_s_first_frames_use_all_that_later_ones_use(
    tmp_path: Path, model: dict[str, Any], options: dict[str, Any]
):
    lm = tiny.lm(context=90, num_layers=1, depformer_num_layers=1, **model)
    frame = mx.zeros((1, 3), mx.int32)

    def run(frames: int) -> LmGen:
        gen = LmGen(lm, reserve=True, seed=0, **SAMPLERS, **options)
        for _ in range(frames):
            gen.step(frame)
        return gen

    with operations(tmp_path) as warm:
        run(lm.cfg.max_delay + 2)
    with operations(tmp_path) as later:
        gen = run(FRAMES)
    assert gen.cache[0].self_attn.offset == FRAMES
    assert len(later) > 10
    assert later <= warm


def test_a_codec_s_first_frames_use_all_that_later_ones_use(tmp_path: Path):
    mimi = random_mimi(changed(transformer={"context": 50, "num_layers": 1}))
    pcm = mx.random.normal((1, 1, mimi.frame_size))

    def run(frames: int) -> None:
        state = mimi.make_state()
        for _ in range(frames):
            codes = mimi.encode_step(pcm, state)
            mx.eval(codes, state.encoder.arrays)
            mx.eval(mimi.decode_step(codes, state), state.decoder.arrays)

    with operations(tmp_path) as warm:
        mimi.warmup()
        run(1)
    with operations(tmp_path) as later:
        run(FRAMES)
    assert len(later) > 10
    assert later <= warm
