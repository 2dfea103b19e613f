"""The kinds of models and their abilities: decided here, nowhere else.

Everything follows from config.json; no weights are read. An engine, a command or a
model card that needs to know asks ``CheckpointInfo.kind``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..errors import ConfigError
from ..models.schema import without_nulls
from . import helium, personaplex

EngineName = Literal["duplex", "stt", "tts", "text", "codec"]
Ability = Literal[
    "listens", "converses", "translates", "transcribes", "speaks", "writes", "sees"
]

# Models that the commands take when none is named.
DEFAULT_TRANSLATION_REPO = "kyutai/hibiki-1b-mlx-bf16"
DEFAULT_STT_REPO = "kyutai/stt-1b-en_fr-candle"  # it also scores pauses
DEFAULT_TTS_REPO = "kyutai/tts-1.6b-en_fr"
PERSONA_REPO = "nvidia/personaplex-7b-v1"
DEFAULT_TEXT_REPO = "kyutai/helium-1-preview-2b-mlx"
DEFAULT_IMAGE_REPO = "kyutai/moshika-vis-mlx"

HIBIKI_TAIL_S = 60.0  # a translation that has not ended by then never will
SEEING = {"temp": 0.7, "temp_text": 0.45}  # MoshiVis, in Kyutai's client and MLX code
DESCRIPTIONS = "very_good", "very_bad"  # of Hibiki's training data

# For each ability, the words for a model that lacks it, and what to do instead.
LACKING: dict[str, tuple[str, str]] = {
    "listens": (
        "does not listen",
        "use moshi-mlx speak or complete, or a model like kyutai/moshiko-mlx-q4",
    ),
    "converses": ("holds no conversation", "use one like kyutai/moshiko-mlx-q4"),
    "translates": ("does not translate", f"use one like {DEFAULT_TRANSLATION_REPO}"),
    "transcribes": ("does not transcribe speech", f"use one like {DEFAULT_STT_REPO}"),
    "speaks": ("does not speak", f"use one like {DEFAULT_TTS_REPO}"),
    "writes": ("does not continue texts", f"use a text model like {DEFAULT_TEXT_REPO}"),
    "sees": ("sees no images", f"use one like {DEFAULT_IMAGE_REPO}"),
}
TASKS = {  # pipeline_tag of the hub
    "stt": "automatic-speech-recognition",
    "tts": "text-to-speech",
    "text": "text-generation",
    "duplex": "audio-to-audio",
    "codec": "audio-to-audio",
}
COMMANDS = {  # the command to try a model with
    "stt": "transcribe question.wav",
    "tts": "speak 'Hello.'",
    "text": "complete 'Once upon a time'",
    "duplex": "respond question.wav reply.wav",
    "codec": "codec encode question.wav",
}


@dataclass(frozen=True)
class SamplingDefaults:
    """How tokens are drawn by default.

    The values are PyTorch moshi's; a checkpoint's ``lm_gen_config`` overrides them.

    Attributes:
        temp, top_k: of the audio.
        temp_text, top_k_text: of the text.
        cfg_coef: guidance; 1 turns it off.
    """

    temp: float = 0.8
    top_k: int = 250
    temp_text: float = 0.7
    top_k_text: int = 25
    cfg_coef: float = 1.0


@dataclass(frozen=True)
class EndRule:
    """How an answer to a recording starts and ends.

    Attributes:
        rule: "quiet": silence follows the recording until the model says nothing more.
            "own": the model gets the sign for the end of the input and says itself when
            it has finished. "delay": silence follows for ``tail_s``.
        before_s: silence that the model hears before the recording, in seconds.
        tail_s: the longest time to wait, in seconds. ``None`` leaves it to the caller.
        silent_start: for Hibiki-Zero: it starts with ``max_delay`` frames of silence,
            also hears silence at the end of the input, and its last frame is dropped.
    """

    rule: Literal["quiet", "own", "delay"] = "quiet"
    before_s: float = 0.0
    tail_s: float | None = None
    silent_start: bool = False


@dataclass(frozen=True)
class ModelKind:
    """What a checkpoint is and can do.

    Attributes:
        name: its model_type: moshi, hibiki, personaplex, stt, tts, helium, mimi ...
        engine: the engine that runs it.
        listens: hears a user's sound while it runs.
        converses: holds conversations: listens and speaks.
        translates: says in one language what it hears in another.
        transcribes: writes down what it hears.
        speaks: reads texts aloud.
        writes: continues texts.
        sees: looks at an image during a conversation.
        has_codec: needs Mimi.
        codebooks: number that the codec needs, for the model's side or the user's.
        conditions: the description that guides it and, with guidance, the one to avoid.
        hears_end_as_padding: reads its own end of text as padding.
        takes_persona: a prompt comes before each conversation: a voice and a persona.
    """

    name: str
    engine: EngineName
    listens: bool = False
    converses: bool = False
    translates: bool = False
    transcribes: bool = False
    speaks: bool = False
    writes: bool = False
    sees: bool = False
    has_codec: bool = True
    codebooks: int = 8
    conditions: tuple[str, str] | None = None
    hears_end_as_padding: bool = False
    takes_persona: bool = False
    sampling: SamplingDefaults = field(default_factory=SamplingDefaults)
    ending: EndRule = field(default_factory=EndRule)

    @property
    def task(self) -> str:
        """The hub's name for its task."""
        return TASKS[self.engine]

    @property
    def command(self) -> str:
        """The command to try it with."""
        return COMMANDS[self.engine]

    def check(self, ability: Ability, name: str) -> None:
        """Raise a ConfigError that names the model if it lacks an ability."""
        if not getattr(self, ability):
            lacking, instead = LACKING[ability]
            raise ConfigError(
                f"{name} is a {self.name} model and {lacking}: {instead}."
            )


def model_type(config: Mapping[str, Any]) -> str:
    """The kind's name, even if the config does not state it, as in some of Kyutai's MLX
    repositories."""
    if named := config.get("model_type"):
        return str(named)
    for kind in ("stt", "tts"):
        if config.get(f"{kind}_config"):
            return kind
    if "hibiki" in str(config.get("moshi_name")):
        return "hibiki"
    return "moshi"


def kind_of(config: Mapping[str, Any]) -> ModelKind:
    """The kind of a checkpoint, by its config.json as ``CheckpointInfo`` completes
    it."""
    config = without_nulls(config)
    name = model_type(config)
    if name == "mimi":
        return ModelKind(name, "codec", codebooks=int(config.get("num_quantizers", 8)))
    total = config.get("n_q", 16)
    own = config.get("dep_q", 8) - config.get("foreseen_codebooks", 0)
    codebooks = max(own, total - own)
    if helium.is_helium(dict(config)) or not total:
        return ModelKind(name, "text", writes=True, has_codec=False)
    tts, stt = config.get("tts_config") or {}, config.get("stt_config") or {}
    if tts or name == "tts":
        multistream = tts.get("multistream")
        codebooks = codebooks // 2 if multistream else codebooks
        return ModelKind(name, "tts", speaks=True, codebooks=codebooks)
    listens = total > own and not config.get("cross_attention")
    if stt or name == "stt":
        return ModelKind(
            *(name, "stt", listens),
            transcribes=True,
            codebooks=codebooks,
            sampling=_sampling(config),
            ending=_listening(stt),
        )
    hibiki, conditioners = name == "hibiki", config.get("conditioners") or {}
    sees = config.get("vision") is not None
    ending = EndRule(before_s=float(config.get("lead_in_s", 0.0)))
    if hibiki:
        ending = EndRule("own", tail_s=HIBIKI_TAIL_S, silent_start=not conditioners)
    return ModelKind(
        *(name, "duplex", listens),
        converses=listens and own > 0 and not hibiki,
        translates=hibiki,
        sees=sees,
        codebooks=codebooks,
        conditions=DESCRIPTIONS if "description" in conditioners else None,
        hears_end_as_padding=hibiki,
        takes_persona=name == personaplex.NAME and listens,
        sampling=_sampling(config, **(SEEING if sees else {})),
        ending=ending,
    )


def _sampling(config: Mapping[str, Any], **defaults: float) -> SamplingDefaults:
    own = {**defaults, **(config.get("lm_gen_config") or {})}
    names = SamplingDefaults.__dataclass_fields__
    return SamplingDefaults(**{key: own[key] for key in names if key in own})


def _listening(stt: Mapping[str, Any]) -> EndRule:
    """Silence before and after, as the model was trained."""
    before_s = float(stt.get("audio_silence_prefix_seconds", 0.0))
    return EndRule("delay", before_s, float(stt.get("audio_delay_seconds", 0.0)) + 1.0)
