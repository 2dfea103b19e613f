"""The settings of a training, in one list, wherever they come from."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from .optimizer import Schedule, schedule

MOST_RANK = 4096  # the width of Moshi 7B: more adds nothing

# Settings that must stay the same when a training continues.
FIXED = (
    *("fine_tune_type", "rank", "scale", "keys", "num_layers", "dropout", "batch_size"),
    *("grad_accumulation_steps", "iters", "learning_rate", "lr_schedule", "pct_start"),
    *("weight_decay", "betas", "max_norm", "window", "seed", "train_embeddings"),
    *("first_codebook_weight", "text_padding_weight", "data", "keep_and_shift"),
    *("rehearse", "steady_silence"),
)


@dataclass(frozen=True)
class TrainSettings:
    """Settings of a training; names as in ``mlx_lm.lora`` if they mean the same.

    Attributes:
        model: a checkpoint's name; quantised weights make this QLoRA.
        data: recordings, see ``find_sources``; ``eval_data`` those to evaluate on.
        rehearse: recordings of users, which the model answers as it is now and learns
            so, see ``Rehearsal``; as often as ``data``, unless it has a weight.
        fine_tune_type: "lora", or "full": all weights.
        num_layers: of the main transformer, from its end, that get adapters; -1: all.
        rank, scale, dropout, keys: of the adapters, see ``add_adapters``.
        window: seconds of a recording in one example.
        batch_size: examples of a micro-batch, over all processes.
        grad_accumulation_steps: micro-batches per step.
        iters: number of optimiser steps.
        learning_rate: the highest of the schedule.
        pct_start: share of the steps in which "one_cycle" rises.
        first_codebook_weight, text_padding_weight: see ``LossWeights``.
        keep_and_shift: say all pieces of a word, later if necessary. Otherwise the next
            word cuts off the rest, as in moshi-finetune.
        steady_silence: give silence of the model's side the codes of long silence, not
            those of its beginning; the demo was trained this way.
        val_batches: maximum number of batches per evaluation; -1 for all.
        steps_per_eval, save_every: 0: only at the end.
        keep: number of newest checkpoints to keep.
        adapter_path: folder of the run.
        cache_dir: folder of the codes; by default beside the data.
        compile: None decides by the device.
    """

    model: str = ""
    data: str = ""
    eval_data: str = ""
    fine_tune_type: str = "lora"
    num_layers: int = -1
    rank: int = 16
    scale: float = 2.0
    dropout: float = 0.0
    keys: tuple[str, ...] = ()
    train_embeddings: bool = False
    window: float = 30.0
    batch_size: int = 1
    grad_accumulation_steps: int = 2
    iters: int = 300
    learning_rate: float = 1e-4
    lr_schedule: str | Mapping[str, Any] = "one_cycle"
    pct_start: float = 0.05
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    max_norm: float = 1.0
    first_codebook_weight: float = 100.0
    text_padding_weight: float = 0.5
    keep_and_shift: bool = False
    steady_silence: bool = False
    val_batches: int = 25
    steps_per_report: int = 10
    steps_per_eval: int = 100
    save_every: int = 50
    keep: int = 3
    grad_checkpoint: bool = False
    compile: bool | None = None
    seed: int = 0
    adapter_path: str = "adapters"
    resume_adapter_file: str = ""
    rehearse: str = ""
    cache_dir: str = ""

    def check(self) -> "TrainSettings":
        """The same settings. Raises: ConfigError for an invalid one."""
        for name in ("model", "data"):
            if not getattr(self, name):
                raise ConfigError(f"there is no {name} to train: give {flag(name)}.")
        self._check_numbers()
        if self.fine_tune_type not in ("lora", "full"):
            raise ConfigError(
                f"--fine-tune-type {self.fine_tune_type} is unknown: use lora or full."
            )
        if self.fine_tune_type == "full" and self.resume_adapter_file:
            raise ConfigError(
                "--resume-adapter-file begins with adapters, and --fine-tune-type full "
                "trains none: merge them first with 'moshi-mlx fuse'."
            )
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"betas are {self.betas}: give two, from 0 to below 1.")
        self.rates()
        return self

    def _check_numbers(self) -> None:
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if not value >= least:
                raise ConfigError(f"{flag(name)} is {value}: give {least:g} or more.")
        if self.rank > MOST_RANK:
            raise ConfigError(f"--rank is {self.rank}: give up to {MOST_RANK}.")
        for name in ("learning_rate", "window", "max_norm", "scale"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(
                    f"{flag(name)} is {getattr(self, name)}: give a number above 0."
                )
        for name in ("dropout", "pct_start"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(
                    f"{flag(name)} is {getattr(self, name)}: give 0 to below 1."
                )

    def rates(self) -> Schedule:
        """The schedule of learning rate and momentum."""
        return schedule(
            self.lr_schedule,
            self.learning_rate,
            self.iters,
            self.betas[0],
            self.pct_start,
        )

    def fixed(self) -> dict[str, Any]:
        """The settings that must stay the same when the training continues, for
        JSON."""
        return {name: _plain(getattr(self, name)) for name in FIXED}

    def all(self) -> dict[str, Any]:
        """Every setting, for a YAML or JSON file."""
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}

    def with_values(self, values: Mapping[str, Any]) -> "TrainSettings":
        """A copy with some values changed, converted to their types.

        Raises: ConfigError for a name or a type that is wrong.
        """
        kinds = {f.name: type(getattr(TrainSettings(), f.name)) for f in fields(self)}
        changed = {}
        for name, value in values.items():
            if name not in kinds:
                raise ConfigError(f"the setting {name!r} is unknown: check its name.")
            changed[name] = _converted(name, value, kinds[name])
        return replace(self, **changed)


_LEAST: dict[str, float] = {
    **{"rank": 1, "batch_size": 1, "grad_accumulation_steps": 1, "iters": 1},
    **{"num_layers": -1, "val_batches": -1, "steps_per_report": 1, "keep": 1},
    **{"steps_per_eval": 0, "save_every": 0, "weight_decay": 0, "seed": 0},
    **{"first_codebook_weight": 0, "text_padding_weight": 0},
}


def flag(name: str) -> str:
    """The option that sets a setting."""
    return "--" + name.replace("_", "-")


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _converted(name: str, value: Any, kind: type) -> Any:
    try:
        if name == "betas":
            return tuple(float(beta) for beta in value)
        if kind is tuple:
            return (value,) if isinstance(value, str) else tuple(map(str, value))
        if name == "lr_schedule" and isinstance(value, Mapping):
            return dict(value)
        if name in _PATHS:
            return str(Path(value).expanduser())
        return _scalar(value, kind)
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigError(
            f"the setting {name} is {str(value)[:60]!r}: give a value like "
            f"{_plain(getattr(TrainSettings(), name))!r}."
        ) from error


def _scalar(value: Any, kind: type) -> Any:
    """A value of a type; ``NoneType`` stands for yes, no or automatic."""
    if kind in (bool, type(None)):
        if not isinstance(value, bool | type(None)):
            raise ValueError
        return value
    if isinstance(value, bool | Mapping | list | type(None)):
        raise ValueError
    if kind is int:
        if float(value) != int(float(value)):
            raise ValueError
        return int(float(value))
    return kind(value)  # YAML reads 1e-4 as a word


_PATHS = ("adapter_path", "resume_adapter_file", "cache_dir")
