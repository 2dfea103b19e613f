"""Settings from a YAML file: mlx-lm's layout, ours, or moshi-finetune's ``args``."""

import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..errors import ConfigError

_log = logging.getLogger(__name__)

# mlx_lm.lora's keys that have no meaning here.
IGNORED = {
    *("train", "test", "test_batches", "max_seq_length", "report_to", "project_name"),
    *("clear_cache_threshold", "mask_prompt"),
}
# moshi-finetune's keys, as paths, and their names here.
KYUTAI: dict[str, str] = {
    "data.train_data": "data",
    "data.eval_data": "eval_data",
    "run_dir": "adapter_path",
    "optim.lr": "learning_rate",
    "optim.weight_decay": "weight_decay",
    "optim.pct_start": "pct_start",
    "seed": "seed",
    "num_microbatches": "grad_accumulation_steps",
    "duration_sec": "window",
    "batch_size": "batch_size",
    "max_norm": "max_norm",
    "max_steps": "iters",
    "log_freq": "steps_per_report",
    "ckpt_freq": "save_every",
    "num_ckpt_keep": "keep",
    "eval_freq": "steps_per_eval",
    "lora.rank": "rank",
    "lora.scaling": "scale",
    "lora.ft_embed": "train_embeddings",
    "first_codebook_weight_multiplier": "first_codebook_weight",
    "text_padding_weight": "text_padding_weight",
    "gradient_checkpointing": "grad_checkpoint",
    "moshi_paths.hf_repo_id": "model",
}
KYUTAI_FILES = {  # of the checkpoint, as CheckpointInfo.find takes them
    "moshi_paths.moshi_path": "moshi_weights",
    "moshi_paths.mimi_path": "mimi_weights",
    "moshi_paths.tokenizer_path": "tokenizer",
    "moshi_paths.config_path": "config",
}
KYUTAI_IGNORED = ("wandb.", "data.", "param_dtype", "world_size", "overwrite_run_dir")
KYUTAI_IGNORED += ("save_adapters", "do_ckpt", "do_eval", "full_finetuning", "lora.")
MOST_BYTES, MOST_VALUES = 1 << 20, 10_000
_FLOAT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")
_KYUTAIS_OWN = {"moshi_paths", "optim", "run_dir", "duration_sec", "max_steps"}


def read_config(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Settings from a YAML file, and files of the checkpoint that it names.

    Raises: ConfigError for a file that cannot be read, or a key that is not known.
    """
    import yaml

    try:
        with path.open("rb") as file:
            text = file.read(MOST_BYTES + 1)
        if len(text) > MOST_BYTES:
            raise yaml.YAMLError(f"it has more than {MOST_BYTES >> 20} MiB")
        data = _numbers(yaml.safe_load(text.decode("utf-8-sig")), [MOST_VALUES])
    except OSError as error:
        raise ConfigError(
            f"the config {str(path)!r} cannot be read: {error.strerror}."
        ) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"{str(path)!r} is no YAML ({' '.join(str(error).split())[:120]}): see "
            "the example in the documentation of `finetune`."
        ) from error
    if not isinstance(data, dict):
        raise ConfigError(f"{str(path)!r} should hold settings like 'iters: 300'.")
    if _KYUTAIS_OWN & data.keys() and not isinstance(data.get("data"), str):
        return _kyutai(data, path)
    return _ours(data), {}


def _numbers(data: Any, left: list[int]) -> Any:
    """The same, with 1e-5 as a number: YAML 1.1 reads it as a word, mlx-lm does not.

    Args:
        left: how many values there may still be: a few aliases can stand for billions.
    """
    left[0] -= 1
    if left[0] < 0:
        raise ValueError(f"it holds more than {MOST_VALUES} values")
    if isinstance(data, dict):
        return {key: _numbers(value, left) for key, value in data.items()}
    if isinstance(data, list):
        return [_numbers(value, left) for value in data]
    return float(data) if isinstance(data, str) and _FLOAT.fullmatch(data) else data


def _ours(data: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a flat file, with mlx-lm's blocks flattened."""
    found: dict[str, Any] = {}
    blocks: dict[str, Callable[[Any], dict[str, Any]]] = {
        "lora_parameters": dict,
        "optimizer_config": _optimizer,
        "optimizer": _optimizer_name,
    }
    for key, value in data.items():
        name = str(key).replace("-", "_")
        if name in blocks:
            found |= _block(name, value, blocks[name])
        elif name in IGNORED:
            _log.warning("the setting %s has no meaning here and is left out", name)
        elif value is not None:
            found[name] = value
    return {name: value for name, value in found.items() if value is not None}


def _block(name: str, value: Any, opened: Callable[[Any], dict[str, Any]]) -> dict:
    try:
        return opened(value or {})
    except ConfigError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"the setting {name} is {str(value)[:60]!r}: write it as mlx-lm does."
        ) from error


def _optimizer_name(value: Any) -> dict[str, Any]:
    if value and value != "adamw":
        raise ConfigError(
            f"the optimizer {str(value)[:40]} is not supported: use adamw."
        )
    return {}


def _optimizer(value: Any) -> dict[str, Any]:
    own = dict(value.get("adamw", {}))
    own.pop("bias_correction", None)  # always, as in PyTorch
    own.pop("eps", None)
    return own


def _kyutai(data: Mapping[str, Any], path: Path) -> tuple[dict, dict[str, str]]:
    flat = dict(_flat(data))
    found, files = {}, {}
    for key, value in flat.items():
        if value is None or value == "":
            continue
        if key in KYUTAI:
            found[KYUTAI[key]] = value
        elif key in KYUTAI_FILES:
            files[KYUTAI_FILES[key]] = str(value)
        elif not key.startswith(KYUTAI_IGNORED):
            raise ConfigError(
                f"{str(path)!r} has the setting {key!r}, which moshi-finetune does not "
                "know: check its name."
            )
    full = flat.get("full_finetuning") or flat.get("lora.enable") is False
    found["fine_tune_type"] = "full" if full else "lora"
    if flat.get("do_eval") is False:
        found["steps_per_eval"] = 0
    return found, files


def _flat(data: Mapping[str, Any], start: str = "") -> list[tuple[str, Any]]:
    found = []
    for key, value in data.items():
        name = f"{start}{key}"
        found += (
            _flat(value, f"{name}.") if isinstance(value, Mapping) else [(name, value)]
        )
    return found
