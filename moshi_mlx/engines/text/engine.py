"""TextModel: continues texts."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

from ...errors import ConfigError
from ...models.lm import Lm
from ...utils.sampling import Sampler, TokenSampler, new_seed
from ...utils.text import Tokenizer
from ..about import about
from ..base import BaseEngine
from ..owner import HERE, Owner
from .session import TextSession


class TextModel(BaseEngine):
    """A model that continues texts; it is not a chat model.

    Args:
        lm: the language model.
        tokenizer: of the same checkpoint.
        name: shown by ``repr``.
        owner: the thread that computes; by default the caller's.

    All methods may be called from any thread.

    Raises: ConfigError if the model needs sound.
    """

    def __init__(
        self,
        lm: Lm,
        tokenizer: Tokenizer,
        *,
        name: str = "a model",
        owner: Owner = HERE,
    ):
        if lm.cfg.audio_codebooks:
            raise ConfigError(
                f"{name} hears sound beside its text, so it cannot complete texts: use "
                "a text model, for example kyutai/helium-1-preview-2b-mlx."
            )
        self.lm = lm
        self.tokenizer = tokenizer
        self.name = name
        self.owner = owner
        self.about = about(lm)

    def __repr__(self) -> str:
        return f"<TextModel {self.name}: {self.about}>"

    def session(
        self,
        prompt: str,
        *,
        temp: float = 0.8,
        top_p: float = 0.95,
        top_k: int | None = None,
        seed: int | None = None,
        sampler: TokenSampler | None = None,
    ) -> TextSession:
        """Start a text with its own state, to be written piece by piece.

        Args:
            temp: temperature; 0 takes the likeliest token.
            top_p: probability mass to draw from, unless ``top_k`` is given.
            top_k: number of tokens to draw from.
            seed: of its random numbers; random by default.
            sampler: your own sampler instead of the settings above.

        Raises: ConfigError for an empty prompt.
        """
        if not prompt:
            raise ConfigError("session got an empty prompt: give the text's beginning.")
        drawn = Sampler(temp, top_p, top_k) if sampler is None else sampler
        chosen = new_seed() if seed is None else seed
        return self.owner.run(
            lambda: TextSession(
                self.lm, self.tokenizer, prompt, drawn, chosen, self.owner
            )
        )

    def complete(
        self, prompt: str, max_tokens: int = 100, **options: Any
    ) -> Iterator[str]:
        """Continue ``prompt``; yields pieces of text as they are generated.

        Stops after ``max_tokens``, or when the model ends the text. The options are
        those of ``session``.
        """
        return self.session(prompt, **options).write(max_tokens)

    async def acomplete(
        self, prompt: str, max_tokens: int = 100, **options: Any
    ) -> AsyncIterator[str]:
        """Like ``complete``, for asyncio."""
        session = await asyncio.to_thread(self.session, prompt, **options)
        async with session:
            async for piece in session.awrite(max_tokens):
                yield piece
