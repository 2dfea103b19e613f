"""The main job on real speech: a spoken question in, Moshi's spoken answer out.

``tests/data/demo`` is nano Moshi 1, as trained in PyTorch; ``tests/data/questions``
holds what PyTorch answers with it, greedily, in float32. What ships is nano Moshi 2.
"""

from itertools import islice
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

import moshi_mlx
from moshi_mlx.audio import files, frames
from moshi_mlx.engines.duplex.engine import Moshi
from moshi_mlx.engines.duplex.files import respond
from moshi_mlx.models import LmGen
from moshi_mlx.utils import Sampler
from tests.questions import GOLDEN, PYTORCH, QUESTIONS, Question
from tests.recogniser import hear


def names(question: Question) -> str:
    return question.name


@pytest.fixture(scope="module")
def exact() -> Moshi:
    return moshi_mlx.load(PYTORCH)


@pytest.fixture(scope="module")
def shipped() -> Moshi:
    return moshi_mlx.load("demo")


def tokens_of(moshi: Moshi, codes: mx.array) -> tuple[np.ndarray, np.ndarray]:
    """Greedy text ``[T]`` and completed own codes ``[own, T - 1]`` for user codes."""
    greedy = Sampler(temp=0)
    gen = LmGen(moshi.lm, text_sampler=greedy, audio_sampler=greedy)
    text, audio = [], []
    for t in range(codes.shape[2]):
        token, _ = gen.step(codes[:, :, t])
        text.append(token.item())
        done = gen.last_audio_tokens()
        if done is not None:
            audio.append(np.array(done[0]))
    return np.array(text), np.stack(audio, axis=1)


@pytest.mark.parametrize("question", GOLDEN, ids=names)
def test_every_token_and_code_is_pytorchs(exact, question):
    golden = question.tokens
    text, audio = tokens_of(exact, golden["user_codes"])
    np.testing.assert_array_equal(text, np.array(golden["text_tokens"])[0])
    np.testing.assert_array_equal(audio, np.array(golden["output"])[0, 1:])

    mimi = exact.make_codec()
    heard = np.concatenate(
        [mimi.encode_step(f[None, None]) for f in frames(question.path)], axis=2
    )
    expected = np.array(golden["user_codes"])
    np.testing.assert_array_equal(heard[:, :, : expected.shape[2]], expected)


@pytest.mark.parametrize("question", QUESTIONS, ids=names)
def test_the_shipped_model_says_the_answer_and_one_can_hear_it(shipped, question):
    session = shipped.session(seed=0, temp=0, temp_text=0)
    answer = list(respond(session, frames(question.path), shipped))
    assert "".join(e.reply.text for e in answer).strip() == question.answer
    spoken = [e.reply.pcm for e in answer if e.reply.pcm is not None]
    assert hear(np.concatenate(spoken)) == question.answer


def test_a_seed_fixes_a_conversation_and_two_do_not_touch(shipped):
    first, second = QUESTIONS[0], QUESTIONS[3]

    def heard(question: Question) -> list[np.ndarray]:
        return list(islice(frames(question.path), 10, 35))  # the question itself

    def alone(question: Question, seed: int) -> list[int]:
        session = shipped.session(seed)
        return [session.step(frame).text_token for frame in heard(question)]

    a, b = shipped.session(1), shipped.session(2)
    together: tuple[list[int], list[int]] = [], []
    for pair in zip(heard(first), heard(second), strict=True):
        for session, frame, said in zip((a, b), pair, together, strict=True):
            said.append(session.step(frame).text_token)
    assert together == (alone(first, 1), alone(second, 2))


def test_the_shipped_files_are_small(shipped):
    folder = Path(moshi_mlx.__file__).parent / "demo"
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    assert size < 32e6  # 28 MB in the wheel, which compresses them
    assert shipped.lm.n_q == 16
    assert files.read(folder / "questions" / "joke.wav").shape[0] == 1
