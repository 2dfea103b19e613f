"""A conversation that begins in the middle of a sentence is finished by the model.

The prompt is what PersonaPlex gets: frames whose text and sound are known, read at
once. Here they hold half a second of silence and the first half second of an answer,
and the demo, which hears nobody, goes on. An independent ear (pocketsphinx) then hears
the whole answer, and does not in the prompt alone.
"""

from collections.abc import Sequence

import mlx.core as mx
import numpy as np

import moshi_mlx
from moshi_mlx.audio import FRAME, frames
from moshi_mlx.codec import Codec
from moshi_mlx.engines.duplex.engine import Moshi
from moshi_mlx.models import LmGen
from moshi_mlx.models.prompt import Frames, read_prompt
from tests.questions import QUESTIONS, Question
from tests.recogniser import hear
from tests.tiny import greedy

SILENT, SPOKEN = 6, 6  # frames of the prompt
LIVE = 26  # frames after it
SHORT = "where", "love", "planet"  # questions with an answer of a second
SILENCE = np.zeros(FRAME, np.float32)


def talk(
    gen: LmGen, codec: Codec, heard: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Its text ``[T]`` and its codes ``[own, T]``, and the codes that it hears."""
    texts, own, other = [], [], []
    for frame in heard:
        codes = codec.encode_step(frame[None, None])
        text, _ = gen.step(mx.array(codes[..., 0]))
        said = gen.last_audio_tokens()
        texts.append(int(np.array(text).item()))
        other.append(codes[0, :, 0])
        if said is not None:
            own.append(np.array(said)[0])
    return np.array(texts), np.stack(own, axis=1), np.stack(other, axis=1)


def prompted(moshi: Moshi, question: Question) -> tuple[str | None, str | None]:
    """What is heard in the prompt, and in the prompt and what follows it."""
    heard = [*frames(question.path), *[SILENCE] * 12]
    text, own, _ = talk(greedy(moshi.lm), moshi.make_codec(), heard)
    first = int(np.flatnonzero(~np.isin(text, [0, 3]))[0])
    here = slice(first - 1 - SILENT, first - 1 + SPOKEN)

    gen, codec = greedy(moshi.lm), moshi.make_codec()
    _, _, quiet = talk(greedy(moshi.lm), codec, [SILENCE] * 4)
    nobody = np.repeat(quiet[:, -1:], SILENT + SPOKEN, axis=1)
    known = np.concatenate([text[None, here], own[:, here], nobody])
    read_prompt(gen, Frames(known.astype(np.int32)))
    newest = gen.last_audio_tokens()
    assert newest is not None and (np.array(newest)[0] == known[1:9, -1]).all()
    _, live, _ = talk(gen, codec, [SILENCE] * LIVE)

    mouth, whole = moshi.make_codec(), np.concatenate([own[:, here], live], axis=1)
    parts = [whole[None, :, t : t + 1] for t in range(whole.shape[1])]
    pcm = np.concatenate([mouth.decode_step(part)[0, 0] for part in parts])
    return hear(pcm[: (SILENT + SPOKEN) * FRAME]), hear(pcm)


def test_the_demo_finishes_the_answer_that_its_prompt_begins():
    moshi = moshi_mlx.load("demo")
    found = {q.answer: prompted(moshi, q) for q in QUESTIONS if q.name in SHORT}
    assert len(found) == 3
    assert not any(begun == answer for answer, (begun, _) in found.items()), found
    right = [answer for answer, (_, whole) in found.items() if whole == answer]
    assert len(right) >= 2, found
