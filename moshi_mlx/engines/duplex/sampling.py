"""How the tokens of a conversation are drawn."""

from dataclasses import dataclass, replace

from ...checkpoint.kinds import SamplingDefaults
from ...errors import ConfigError
from ...utils.sampling import Sampler, TokenSampler, new_seed

MAX_REPETITION_CONTEXT = 256  # text tokens that a repetition penalty can look back at


@dataclass(frozen=True)
class Sampling:
    """Sampling settings of a conversation; None leaves one to the model.

    Attributes:
        text, audio: your own samplers, instead of temperatures and top-k.
        seed: of the random numbers; random by default.
        repetition_penalty: above 1, recent words become less likely.
        repetition_context: number of text tokens that count as recent, up to
            ``MAX_REPETITION_CONTEXT``.
        audio_repetition_penalty: above 1, codes of the last 30 frames become less
            likely, each in its codebook: this leads a voice out of a loop.
        temp, top_k: of the audio; temperature 0 always takes the likeliest token.
        temp_text, top_k_text: of the text.
    """

    text: TokenSampler | None = None
    audio: TokenSampler | None = None
    seed: int | None = None
    repetition_penalty: float = 1.0
    repetition_context: int = 64
    temp: float | None = None
    top_k: int | None = None
    temp_text: float | None = None
    top_k_text: int | None = None
    audio_repetition_penalty: float = 1.0

    def filled(self, defaults: SamplingDefaults) -> "Sampling":
        """The same with a seed, samplers and all values; the model's replace None.

        Raises: ConfigError for an invalid seed.
        """
        temp, top_k = (
            _either(self.temp, defaults.temp),
            _either(self.top_k, defaults.top_k),
        )
        temp_text = _either(self.temp_text, defaults.temp_text)
        top_k_text = _either(self.top_k_text, defaults.top_k_text)
        return replace(
            self,
            text=self.text or Sampler(temp_text, top_p=0, top_k=int(top_k_text)),
            audio=self.audio or Sampler(temp, top_p=0, top_k=int(top_k)),
            seed=_checked(new_seed() if self.seed is None else self.seed),
            repetition_context=min(self.repetition_context, MAX_REPETITION_CONTEXT),
            temp=temp,
            top_k=int(top_k),
            temp_text=temp_text,
            top_k_text=int(top_k_text),
        )


def _either(wish: float | None, default: float) -> float:
    return default if wish is None else wish


def _checked(seed: int) -> int:
    if not hasattr(seed, "__index__") or not 0 <= seed < 2**64:
        raise ConfigError(f"the seed {seed!r} cannot be used: give 0 to 2**64 - 1.")
    return seed
