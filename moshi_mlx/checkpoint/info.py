"""The content of a checkpoint: found by name; files are fetched when needed."""

import logging
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from ..errors import CheckpointError
from ..models.config import LmConfig
from ..models.config_values import check_transformers_values, check_values
from ..models.mimi_transformers import kyutai_config
from ..models.schema import shortened, without_nulls
from ..utils.json_text import read_json
from ..utils.loaders import NotInRepoError, hf_get
from ..utils.paths import real_path
from . import helium, moshivis, split
from .adapters import local_adapter
from .formats import Format, format_of_config
from .kinds import PERSONA_REPO, ModelKind, kind_of
from .moshi_7b import complete
from .shards import parts_of_index, pickled, shards_of
from .source import Source, stays_inside
from .user_steps import CONFIG_NAME, NO_TOKENIZER, heard_config, is_japanese

logger = logging.getLogger(__name__)

BASE_REPO = "kyutai/moshiko-pytorch-bf16"  # what fine-tunes start from
MIMI_NAME = "tokenizer-e351c8d8-checkpoint125.safetensors"
TOKENIZER_NAME = "tokenizer_spm_32k_3.model"
LM_NAMES = (
    "model.safetensors",
    "model.q8.safetensors",
    "model.q4.safetensors",
    "consolidated.safetensors",  # moshi-finetune, merged
    "model.q8.gguf",  # candle's quantised ones
    "model.q8_0.gguf",
    "model.q4.gguf",
    "model.q4_0.gguf",
    "model.gguf",
)
WEIGHTS_FILES = ".safetensors", ".gguf"  # endings of names
INDEX_NAME = "model.safetensors.index.json"
LORA_NAME = "lora.safetensors"
SETTINGS = ("lm_gen_config", "tts_config", "stt_config", "model_id")
OPTIONS = {  # options for files that a config may not name
    "moshi_name": "--moshi-weights FILE",
    "mimi_name": "--mimi-weights FILE",
    "tokenizer_name": "--tokenizer FILE",
    "lora_name": "--lora-weights FILE",
    "mimi_config_name": "mimi_config=FILE of CheckpointInfo.find",
}


@dataclass
class CheckpointInfo:
    """The files and settings of one model, made by ``CheckpointInfo.find``.

    Args:
        name: as the user gave it.
        config: config.json; if it describes no network, completed from Moshi 7B's.
        given: files that the user gave instead of the checkpoint's own: "moshi",
            "mimi", "tokenizer", "mimi_config", "lora".
        bits: quantisation that the user asked for; picks a file if a repository has
            several and no config.json (Helium).
        kv_bits: 8 or 4: bits of the conversations' keys and values.
        layout: of the transformers library, from which ``config`` was translated.
        stated: the original config.json of such a layout, or of a split one (see
            ``split``).
    """

    name: str
    source: Source
    config: dict[str, Any]
    given: dict[str, Path] = field(default_factory=dict)
    bits: int | None = None
    kv_bits: int | None = None
    layout: Format | None = None
    stated: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def find(
        cls,
        name: str | Path,
        *,
        revision: str | None = None,
        kind: Literal["stt", "tts"] | None = None,
        config: str | Path | None = None,
        moshi_weights: str | Path | None = None,
        mimi_weights: str | Path | None = None,
        mimi_config: str | Path | None = None,
        tokenizer: str | Path | None = None,
        lora_weights: str | Path | None = None,
        bits: int | None = None,
        kv_bits: int | None = None,
    ) -> "CheckpointInfo":
        """Find a checkpoint; of its files only config.json is fetched.

        Args:
            name: "demo", a folder, a safetensors or GGUF file in one, ``hf://owner/repo``,
                ``file://folder`` or ``owner/repo``, the last also with ``@revision``.
            revision: branch, tag or commit of the repository.
            kind: which model to take if a folder (or "demo") holds a family: Moshi's
                config.json and, with the same codec, stt.json and tts.json.
            config: a config.json to use instead; the other files likewise. Each may be
                a local path, ``file://path`` or ``hf://owner/repo/file``. These are the
                user's own words; a config.json can only name files of its checkpoint.

        Raises: CheckpointError if there is no such model or it cannot be reached,
            ConfigError for invalid values in its config.
        """
        given = {
            "moshi": moshi_weights,
            "mimi": mimi_weights,
            "mimi_config": mimi_config,
            "tokenizer": tokenizer,
        }
        if not isinstance(name, str | PathLike) or not str(name).strip():
            raise CheckpointError(
                f"expected a model's name, not {name!r}: give a folder, a hub "
                "repository OWNER/NAME, or 'demo', which is built in."
            )
        local = Path(name).expanduser()
        if local.suffix in WEIGHTS_FILES and local.is_file():
            given["moshi"] = given["moshi"] or local
            name = local.parent
        source = Source.named(str(name), revision)
        if kind is not None and config is None:
            source = source.sibling(kind)
        names = [source.config, CONFIG_NAME]
        path = source.first(names) if config is None else hf_get(config)
        stated = None if path is None else read_json(path)
        if path is not None and path.name == CONFIG_NAME:
            stated = heard_config(stated or {})
        check_transformers_values(stated or {})
        layout = format_of_config(stated or {})
        read = layout.config(stated or {}) if layout else stated
        data = complete(str(name), read, source.local(LM_NAMES, given["moshi"]))
        if path is None and moshivis.is_named_so(str(name), source.folder):
            data |= moshivis.CONFIG
        check_values(data)
        data |= {key: without_nulls(data[key]) for key in SETTINGS if data.get(key)}
        files = {key: hf_get(file) for key, file in given.items() if file is not None}
        if lora_weights is not None:
            files["lora"] = local_adapter(lora_weights)
        whole = (stated or {}) if layout or split.is_split(stated or {}) else {}
        return cls(str(name), source, data, files, bits, kv_bits, layout, whole)

    @property
    def model_type(self) -> str:
        """moshi, hibiki, stt, tts, personaplex, helium or mimi."""
        return self.kind.name

    @cached_property
    def kind(self) -> ModelKind:
        """What the model can do."""
        return kind_of(self.config)

    @property
    def lm_gen_config(self) -> dict[str, Any]:
        """Sampling defaults: temp, temp_text, top_k, top_k_text, cfg_coef ..."""
        return self.config.get("lm_gen_config") or {}

    @property
    def tts_config(self) -> dict[str, Any]:
        return self.config.get("tts_config") or {}

    @property
    def stt_config(self) -> dict[str, Any]:
        return self.config.get("stt_config") or {}

    @property
    def model_id(self) -> dict[str, Any]:
        """Signature and epoch of the training, in the names of TTS voice files."""
        return self.config.get("model_id") or {}

    @property
    def quantization(self) -> dict[str, Any]:
        """The quantisation that an MLX checkpoint states; empty if it states none."""
        return self.config.get("quantization") or {}

    @cached_property
    def lm_config(self) -> LmConfig:
        """The language model's configuration, read again for this object."""
        if helium.is_helium(self.config):
            cfg = helium.helium_config(self.config)
        else:
            cfg = LmConfig.from_config_dict(self.config)
        return cfg.with_kv_bits(self.kv_bits)

    @property
    def num_codebooks(self) -> int:
        """Number of codebooks that the codec needs: for the model's side or the
        user's."""
        return self.kind.codebooks

    @property
    def own_voices(self) -> str | None:
        """The checkpoint's folder or repository if it has voices of its own: then its
        ``tts_config`` names the usual one."""
        return str(self.source) if self.tts_config.get("voice") else None

    def _named(self, key: str) -> Path | None:
        """The file that the config names; None if it names none.

        Raises: CheckpointError for a name that leads out of the checkpoint.
        """
        name = self.config.get(key)
        if not name:
            return None
        if not stays_inside(name):
            raise CheckpointError(
                f"config.json of {self.name} has {key} {shortened(name)}, which leads "
                "out of the checkpoint: it can only name the checkpoint's own files "
                f"and hf://OWNER/REPO/FILE. If the file is yours, give {OPTIONS[key]}."
            )
        return self.source.get(name)

    def file(self, filename: str) -> Path:
        """Any file of the checkpoint: a voice, a card."""
        return self.source.get(filename)

    @cached_property
    def moshi_weights(self) -> list[Path]:
        """The language model's files: one, or several parts."""
        if "moshi" in self.given:
            return [self.given["moshi"]]
        if named := self._named("moshi_name"):
            return [named]
        if split.is_split(self.stated):
            return [self.source.get(part) for part in split.FILES]
        path = self.source.first(self._lm_names())
        if path is not None:
            return [path]
        index = self.source.first([INDEX_NAME])
        if index is not None:
            return [self.source.get(part) for part in parts_of_index(index)]
        if self.source.folder is not None and (parts := shards_of(self.source.folder)):
            return parts
        if self.lora_weights is not None:
            base = PERSONA_REPO if self.kind.takes_persona else BASE_REPO
            logger.info("%s holds adapters only: their base is %s", self.name, base)
            return [hf_get(LM_NAMES[0], base)]
        if self.source.folder is not None and (pickle := pickled(self.source.folder)):
            raise CheckpointError(
                f"{self.source} holds pickled weights ({pickle.name}), which are not "
                "read for safety: save them as safetensors."
            )
        raise NotInRepoError(
            f"{self.source} holds no language model: expected {LM_NAMES[0]}, a GGUF "
            "file of candle's, or a config.json that names it as moshi_name."
        )

    @cached_property
    def image_weights(self) -> list[Path]:
        """The files with the image encoder: the language model's, or candle's beside a
        GGUF file."""
        beside = moshivis.image_file(self.moshi_weights[0])
        if beside is None:
            return self.moshi_weights
        here = self.moshi_weights[0].with_name(beside)
        given = "moshi" in self.given
        found = here if here.is_file() or given else self.source.first([beside])
        return [found] if found and found.is_file() else self.moshi_weights

    def _lm_names(self) -> list[str]:
        if helium.is_helium(self.config):
            kinds = [f"q{self.bits}", "bf16"] if self.bits else ["bf16"]
            names = [f"helium-1-preview-2b-{kind}.safetensors" for kind in kinds]
            return [*names, LM_NAMES[0]]
        several = self.kind.sees or self.kind.takes_persona  # in one repository
        if several and self.bits:
            return [f"model.q{self.bits}.safetensors", *LM_NAMES]
        bits = f".{self.name.rsplit('-')[-1]}."  # of moshiko-mlx-q4
        return sorted(LM_NAMES, key=lambda name: bits not in name)

    @cached_property
    def lora_weights(self) -> Path | None:
        """Adapters to merge; None if there are none, or they are merged already."""
        if "lora" in self.given:
            return self.given["lora"]
        if named := self._named("lora_name"):
            return named
        folder, base = self.source.folder, self.given.get("moshi")
        if folder is None or self._has_lm():
            return None
        if base is not None and real_path(base).parent == real_path(folder):
            return None  # merged already, under a name of its own
        return self.source.first([LORA_NAME])

    def _has_lm(self) -> bool:
        named = self.config.get("moshi_name")
        return self.source.first([named] if named else self._lm_names()) is not None

    @property
    def codec_prefix(self) -> str:
        """The start of the codec's names among the language model's tensors; "" if the
        codec has a file of its own."""
        if self.layout is None or "mimi" in self.given:
            return ""
        return self.layout.codec[0]

    @cached_property
    def mimi_weights(self) -> Path:
        """The codec's file; Kyutai's if the checkpoint neither names nor has one."""
        if self.codec_prefix:
            return self.moshi_weights[0]
        alone = "model.safetensors" if self.kind.engine == "codec" else MIMI_NAME
        return self._part("mimi", "mimi_name", alone, BASE_REPO)

    @cached_property
    def tokenizer(self) -> Path:
        """The text tokenizer's file; the same rule as ``mimi_weights``."""
        if helium.is_helium(self.config):
            name, repo = helium.TOKENIZER, helium.MLX_REPO
        else:
            name, repo = TOKENIZER_NAME, BASE_REPO
        return self._part("tokenizer", "tokenizer_name", name, repo)

    def _part(self, part: str, key: str, default: str, repo: str) -> Path:
        if part in self.given:
            return self.given[part]
        if named := self._named(key):
            return named
        path = self.source.first([default])
        if path is None:
            if self.source.folder is not None:
                _ = self.moshi_weights  # raises: a folder without a model is no model
            if part == "tokenizer" and is_japanese(self.name, self.source.folder):
                logger.warning(NO_TOKENIZER, self.name, repo)
            logger.info("%s has no %s of its own: using %s's", self.name, part, repo)
            path = hf_get(default, repo)
        return path

    @cached_property
    def mimi_config(self) -> dict[str, Any] | None:
        """The codec's configuration; None is Kyutai's released Mimi."""
        if "mimi_config" in self.given:
            return read_json(self.given["mimi_config"])
        if self.kind.engine == "codec":
            return kyutai_config(self.config)
        if self.codec_prefix and self.layout is not None:
            return kyutai_config(self.stated.get(self.layout.codec[1]) or {})
        named = self._named("mimi_config_name")
        return None if named is None else read_json(named)
