"""A loaded model with its codec and tokenizer, and the conversations it holds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from ...checkpoint.build import load_lm, load_mimi, load_tokenizer
from ...checkpoint.info import CheckpointInfo
from ...codec import Codec, make_codec
from ...errors import ConfigError
from ...models.generate import LmGen
from ...models.lm import Lm
from ...modules.conditioner import ConditionTensor
from ...utils.sampling import Sampler, new_seed
from ...utils.text import PieceReader, Tokenizer
from ...utils.trace import Trace
from .session import DuplexSession

# sampling where a checkpoint says nothing: PyTorch moshi's
DEFAULTS = {"temp": 0.8, "top_k": 250, "temp_text": 0.7, "top_k_text": 25}
GUIDED, GUIDED_AGAINST = "very_good", "very_bad"  # Hibiki's description


class Moshi:
    """Weights that any number of conversations share; make it with ``load``.

    Args:
        info: where the files came from, and their settings.
        lm: the language model.
        tokenizer: of its text.
        codec: makes a codec with fresh state.
    """

    def __init__(
        self,
        info: CheckpointInfo,
        lm: Lm,
        tokenizer: Tokenizer,
        codec: Callable[[], Codec],
    ):
        self.info = info
        self.lm = lm
        self.tokenizer = tokenizer
        self.make_codec = codec

    @property
    def name(self) -> str:
        return self.info.name

    def sampling(self, **given: float | None) -> dict[str, Any]:
        """temp, top_k, temp_text, top_k_text: as given, else the model's own."""
        own = self.info.lm_gen_config
        return {
            name: given[name] if given.get(name) is not None else own.get(name, default)
            for name, default in DEFAULTS.items()
        }

    def reader(self) -> PieceReader:
        """A new reader of this model's text tokens."""
        cfg = self.lm.cfg
        silent = cfg.text_padding_token, cfg.text_end_padding_token
        return PieceReader(self.tokenizer, silent)

    def conditions(self, cfg_coef: float) -> ConditionTensor | None:
        """What Hibiki is told: speak well; under guidance also what to avoid."""
        provider = self.lm.condition_provider
        if provider is None or "description" not in provider.conditioners:
            return None
        good = provider.condition_tensor("description", GUIDED)
        if cfg_coef == 1.0:
            return good
        bad = provider.condition_tensor("description", GUIDED_AGAINST)
        return ConditionTensor(mx.concatenate([good.tensor, bad.tensor]))

    def session(
        self,
        seed: int | None = None,
        *,
        temp: float | None = None,
        top_k: int | None = None,
        temp_text: float | None = None,
        top_k_text: int | None = None,
        repetition_penalty: float = 1.0,
        cfg_coef: float | None = None,
        first: str = "twice",
        trace: Trace | None = None,
    ) -> DuplexSession:
        """A new conversation.

        Args:
            seed: of its random draws; without one every conversation differs.
            temp, top_k: of the audio; 0 takes the likeliest. Default: the model's.
            temp_text, top_k_text: of the text.
            repetition_penalty: above 1 repeats words less.
            cfg_coef: guidance (Hibiki); 1 is none.
            first: see ``DuplexSession``.

        Raises: ConfigError for a model that holds no conversation.
        """
        if self.lm.cfg.transformer.cross_attention or not self.lm.cfg.other_codebooks:
            raise ConfigError(
                f"{self.name} is a {self.info.model_type} model and does not listen: "
                "use moshi-mlx speak or complete."
            )
        if cfg_coef is None:
            cfg_coef = float(self.info.lm_gen_config.get("cfg_coef", 1.0))
        s = self.sampling(
            temp=temp, top_k=top_k, temp_text=temp_text, top_k_text=top_k_text
        )
        gen = LmGen(
            self.lm,
            text_sampler=Sampler(s["temp_text"], top_p=0, top_k=s["top_k_text"]),
            audio_sampler=Sampler(s["temp"], top_p=0, top_k=s["top_k"]),
            cfg_coef=cfg_coef,
            seed=new_seed() if seed is None else seed,
            repetition_penalty=repetition_penalty,
            reserve=True,
        )
        return DuplexSession(
            gen,
            self.make_codec(),
            self.reader(),
            self.conditions(cfg_coef),
            first=first,
            trace=trace,
        )

    def warmup(self) -> None:
        """Run a few frames and forget them, so that the first is as fast as any."""
        session = self.session(seed=0)
        for _ in range(self.lm.cfg.max_delay + 2):
            session.step(np.zeros(session.frame_size, np.float32))


def load(
    name: str | Path = "demo",
    *,
    codec: str = "native",
    quantize: int | None = None,
    revision: str | None = None,
    kv_bits: int | None = None,
    info: CheckpointInfo | None = None,
) -> Moshi:
    """Load a model to talk with.

    Args:
        name: "demo", a folder, or a repository of the hub ("kyutai/moshiko-mlx-q4").
        codec: "native" (MLX) or "rust" (rustymimi, on the CPU).
        quantize: bits to quantise an unquantised model to while loading.
        revision: branch, tag or commit of the repository.
        kv_bits: 8 (or 4) keeps the conversations' keys and values in so many bits.
        info: a checkpoint that was found already, instead of ``name``.

    Raises: CheckpointError or ConfigError, in one sentence, for whatever is wrong with
        the name or the files.
    """
    if info is None:
        info = CheckpointInfo.find(
            name, revision=revision, bits=quantize, kv_bits=kv_bits
        )
    tokenizer = load_tokenizer(info)
    lm = load_lm(info, bits=quantize)
    codebooks = info.num_codebooks
    if codec == "native":
        mimi = load_mimi(info, codebooks)
        return Moshi(info, lm, tokenizer, lambda: make_codec("native", mimi=mimi))
    path = info.mimi_weights
    return Moshi(
        info,
        lm,
        tokenizer,
        lambda: make_codec(codec, weights=path, num_codebooks=codebooks),
    )
