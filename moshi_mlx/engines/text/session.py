"""One text that a model continues, piece by piece."""

from collections.abc import AsyncIterator, Iterator

import mlx.core as mx

from ...models.lm import Lm
from ...models.prefill import CHUNK
from ...models.snapshot import Fits, Snapshot, fingerprint, kept
from ...modules.quantized_kv import QuantizedKVCache
from ...utils.sampling import RowNoise, TokenSampler, draw, noise_size
from ...utils.text import PieceReader, Tokenizer
from ..keeping import Keeping, remember, remembered
from ..owner import Owner

BOS, EOS = 1, 2
REMEMBERED = ("tokens", "ended", "_ahead", "_token")


class TextSession(Keeping):
    """A text with its own state; started by ``TextModel.session``.

    Any number may run on the same weights. The methods may be called from any thread,
    one at a time.

    Attributes:
        tokens: number of tokens written so far.
        ended: whether the model has ended the text.
        seed: of its random numbers.
    """

    def __init__(
        self,
        lm: Lm,
        tokenizer: Tokenizer,
        prompt: str,
        sampler: TokenSampler,
        seed: int,
        owner: Owner,
    ):
        self.tokens = 0
        self.ended = False
        self.seed = seed
        self._lm = lm
        self._network = lm.ready()
        self._owner = owner
        self._cache = lm.transformer.make_rot_cache()
        self._reader = PieceReader(tokenizer, silent=())
        self._sampler = sampler
        self._noise = RowNoise([seed])
        self._noise_size = noise_size(sampler, lm.cfg.text_out_vocab_size)
        self._ahead = [BOS, *tokenizer.encode(prompt)]  # not read by the model yet
        self._token: mx.array | None = None  # being computed

    def __repr__(self) -> str:
        state = "closed" if self.closed else "ended" if self.ended else "open"
        return f"<TextSession: {state}, {self.tokens} tokens written>"

    def read(self) -> bool:
        """Read at most 256 tokens of the prompt; returns whether more are left.

        ``write`` reads the rest at once, before the first piece.
        """
        self._check_open("read")
        return self._owner.run(self._read_some)

    def write(self, max_tokens: int) -> Iterator[str]:
        """Yield the next pieces of text, up to ``max_tokens``; may be called again."""
        self._check_open("write")
        return self._write(max_tokens)

    async def awrite(self, max_tokens: int) -> AsyncIterator[str]:
        """Like ``write``, for asyncio."""
        self._check_open("awrite")
        for left in range(max_tokens, 0, -1):
            piece = await self._owner.arun(lambda left=left: self._piece(left > 1))
            if piece is None:
                return
            yield piece

    @property
    def _fits(self) -> Fits:
        cache = self._cache[0].self_attn
        bits = cache.bits if isinstance(cache, QuantizedKVCache) else None
        return {"weights": fingerprint(self._lm), "kv_bits": bits}

    def _keep(self) -> Snapshot:
        state = remembered(self, REMEMBERED)
        state["cache"] = [layer.snapshot(None) for layer in self._cache]
        state["noise"] = self._noise.snapshot([0])
        state["reader"] = self._reader.state
        return Snapshot("text", self._fits, kept(state))

    def _go_on(self, snapshot: Snapshot) -> None:
        snapshot.check("text", self._fits)
        state = kept(snapshot.state)
        for layer, kept_layer in zip(self._cache, state["cache"], strict=True):
            layer.restore(kept_layer, None, 1)
        self._noise.restore(state["noise"], [0])
        self._reader.state = state["reader"]
        remember(self, {name: state[name] for name in REMEMBERED})

    def _write(self, max_tokens: int) -> Iterator[str]:
        for left in range(max_tokens, 0, -1):
            piece = self._owner.run(lambda left=left: self._piece(left > 1))
            if piece is None:
                return
            yield piece

    def _piece(self, more: bool) -> str | None:
        """The next piece; with ``more``, the one after it is computed meanwhile."""
        if self.ended or self.closed:
            return None
        token = self._read_ahead() if self._token is None else self._token
        # Wait for a step before the next one is built: a step that is launched while
        # another still reads the keys and values would have to copy them.
        value = int(token.item())  # type: ignore[arg-type]
        self.ended = value == EOS
        if self.ended:
            return None
        self.tokens += 1
        self._ahead = [] if more else [value]
        self._token = self._choose(token) if more else None
        return self._reader.read(value)

    def _read_some(self) -> bool:
        if len(self._ahead) > CHUNK:
            part, self._ahead = self._ahead[:CHUNK], self._ahead[CHUNK:]
            mx.eval(self._network.hidden(mx.array([part]), None, self._cache))
        return len(self._ahead) > CHUNK

    def _read_ahead(self) -> mx.array:
        """Read what the model has not read yet; the token after it."""
        while self._read_some():
            pass
        return self._choose(mx.array([self._ahead]))

    def _choose(self, tokens: mx.array) -> mx.array:
        """The token ``[1, 1]`` that follows ``tokens [1, T]``; starts to compute
        now."""
        network, size = self._network, self._noise_size
        hidden = network.hidden(tokens, None, self._cache)
        logits = network.text_logits(hidden[:, -1:]).astype(mx.float32)
        noise = self._noise.draw(size)[:, None] if size else None
        token = draw(self._sampler, logits, noise)
        mx.async_eval(token)
        return token

    def _computed_by(self) -> Owner:
        return self._owner

    def _drop(self) -> None:
        self._token = None
        del self._cache
