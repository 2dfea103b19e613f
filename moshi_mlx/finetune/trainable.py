"""The arrays that training changes, and the places in the network that use each.

Steps of the depth transformer share sets of weights, and Kyutai's files have one
adapter for each set. Gradients taken module by module would give every step an adapter
of its own. So the arrays live in one flat dictionary with Kyutai's names, and are put
into all of their places before the network runs.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_unflatten

from ..errors import ConfigError
from ..models.kyutai_names import kyutai_name
from ..models.lm import Lm
from ..modules.embedding import QuantizedScaledEmbedding, ScaledEmbedding
from ..modules.lora import LoraLinear, linear_shape

Arrays = dict[str, mx.array]
A, B = "lora_A", "lora_B"
UNREACHED = ("condition_provider", "extra_heads")  # not reached by the losses


@dataclass
class Trainable:
    """Arrays by name, and the places (module, key) that use each.

    Attributes:
        arrays: float32, whatever the network computes in.
        dtypes: number types in which the network uses those that are weights
            themselves.
    """

    arrays: Arrays = field(default_factory=dict)
    places: dict[str, list[tuple[nn.Module, str]]] = field(default_factory=dict)
    dtypes: dict[str, mx.Dtype] = field(default_factory=dict)

    def add(self, name: str, array: mx.array, module: nn.Module, key: str) -> None:
        """One more place of an array; the first one gives its value."""
        self.arrays.setdefault(name, array.astype(mx.float32))
        self.places.setdefault(name, []).append((module, key))

    def put(self, arrays: Mapping[str, mx.array]) -> None:
        """Put these values into the network."""
        for name, array in arrays.items():
            dtype = self.dtypes.get(name)
            array = array if dtype is None else array.astype(dtype)
            for module, key in self.places[name]:
                module[key] = array

    @property
    def size(self) -> int:
        """The count of trained numbers."""
        return sum(array.size for array in self.arrays.values())


def linear_layers(lm: Lm) -> dict[str, nn.Module]:
    """Every linear layer of a model, quantised or not, by its path."""
    kinds = nn.Linear, nn.QuantizedLinear
    return {p: m for p, m in reversed(lm.named_modules()) if isinstance(m, kinds)}


def add_adapters(
    lm: Lm,
    rank: int = 16,
    scaling: float = 2.0,
    *,
    keys: Sequence[str] = (),
    num_layers: int = -1,
    dropout: float = 0.0,
    seed: int = 0,
) -> Trainable:
    """Put new adapters beside a model's linear layers; only they are trained then.

    A starts like moshi-finetune's, uniform within ``1 / sqrt(inputs)``, and B as zeros.

    Args:
        rank: of each adapter.
        scaling: factor of its output, whatever the rank.
        keys: parts of names ("self_attn", "depformer", "text_linear") of the layers to
            adapt, in Kyutai's naming or ours; all if empty.
        num_layers: number of last layers of the main transformer to adapt; -1 for all.
        seed: of A.

    Raises: ConfigError if the keys name no layer.
    """
    lm.freeze()
    chosen = {
        path: layer
        for path, layer in linear_layers(lm).items()
        if _wanted(lm, path, keys, num_layers)
    }
    if not chosen:
        raise ConfigError(
            f"no layer of the model is called {', '.join(keys) or 'anything'}: use "
            "names like self_attn, gating, depformer or text_linear."
        )
    found, wrapped = Trainable(), []
    halves = _new_halves(lm, chosen, rank, seed)
    for path, layer in chosen.items():
        name = kyutai_name(lm.cfg, path)
        a, b = halves[name]
        adapted = LoraLinear(layer, a, b, scaling, dropout)
        wrapped.append((path, adapted))
        found.add(f"{name}.{A}.weight", a, adapted, A)
        found.add(f"{name}.{B}.weight", b, adapted, B)
    lm.update_modules(tree_unflatten(wrapped))
    for _, adapted in wrapped:
        adapted.unfreeze(keys=[A, B], recurse=False)
    return found


def _wanted(lm: Lm, path: str, keys: Sequence[str], num_layers: int) -> bool:
    start, _, rest = path.partition("transformer.layers.")
    if num_layers >= 0 and not start:
        number = int(rest.partition(".")[0])
        if number < len(lm.transformer.layers) - num_layers:
            return False
    names = f".{path}.", f".{kyutai_name(lm.cfg, path)}."
    return not keys or any(f".{key}." in name for key in keys for name in names)


def _new_halves(
    lm: Lm, layers: Mapping[str, nn.Module], rank: int, seed: int
) -> dict[str, tuple[mx.array, mx.array]]:
    key, halves = mx.random.key(seed), {}
    for path, layer in layers.items():
        name = kyutai_name(lm.cfg, path)
        if name in halves:
            continue
        (rows, columns), (key, own) = linear_shape(layer), mx.random.split(key)
        bound = columns**-0.5
        a = mx.random.uniform(-bound, bound, (rank, columns), key=own)
        halves[name] = a, mx.zeros((rows, rank))
    return halves


def zero_adapters(lm: Lm, rank: int) -> Arrays:
    """Adapters without effect, for the layers that have none, by Kyutai's names."""
    adapted = {path for path, m in lm.named_modules() if isinstance(m, LoraLinear)}
    found: Arrays = {}
    for path, layer in linear_layers(lm).items():
        if path.removesuffix(".layer") in adapted:
            continue
        name, (rows, columns) = kyutai_name(lm.cfg, path), linear_shape(layer)
        found[f"{name}.{A}.weight"] = mx.zeros((rank, columns))
        found[f"{name}.{B}.weight"] = mx.zeros((rows, rank))
    return found


def add_embeddings(lm: Lm, found: Trainable) -> None:
    """Train the tables too (moshi-finetune's ``ft_embed``).

    Raises: ConfigError for tables that are quantised.
    """
    for path, layer in reversed(lm.named_modules()):
        if isinstance(layer, QuantizedScaledEmbedding):
            raise ConfigError(
                "the model's embeddings are quantised, so that they cannot be trained: "
                "leave --train-embeddings out, or start from full-precision weights."
            )
        if isinstance(layer, ScaledEmbedding):
            _add_weight(found, f"{kyutai_name(lm.cfg, path)}.weight", layer, "weight")
            layer.unfreeze(keys=["weight"], recurse=False)


def everything(lm: Lm) -> Trainable:
    """Train all weights of a model. Raises: ConfigError for a quantised one."""
    found, names = Trainable(), dict[int, str]()
    lm.unfreeze()
    for path, module in reversed(lm.named_modules()):
        if path.startswith(UNREACHED):
            module.freeze()
            continue
        if "scales" in module:
            raise ConfigError(
                "quantised weights cannot be trained themselves: use "
                "--fine-tune-type lora, or start from full-precision weights."
            )
        for key, array in _own_arrays(module):
            name = names.setdefault(id(array), f"{path}.{key}".removeprefix("."))
            _add_weight(found, name, module, key)
    return found


def _own_arrays(module: nn.Module) -> Iterable[tuple[str, mx.array]]:
    own = dict(tree_flatten(module.parameters()))
    return [(key, array) for key, array in own.items() if "." not in key]


def _add_weight(found: Trainable, name: str, module: nn.Module, key: str) -> None:
    found.dtypes[name] = module[key].dtype
    found.add(name, module[key], module, key)
