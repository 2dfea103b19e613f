"""What is kept and brought back goes on as if it had never stopped."""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.codec import NativeCodec
from moshi_mlx.engines.duplex.rows import RowGen, Sampling
from moshi_mlx.errors import CheckpointError, ConfigError, MoshiError
from moshi_mlx.models import LmGen
from moshi_mlx.models.snapshot import FORMAT, Snapshot, fingerprint
from moshi_mlx.modules.kv_cache import KVCache, RotatingKVCache
from moshi_mlx.utils.sampling import Sampler
from tests import tiny
from tests.golden import NAMES, golden
from tests.tiny import greedy, heard, parameters
from tests.tiny_mimi import random_mimi


def through_a_file(snapshot: Snapshot, folder: Path) -> Snapshot:
    snapshot.save(folder / "kept.safetensors")
    return Snapshot.load(folder / "kept.safetensors")


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_s_run_goes_on_from_a_file(name: str, tmp_path: Path):
    """Past the window; every token is PyTorch's."""
    g = golden(name)
    half, late = g.steps // 2, g.lm.cfg.max_delay
    gen = greedy(g.lm)
    for t in range(g.steps):
        if t == half:
            kept = through_a_file(gen.snapshot(), tmp_path)
            gen = greedy(g.lm)
            gen.restore(kept)
        text, _ = gen.step(g.io["user_codes"][:, :, t], *g.conditions)
        assert text.item() == g.io["step_text_tokens"][0, t].item()
        audio = gen.last_audio_tokens()
        if audio is not None:
            assert audio.tolist() == g.io["step_output"][:, 1:, t].tolist()
    assert g.steps > half > late


SAMPLED = {"text_sampler": Sampler(top_k=20), "audio_sampler": Sampler(1.0, 0.9)}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "guided": ({}, {"cfg_coef": 2.0, "cfg_is_masked_until": [9, 2]}),
    "quantised": ({"dim": 64, "num_heads": 2}, {"kv_bits": 8}),
    "penalised": ({}, {"repetition_penalty": 1.3, "repetition_context": 5}),
    "reserved": ({}, {"reserve": True}),
    "bfloat16": ({}, {"dtype": mx.bfloat16}),
}


def generator(lm: Any, options: dict[str, Any]) -> LmGen:
    return LmGen(lm, batch_size=2, seed=[3, 4], **SAMPLED, **options)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("stop", [1, 4, 19])
def test_sampled_rows_at_their_own_steps_go_on_exactly(
    case: str, stop: int, tmp_path: Path
):
    model, options = CASES[case]
    options = dict(options)
    lm = tiny.lm(**model)
    if dtype := options.pop("dtype", None):
        lm.set_dtype(dtype)
    frames = heard(lm, 2, 30)
    gen, kept, later = generator(lm, options), None, []

    def step(gen: LmGen, t: int) -> list:
        active = None if t % 5 else [t % 2 == 0, True]
        text, _ = gen.step(frames[:, :, t], active=active)
        return [text.tolist(), gen.streams.tokens.tolist()]

    for t in range(30):
        if t == stop:
            kept = through_a_file(gen.snapshot(), tmp_path)
        later += [step(gen, t)] if t >= stop else [step(gen, t)][:0]
    assert kept is not None
    gen = generator(lm, {**options})
    for t in range(3):  # what it did before is forgotten
        gen.step(frames[:, :, 2 - t])
    gen.restore(kept)
    assert [step(gen, t) for t in range(stop, 30)] == later


def test_strangers_in_a_batch_go_on_exactly():
    lm = tiny.lm()
    ways = [
        Sampling(Sampler(0.7, top_k=8), seed=5),
        Sampling(Sampler(0.0), seed=6, repetition_penalty=1.5),
    ]
    frames = heard(lm, 2, 24)

    def run(gen: LmGen, steps: range) -> list:
        return [gen.step(frames[:, :, t])[0].tolist() for t in steps]

    batch, other = RowGen(lm, 2), RowGen(lm, 2)
    for row, way in enumerate(ways):
        batch.begin(row, way)
        other.begin(row, way)
    run(batch, range(11))
    kept = batch.snapshot()
    later = run(batch, range(11, 24))
    other.restore(kept)
    assert run(other, range(11, 24)) == later


@pytest.mark.parametrize("case", ["plain", "guided", "quantised"])
@pytest.mark.parametrize("begun", [False, True])
def test_one_row_goes_on_alone_and_in_another_batch(case: str, begun: bool):
    """From a batch to a generator of one row, and from there into another batch."""
    model, options = CASES[case]
    options = {k: v for k, v in options.items() if k != "cfg_is_masked_until"}
    lm = tiny.lm(**model)
    frames, row = heard(lm, 1, 30), [True, False]
    batch = generator(lm, options)

    def run(gen: LmGen, steps: range, of: int, **how: Any) -> list:
        found = []
        for t in steps:
            given = mx.repeat(frames[:, :, t], gen.batch_size, axis=0)
            found.append(gen.step(given, **how)[0][of].tolist())
        return found

    run(batch, range(12), 0)
    run(batch, range(3), 0, active=[False, True])
    kept = batch.snapshot(row=0)
    later = run(batch, range(12, 30), 0, active=row)
    alone = LmGen(lm, seed=8, **SAMPLED, **options)
    alone.restore(kept)
    assert run(alone, range(12, 20), 0) == later[:8]
    other, beside = generator(lm, options), []
    if begun:
        run(other, range(5), 0)
        kept_other = other.snapshot()
        beside = run(other, range(5, 10), 0)
        other.restore(kept_other)
    other.restore(alone.snapshot(), row=1)
    assert run(other, range(20, 30), 1, active=[False, True]) == later[8:]
    if begun:  # and the row beside it has noticed nothing
        assert run(other, range(5, 10), 0, active=row) == beside


def test_a_snapshot_does_not_change_when_its_source_goes_on():
    lm = tiny.lm()
    frames = heard(lm, 2, 20)
    gen = generator(lm, {})
    for t in range(12):
        gen.step(frames[:, :, t])
    kept = gen.snapshot()
    found = []
    for _ in range(2):
        gen.restore(kept)
        found.append([gen.step(frames[:, :, t])[0].tolist() for t in range(12, 20)])
    assert found[0] == found[1]


def test_only_live_positions_are_kept(tmp_path: Path):
    lm = tiny.lm(context=7)
    gen = LmGen(lm, reserve=True, seed=0)
    sizes = []
    for t in range(40):
        gen.step(heard(lm, 1, 40)[:, :, t])
        if t in (2, 20, 39):
            gen.snapshot().save(tmp_path / "kept.safetensors")
            sizes.append((tmp_path / "kept.safetensors").stat().st_size)
    arrays = Snapshot.load(tmp_path / "kept.safetensors").state["cache"]
    shapes = {tuple(a.shape) for one in arrays for a in one["self_attn"]["live"]}
    assert shapes == {(1, 4, 6, 8)}
    assert sizes[0] < sizes[1] == pytest.approx(sizes[2], abs=64)


def test_nothing_of_a_row_s_earlier_conversation_is_kept():
    cache = RotatingKVCache(2, 1, 6)
    x = mx.ones((2, 1, 5, 2))
    cache.update(x, x, cache.plan(2, 5))
    cache.reset([0])
    cache.update(x[:, :, :1], x[:, :, :1], cache.plan(2, 1))
    live = cache.snapshot()["live"][0]
    assert live[0, 0, :, 0].tolist() == [0, 0, 0, 0, 1]
    assert live[1, 0, :, 0].tolist() == [1] * 5


@pytest.mark.parametrize(
    "make", [KVCache, lambda dim, heads: RotatingKVCache(dim, heads, 9)]
)
def test_a_cache_of_its_own_goes_on(make: Callable[..., Any]):
    a, b = make(4, 2), make(4, 2)
    new = mx.random.normal((6, 1, 2, 3, 4))
    for x in new[:4]:
        a.update(x, -x, a.plan(1, 3))
    b.restore(a.snapshot())
    for x in new[4:]:
        plans = a.plan(1, 3), b.plan(1, 3)
        pairs = [c.update(x, -x, p) for c, p in zip((a, b), plans, strict=True)]
        scores = [
            mx.fast.scaled_dot_product_attention(x, k, v, scale=1.0, mask=p.mask)
            for (k, v), p in zip(pairs, plans, strict=True)
        ]
        assert mx.allclose(scores[0], scores[1])
    c = make(4, 2)
    c.state = a.state
    for mine, theirs in zip(c.state, a.state, strict=True):
        assert mine is not None and theirs is not None
        assert mx.array_equal(mine, theirs)


def test_a_codec_goes_on_with_rows_at_their_own_steps(tmp_path: Path):
    mimi = random_mimi()
    pcm = np.random.default_rng(0).standard_normal((12, 2, 1, 8)).astype(np.float32)

    def run(codec: NativeCodec, steps: range) -> list[np.ndarray]:
        found = []
        for t in steps:
            active = None if t % 3 else [True, False]
            codes = codec.encode_step(pcm[t], active)
            found += [codes[:1], codec.decode_step(codes, active)[:1]]
        return found

    codec, other = NativeCodec(mimi, 2), NativeCodec(mimi, 2)
    run(codec, range(7))
    kept = through_a_file(codec.snapshot(), tmp_path)
    later = run(codec, range(7, 12))
    other.restore(kept)
    for mine, theirs in zip(run(other, range(7, 12)), later, strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize(
    "model, options, words",
    [
        ({"seed": 1}, {}, "of other weights .*: load the model that it was taken from"),
        ({"num_layers": 1}, {}, "of other weights"),
        ({}, {"batch_size": 2}, r"of another number of rows \(1, here 2\)"),
        ({}, {"cfg_coef": 2.0}, r"of other guidance \(False, here True\)"),
    ],
)
def test_what_does_not_fit_is_refused(
    model: dict[str, Any], options: dict[str, Any], words: str
):
    kept = LmGen(tiny.lm()).snapshot()
    gen = LmGen(tiny.lm(**model), **options)
    before = gen.streams.tokens.tolist()
    with pytest.raises(ConfigError, match=words):
        gen.restore(kept)
    assert gen.streams.tokens.tolist() == before


def test_other_bits_another_type_and_another_kind_are_refused():
    wide = {"dim": 64, "num_heads": 2}
    lm = tiny.lm(**wide)
    kept = LmGen(lm).snapshot()
    with pytest.raises(ConfigError, match=r"of other kv_bits \(None, here 8\)"):
        LmGen(lm, kv_bits=8).restore(kept)
    lm.set_dtype(mx.bfloat16)
    with pytest.raises(ConfigError, match="of other weights"):
        LmGen(lm).restore(kept)
    codec = NativeCodec(random_mimi())
    with pytest.raises(ConfigError, match="is of a generation and cannot continue a c"):
        codec.restore(kept)


def test_a_fingerprint_is_the_weights_and_nothing_else():
    first = fingerprint(tiny.lm())
    lm = tiny.lm()
    tiny.run(greedy(lm), heard(lm, 1, 3))
    assert fingerprint(lm) == first
    lm.update({"out_norm": {"weight": parameters(lm)["out_norm.weight"] + 1e-3}})
    assert fingerprint(lm) != first
    assert fingerprint(tiny.lm(seed=1)) != first
    for dtype in (mx.bfloat16, mx.float16):
        lm = tiny.lm()
        lm.set_dtype(dtype)
        assert len(fingerprint(lm)) == 16


def test_a_file_is_private_and_whole_or_not_there(tmp_path: Path, monkeypatch):
    kept, path = LmGen(tiny.lm()).snapshot(), tmp_path / "state.safetensors"
    kept.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_bytes()

    def fails(file: Any, *_: Any) -> None:
        file.write(b"half")
        raise RuntimeError("[save_safetensors] no space left.")

    monkeypatch.setattr(mx, "save_safetensors", fails)
    with pytest.raises(CheckpointError, match=r"cannot be written: .* no space left"):
        kept.save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]
    with pytest.raises(CheckpointError, match="cannot be written"):
        kept.save(tmp_path / "no folder" / "state.safetensors")


def test_files_that_are_no_snapshot_are_refused_in_one_sentence(tmp_path: Path):
    path = tmp_path / "kept.safetensors"
    LmGen(tiny.lm()).snapshot().save(path)
    whole = path.read_bytes()
    other = tmp_path / "other.safetensors"
    mx.save_safetensors(str(other), {"a": mx.zeros(2)})
    newer = tmp_path / "newer.safetensors"
    newer.write_bytes(whole.replace(b'"version":"1"', b'"version":"2"'))
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(whole.replace(b'"kind', b'"kine').replace(b"kind", b"kine"))
    cases = {tmp_path / "none": "there is no snapshot", other: "but no snapshot"}
    cases |= {newer: "has snapshot format 2, and this moshi_mlx reads format 1"}
    cases |= {damaged: "damaged", tmp_path: "there is no snapshot"}
    deep = {"format": FORMAT, "version": "1", "snapshot": "[" * 100_000}
    mx.save_safetensors(str(tmp_path / "deep.safetensors"), {"a": mx.ones(1)}, deep)
    cases |= {tmp_path / "deep.safetensors": "is a damaged snapshot"}
    for size in (0, 5, 200, len(whole) // 2):
        cut = tmp_path / f"cut{size}"
        cut.write_bytes(whole[:size])
        cases[cut] = "is not a snapshot, or is damaged"
    for file, words in cases.items():
        with pytest.raises(MoshiError, match=words) as refused:
            Snapshot.load(file)
        assert "\n" not in str(refused.value)
