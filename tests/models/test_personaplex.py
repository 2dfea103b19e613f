"""Every token of NVIDIA's PersonaPlex, on a small random model, call for call.

Its call c is our call c - 1: its first call runs no network. Columns that nobody could
tell from the outside are compared, too.
"""

from functools import cache
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.checkpoint.build import load_lm
from moshi_mlx.checkpoint.info import CheckpointInfo
from moshi_mlx.models import Lm, LmGen
from moshi_mlx.models.given import NONE
from moshi_mlx.models.prompt import Frames, joined, read_prompt
from tests.tiny import DATA, assert_close, greedy

FOLDER = DATA / "personaplex"
CASES = ("voice_text", "text_only", "voice_only")
EMBEDDED = "voice_bf16_text"  # its voice is given as embeddings, not as tokens
BOTH = "text_free"  # in which the model speaks for both sides
PAD, OWN, LIVE = 3, 8, 40
pytestmark = pytest.mark.usefixtures("uncompiled")


@cache
def model() -> Lm:
    return load_lm(CheckpointInfo.find(FOLDER), dtype=mx.float32)


@cache
def data() -> dict[str, np.ndarray]:
    loaded: Any = mx.load(str(FOLDER / "io.safetensors"))
    return {name: np.array(array) for name, array in loaded.items()}


def case(name: str) -> dict[str, np.ndarray]:
    found = {k.split(".")[1]: v for k, v in data().items() if k.startswith(f"{name}.")}
    assert set(found) >= {"input", "target", "provided", "sampled", "output"}
    return found


def spread(codes: np.ndarray, count: int) -> np.ndarray:
    return np.repeat(codes[:, None], count, axis=1)


def frames(text: list[int], own: np.ndarray) -> Frames:
    """Frames whose other side hears the tone of a prompt."""
    theirs = spread(data()["sine_codes"], len(text))
    return Frames(np.concatenate([[text], own, theirs]).astype(np.int32))


def silence(text: list[int]) -> Frames:
    return frames(text, spread(data()["silence_codes"], len(text)))


def voice(name: str) -> Frames:
    codes = data()["voice_codes"][0]
    if name == EMBEDDED:
        loaded: Any = mx.load(str(FOLDER / "voice.safetensors"))
        embedded = loaded["embeddings"][:, 0, 0].astype(mx.bfloat16)
        tokens = np.full((17, 9), NONE, np.int32)
        tokens[0] = PAD
        for column in (7, 8):  # the last two: what is still pending
            tokens[1:9, column] = codes[:, column]
            tokens[9:, column] = data()["sine_codes"]
        return Frames(tokens, embedded)
    return frames([PAD] * codes.shape[1], codes)


def prompt(name: str) -> Frames:
    parts = [] if name.startswith("text") else [voice(name)]
    parts.append(silence([PAD] * 6))
    if name != "voice_only":
        parts.append(silence(data()["text_prompt"].tolist()))
    parts.append(silence([PAD] * 6))
    return joined(parts)


def live(name: str) -> tuple[LmGen, list[list[int]]]:
    """A conversation after its prompt, and each live frame that it completes."""
    gen, said = greedy(model()), []
    read_prompt(gen, prompt(name))
    texts = [column(gen, 0)]
    for t in range(LIVE):
        text, _ = gen.step(mx.array(data()["user_codes"][:, :, t]))
        audio = gen.last_audio_tokens()
        assert audio is not None
        texts.append(int(np.array(text).item()))
        said.append([texts[t], *np.array(audio)[0].tolist()])
    return gen, said


def column(gen: LmGen, stream: int) -> int:
    """The newest token of a stream."""
    tokens = gen.streams.tokens
    here = tokens[0, stream, gen.streams.offsets[0] % tokens.shape[2]]
    return int(np.array(here))


@pytest.mark.parametrize("name", [*CASES, EMBEDDED])
def test_every_live_frame_after_a_prompt_is_nvidia_s(name: str):
    """A frame of NVIDIA's comes one call later: it hears the user one call later."""
    first = case(name)["prompt_calls"].item()
    wanted = case(name)["output"][first + 1 :, : 1 + OWN].tolist()
    gen, said = live(name)
    assert said[:-1] == wanted
    assert gen.streams.offsets[0] > gen.model.cfg.transformer.context, "past the window"


@pytest.mark.parametrize("name", [*CASES, BOTH])
def test_every_call_of_a_prompt_and_after_it_reads_what_nvidia_s_reads(name: str):
    """With both sides generated, in steps: inputs, logits, and what is returned."""
    g, gen = case(name), greedy(model(), both_sides=True)
    logits: list[mx.array] = []
    gen.on_text_logits_hook = lambda x: logits.append(mx.array(x))
    for call in range(1, len(g["input"])):
        given = np.where(g["provided"][call], g["target"][call], -2)
        force_column(gen, given)
        if call > 2:
            read = gen.streams.tokens[0, :, (call - 1) % 3]
            assert np.array(read).tolist() == g["input"][call].tolist()
        text, _ = gen.step(mx.zeros((1, 0), mx.int32))
        audio = gen.last_audio_tokens()
        assert (audio is None) == (g["output"][call] == -2).all()
        if audio is not None:
            assert np.array(audio)[0].tolist() == g["output"][call, 1:].tolist()
        if not g["provided"][call, 0]:
            assert text.item() == g["sampled"][call, 0]
            wanted = mx.array(g["text_logits"][call])[None, None]
            assert_close(logits[-1], wanted, 1e-4)


def force_column(gen: LmGen, given: np.ndarray) -> None:
    """Give the tokens of the next column, of which some are delayed."""
    gen.streams.given.clear(0)
    gen.streams.given._queues[0] = given[:, None].astype(np.int32)


@pytest.mark.parametrize("name", [*CASES, BOTH])
def test_all_sixteen_depth_steps_choose_what_nvidia_s_choose(name: str):
    """Also where the token was given: teacher forcing over what each call was told."""
    g, lm = case(name), model()
    read = mx.array(g["input"][1:].T[None])
    hidden = lm.hidden(read[:, 0], read[:, 1:], lm.transformer.make_rot_cache())
    logits = lm.depformer.teacher_forced(hidden[:, :-1], read[:, :-1, 1:])
    chosen = mx.argmax(logits, axis=-1)[0].T
    # the user's codes of call 1 and 2 arrive late: initial tokens stand in their place
    assert np.array(chosen)[1:].tolist() == g["sampled"][2:-1, 1:].tolist()
    text = mx.argmax(lm.text_logits(hidden), axis=-1)[0]
    assert np.array(text).tolist() == g["sampled"][1:, 0].tolist()
    assert_close(lm.text_logits(hidden)[0], mx.array(g["text_logits"][1:]), 1e-4)


@pytest.mark.parametrize("name", ["voice_text", "text_only"])
def test_a_prompt_read_at_once_is_as_one_that_is_stepped(name: str):
    gens, whole = [greedy(model()) for _ in range(2)], prompt(name)
    read_prompt(gens[0], whole)
    gens[1].force(whole.tokens[:1, 1:], whole.tokens[None, 1:9, 1:])
    for t in range(len(whole)):
        gens[1].step(mx.array(whole.tokens[None, 9:, t]))
    assert mx.array_equal(gens[0].streams.tokens, gens[1].streams.tokens)
    for one, two in zip(gens[0].cache, gens[1].cache, strict=True):
        assert one.self_attn.offset == two.self_attn.offset


def test_embeddings_are_refused_for_calls_that_were_not_forced():
    gen = greedy(model())
    with pytest.raises(ValueError, match="2 embeddings for calls that were not forced"):
        gen.prefill(np.zeros((1, 8, 3)), embedded=mx.zeros((1, 2, 48)))


def test_the_config_of_two_keys_is_moshi_s_that_foresees_the_user(tmp_path):
    cfg = model().cfg
    assert (cfg.generated_codebooks, cfg.foreseen_codebooks) == (8, 8)
    assert (cfg.other_codebooks, cfg.depformer.num_slices) == (8, 16)
    (tmp_path / "config.json").write_text('{"model_type": "personaplex"}')
    info = CheckpointInfo.find(tmp_path)
    assert info.kind.converses and info.config["dim"] == 4096
    assert info.config["dep_q"] == 16 and info.num_codebooks == 8


def test_weights_of_sixteen_depth_steps_without_a_config_are_personaplex(tmp_path):
    (tmp_path / "model.safetensors").symlink_to(FOLDER / "model.safetensors")
    assert CheckpointInfo.find(tmp_path).kind.name == "personaplex"
    (tmp_path / "model.safetensors").unlink()
    lm = DATA / "lm_duplex" / "model.safetensors"
    (tmp_path / "model.safetensors").symlink_to(lm)
    assert CheckpointInfo.find(tmp_path).kind.name == "moshi"
