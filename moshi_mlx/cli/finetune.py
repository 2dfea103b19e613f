"""`moshi-mlx finetune`: teach a model from recordings."""

import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.models import OptionInfo

from . import options
from .console import make_log, status
from .finetune_progress import Printed

if TYPE_CHECKING:
    from ..finetune.settings import TrainSettings

EXAMPLES = """
moshi-mlx finetune --model kyutai/moshiko-mlx-q4 --data recordings --iters 300
moshi-mlx finetune --config finetune.yaml --resume
moshi-mlx finetune --model kyutai/stt-1b-en_fr --data calls/train.jsonl --rank 8
"""
WHAT, HOW, RUN = "What is trained", "How it is trained", "The run"


class FineTuneType(str, Enum):
    """What of a model is trained."""

    lora = "lora"
    full = "full"


def _option(panel: str, *names: str, **more: object) -> OptionInfo:
    return typer.Option(*names, rich_help_panel=panel, **more)  # type: ignore[arg-type]


def finetune(
    model: options.Model = None,
    data: Annotated[
        str | None,
        _option(
            WHAT,
            "--data",
            metavar="DIR|FILE.jsonl",
            help="Recordings with their words. Several: a,b:2 (with weights).",
        ),
    ] = None,
    eval_data: Annotated[
        str | None,
        _option(
            WHAT,
            "--eval-data",
            metavar="DIR|FILE.jsonl",
            help="Recordings to evaluate on. Default: valid.jsonl of --data.",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        _option(
            WHAT,
            *("--config", "-c"),
            metavar="FILE.yaml",
            help="Settings in YAML: as for mlx_lm.lora, or moshi-finetune's. Options "
            "override them. Default: none.",
        ),
    ] = None,
    fine_tune_type: Annotated[
        FineTuneType | None,
        _option(
            WHAT,
            "--fine-tune-type",
            help="Adapters, or all weights. Adapters over a quantised model are QLoRA. "
            "Default: lora.",
        ),
    ] = None,
    rank: Annotated[
        int | None, _option(WHAT, "--rank", help="Rank of the adapters. Default: 16.")
    ] = None,
    scale: Annotated[
        float | None,
        _option(WHAT, "--scale", help="Factor of the adapters' change. Default: 2."),
    ] = None,
    keys: Annotated[
        str | None,
        _option(
            WHAT,
            "--keys",
            metavar="NAMES",
            help="Layers to adapt, like self_attn,depformer. Default: all.",
        ),
    ] = None,
    num_layers: Annotated[
        int | None,
        _option(
            WHAT,
            "--num-layers",
            help="Adapt only so many layers of the main transformer, the last ones. "
            "Default: all (-1).",
        ),
    ] = None,
    train_embeddings: Annotated[
        bool, _option(WHAT, "--train-embeddings", help="Train the tables as well.")
    ] = False,
    iters: Annotated[
        int | None, _option(HOW, "--iters", help="Optimiser steps. Default: 300.")
    ] = None,
    learning_rate: Annotated[
        float | None,
        _option(HOW, "--learning-rate", help="Highest learning rate. Default: 1e-4."),
    ] = None,
    lr_schedule: Annotated[
        str | None,
        _option(
            HOW,
            "--lr-schedule",
            metavar="NAME",
            help="Default: one_cycle. Or constant, or one of MLX's: cosine_decay ...",
        ),
    ] = None,
    first_codebook_weight: Annotated[
        float | None,
        _option(
            HOW,
            "--first-codebook-weight",
            help="How much the codebook of meaning counts. Default: 100 times others.",
        ),
    ] = None,
    text_padding_weight: Annotated[
        float | None,
        _option(
            HOW,
            "--text-padding-weight",
            help="How much text that says nothing counts. Default: 0.5 of a word.",
        ),
    ] = None,
    window: Annotated[
        float | None,
        _option(
            HOW,
            "--window",
            metavar="SECONDS",
            help="Seconds of a recording that are one example. Default: 30.",
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        _option(HOW, "--batch-size", help="Examples computed at once. Default: 1."),
    ] = None,
    grad_accumulation_steps: Annotated[
        int | None,
        _option(
            HOW,
            "--grad-accumulation-steps",
            help="Batches of one optimiser step. Default: 2.",
        ),
    ] = None,
    grad_checkpoint: Annotated[
        bool,
        _option(
            HOW,
            "--grad-checkpoint",
            help="Compute layers twice instead of remembering them: less memory.",
        ),
    ] = False,
    val_batches: Annotated[
        int | None,
        _option(
            HOW,
            "--val-batches",
            help="Batches of an evaluation, at most. Default: 25; -1: all.",
        ),
    ] = None,
    steps_per_eval: Annotated[
        int | None,
        _option(
            HOW, "--steps-per-eval", help="Steps between evaluations. Default: 100."
        ),
    ] = None,
    seed: options.Seed = None,
    adapter_path: Annotated[
        Path | None,
        _option(
            RUN,
            "--adapter-path",
            metavar="DIR",
            help="Folder of the run, with all that it writes. Default: adapters.",
        ),
    ] = None,
    resume: Annotated[
        bool,
        _option(RUN, "--resume", help="Go on where the run in --adapter-path ended."),
    ] = False,
    resume_adapter_file: Annotated[
        Path | None,
        _option(
            RUN,
            "--resume-adapter-file",
            metavar="FILE",
            help="Begin with these adapters. Default: new ones.",
        ),
    ] = None,
    save_every: Annotated[
        int | None,
        _option(RUN, "--save-every", help="Steps between checkpoints. Default: 50."),
    ] = None,
    steps_per_report: Annotated[
        int | None,
        _option(RUN, "--steps-per-report", help="Steps between lines. Default: 10."),
    ] = None,
    cache_dir: Annotated[
        Path | None,
        _option(
            RUN,
            "--cache-dir",
            metavar="DIR",
            help="Where codes of the recordings are kept. Default: .codes beside them.",
        ),
    ] = None,
) -> None:
    """Teach Moshi, Hibiki or a model that transcribes from your own recordings.

    Recordings are as moshi-finetune takes them: stereo WAV files, the model's side in
    the left channel, and the words in a JSON file beside each. `moshi-mlx annotate`
    writes the words. Ctrl-C keeps what was learnt; --resume goes on, bit for bit.
    """
    given = {**locals()}
    from ..finetune.config_file import read_config
    from ..finetune.settings import TrainSettings

    stated, files = ({}, {}) if config is None else read_config(config)
    flags = {
        name: value.value if isinstance(value, Enum) else value
        for name, value in given.items()
        if value is not None and value is not False
    }
    flags.pop("config", None)
    flags.pop("resume", None)
    if keys is not None:
        flags["keys"] = [key.strip() for key in keys.split(",") if key.strip()]
    settings = TrainSettings().with_values(stated).with_values(flags).check()
    train(settings, files, resume)


def train(settings: "TrainSettings", files: dict[str, str], resume: bool) -> None:
    """Load, estimate, train, and say what came of it."""
    from ..finetune.estimate import estimate
    from ..finetune.prepare import prepare
    from .finetune_report import take_samples, write_report

    with status(f"loading {settings.model} and the recordings"):
        prepared = prepare(settings, files)
    needs = estimate(prepared.lm, prepared.trainable.size, settings)
    needs.check(settings)
    printed = Printed(settings, quiet=not prepared.ranks.first)
    printed.begin(prepared, needs)
    training = prepared.training(resume, printed)
    run = Path(settings.adapter_path)
    begins = training.folder is not None and training.folder.newest() is None
    if begins:
        take_samples(prepared, run / "samples", "before")
    with prepared.saving_memory():
        done = training.run()
    if training.folder is not None:
        if done.step == settings.iters:
            take_samples(prepared, run / "samples", "after")
        print(f"The report is {write_report(run)}")
    if prepared.ranks.first:
        print(
            make_log(
                "info",
                f"{done.step} steps are done: try it with --adapter "
                f"{settings.adapter_path}",
            ),
            file=sys.stderr,
        )
