"""Conditions: a model's inputs beside its streams, and their null values.

A condition of text comes from a look-up table, a condition of arrays (a voice) from a
matrix. Both are computed in float32, as in PyTorch, and cast where they are used. The
null condition of classifier-free guidance is the learnt padding.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import mlx.core as mx
import mlx.nn as nn

from .lora import LoraLinear
from .transformer import sin_embedding


@dataclass(frozen=True)
class TensorCondition:
    """Input of a tensor conditioner: ``tensor [B, T, D]``, ``mask [B, T]`` (0 null)."""

    tensor: mx.array
    mask: mx.array

    @staticmethod
    def from_tensor(tensor: mx.array) -> "TensorCondition":
        """Use all of ``tensor [B, T, D]``."""
        return TensorCondition(tensor, mx.ones(tensor.shape[:2], dtype=mx.uint8))

    @staticmethod
    def cat(conditions: Sequence["TensorCondition"]) -> "TensorCondition":
        """Join single rows to a batch; shorter ones are filled with null."""
        if not conditions:
            raise ValueError(
                "TensorCondition.cat got no conditions: give at least one."
            )
        length = max(c.tensor.shape[1] for c in conditions)

        def filled(array: mx.array) -> mx.array:
            rest = [(0, 0)] * (array.ndim - 2)
            return mx.pad(array, [(0, 0), (0, length - array.shape[1]), *rest])

        return TensorCondition(
            mx.concatenate([filled(c.tensor) for c in conditions]),
            mx.concatenate([filled(c.mask) for c in conditions]),
        )


@dataclass
class ConditionAttributes:
    """The conditions of one row: ``text`` by name (None = null), ``tensor`` by name."""

    text: dict[str, str | None] = field(default_factory=dict)
    tensor: dict[str, TensorCondition] = field(default_factory=dict)

    @property
    def text_attributes(self) -> Iterable[str]:
        return self.text.keys()

    @property
    def tensor_attributes(self) -> Iterable[str]:
        return self.tensor.keys()

    @staticmethod
    def condition_types() -> frozenset[str]:
        return frozenset(["text", "tensor"])

    def copy(self) -> "ConditionAttributes":
        return ConditionAttributes(dict(self.text), dict(self.tensor))


def dropout_tensor(condition: TensorCondition) -> TensorCondition:
    """The null condition of the same shape."""
    return TensorCondition(
        mx.zeros_like(condition.tensor), mx.zeros_like(condition.mask)
    )


def dropout_all_conditions(
    attributes: Sequence[ConditionAttributes],
) -> list[ConditionAttributes]:
    """The same attributes with every condition null."""
    return [
        ConditionAttributes(
            dict.fromkeys(a.text),
            {name: dropout_tensor(value) for name, value in a.tensor.items()},
        )
        for a in attributes
    ]


@dataclass
class TensorConditionerConfig:
    """``pos_emb_scale``: factor of the sinusoids that ``condition`` adds (fuser).

    ``fused``: whether the fuser names the condition; it has no effect otherwise.
    """

    dim: int
    pos_emb_scale: float = 1.0
    fused: bool = True


@dataclass
class LutConditionerConfig:
    """``possible_values`` None: values are hashed into the bins, as in PyTorch."""

    n_bins: int
    dim: int
    tokenizer: str
    possible_values: Sequence[str] | Mapping[str, int] | None = None
    fused: bool = True


class _Conditioner(nn.Module):
    def __init__(self, dim: int, output_dim: int):
        super().__init__()
        self.input_dim = dim
        self.output_proj = nn.Linear(dim, output_dim, bias=False)
        self.learnt_padding = mx.zeros((1, 1, output_dim))

    def _project(self, x: mx.array) -> mx.array:
        """Project in float32, or in a quantised layer's own type."""
        layer = self.output_proj
        if isinstance(layer, LoraLinear):
            change = layer.change(x.astype(mx.float32))
            return self._through(layer.layer, x) + change
        return self._through(layer, x)

    def _through(self, layer: nn.Module, x: mx.array) -> mx.array:
        if isinstance(layer, nn.Linear):
            weight = layer["weight"].astype(mx.float32)
            return x.astype(mx.float32) @ weight.T
        scales = layer["scales"]
        dtype = scales.dtype if scales.dtype != mx.uint8 else mx.float32
        return layer(x.astype(dtype)).astype(mx.float32)

    @property
    def padding(self) -> mx.array:
        """The null condition ``[1, 1, D]``."""
        return self.learnt_padding.astype(mx.float32)


class TensorConditioner(_Conditioner):
    """A matrix on a sequence of vectors; null where the mask is 0."""

    def __init__(self, output_dim: int, cfg: TensorConditionerConfig):
        super().__init__(cfg.dim, output_dim)
        self.pos_emb_scale = cfg.pos_emb_scale

    def project(self, value: TensorCondition) -> mx.array:
        """``[B, T, dim] -> [B, T, D]``, before positions are added."""
        mask = value.mask.astype(mx.float32)[..., None]
        return self._project(value.tensor) * mask + self.padding * (1 - mask)

    def condition(self, value: TensorCondition) -> mx.array:
        """``[B, T, dim] -> [B, T, D]``, ready as ``cross_attention_src``."""
        return add_positions(self.project(value), self.pos_emb_scale)


class LutConditioner(_Conditioner):
    """One vector per value of a closed set."""

    def __init__(self, output_dim: int, cfg: LutConditionerConfig):
        super().__init__(cfg.dim, output_dim)
        if cfg.tokenizer != "noop":
            raise ValueError(
                f"conditioner tokenizer {cfg.tokenizer!r} is unknown: only 'noop' is."
            )
        self.embed = nn.Embedding(cfg.n_bins + 1, cfg.dim)
        self.n_bins = cfg.n_bins
        values = cfg.possible_values
        self.possible_values = (
            None if values is None else {v: i for i, v in enumerate(values)}
        )

    def condition(self, value: str | None) -> mx.array:
        """The vector ``[1, D]`` of a value; None is the null condition.

        Raises: ValueError for a value that the model does not know.
        """
        if value is None:
            return self.padding[0]
        if self.possible_values is None:
            digest = hashlib.sha256(value.encode()).hexdigest()
            row = int(digest, 16) % self.n_bins
        elif value in self.possible_values:
            row = self.possible_values[value]
        else:
            known = ", ".join(self.possible_values)
            raise ValueError(
                f"condition value {value!r} is unknown: use one of {known}."
            )
        return self._project(self.embed(mx.array([row])))


def add_positions(x: mx.array, scale: float) -> mx.array:
    """``x [B, T, D]`` plus ``scale`` times the sinusoids of 0 .. T."""
    if not scale:
        return x
    return x + scale * sin_embedding(mx.arange(x.shape[1]), x.shape[2], 10_000)


@dataclass
class ConditionTensor:
    """A summed condition, ``[B, D]`` or ``[B, 1, D]``, added to every step's input."""

    tensor: mx.array


class ConditionProvider(nn.Module):
    """All conditioners of a model, by name.

    Args:
        output_dim: width D of the model.
        cfg: per name the config of a look-up or tensor conditioner.
    """

    def __init__(
        self,
        output_dim: int,
        cfg: Mapping[str, LutConditionerConfig | TensorConditionerConfig],
    ):
        super().__init__()
        self.conditioners: dict[str, LutConditioner | TensorConditioner] = {}
        for name, c in cfg.items():
            lut = isinstance(c, LutConditionerConfig)
            kind = LutConditioner if lut else TensorConditioner
            self.conditioners[name] = kind(output_dim, c)  # type: ignore[arg-type]
        self._fused = tuple(name for name, c in cfg.items() if c.fused)

    def condition_tensor(self, name: str, value: str | None) -> ConditionTensor:
        """The summed condition ``[1, D]`` of one text attribute, None for its null.

        Raises: ValueError for a name or value that the model does not know.
        """
        conditioner = self.conditioners.get(name)
        if not isinstance(conditioner, LutConditioner):
            known = ", ".join(self.conditioners)
            raise ValueError(
                f"text condition {name!r} is unknown: the model has {known}."
            )
        return ConditionTensor(conditioner.condition(value))

    def null(self) -> ConditionTensor | None:
        """The sum of all text conditions' null values, None if there are none."""
        fused = (self.conditioners[name] for name in self._fused)
        nulls = [c.condition(None) for c in fused if isinstance(c, LutConditioner)]
        return ConditionTensor(sum(nulls[1:], nulls[0])) if nulls else None

    def fuse(
        self, attributes: Sequence[ConditionAttributes]
    ) -> tuple[ConditionTensor | None, mx.array | None]:
        """Conditions of a batch: summed ``[B, D]`` and to attend to ``[B, S, D]``.

        Attributes that a row leaves out are null if another row has them.
        """
        total: mx.array | None = None
        for name in self._given(a.text for a in attributes):
            rows = [self.condition_tensor(name, a.text.get(name)) for a in attributes]
            stacked = mx.concatenate([row.tensor for row in rows])
            total = stacked if total is None else total + stacked
        parts, scale = [], 0.0
        for name in self._given(a.tensor for a in attributes):
            conditioner = self.conditioners[name]
            if not isinstance(conditioner, TensorConditioner):
                raise ValueError(f"condition {name!r} is of text, not an array.")
            like = next(a.tensor[name] for a in attributes if name in a.tensor)
            null = dropout_tensor(like)
            rows = TensorCondition.cat([a.tensor.get(name, null) for a in attributes])
            parts.append(conditioner.project(rows))
            scale = conditioner.pos_emb_scale
        cross = add_positions(mx.concatenate(parts, 1), scale) if parts else None
        return None if total is None else ConditionTensor(total), cross

    def _given(self, named: Iterable[Mapping[str, object]]) -> list[str]:
        """Conditions with an effect that any row names, in the model's order."""
        names = {name for names in named for name in names}
        unknown = sorted(names - set(self.conditioners))
        if unknown:
            known = ", ".join(self.conditioners)
            raise ValueError(
                f"condition {unknown[0]!r} is unknown: the model has {known}."
            )
        return [name for name in self._fused if name in names]
