"""A loaded Moshi or Hibiki, with its codec and tokenizer."""

import asyncio
import threading
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx

from ...audio.framing import SAMPLE_RATE
from ...checkpoint.info import CheckpointInfo
from ...checkpoint.kinds import PERSONA_REPO, ModelKind, SamplingDefaults
from ...codec import Codec
from ...documents.transcript import LAYOUT, Layout
from ...errors import ConfigError
from ...models.generate import LmGen
from ...models.image import ImageEncoder
from ...models.lm import Lm
from ...modules.conditioner import ConditionTensor
from ...utils.images import ImageLike
from ...utils.sampling import TokenSampler
from ...utils.text import PieceReader, Tokenizer
from ...utils.trace import Trace
from ..about import about
from ..base import BaseEngine
from ..owner import HERE, Owner
from ..thread import ModelThread
from .batch import Batch
from .files import Heard, heard_frames, respond
from .greeting import greeting_tokens
from .persona import Persona, PersonaPrompts, Start, greet
from .reply import Reply
from .response import Exchange, Response
from .sampling import Sampling
from .seeing import Seeing
from .session import DuplexSession, First


class Moshi(Seeing):
    """Weights that any number of conversations share; made by ``moshi_mlx.load``.

    Args:
        info: the checkpoint: its files and settings.
        lm: the language model.
        tokenizer: of its text.
        codec: returns a codec with fresh state.
        owner: the thread that computes; by default the caller's.
        image_encoder: for a model that sees images.
        adapters: names of the adapters that its conversations may choose from.
    """

    weights = (*BaseEngine.weights, "image_encoder")
    _sleep: Callable[[], None] | None = None  # stops what ``stay_awake`` started

    def __init__(
        self,
        info: CheckpointInfo,
        lm: Lm,
        tokenizer: Tokenizer,
        codec: Callable[[], Codec],
        owner: Owner = HERE,
        image_encoder: ImageEncoder | None = None,
        adapters: Sequence[str] = (),
    ):
        self.info = info
        self.lm = lm
        self.tokenizer = tokenizer
        self.make_codec = codec
        self.owner = owner
        self.image_encoder = image_encoder
        self.adapters = tuple(adapters)
        self.name = info.name
        self.kind: ModelKind = info.kind
        self.about = about(lm)
        self.prompts = PersonaPrompts(self)

    def __repr__(self) -> str:
        state = ", closed" if self.closed else ""
        return f"<Moshi {self.name} ({self.kind.name}): {self.about}{state}>"

    @property
    def sampling(self) -> SamplingDefaults:
        """How tokens are drawn by default."""
        return self.kind.sampling

    def reader(self) -> PieceReader:
        """A new reader of this model's text tokens."""
        cfg = self.lm.cfg
        silent = cfg.text_padding_token, cfg.text_end_padding_token
        return PieceReader(self.tokenizer, silent)

    def start(
        self,
        persona: str | None = None,
        voice: str | Path | None = None,
        say_first: str | None = None,
    ) -> Start | None:
        """Prepare what comes before a conversation; None if there is nothing.

        Args:
            persona, voice, say_first: see ``session``.

        Raises: ConfigError if the model takes no persona, or for too many words;
            CheckpointError or AudioError for an invalid voice.
        """
        if say_first:
            self.kind.check("converses", self.name)
        greeting = greeting_tokens(self.tokenizer, self.lm.cfg, say_first or "")
        if self.kind.takes_persona:
            return self.prompts.start(Persona(persona or "", voice), greeting)
        if persona is not None or voice is not None:
            raise ConfigError(
                f"{self.name} is a {self.kind.name} model and takes no persona or "
                f"voice: use one like {PERSONA_REPO}."
            )
        return (lambda gen, row, _: greet(gen, row, greeting)) if greeting else None

    def conditions(self, cfg_coef: float) -> ConditionTensor | None:
        """Hibiki's conditions: good speech; with guidance, also the one to avoid."""
        provider = self.lm.condition_provider
        if provider is None or self.kind.conditions is None:
            return None
        good, bad = (
            provider.condition_tensor("description", value)
            for value in self.kind.conditions
        )
        if cfg_coef == 1.0:
            return good
        return ConditionTensor(mx.concatenate([good.tensor, bad.tensor]))

    def session(
        self,
        seed: int | None = None,
        *,
        temp: float | None = None,
        top_k: int | None = None,
        temp_text: float | None = None,
        top_k_text: int | None = None,
        text_sampler: TokenSampler | None = None,
        audio_sampler: TokenSampler | None = None,
        repetition_penalty: float = 1.0,
        repetition_context: int = 64,
        audio_repetition_penalty: float = 1.0,
        cfg_coef: float | None = None,
        first: First = "twice",
        trace: Trace | None = None,
        image: ImageLike | None = None,
        persona: str | None = None,
        voice: str | Path | None = None,
        say_first: str | None = None,
        start: Start | None = None,
        adapter: str | None = None,
    ) -> DuplexSession:
        """Start a conversation; may be called from any thread.

        Args:
            seed: of its random numbers; random by default.
            temp, top_k: sampling of the audio; temperature 0 takes the likeliest code.
                Default: the model's.
            temp_text, top_k_text: sampling of the text.
            text_sampler, audio_sampler: your own samplers instead.
            repetition_penalty: above 1, recent words become less likely.
            repetition_context: number of text tokens that count as recent.
            audio_repetition_penalty: above 1, sounds of the last 30 frames become less
                likely.
            cfg_coef: guidance strength (Hibiki); 1 turns it off.
            first: see ``DuplexSession``.
            trace: records the time of each stage.
            image: what the model sees (MoshiVis), see ``encode_image``; for an image
                that is encoded already, use ``DuplexSession.show``.
            persona: who the model is to be, in words (PersonaPlex).
            voice: the voice to speak with: a name from ``moshi-mlx voices``, a
                recording of 10 to 30 seconds, or a voice file (.pt, .safetensors).
            say_first: words that the model says before anything else.
            start: the result of ``start``, instead of these three.
            adapter: the name of an adapter that the model was loaded with; None for
                none.

        Raises: ConfigError if the model does not listen, sees no images or takes no
            persona; ImageError if it is not an image; CheckpointError or AudioError
            for an invalid voice; ValueError for an invalid seed.
        """
        self._check_open("moshi.session")
        shown = None if image is None else self.encode_image(image)
        sampling = Sampling(
            *(text_sampler, audio_sampler, seed),
            *(repetition_penalty, repetition_context),
            *(temp, top_k, temp_text, top_k_text),
            audio_repetition_penalty=audio_repetition_penalty,
        )
        start = start or self.start(persona, voice, say_first)
        batch = Batch(self, 1, cfg_coef, trace=trace)
        session = batch.only(sampling, first, start, adapter)
        if shown is not None:
            session.show(shown)
        return session

    async def asession(self, seed: int | None = None, **options: Any) -> DuplexSession:
        """Like ``session``, for asyncio."""
        return await asyncio.to_thread(self.session, seed, **options)

    def batch(self, rows: int, cfg_coef: float | None = None) -> Batch:
        """Up to ``rows`` conversations that share the model's steps."""
        self._check_open("moshi.batch")
        return Batch(self, rows, cfg_coef)

    def translate(
        self, sound: Heard, out: str | Path | None = None, **options: Any
    ) -> Response:
        """Like ``respond``, for a model that translates.

        Raises: ConfigError if the model does not translate.
        """
        self.kind.check("translates", self.name)
        return self.respond(sound, out, **options)

    def responding(
        self,
        sound: Heard,
        *,
        sample_rate: int = SAMPLE_RATE,
        tail_s: float = 10.0,
        keep_sound: bool = True,
        **options: Any,
    ) -> Response:
        """Answer a recording frame by frame, while you iterate over the result.

        Args:
            sound: a file, its bytes, float32 or int16 ``[S]``, or frames ``[1920]``.
            sample_rate: of an array, in Hz.
            tail_s: longest silence to add after the recording, in seconds.
            keep_sound: keep both sides in memory, for ``pcm``, ``save`` and ``report``.
            options: those of ``session``.

        Raises: AudioError if the input is not sound.
        """
        frames = heard_frames(sound, sample_rate, "moshi.respond")
        session = self.session(**{"trace": Trace(apart=True), **options})
        session.live = False
        exchanges = respond(session, frames, self, tail_s)
        return Response(session, exchanges, self.name, keep_sound)

    def respond(
        self,
        sound: Heard,
        out: str | Path | None = None,
        *,
        recording: str | Path | None = None,
        report: str | Path | None = None,
        words: str | Path | None = None,
        layout: Layout = LAYOUT,
        on_progress: Callable[[float], None] = lambda _: None,
        on_reply: Callable[[Reply], None] = lambda _: None,
        **options: Any,
    ) -> Response:
        """The whole answer to a recording: Moshi answers, Hibiki translates.

        ``moshi-mlx respond`` and ``moshi-mlx translate`` as a function.

        Args:
            out, recording, report, words, layout: files to write while the answer
                grows, see ``Response.write``.
            on_progress: called with the seconds of sound done.
            on_reply: called with each frame's reply.
            options: those of ``responding``.
        """
        response = self.responding(sound, **options)

        def notice(exchange: Exchange) -> None:
            on_progress(response.seconds)
            on_reply(exchange.reply)

        try:
            response.write(
                out,
                recording=recording,
                report=report,
                words=words,
                layout=layout,
                source=sound if isinstance(sound, str | Path) else None,
                on_exchange=notice,
            )
        finally:
            response.session.close()
        return response

    async def arespond(
        self,
        sound: Heard,
        out: str | Path | None = None,
        *,
        on_reply: Callable[[Reply], None] = lambda _: None,
        **options: Any,
    ) -> Response:
        """Like ``respond``, for asyncio; callbacks come from another thread.

        If it is cancelled, the work ends with the frame.
        """
        unwanted = threading.Event()

        def note(reply: Reply) -> None:
            if unwanted.is_set():
                raise asyncio.CancelledError
            on_reply(reply)

        try:
            return await asyncio.to_thread(
                self.respond, sound, out, on_reply=note, **options
            )
        finally:
            unwanted.set()

    def warmup(self) -> None:
        """Run a few frames and discard them, so that the first real one is not slow."""
        self._check_open("moshi.warmup")
        with Batch(self, 1) as batch:
            batch.warmup()

    def scratch_frame(self) -> None:
        """Compute a step and discard it; no state changes."""
        exposed, other = self.lm.transformer_cache, self.lm.cfg.other_codebooks
        gen = LmGen(self.lm, seed=0)
        text, _ = gen.step(mx.zeros((1, other), mx.int32), self.conditions(1.0))
        mx.eval(text, gen.tokens)
        self.lm.expose_cache(exposed)

    def stay_awake(self, after_s: float) -> None:
        """Compute scratch frames while a conversation is open but no frames come.

        Args:
            after_s: seconds without a frame before each of them.
        """
        me = weakref.WeakMethod(self.scratch_frame)

        def work() -> None:
            if (scratch_frame := me()) is not None:
                scratch_frame()

        if isinstance(self.owner, ModelThread) and self._sleep is None:
            self._sleep = self.owner.when_idle(work, after_s)
            weakref.finalize(self, self._sleep).atexit = False

    def _drop(self) -> None:
        if self._sleep is not None:
            self._sleep()
        self.prompts.forget()
        super()._drop()
