"""Quantisation: which layers, how many bits, and how config.json states it.

The block in config.json is mlx-lm's: defaults, and under a layer's path the differences
(``false``: not quantised)::

    "quantization": {"group_size": 64, "bits": 4, "mode": "affine",
                     "text_linear": {"group_size": 64, "bits": 8, "mode": "affine"},
                     "depformer.slices.0.linear_in": false}
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from ..errors import ConfigError
from ..utils.tensor_files import check_numbers
from .eos import PARTS, as_stored

logger = logging.getLogger(__name__)

BITS = (2, 3, 4, 5, 6, 8)
GROUP_SIZES = (32, 64, 128)
FIXED_MODES = {"mxfp4": (32, 4), "nvfp4": (16, 4), "mxfp8": (32, 8)}  # group, bits
MOST_ZERO = 0.25  # share of a model's bytes: more gives a warning
PRECISE = "condition_provider."  # small, computed once per session, always float32


@dataclass(frozen=True)
class Choice:
    """How one layer is quantised: ``bits`` a weight, one scale per ``group_size``.

    Raises: ConfigError for settings that MLX does not support.
    """

    group_size: int
    bits: int
    mode: str = "affine"

    def __post_init__(self) -> None:
        fixed = FIXED_MODES.get(self.mode)
        if fixed is not None and fixed != (self.group_size, self.bits):
            raise ConfigError(
                f"{self.mode} with {self.bits} bits in groups of {self.group_size}: it "
                f"only exists with {fixed[1]} bits in groups of {fixed[0]}."
            )
        if fixed is None and self.mode != "affine":
            raise ConfigError(
                f"quantisation mode {self.mode!r} is unknown: use affine, "
                f"{', '.join(FIXED_MODES)}."
            )
        if fixed is None and (
            self.bits not in BITS or self.group_size not in GROUP_SIZES
        ):
            raise ConfigError(
                f"{self.bits} bits in groups of {self.group_size} cannot be computed: "
                f"use {', '.join(map(str, BITS))} bits, groups of 32, 64 or 128."
            )

    @classmethod
    def of(
        cls,
        bits: int | None = None,
        group_size: int | None = None,
        mode: str = "affine",
    ) -> "Choice":
        """Complete what is left out; 4 bits in groups of 32 and the rest in 64.

        Those are the groups that moshi_mlx 0.3.0 expects of q4 and q8 files.
        """
        group, width = FIXED_MODES.get(mode, (32 if bits in (None, 4) else 64, 4))
        return cls(group_size or group, bits or width, mode)


# The quantisation of the layer at a path; None leaves it unquantised.
Recipe = Callable[[str, nn.Module], Choice | None]
Progress = Callable[[float], None]


@dataclass
class Quantization:
    """The decision for each layer of a model.

    Args:
        layers: quantised layers by path.
        kept: layers that could in principle be quantised and are not, with the reason.
    """

    layers: dict[str, Choice] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)

    def to_config(self) -> dict[str, Any]:
        """The ``quantization`` block of config.json; empty if nothing is quantised."""
        if not self.layers:
            return {}
        default = Counter(self.layers.values()).most_common(1)[0][0]
        block: dict[str, Any] = asdict(default)
        block |= {p: asdict(c) for p, c in self.layers.items() if c != default}
        return block | dict.fromkeys(self.kept, False)

    @property
    def uniform(self) -> Choice | None:
        """The choice that all layers share, if they do."""
        choices = set(self.layers.values())
        return choices.pop() if len(choices) == 1 else None


def stated_choice(block: Mapping[str, Any], path: str) -> Choice | None:
    """A config's ``quantization`` entry for one layer; None if it has none."""
    own = block.get(path, True)
    if own is False or "bits" not in block:
        return None
    merged = {**block, **own} if isinstance(own, Mapping) else block
    mode = merged.get("mode") or "affine"
    return Choice.of(merged.get("bits"), merged.get("group_size"), mode)


def same(choice: Choice) -> Recipe:
    """The recipe that treats all layers alike.

    Except for tables, which are looked up, not multiplied: the floating modes (mxfp4
    ...) would give them bfloat16 rows and no speed, so they become affine with as many
    bits.
    """
    table = choice if choice.mode == "affine" else Choice(32, choice.bits)
    return lambda _path, layer: choice if isinstance(layer, nn.Linear) else table


def plan(lm: nn.Module, recipe: Recipe) -> Quantization:
    """Decide for every layer; those whose width is not a multiple of the group stay
    unquantised.

    Raises: ConfigError if nothing would be quantised.
    """
    result = Quantization()
    for path, layer in quantizable(lm).items():
        if path.startswith(PRECISE):
            continue
        choice, width = recipe(path, layer), layer["weight"].shape[-1]
        if choice is None:
            result.kept[path] = "left out by the recipe"
        elif width % choice.group_size:
            result.kept[path] = (
                f"width {width} is not a multiple of {choice.group_size}"
            )
        else:
            result.layers[path] = choice
    if not result.layers:
        reason = next(iter(result.kept.values()), "it has no such layers")
        raise ConfigError(f"nothing in this model can be quantised so: {reason}.")
    return result


def quantizable(lm: nn.Module) -> dict[str, nn.Module]:
    """Layers that MLX can quantise and that are not yet, by path, first to last."""
    modules = reversed(lm.named_modules())  # MLX lists the last first
    return {
        path: module
        for path, module in modules
        if hasattr(module, "to_quantized") and not module.children()
    }


def apply(lm: nn.Module, layers: Mapping[str, Choice]) -> None:
    """Quantise layers in place, lazily; layers that share a matrix still share it."""
    dense = {path: layer["weight"] for path, layer in quantizable(lm).items()}
    chosen = {path: asdict(choice) for path, choice in layers.items()}
    nn.quantize(lm, class_predicate=lambda path, _layer: chosen.get(path, False))
    modules = dict(lm.named_modules())
    first_of: dict[tuple[int, Choice], nn.Module] = {}
    for path, choice in layers.items():
        layer = modules[path]
        first = first_of.setdefault((id(dense[path]), choice), layer)
        for part in PARTS:
            if part in layer:
                layer[part] = first[part]


def materialise(
    lm: nn.Module, what: str = "the weights", progress: Progress | None = None
) -> None:
    """Compute lazy parameters layer by layer, holding no more than the model.

    If a large part of them is zero, as in a file that was only partly written, a
    warning about ``what`` says so.

    Raises: CheckpointError, about ``what``, for a parameter that contains NaN.
    """
    total, done, empty = sum(w.nbytes for w in _arrays(lm)), 0, 0
    for path, module in lm.named_modules():
        own = {
            f"{path}.{name}": value
            for name, value in module.items()
            if isinstance(value, mx.array) and name[0] != "_"
        }
        mx.eval(own)
        check_numbers(own.items(), what)
        empty += sum(w.nbytes for w in own.values() if not mx.any(w).item())
        done += sum(w.nbytes for w in own.values())
        if progress is not None and own:
            progress(done / total)
    mx.clear_cache()
    if total and empty / total >= MOST_ZERO:
        share = 100 * empty / total
        logger.warning(
            "%s: %.0f %% of them are zero, as where a download or a copy was not "
            "finished: fetch the file again if the model makes no sense",
            *(what, share),
        )


def _arrays(lm: nn.Module) -> Iterable[mx.array]:
    return dict(tree_flatten(lm.parameters())).values()


def nbytes(lm: nn.Module) -> int:
    """Bytes of a model's weights; arrays that layers share count once."""
    return sum({id(w): w.nbytes for w in _arrays(lm)}.values())


def quantize(
    lm: nn.Module,
    bits: int | None = None,
    group_size: int | None = None,
    mode: str = "affine",
    recipe: Recipe | None = None,
    progress: Progress | None = None,
) -> Quantization:
    """Quantise a model in place, layer by layer.

    Args:
        bits: 2, 3, 4, 5, 6 or 8; ``group_size`` and ``mode`` as in ``mx.quantize``.
        recipe: how to treat each layer, instead of all alike.
        progress: called with the share done, 0 to 1.

    Returns: what was done, for config.json and for the user.
    Raises: ConfigError for a quantised model, and for what MLX does not support.
    """
    if is_quantized(lm):
        raise ConfigError(
            "the model is quantised already: start from its full-precision weights."
        )
    with as_stored(lm):
        result = plan(lm, recipe or same(Choice.of(bits, group_size, mode)))
        apply(lm, result.layers)
        materialise(lm, progress=progress)
    return result


def is_quantized(lm: nn.Module) -> bool:
    """Whether any layer is quantised."""
    return any("scales" in module for module in lm.modules())


def describe(lm: nn.Module) -> Quantization:
    """How a model is quantised, for its config.json."""
    result = Quantization()
    for path, layer in reversed(lm.named_modules()):
        if "scales" in layer:
            result.layers[path] = Choice(layer.group_size, layer.bits, layer.mode)
    if result.layers:
        precise = (p for p in quantizable(lm) if not p.startswith(PRECISE))
        result.kept = dict.fromkeys(precise, "not quantised")
    return result
