"""Divergence and agreement are those of the definitions, stream by stream."""

from itertools import pairwise

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.checkpoint.quality import Quality, Streams, compare, predict
from moshi_mlx.checkpoint.quantize import quantize
from moshi_mlx.errors import ConfigError
from moshi_mlx.models.lm import LmOutput
from tests.tiny import BASE, codes
from tests.tiny import lm as tiny_lm


def output(text: np.ndarray, mask: list[bool]) -> LmOutput:
    return LmOutput(
        mx.array(text[None, None].astype(np.float32)),
        mx.array(mask)[None, None],
        None,
        None,
    )


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def measured(bits: int, group: int = 32) -> Quality:
    sequences = [Streams(codes(BASE, 1, t, seed=t)) for t in (9, 14)]
    full = predict(tiny_lm(), sequences)
    lm = tiny_lm()
    quantize(lm, bits, group)
    return compare(full, predict(lm, sequences))


def test_divergence_is_kullback_and_leibler_s():
    rng = np.random.default_rng(0)
    p, q = rng.standard_normal((2, 6, 10))
    q[0] = p[0]
    mask = [True, True, False, True, True, True]
    found = compare([output(p, mask)], [output(q, mask)]).text
    kl = (softmax(p) * np.log(softmax(p) / softmax(q))).sum(-1)[mask]
    assert found.kl == pytest.approx(kl.mean(), rel=1e-4)
    assert found.kl_p95 == pytest.approx(np.quantile(kl, 0.95), rel=1e-4)
    same = (p.argmax(-1) == q.argmax(-1))[mask]
    assert found.top1 == pytest.approx(same.mean())
    assert found.steps == 5


def test_a_model_does_not_diverge_from_itself():
    sequences = [Streams(codes(BASE, 1, 8))]
    full = predict(tiny_lm(), sequences)
    quality = compare(full, predict(tiny_lm(), sequences))
    names = [stream.name for stream in quality.streams]
    assert names == ["text", "codebook 0", "codebook 1", "codebook 2"]
    assert all(stream.top1 == 1 and stream.kl < 1e-9 for stream in quality.streams)
    # the last steps of a stream that is delayed by two are not known
    assert [stream.steps for stream in quality.streams] == [8, 8, 7, 6]


def test_fewer_bits_diverge_more():
    found = [measured(bits) for bits in (8, 6, 4, 2)]
    for better, worse in pairwise(found):
        assert better.text.kl < worse.text.kl
        assert better.audio_kl is not None and worse.audio_kl is not None
        assert better.audio_kl < worse.audio_kl
    assert found[0].text.top1 > 0.9 > found[-1].text.top1
    assert found[0].text.steps == 9 + 14


def test_json_has_all_streams():
    data = measured(4).to_json()
    assert data["audio_kl"] == pytest.approx(
        np.mean([stream["kl"] for stream in data["streams"][1:]])
    )
    assert data["streams"][1]["name"] == "codebook 0"


def test_nothing_to_compare_is_said():
    empty = output(np.zeros((3, 4)), [False] * 3)
    with pytest.raises(ConfigError, match="too short"):
        compare([empty], [empty])
