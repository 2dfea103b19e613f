"""The codec's files: both published namings, our own, and files that are none."""

import mlx.core as mx
import pytest

from moshi_mlx.errors import CheckpointError
from moshi_mlx.models.mimi import Mimi, MimiConfig
from tests.tiny import number, parameters
from tests.tiny_mimi import (
    RELEASED_NAMES,
    SPLIT_NAMES,
    TINY,
    changed,
    golden_io,
    golden_mimi,
    random_mimi,
)


def tensors(path) -> dict[str, mx.array]:
    arrays = mx.load(str(path))
    assert isinstance(arrays, dict)
    return dict(arrays)


def save(path, weights: dict[str, mx.array]) -> str:
    mx.save_safetensors(str(path), weights)
    return str(path)


def assert_same_weights(a: Mimi, b: Mimi) -> None:
    first, second = parameters(a), parameters(b)
    assert first.keys() == second.keys()
    assert all(mx.array_equal(w, second[name]) for name, w in first.items())


def test_both_published_namings_are_the_same_codec():
    released = golden_mimi()
    split = Mimi(released.cfg).load_pytorch_weights(SPLIT_NAMES)
    assert_same_weights(released, split)
    assert mx.array_equal(split.encode(golden_io()["pcm"]), golden_io()["codes"])


def test_older_names_of_the_codebooks_are_read(tmp_path):
    older = {
        "_initialized": "inited",
        "cluster_usage": "cluster_size",
        "embedding_sum": "embed_avg",
    }
    weights = {}
    for name, w in tensors(RELEASED_NAMES).items():
        for new, old in older.items():
            name = name.replace(new, old)
        weights[name] = w
    path = save(tmp_path / "old.safetensors", weights)
    mimi = golden_mimi()
    assert_same_weights(Mimi(mimi.cfg).load_pytorch_weights(path), mimi)


def test_rules_know_every_part_of_the_architecture(tmp_path):
    """Names as PyTorch counts them, activations included."""
    data = changed(
        seanet={"n_residual_layers": 2, "true_skip": False},
        transformer={"d_model": 16, "gating": "silu", "norm": "rms_norm"},
    )
    mimi = random_mimi(data)
    weights = {}
    for name, w in parameters(mimi).items():
        for ours, theirs in PYTORCH_NAMES:
            name = name.replace(ours, theirs)
        if name.endswith(".alpha"):
            w = w.reshape(1, 1, -1)
        elif "convtr" in name and w.ndim == 3:
            w = w.transpose(2, 0, 1)
        elif w.ndim == 3:
            w = w.transpose(0, 2, 1)
        weights[name] = mx.contiguous(w)
    path = save(tmp_path / "pytorch.safetensors", weights)
    assert_same_weights(Mimi(mimi.cfg).load_pytorch_weights(path), mimi)


# Of a codec with two strides and two residual blocks: 0 conv, [1 2 res, 4 down],
# [5 6 res, 8 down], 10 conv; and 0 conv, [2 up, 3 4 res], [6 up, 7 8 res], 10 conv.
PYTORCH_NAMES = [
    *(
        (f"encoder.{a}", f"encoder.model.{b}")
        for a, b in (
            ("init_conv1d", 0),
            ("layers.0.residuals.0", 1),
            ("layers.0.residuals.1", 2),
            ("layers.0.downsample", 4),
            ("layers.1.residuals.0", 5),
            ("layers.1.residuals.1", 6),
            ("layers.1.downsample", 8),
            ("final_conv1d", 10),
        )
    ),
    *(
        (f"decoder.{a}", f"decoder.model.{b}")
        for a, b in (
            ("init_conv1d", 0),
            ("layers.0.upsample", 2),
            ("layers.0.residuals.0", 3),
            ("layers.0.residuals.1", 4),
            ("layers.1.upsample", 6),
            ("layers.1.residuals.0", 7),
            ("layers.1.residuals.1", 8),
            ("final_conv1d", 10),
        )
    ),
    (".block.1.", ".block.3."),
    (".block.0.", ".block.1."),
    ("self_attn.in_proj.weight", "self_attn.in_proj_weight"),
    ("norm1.weight", "norm1.alpha"),
    ("norm2.weight", "norm2.alpha"),
    (".codebook.initialized", "._codebook._initialized"),
    (".codebook.", "._codebook."),
]


def test_saved_weights_load_again_as_the_same_codec(tmp_path):
    mimi = golden_mimi()
    path = save(tmp_path / "mimi.safetensors", parameters(mimi))
    again = Mimi(mimi.cfg).load_weights(path)
    assert_same_weights(mimi, again)
    codes = golden_io()["codes"]
    assert mx.array_equal(again.encode(golden_io()["pcm"]), codes)
    assert mx.array_equal(again.decode(codes), mimi.decode(codes))


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16])
def test_weights_stored_in_16_bits_are_computed_in_float32(tmp_path, dtype):
    small = {k: w.astype(dtype) for k, w in tensors(RELEASED_NAMES).items()}
    path = save(tmp_path / "small.safetensors", small)
    mimi = Mimi(golden_mimi().cfg).load_pytorch_weights(path)
    assert mimi.dtype == mx.float32
    assert {w.dtype for w in parameters(mimi).values()} == {mx.float32}
    codes = mimi.encode(golden_io()["pcm"])
    assert number((codes[:, 0] == golden_io()["codes"][:, 0]).mean()) > 0.8


@pytest.mark.parametrize("count", [1, 2, 8])
def test_codebooks_not_in_use_are_left_out(tmp_path, count):
    data, io = golden_mimi(), golden_io()
    own = save(tmp_path / "mimi.safetensors", parameters(data))
    small = golden_mimi(count)
    again = Mimi(small.cfg).load_weights(own)
    assert_same_weights(small, again)
    assert mx.array_equal(again.encode(io["pcm"]), io["codes"][:, :count])


def test_more_codebooks_than_the_file_holds_are_refused(tmp_path):
    weights = tensors(RELEASED_NAMES)
    few = {k: w for k, w in weights.items() if "rvq_rest.vq.layers.6" not in k}
    path = save(tmp_path / "seven.safetensors", few)
    with pytest.raises(CheckpointError, match="holds 7 codebooks but 8 were asked for"):
        Mimi(golden_mimi().cfg).load_pytorch_weights(path)
    mimi = Mimi(golden_mimi(7).cfg).load_pytorch_weights(path)
    assert mimi.num_codebooks == 7


def test_a_missing_and_an_unknown_tensor_are_named(tmp_path):
    cfg = golden_mimi().cfg
    weights = tensors(RELEASED_NAMES)
    gone = "upsample.convtr.convtr.convtr.weight"
    fewer = {k: w for k, w in weights.items() if k != gone}
    with pytest.raises(CheckpointError, match=f"missing tensors {gone}"):
        Mimi(cfg).load_pytorch_weights(save(tmp_path / "a.safetensors", fewer))
    more = {**weights, "lm.head": mx.zeros(3)}
    path = save(tmp_path / "b.safetensors", more)
    with pytest.raises(CheckpointError, match=r"unknown tensors lm\.head"):
        Mimi(cfg).load_pytorch_weights(path)
    loose = Mimi(cfg).load_pytorch_weights(path, strict=False)
    assert_same_weights(loose, golden_mimi())
    with pytest.raises(CheckpointError, match=r"missing tensors upsample\.convtr"):
        own = {k: w for k, w in parameters(loose).items() if k != gone}
        Mimi(cfg).load_weights(list(own.items()))


def test_weights_of_another_codec_are_refused():
    with pytest.raises(CheckpointError, match=r"has shape .* but the config makes it"):
        wider = changed(transformer={"dim_feedforward": 48})
        Mimi(MimiConfig.from_config_dict(wider)).load_weights(
            list(parameters(random_mimi(TINY)).items())
        )


@pytest.mark.parametrize("name", ["gone.safetensors", "cut.safetensors", "notes.txt"])
def test_a_file_that_cannot_be_read_is_refused_in_one_sentence(tmp_path, name):
    path = tmp_path / name
    if name != "gone.safetensors":
        path.write_bytes(RELEASED_NAMES.read_bytes()[:20_000])
    with pytest.raises(CheckpointError, match=f"cannot read Mimi weights .*{name}"):
        Mimi(golden_mimi().cfg).load_pytorch_weights(path)


def test_an_array_without_names_is_refused(tmp_path):
    path = str(tmp_path / "one.npy")
    mx.save(path, mx.zeros(3))
    with pytest.raises(CheckpointError, match="expected named weights"):
        Mimi(golden_mimi().cfg).load_weights(path)
