"""A sampler of your own: anything with two methods draws a model's tokens.

This one is "typical" sampling (arXiv:2202.00666): it keeps the tokens whose surprise is
closest to what the model expects on average, until they hold `mass` of the probability.

python examples/own_sampler.py [QUESTION.wav]
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx

import moshi_mlx

SHIPPED = Path(moshi_mlx.__file__).parent / "demo" / "questions" / "joke.wav"


@dataclass
class Typical:
    """Draws from the most typical tokens that together hold ``mass``."""

    mass: float = 0.9
    temp: float = 0.7

    def noise_size(self, vocab: int) -> int:
        return vocab  # a Gumbel value for each token, from the row's own generator

    def __call__(
        self, logits: mx.array, noise: mx.array | None = None
    ) -> tuple[mx.array, mx.array]:
        logprobs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
        scaled = logprobs / self.temp
        probs = mx.softmax(scaled, axis=-1)
        surprise = mx.logsumexp(scaled, axis=-1, keepdims=True) - scaled
        expected = (probs * surprise).sum(axis=-1, keepdims=True)
        order = mx.argsort(mx.abs(surprise - expected), axis=-1)
        held = mx.cumsum(mx.take_along_axis(probs, order, axis=-1), axis=-1)
        kept = held - mx.take_along_axis(probs, order, axis=-1) < self.mass
        allowed = mx.put_along_axis(mx.zeros_like(kept), order, kept, axis=-1)
        scaled = mx.where(allowed, scaled, -mx.inf)
        if noise is not None:  # the largest logit + Gumbel noise is a draw
            scaled = scaled + noise
        return mx.argmax(scaled, axis=-1).astype(mx.int32), logprobs


def main(question: str | Path) -> None:
    moshi = moshi_mlx.load("demo")
    session = moshi.session(0, text_sampler=Typical())
    for frame in moshi_mlx.audio.frames(question):
        print(session.step(frame).text, end="", flush=True)
    for reply in session.flush():
        print(reply.text, end="", flush=True)
    print()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else SHIPPED)
