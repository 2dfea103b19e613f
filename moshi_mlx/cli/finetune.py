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
    """What to train of a model."""

    lora = "lora"
    full = "full"


def _option(panel: str, *names: str, **more: object) -> OptionInfo:
    return typer.Option(*names, rich_help_panel=panel, **more)  # type: ignore[arg-type]


def finetune(
    model: options.BaseModel = None,
    data: Annotated[
        str | None,
        _option(
            WHAT,
            "--data",
            metavar="DIR|FILE.jsonl",
            help="Recordings with their words: a folder or a list. Several with "
            "weights: a,b:2.",
        ),
    ] = None,
    rehearse: Annotated[
        str | None,
        _option(
            WHAT,
            "--rehearse",
            metavar="DIR|FILE.jsonl",
            help="Recordings of users that the model answers before the training, and"
            " whose answers it learns again, so that it keeps what it can do. "
            "Default: none.",
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
            help="Settings in YAML, as mlx_lm.lora or moshi-finetune takes them. "
            "Options override them. Default: none.",
        ),
    ] = None,
    fine_tune_type: Annotated[
        FineTuneType | None,
        _option(
            WHAT,
            "--fine-tune-type",
            help="Train adapters (lora; over a quantised model this is QLoRA) or all "
            "weights (full). Default: lora.",
        ),
    ] = None,
    rank: Annotated[
        int | None,
        _option(WHAT, "--rank", metavar="N", help="Rank of the adapters. Default: 16."),
    ] = None,
    scale: Annotated[
        float | None,
        _option(
            WHAT,
            "--scale",
            metavar="X",
            help="Factor by which the adapters' output is multiplied. Default: 2.",
        ),
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
            metavar="N",
            help="Adapt only the last N layers of the main transformer. Default: all "
            "(-1).",
        ),
    ] = None,
    train_embeddings: Annotated[
        bool,
        _option(WHAT, "--train-embeddings", help="Train the embedding tables as well."),
    ] = False,
    iters: Annotated[
        int | None,
        _option(
            HOW, "--iters", metavar="N", help="Number of optimiser steps. Default: 300."
        ),
    ] = None,
    learning_rate: Annotated[
        float | None,
        _option(
            HOW,
            "--learning-rate",
            metavar="X",
            help="Peak learning rate. Default: 1e-4.",
        ),
    ] = None,
    lr_schedule: Annotated[
        str | None,
        _option(
            HOW,
            "--lr-schedule",
            metavar="NAME",
            help="How the learning rate changes: one_cycle, constant, or a schedule of "
            "MLX, such as cosine_decay. Default: one_cycle.",
        ),
    ] = None,
    first_codebook_weight: Annotated[
        float | None,
        _option(
            HOW,
            "--first-codebook-weight",
            metavar="X",
            help="Weight of the semantic codebook in the loss; each other codebook has "
            "1. Default: 100.",
        ),
    ] = None,
    text_padding_weight: Annotated[
        float | None,
        _option(
            HOW,
            "--text-padding-weight",
            metavar="X",
            help="Weight of text padding in the loss; words have 1. Default: 0.5.",
        ),
    ] = None,
    window: Annotated[
        float | None,
        _option(
            HOW,
            "--window",
            metavar="SECONDS",
            help="Length of an example. Default: 30.",
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        _option(
            HOW,
            "--batch-size",
            metavar="N",
            help="Number of examples computed at once. Default: 1.",
        ),
    ] = None,
    grad_accumulation_steps: Annotated[
        int | None,
        _option(
            HOW,
            "--grad-accumulation-steps",
            metavar="N",
            help="Number of batches per optimiser step. Default: 2.",
        ),
    ] = None,
    grad_checkpoint: Annotated[
        bool,
        _option(
            HOW,
            "--grad-checkpoint",
            help="Save memory by computing the layers again in the backward pass.",
        ),
    ] = False,
    val_batches: Annotated[
        int | None,
        _option(
            HOW,
            "--val-batches",
            metavar="N",
            help="Maximum number of batches per evaluation; -1 for all. Default: 25.",
        ),
    ] = None,
    steps_per_eval: Annotated[
        int | None,
        _option(
            HOW,
            "--steps-per-eval",
            metavar="N",
            help="Steps between evaluations. Default: 100.",
        ),
    ] = None,
    train_: Annotated[bool, typer.Option("--train", hidden=True)] = False,
    seed: options.Seed = None,
    adapter_path: Annotated[
        Path | None,
        _option(
            RUN,
            "--adapter-path",
            metavar="DIR",
            help="Folder for everything that the run writes. Default: adapters.",
        ),
    ] = None,
    resume: Annotated[
        bool,
        _option(RUN, "--resume", help="Continue the run in --adapter-path."),
    ] = False,
    resume_adapter_file: Annotated[
        Path | None,
        _option(
            RUN,
            "--resume-adapter-file",
            metavar="FILE",
            help="Start from these adapters. Default: new ones.",
        ),
    ] = None,
    save_every: Annotated[
        int | None,
        _option(
            RUN,
            "--save-every",
            metavar="N",
            help="Steps between checkpoints. Default: 50.",
        ),
    ] = None,
    steps_per_report: Annotated[
        int | None,
        _option(
            RUN,
            "--steps-per-report",
            metavar="N",
            help="Steps between lines of progress. Default: 10.",
        ),
    ] = None,
    cache_dir: Annotated[
        Path | None,
        _option(
            RUN,
            "--cache-dir",
            metavar="DIR",
            help="Folder for the codes of the recordings. Default: .codes beside them.",
        ),
    ] = None,
) -> None:
    """Teach Moshi, PersonaPlex, Hibiki or a model that transcribes from recordings.

    Recordings have moshi-finetune's layout: stereo sound with the model's side in the
    left channel, and the words in a JSON file beside each. `moshi-mlx annotate` writes
    those files. Ctrl-C keeps what was learnt, and --resume continues bit for bit.
    """
    given = {**locals()}
    given.pop("train_")  # of mlx_lm.lora's commands; there is nothing else to do here
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
    """Load, estimate, train, and report the results."""
    from ..finetune.estimate import estimate
    from ..finetune.prepare import prepare
    from .finetune_report import take_samples, write_report

    with status(f"loading {settings.model} and the recordings") as say:

        def tell(source: str, done: int, count: int) -> None:
            say(f"{source}: {done} of {count} recordings are read")

        prepared = prepare(settings, files, tell)
    needs = estimate(prepared.lm, prepared.trainable.size, settings, prepared.frames)
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
        use = f"--adapter {settings.adapter_path}"
        if settings.fine_tune_type == "full":
            use = f"--moshi-weights {settings.adapter_path}/model.safetensors"
        said = f"{done.step} steps are done: try it with {use}"
        print(make_log("info", said), file=sys.stderr)
