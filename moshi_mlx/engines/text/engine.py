"""Continue a text with a text model (Helium), piece by piece."""

from collections.abc import Iterator

import mlx.core as mx

from ...errors import ConfigError
from ...models.lm import Lm
from ...utils.sampling import RowNoise, Sampler, TokenSampler, draw, noise_size
from ...utils.text import PieceReader, Tokenizer

BOS, EOS = 1, 2
CHUNK = 256  # tokens of the prompt read at once: bounds the mask's memory


def complete(
    lm: Lm,
    tokenizer: Tokenizer,
    prompt: str,
    max_tokens: int,
    sampler: TokenSampler | None = None,
    seed: int = 0,
) -> Iterator[str]:
    """What may follow ``prompt``, as it is found; ends with the model's own end.

    The prompt is read causally, in pieces, and any number of completions may run on
    the same weights: their state is their own.

    Args:
        max_tokens: to write at most.
        sampler: ``Sampler()`` by default.
        seed: of the randomness.

    Raises: ConfigError for a model that does not read text alone.
    """
    if lm.cfg.audio_codebooks:
        raise ConfigError(
            "the model reads sound beside its text: use a text model, one like "
            "kyutai/helium-1-preview-2b-mlx."
        )
    return _complete(
        lm, tokenizer, prompt, max_tokens, sampler or Sampler(), RowNoise([seed])
    )


def _complete(
    lm: Lm,
    tokenizer: Tokenizer,
    prompt: str,
    max_tokens: int,
    sampler: TokenSampler,
    noise: RowNoise,
) -> Iterator[str]:
    network = lm.ready()
    cache = lm.transformer.make_rot_cache()
    reader = PieceReader(tokenizer, silent=())
    size = noise_size(sampler, lm.cfg.text_out_vocab_size)

    def choose(tokens: mx.array) -> mx.array:
        """The token after ``tokens [1, T]``, ``[1, 1]``; computed from here on."""
        hidden = network.hidden(tokens, None, cache)
        logits = network.text_logits(hidden[:, -1:]).astype(mx.float32)
        token = draw(sampler, logits, noise.draw(size)[:, None] if size else None)
        mx.async_eval(token)
        return token

    tokens = mx.array([[BOS, *tokenizer.encode(prompt)]])
    last = (tokens.shape[1] - 1) // CHUNK * CHUNK
    for start in range(0, last, CHUNK):
        mx.eval(network.hidden(tokens[:, start : start + CHUNK], None, cache))
    token = choose(tokens[:, last:])
    for written in range(1, max_tokens + 1):
        # Wait for a step before the next one is built: a step that is launched while
        # another still reads the keys and values would have to copy them.
        value = int(token.item())  # type: ignore[arg-type]
        if value == EOS:
            return
        if written < max_tokens:
            token = choose(token)  # computed while this piece is printed
        yield reader.read(value)
