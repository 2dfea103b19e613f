"""From settings to a training: the model, its trained parts, the data."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlx.core as mx

from ..checkpoint.adapters import find_adapter, read_adapter
from ..checkpoint.build import load_lm
from ..checkpoint.fuse import dequantize
from ..checkpoint.info import CheckpointInfo
from ..checkpoint.memory import machine_memory
from ..checkpoint.reading import rename_adapter
from ..errors import CheckpointError, ConfigError
from ..models.kyutai_names import kyutai_name
from ..models.lm import Lm
from ..modules.conditioner import ConditionAttributes, ConditionTensor
from ..modules.lora import linear_shape
from ..utils.remap import check_names
from .checkpointing import checkpointed
from .dataset import Batches, in_order
from .examples import Conditions, condition_of_rows, default_conditions
from .export import export_adapters, export_weights
from .loop import Line, Training
from .loss import LossWeights
from .optimizer import CycledAdamW
from .ranks import Ranks
from .reading import Told, TrainingData, read_data
from .run_folder import RunFolder
from .settings import TrainSettings
from .step import TrainingStep
from .trainable import A, Arrays, B, Trainable, add_adapters, add_embeddings, everything
from .windows import Windows

EPS = 1e-8  # of AdamW
SPARE_MEMORY = 0.25  # of the machine's, that unpacked weights may take


def check_trainable(info: CheckpointInfo) -> None:
    """Raise a ConfigError for a model that cannot be trained here."""
    kind = info.kind
    if kind.engine not in ("duplex", "stt"):
        raise ConfigError(
            f"{info.name} is a {kind.name} model, which is not trained here: give "
            "Moshi, PersonaPlex, Hibiki or a model that transcribes."
        )


@dataclass
class PreparedTraining:
    """A model and its data, ready to be trained.

    Attributes:
        attributes: conditions that windows are told, by their numbers.
    """

    info: CheckpointInfo
    settings: TrainSettings
    lm: Lm
    trainable: Trainable
    data: TrainingData
    attributes: list[ConditionAttributes] = field(default_factory=list)
    ranks: Ranks = field(default_factory=Ranks)

    def training(
        self, resume: bool = False, tell: Callable[[Line], None] = lambda _: None
    ) -> Training:
        """The training in its folder. Raises: as ``RunFolder``."""
        settings, ranks = self.settings, self.ranks
        folder = None
        if ranks.first:
            folder = RunFolder(Path(settings.adapter_path), settings, resume)
        optimizer = CycledAdamW(settings.betas, EPS, settings.weight_decay)
        compiled = settings.compile
        if compiled is None:
            compiled = mx.default_device().type == mx.DeviceType.gpu
        step = TrainingStep(
            *(self.lm, self.trainable, optimizer, settings.rates(), self.weights()),
            attributes=self.attributes,
            max_norm=settings.max_norm,
            compiled=compiled,
            add=ranks.add,
            seed=settings.seed,
        )
        size, mine = settings.batch_size, (ranks.rank, ranks.size, self.plain)
        return Training(
            settings,
            step,
            Batches(self.data.trained, size, settings.seed, *mine),
            lambda: in_order(self.data.valid, size, *mine),
            folder,
            ranks,
            self.export,
            tell,
        )

    @property
    def frames(self) -> int:
        """Of the longest window, with its prompt."""
        return max(w.longest for w in self.data.trained)

    def condition(self, windows: Windows, number: int) -> ConditionTensor | None:
        """The condition of a window, ``[1, D]``."""
        told = mx.array([windows.told(number)])
        return condition_of_rows(self.lm.condition_provider, self.attributes, told)

    @property
    def plain(self) -> bool:
        """Whether windows are codes and nothing else."""
        return not self.attributes and not self.info.kind.takes_persona

    def weights(self) -> LossWeights:
        """The weights of the losses; only the model's own side counts."""
        cfg, settings = self.lm.cfg, self.settings
        own = cfg.generated_codebooks
        if not cfg.other_codebooks:  # it predicts the user's side as well
            own //= 2
        return LossWeights(
            settings.first_codebook_weight, settings.text_padding_weight, own
        )

    def export(self, folder: Path) -> None:
        """Write what was learnt so far, for other programs."""
        if self.settings.fine_tune_type == "full":
            export_weights(folder, self.lm, self.info.config)
        else:
            export_adapters(
                folder, self.trainable, self.info.config, self.settings, self.lm
            )

    @contextmanager
    def saving_memory(self) -> Iterator[None]:
        """Checkpoint the layers while the block runs, if the settings ask for it."""
        frames = self.frames
        wanted = self.settings.grad_checkpoint
        with checkpointed(self.lm, frames) if wanted else nullcontext():
            yield


def load_model(
    settings: TrainSettings, files: Mapping[str, str] | None = None
) -> tuple[CheckpointInfo, Lm]:
    """The model that the settings name, frozen.

    Args:
        files: files to use instead of the checkpoint's own, as in
            ``CheckpointInfo.find``.
    """
    info = CheckpointInfo.find(settings.model, **(files or {}))  # type: ignore[arg-type]
    check_trainable(info)
    lm = load_lm(info)
    if settings.fine_tune_type == "lora" and not settings.train_embeddings:
        _unpack(lm)
    lm.freeze()
    return info, lm


def _unpack(lm: Lm) -> None:
    """On a CPU, turn quantised weights into floats of the same values, if they fit.

    MLX's CPU backend multiplies by those several times as fast (3.5 times with the
    demo), and the resulting adapters are the same.
    """
    floats = sum(rows * columns for rows, columns in map(linear_shape, _packed(lm)))
    on_cpu = mx.default_device().type == mx.DeviceType.cpu
    if on_cpu and 4 * floats < SPARE_MEMORY * machine_memory():
        dequantize(lm, mx.float32)


def _packed(lm: Lm) -> list[Any]:
    return [layer for layer in lm.modules() if "scales" in layer]


def choose(lm: Lm, settings: TrainSettings) -> Trainable:
    """The arrays of a model that the settings train."""
    if settings.fine_tune_type == "full":
        return everything(lm)
    trainable = add_adapters(
        *(lm, settings.rank, settings.scale),
        keys=settings.keys,
        num_layers=settings.num_layers,
        dropout=settings.dropout,
        seed=settings.seed,
    )
    if settings.train_embeddings:
        add_embeddings(lm, trainable)
    if settings.resume_adapter_file:
        begin_with(lm, trainable, Path(settings.resume_adapter_file))
    return trainable


def begin_with(lm: Lm, trainable: Trainable, path: Path) -> None:
    """Start with the adapters in a file, Kyutai's or mlx-lm's, instead of new ones.

    Raises: CheckpointError for adapters of other layers, or with another rank.
    """
    files = find_adapter(path)
    weights = rename_adapter(
        read_adapter(files), lm.cfg, f"the adapters in {files.weights}"
    )
    found = {}
    for name, w in weights.items():
        path_, dot, end = name.partition(".lora_")
        module = path_ if dot else name.removesuffix(".weight")
        rest = f".lora_{end}" if dot else ".weight"
        found[kyutai_name(lm.cfg, module) + rest] = w.astype(mx.float32)
    found = {
        name: w
        for name, w in found.items()
        if name in trainable.arrays or not _is_zero(found, name)
    }
    check_names(found, trainable.arrays, f"the adapters in {files.weights}")
    for name, w in found.items():
        if w.shape != trainable.arrays[name].shape:
            raise CheckpointError(
                f"{files.weights}: {name} is {w.shape} and this training has "
                f"{trainable.arrays[name].shape}: give their own --rank."
            )
    trainable.arrays = found


def _is_zero(arrays: Arrays, name: str) -> bool:
    """Whether an array belongs to an adapter without effect."""
    b = arrays.get(name.replace(f".{A}.", f".{B}."))
    return b is not None and not mx.any(b != 0).item()


def prepare(
    settings: TrainSettings,
    files: Mapping[str, str] | None = None,
    tell: Told | None = None,
) -> PreparedTraining:
    """Load a model and its data. Raises: MoshiError if they cannot be used."""
    info, lm = load_model(settings.check(), files)
    trainable = choose(lm, settings)
    trainable.put(trainable.arrays)
    usual = info.kind.conditions[0] if info.kind.conditions else None
    provider = lm.condition_provider
    conditions = Conditions(provider, default_conditions(provider, usual))
    ranks = Ranks()
    if not ranks.first:
        ranks.any(False)  # waits: the first one keeps the codes for all
    data = read_data(info, lm, settings, conditions, tell)
    if ranks.first:
        ranks.any(False)
    attributes = conditions.attributes
    return PreparedTraining(info, settings, lm, trainable, data, attributes, ranks)
