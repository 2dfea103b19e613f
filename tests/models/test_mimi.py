"""The codec: PyTorch's codes, every one, however the signal is cut."""

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.fast import ops
from moshi_mlx.models.mimi import Mimi
from tests.tiny import assert_close, number
from tests.tiny_mimi import (
    FRAME,
    SIZE,
    TINY,
    changed,
    golden_io,
    golden_mimi,
    noise,
    random_mimi,
)


@pytest.fixture(scope="module")
def golden() -> tuple[Mimi, dict[str, mx.array]]:
    return golden_mimi(), golden_io()


def encoded(mimi: Mimi, pcm: mx.array, frames: int, state) -> mx.array:
    step = frames * mimi.frame_size
    parts = []
    for i in range(0, pcm.shape[-1], step):
        parts.append(mimi.encode_step(pcm[..., i : i + step], state))
    return mx.concatenate(parts, axis=-1)


def decoded(mimi: Mimi, codes: mx.array, frames: int, state) -> mx.array:
    parts = []
    for i in range(0, codes.shape[-1], frames):
        parts.append(mimi.decode_step(codes[..., i : i + frames], state))
    return mx.concatenate(parts, axis=-1)


def test_whole_signals_are_pytorchs(golden):
    mimi, io = golden
    assert mx.array_equal(mimi.encode(io["pcm"]), io["codes"])
    assert_close(mimi.encode_to_latent(io["pcm"]), io["latent"], 1e-4)
    assert_close(mimi.decode(io["codes"]), io["decoded"], 1e-4)
    assert_close(mimi.decode(io["codes"][:, :4]), io["decoded_half"], 1e-4)


@pytest.mark.parametrize("frames", [1, 2, 5, 25])
def test_streams_are_pytorchs_whole_file(golden, frames):
    mimi, io = golden
    state = mimi.make_state()
    codes = encoded(mimi, io["pcm"], frames, state)
    assert mx.array_equal(codes, io["codes"])
    assert_close(decoded(mimi, codes, frames, state), io["decoded"], 1e-4)
    half = decoded(mimi, codes[:, :4], frames, mimi.make_state())
    assert_close(half, io["decoded_half"], 1e-4)


def test_what_a_gpu_computes_is_pytorchs_too(golden, monkeypatch):
    io = golden[1]
    monkeypatch.setattr(ops, "on_gpu", lambda: True)  # its operations, on CPU
    mimi = golden_mimi()
    codes = encoded(mimi, io["pcm"], 1, mimi.make_state())
    assert mx.array_equal(codes, io["codes"])
    assert_close(decoded(mimi, codes, 1, mimi.make_state()), io["decoded"], 1e-4)


def test_a_batch_is_its_rows(golden):
    mimi, io = golden
    pcm = mx.concatenate([io["pcm"], io["pcm"][..., ::-1]])
    codes = mimi.encode(pcm)
    assert mx.array_equal(codes[:1], io["codes"])
    assert mx.array_equal(codes[1:], mimi.encode(pcm[1:]))
    state = mimi.make_state(2)
    assert mx.array_equal(encoded(mimi, pcm, 1, state), codes)
    sound = decoded(mimi, codes, 1, state)
    assert_close(sound[:1], io["decoded"], 1e-4)
    assert_close(sound[1:], mimi.decode(codes[1:]), 1e-4)


@pytest.mark.parametrize("num_codebooks", [1, 2, 5])
def test_fewer_codebooks_are_the_first_ones(golden, num_codebooks):
    mimi, io = golden
    wanted = io["codes"][:, :num_codebooks]
    assert mx.array_equal(mimi.encode(io["pcm"], num_codebooks), wanted)
    small = golden_mimi(num_codebooks)
    assert mx.array_equal(small.encode(io["pcm"]), wanted)
    assert_close(small.decode(wanted), mimi.decode(wanted))


def test_a_file_is_padded_with_silence_to_whole_frames(golden):
    mimi, io = golden
    pcm = io["pcm"][..., : 10 * FRAME + 100]
    padded = mx.pad(pcm, [(0, 0), (0, 0), (0, FRAME - 100)])
    assert mx.array_equal(mimi.encode(pcm), mimi.encode(padded))
    assert mimi.encode(pcm).shape == (1, 8, 11)


def test_nothing_in_gives_nothing_out(golden):
    mimi, _ = golden
    assert mimi.encode(mx.zeros((2, 1, 0))).shape == (2, 8, 0)
    assert mimi.decode(mx.zeros((2, 8, 0), mx.int32)).shape == (2, 1, 0)
    assert mimi.encode_to_latent(mx.zeros((2, 1, 0))).shape == (2, 32, 0)


def test_quantised_latents_are_those_of_the_codes(golden):
    mimi, io = golden
    quantised = mimi.decode_latent(io["codes"])
    assert quantised.shape == io["latent"].shape
    assert_close(mimi.encode_to_latent(io["pcm"], quantize=True), quantised)


def test_a_file_of_many_pieces_is_a_stream():
    mimi, pcm = random_mimi(), noise(150)
    codes = mimi.encode(pcm)
    assert mx.array_equal(codes, encoded(mimi, pcm, 1, mimi.make_state()))
    sound = mimi.decode(codes)
    assert_close(decoded(mimi, codes, 3, mimi.make_state()), sound, 1e-4)


def test_the_default_stream_starts_anew_after_a_reset(golden):
    mimi, io = golden
    pcm = io["pcm"][..., : 4 * FRAME]

    def run() -> tuple[mx.array, mx.array]:
        codes = encoded(mimi, pcm, 1, None)
        return codes, decoded(mimi, codes, 1, None)

    mimi.reset_all()
    first, sound = run()
    later, _ = run()
    assert not mx.array_equal(first, later)  # it went on
    for reset in (mimi.reset_state, mimi.reset_all):
        reset()
        again, sound_again = run()
        assert mx.array_equal(first, again)
        assert mx.array_equal(sound, sound_again)


def test_whole_signals_leave_the_default_stream_alone(golden):
    mimi, io = golden
    mimi.reset_all()
    first = mimi.encode_step(io["pcm"][..., :FRAME])
    mimi.encode(io["pcm"][..., ::-1])
    mimi.warmup()
    second = mimi.encode_step(io["pcm"][..., FRAME : 2 * FRAME])
    assert mx.array_equal(mx.concatenate([first, second], -1), io["codes"][..., :2])


def test_two_interleaved_streams_are_two_separate_ones():
    mimi = random_mimi()
    pcm = noise(20, batch=2)
    separate = [mimi.encode(pcm[i : i + 1]) for i in range(2)]
    states = [mimi.make_state(), mimi.make_state()]
    codes: list[list[mx.array]] = [[], []]
    sounds: list[list[mx.array]] = [[], []]
    for t in range(20):
        for i, state in enumerate(states):
            frame = pcm[i : i + 1, :, t * SIZE : (t + 1) * SIZE]
            codes[i].append(mimi.encode_step(frame, state))
            sounds[i].append(mimi.decode_step(codes[i][-1], state))
    for i in range(2):
        assert mx.array_equal(mx.concatenate(codes[i], -1), separate[i])
        assert_close(mx.concatenate(sounds[i], -1), mimi.decode(separate[i]), 1e-4)


def test_one_row_begins_anew_while_the_others_go_on():
    mimi = random_mimi()
    state = mimi.make_state(3)
    pcm = noise(24, batch=3)
    first = encoded(mimi, pcm[..., : 12 * SIZE], 1, state)
    sound = decoded(mimi, first, 1, state)
    state.reset([1])
    codes = encoded(mimi, pcm[..., 12 * SIZE :], 1, state)
    later = decoded(mimi, codes, 1, state)
    whole = mimi.encode(pcm)
    assert mx.array_equal(first, whole[..., :12])
    assert mx.array_equal(codes[::2], whole[::2, :, 12:])
    assert mx.array_equal(codes[1:2], mimi.encode(pcm[1:2, :, 12 * SIZE :]))
    joined = mx.concatenate([sound, later], axis=-1)
    assert_close(joined[::2], mimi.decode(whole)[::2], 1e-4)
    assert_close(later[1:2], mimi.decode(codes[1:2]), 1e-4)


def test_rows_that_stand_still_go_on_where_they_were():
    """Past the window too: what a row that waits writes is never seen."""
    mimi = random_mimi()
    state = mimi.make_state(3)
    pcm = noise(30, batch=3)
    heard: list[list[mx.array]] = [[], [], []]
    said: list[list[mx.array]] = [[], [], []]
    for call in range(60):
        active = [call % 2 == 0, call % 3 == 0, 10 <= call < 40]
        active = [on and len(heard[r]) < 20 for r, on in enumerate(active)]
        if not any(active):
            continue
        at = [min(len(done), 29) * SIZE for done in heard]
        frames = mx.stack([pcm[r, :, i : i + SIZE] for r, i in enumerate(at)])
        codes = mimi.encode_step(frames, state, active=active)
        sound = mimi.decode_step(codes, state, active=active)
        for row, on in enumerate(active):
            if on:
                heard[row].append(codes[row : row + 1])
                said[row].append(sound[row : row + 1])
    for row in range(3):
        assert len(heard[row]) == 20
        codes = mx.concatenate(heard[row], -1)
        whole = pcm[row : row + 1, :, : 20 * SIZE]
        assert mx.array_equal(codes, mimi.encode(whole))
        assert_close(mx.concatenate(said[row], -1), mimi.decode(codes), 1e-4)


def test_a_reset_state_is_a_new_one():
    mimi, pcm = random_mimi(), noise(10)
    state = mimi.make_state()
    encoded(mimi, noise(9), 1, state)
    decoded(mimi, mimi.encode(noise(5)), 1, state)
    state.reset()
    codes = encoded(mimi, pcm, 1, state)
    assert mx.array_equal(codes, mimi.encode(pcm))
    assert_close(decoded(mimi, codes, 1, state), mimi.decode(codes), 1e-4)


def test_what_is_held_stops_growing_with_the_window():
    mimi = random_mimi()
    state = mimi.make_state()
    window = TINY["transformer"]["context"] // 2  # frames: two latents each
    sizes = []
    for _ in range(4 * window):
        codes = mimi.encode_step(noise(1), state)
        mx.eval(mimi.decode_step(codes, state), state.arrays)
        sizes.append(state.nbytes)
    assert len(set(sizes[window:])) == 1 and sizes[-1] > 0


def test_an_hour_is_as_exact_and_as_small_as_a_minute():
    """45,000 frames in large steps: the latest ones sound as if they came alone."""
    mimi = random_mimi(changed(transformer={"num_layers": 1, "num_heads": 1}))
    state = mimi.make_state()
    held, sizes = [], []
    for _ in range(450):
        pcm = noise(100)
        codes = mimi.encode_step(pcm, state)
        sound = mimi.decode_step(codes, state)
        mx.eval(codes, sound, state.arrays)
        held = [*held[-1:], (pcm, codes, sound)]
        sizes.append(state.nbytes)
    assert len(set(sizes[1:])) == 1
    assert state.encoder.caches[0].self_attn.offset == 90_000
    fresh = mimi.make_state()
    encoded(mimi, held[0][0], 100, fresh)
    decoded(mimi, held[0][1], 100, fresh)
    pcm, codes, sound = held[1]
    # Nothing reaches further back than the window and the convolutions.
    same = mimi.encode_step(pcm, fresh) == codes
    assert number(same.mean()) > 0.999
    assert_close(mimi.decode_step(codes, fresh), sound, 1e-3)


def test_what_left_the_window_of_every_layer_is_forgotten():
    mimi = random_mimi()
    ends = noise(20)
    codes = [mimi.encode(mx.concatenate([noise(30), ends], axis=-1)) for _ in "ab"]
    assert mx.array_equal(codes[0][..., -8:], codes[1][..., -8:])
    assert not mx.array_equal(codes[0][..., -20:-16], codes[1][..., -20:-16])


def test_weights_replaced_in_any_way_are_heard_in_the_next_stream(golden):
    mimi, io = golden
    loud = Mimi(mimi.cfg)
    loud.update(mimi.parameters())
    for _ in range(2):  # the codec is compiled by now
        decoded(loud, io["codes"][..., :3], 1, loud.make_state())
    last = loud.decoder.final_conv1d.conv.conv
    last.weight, last.bias = 2 * last.weight, 2 * last.bias
    found = decoded(loud, io["codes"], 1, loud.make_state())
    assert_close(found, 2 * io["decoded"], 2e-4)
    assert_close(loud.decode(io["codes"]), 2 * io["decoded"], 2e-4)


def test_variants_of_the_architecture_stream_too():
    several = changed(
        seanet={"n_residual_layers": 2, "true_skip": False},
        transformer={"d_model": 16, "gating": "silu", "norm": "rms_norm"},
    )
    third = {**TINY, "frame_rate": 200 / 3}
    for data in (several, third):
        mimi = random_mimi(data)
        pcm = mx.random.normal((1, 1, 9 * mimi.frame_size))
        codes = mimi.encode(pcm)
        assert codes.shape == (1, 4, 9)
        assert mx.array_equal(encoded(mimi, pcm, 1, mimi.make_state()), codes)
        sound = decoded(mimi, codes, 1, mimi.make_state())
        assert_close(sound, mimi.decode(codes), 1e-4)


@pytest.mark.parametrize("dtype, tol", [(mx.float16, 0.01), (mx.bfloat16, 0.1)])
def test_half_precision_is_near_full(golden, dtype, tol):
    mimi, io = golden_mimi(), golden[1]
    mimi.set_dtype(dtype)
    assert mimi.dtype == dtype
    book = mimi.quantizer.rvq_first.vq.layers[0].codebook
    assert book.embedding_sum.dtype == mx.float32  # sums and counts need it
    state = mimi.make_state()
    codes = encoded(mimi, io["pcm"], 5, state)
    assert number((codes[:, 0] == io["codes"][:, 0]).mean()) > 1 - 2 * tol
    sound = decoded(mimi, io["codes"], 5, state)
    assert sound.dtype == dtype
    assert_close(sound.astype(mx.float32), io["decoded"], tol)


def test_arrays_of_numpy_do_as_well(golden):
    mimi, io = golden
    codes = mimi.encode(np.array(io["pcm"]))  # pyright: ignore[reportArgumentType]
    assert mx.array_equal(codes, io["codes"])
