"""What is saved loads again, equal; nothing is half written or overwritten."""

import json
import os
import resource
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.checkpoint.build import load_lm, load_mimi, load_tokenizer
from moshi_mlx.checkpoint.info import CheckpointInfo
from moshi_mlx.checkpoint.quantize import Choice, quantize
from moshi_mlx.checkpoint.save import save
from moshi_mlx.errors import CheckpointError
from tests.checkpoint.folders import assert_equal, load, tensors, write
from tests.tiny import (
    BASE,
    CONDITIONED,
    DATA,
    Config,
    assert_close,
    greedy,
    heard,
    pytorch_weights,
    run,
)

WIDE: Config = {"dim": 64, "depformer_dim": 64, "depformer_dim_feedforward": 192}


def config_of(folder) -> dict:
    return json.loads((folder / "config.json").read_text())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        CONDITIONED,
        {"depformer_weights_per_step_schedule": [0, 1, 1]},
        {"depformer_low_rank_embeddings": 8, "demux_second_stream": True},
        {"norm": "layer_norm", "extra_heads_num_heads": 2},
        {"dep_q": 0},
    ],
    ids=["plain", "conditioned", "scheduled", "demux", "norm", "stt"],
)
@pytest.mark.parametrize("bits", [None, 4])
def test_a_saved_model_loads_equal(tmp_path, changes: Config, bits):
    source = write(tmp_path / "source", **changes)
    lm = load(source, bits=bits)
    out = save(tmp_path / "out", lm, config_of(source))
    assert_equal(load(out), lm)
    assert ("quantization" in config_of(out)) == (bits is not None)


@pytest.mark.parametrize("mode", ["mxfp4", "nvfp4", "mxfp8"])
def test_other_modes_load_equal(tmp_path, mode):
    lm = load(write(tmp_path / "source"))
    quantize(lm, mode=mode)
    out = save(tmp_path / "out", lm, BASE)
    assert config_of(out)["quantization"]["mode"] == mode
    assert_equal(load(out), lm)


def test_mixed_bits_load_equal(tmp_path):
    lm = load(write(tmp_path / "source", **WIDE))
    quantize(lm, recipe=lambda path, _: Choice(32, 8 if "text" in path else 3))
    assert_equal(load(save(tmp_path / "out", lm, {**BASE, **WIDE})), lm)


def test_a_saved_model_speaks_the_same(tmp_path):
    lm = load(write(tmp_path / "source"), bits=4)
    again = load(save(tmp_path / "out", lm, BASE))
    frames = heard(lm, 1, 10)
    assert np.array_equal(run(greedy(again), frames), run(greedy(lm), frames))


@pytest.mark.parametrize(
    "bits, group, name",
    [
        (None, None, "model.safetensors"),
        (4, 32, "model.q4.safetensors"),
        (8, 64, "model.q8.safetensors"),
        (8, 32, "model.safetensors"),
    ],
)
def test_moshi_mlx_0_3_reads_bits_from_the_name(tmp_path, bits, group, name):
    lm = load(write(tmp_path / "source", **WIDE))
    if bits:
        quantize(lm, bits, group)
    out = save(tmp_path / "out", lm, {**BASE, **WIDE})
    assert config_of(out)["moshi_name"] == name
    assert (out / name).is_file()


@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16])
def test_the_file_s_precision_is_kept(tmp_path, dtype):
    weights = {k: w.astype(dtype) for k, w in pytorch_weights(BASE).items()}
    source = write(tmp_path / "source", weights)
    lm = load(source, as_stored=True)
    quantize(lm, 4)
    out = save(tmp_path / "out", lm, config_of(source))
    stored = mx.load(str(out / "model.q4.safetensors"))
    assert isinstance(stored, dict)
    assert {w.dtype for w in stored.values()} == {dtype, mx.uint32}


def test_hibiki_s_own_row_is_saved(tmp_path):
    source = write(tmp_path / "source", model_type="hibiki")
    for bits in (None, 4):
        lm = load(source, bits=bits)
        out = save(tmp_path / f"out{bits}", lm, config_of(source))
        exact, two, three = load(out, as_stored=True), mx.array([2]), mx.array([3])
        assert not mx.array_equal(exact.text_emb(two), exact.text_emb(three))
        assert_close(
            exact.text_emb(two), load(source, as_stored=True).text_emb(two), 0.2
        )
        assert mx.array_equal(lm.text_emb(two), lm.text_emb(three))
        assert_equal(load(out), lm)


def test_codec_and_tokenizer_travel_with_the_model(tmp_path):
    info = CheckpointInfo.find(DATA / "tts")
    lm = load_lm(info, as_stored=True)
    out = save(
        tmp_path / "out",
        lm,
        info.config,
        mimi=info.mimi_weights,
        mimi_config=info.mimi_config,
        tokenizer=info.tokenizer,
    )
    again = CheckpointInfo.find(out)
    shutil.rmtree(tmp_path / "source", ignore_errors=True)
    assert again.mimi_weights.parent == again.tokenizer.parent == out
    codes = mx.array(np.arange(6 * 5).reshape(1, 6, 5) % 7)
    theirs = load_mimi(info).decode(codes)
    assert mx.array_equal(load_mimi(again).decode(codes), theirs)
    assert load_tokenizer(again).encode("you") == load_tokenizer(info).encode("you")
    assert again.tts_config == info.tts_config


def test_the_codec_may_be_saved_in_16_bits(tmp_path):
    info = CheckpointInfo.find(DATA / "tts")
    out = save(
        tmp_path,
        load_lm(info),
        info.config,
        mimi=load_mimi(info),
        mimi_config=info.mimi_config,
        mimi_dtype=mx.float16,
    )
    stored = mx.load(str(out / "mimi.safetensors"))
    assert isinstance(stored, dict)
    narrow = [name for name, w in stored.items() if w.dtype == mx.float16]
    assert len(narrow) > len(stored) / 2
    assert all("codebook" in name for name in set(stored) - set(narrow))
    codes = mx.array(np.arange(6 * 5).reshape(1, 6, 5) % 7)
    found = load_mimi(CheckpointInfo.find(out))
    assert {w.dtype for w in tensors(found).values()} == {mx.float32}
    assert_close(found.decode(codes), load_mimi(info).decode(codes), 0.01)


def test_settings_survive_and_files_are_renamed(tmp_path):
    source = write(
        tmp_path / "source",
        model_type="moshi",
        lm_gen_config={"temp": 0.5},
        mimi_name="hf://owner/repo/codec",
        quantize=True,
        lora=True,
        lora_rank=8,
    )
    out = save(tmp_path / "out", load(source), config_of(source))
    saved = config_of(out)
    assert saved["lm_gen_config"] == {"temp": 0.5}
    assert not {"mimi_name", "quantize", "lora", "lora_rank"} & set(saved)


def test_a_checkpoint_is_not_overwritten_unasked(tmp_path):
    source = write(tmp_path)
    lm = load(source)
    with pytest.raises(CheckpointError, match="holds a checkpoint already"):
        save(source, lm, BASE)
    assert_equal(load(save(source, lm, BASE, overwrite=True)), lm)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    lm = load(write(tmp_path / "source"))
    with pytest.raises(CheckpointError, match="file' cannot be written"):
        save(tmp_path / "file", lm, BASE)


def test_too_little_space_is_found_before_anything_is_written(tmp_path, monkeypatch):
    lm = load(write(tmp_path / "source"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=1000))
    with pytest.raises(CheckpointError, match="are needed: free some space"):
        save(tmp_path / "out", lm, BASE)
    assert not (tmp_path / "out").exists()


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_fails_half_way_leaves_nothing(tmp_path):
    lm = load(write(tmp_path / "source"))
    with pytest.raises(CheckpointError, match=r"new/out' cannot be written: No such"):
        save(tmp_path / "new" / "out", lm, BASE, tokenizer=tmp_path / "gone.model")
    assert not (tmp_path / "new").exists()
    out = save(tmp_path / "out", lm, BASE)
    before = files(out)
    quantize(lm, 4)
    with pytest.raises(CheckpointError, match="No such file"):
        save(out, lm, BASE, tokenizer=tmp_path / "gone.model", overwrite=True)
    assert files(out) == before


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path):
    lm = load(write(tmp_path / "source"))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(CheckpointError, match=r"out' cannot be written: .*write"):
            save(tmp_path / "out", lm, BASE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert not (tmp_path / "out").exists()


def test_weights_of_a_replaced_checkpoint_go(tmp_path):
    lm = load(write(tmp_path / "source"))
    out = save(tmp_path / "out", lm, BASE)
    (out / "notes.txt").write_text("mine")
    quantize(lm, 4)
    save(out, lm, BASE, overwrite=True)
    assert set(files(out)) == {"config.json", "model.q4.safetensors", "notes.txt"}
    assert_equal(load(out), lm)


def test_no_config_describes_another_checkpoints_weights(tmp_path, monkeypatch):
    lm = load(write(tmp_path / "source"))
    out = save(tmp_path / "out", lm, BASE)
    replace = os.replace

    def stop_at_the_weights(source: Path, target: Path) -> None:
        replace(source, target)
        if target.suffix == ".safetensors":
            assert not (out / "config.json").exists()
            raise KeyboardInterrupt

    quantize(lm, 4)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", stop_at_the_weights)
        # A killed process does not tidy up either.
        patch.setattr(shutil, "rmtree", lambda *_args, **_options: None)
        with pytest.raises(KeyboardInterrupt):
            save(out, lm, BASE, overwrite=True)
    save(out, lm, BASE, overwrite=True)
    assert set(files(out)) == {"config.json", "model.q4.safetensors"}
    assert_equal(load(out), lm)


def test_files_elsewhere_that_a_replaced_config_names_stay(tmp_path):
    source = write(tmp_path / "source")
    weights = str(source / "model.safetensors")
    out = write(tmp_path / "out", config={**BASE, "moshi_name": weights})
    lm = load(source, bits=4)
    save(out, lm, BASE, overwrite=True)
    assert (source / "model.safetensors").is_file()
    assert_equal(load(out), lm)
