"""A schema for JSON objects: for each key a kind of value, a range and a bound.

A schema is a mapping from keys to kinds, or to schemas of nested objects. Keys that it
does not name are ignored.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Union

from ..errors import ConfigError

MAX_SHOWN = 60  # characters of a wrong value in a message
MOST_KEYS = 30  # in a message


@dataclass(frozen=True)
class Room:
    """Limits that follow from the tensors of a checkpoint.

    Attributes:
        axis: length of the longest axis of any tensor, unpacked.
        tensors: number of tensors.
    """

    axis: int
    tensors: int


@dataclass(frozen=True)
class Kind:
    """A kind of value.

    Attributes:
        words: the kind in words that can follow "give".
        fits: whether a value is of this kind.
        bound: "axis" or "tensors": the limit in ``Room`` that no value may exceed.
    """

    words: str
    fits: Callable[[Any], bool]
    bound: str | None = None


Schema = Mapping[str, Union[Kind, "Schema"]]


def whole(least: int, most: int) -> Kind:
    """An integer; true and false are not."""
    return Kind(
        f"a whole number from {least} to {most}",
        lambda v: type(v) is int and least <= v <= most,
    )


def number(least: float, most: float) -> Kind:
    return Kind(
        f"a number from {least:g} to {most:g}",
        lambda v: type(v) in (int, float) and least <= v <= most,
    )


def above(least: float, most: float) -> Kind:
    """A number above ``least``."""
    return Kind(
        f"a number above {least:g} and up to {most:g}",
        lambda v: type(v) in (int, float) and least < v <= most,
    )


def flag() -> Kind:
    return Kind("true or false", lambda v: type(v) is bool)


def text(words: str, pattern: str = ".{1,1000}") -> Kind:
    compiled = re.compile(pattern)
    return Kind(words, lambda v: isinstance(v, str) and bool(compiled.fullmatch(v)))


def listed(inner: Kind, words: str, least: int = 0, most: int = 10_000) -> Kind:
    """A list of ``least`` to ``most`` values of one kind, which ``words`` names."""
    return Kind(
        f"a list of {words}",
        lambda v: (
            isinstance(v, list | tuple)
            and least <= len(v) <= most
            and all(map(inner.fits, v))
        ),
        inner.bound,
    )


def either(*kinds: Kind) -> Kind:
    return Kind(
        ", or ".join(kind.words for kind in kinds),
        lambda v: any(kind.fits(v) for kind in kinds),
        next((kind.bound for kind in kinds if kind.bound), None),
    )


def bounded(kind: Kind, bound: str) -> Kind:
    """The same kind, limited by the checkpoint's tensors."""
    return replace(kind, bound=bound)


def or_null(kind: Kind) -> Kind:
    """The same kind, or null if null does not count as absent."""
    return replace(kind, fits=lambda v: v is None or kind.fits(v))


def check(
    data: Any,
    schema: Schema,
    room: Room | None = None,
    inside: str = "",
    *,
    null_is_absent: bool = True,
) -> None:
    """Check every value that is there.

    Args:
        room: what the weights leave room for, if they are known.
        inside: names of the enclosing objects, for messages.
        null_is_absent: whether null stands for the default.

    Raises: ConfigError naming the first value that does not fit.
    """
    if not isinstance(data, Mapping):
        raise unfit(inside.strip() or "the whole", data, "an object")
    for key, kind in schema.items():
        value, name = data.get(key), f"{inside}{key}"
        if key not in data or (value is None and null_is_absent):
            continue
        if not isinstance(kind, Kind):
            check(value, kind, room, f"{name} ", null_is_absent=null_is_absent)
        elif not kind.fits(value):
            raise unfit(name, value, kind.words)
        elif room is not None and kind.bound is not None and value is not None:
            _check_room(name, value, kind.bound, room)


def _check_room(name: str, value: Any, bound: str, room: Room) -> None:
    largest = max(value, default=0) if isinstance(value, list | tuple) else value
    has = {
        "axis": f"no axis of the weights is longer than {room.axis}",
        "tensors": f"the weights are {room.tensors} tensors in all",
    }
    if largest > getattr(room, bound):
        raise ConfigError(
            f"config has {name} {shortened(value)} but {has[bound]}: they belong to "
            "another configuration."
        )


def without_nulls(data: Mapping[str, Any]) -> dict[str, Any]:
    """The values that are present. Null means the default, unless it is a choice of its
    own: no ``depformer_layer_scale`` beside the main stack's, no ``causal``."""
    kept = ("causal", "depformer_layer_scale")
    return {key: v for key, v in data.items() if v is not None or key in kept}


def shortened(value: Any) -> str:
    """A value as a message shows it, cut if it is long."""
    shown = repr(value)
    return shown if len(shown) <= MAX_SHOWN else f"{shown[:MAX_SHOWN]}..."


def in_words(keys: Sequence[str]) -> str:
    """A list of keys as a message shows it: a stranger chose them."""
    shown = [key if key.isidentifier() else shortened(key) for key in keys[:MOST_KEYS]]
    more = f" and {len(keys) - MOST_KEYS} more" if len(keys) > MOST_KEYS else ""
    return ", ".join(key[:MAX_SHOWN] for key in shown) + more


def unfit(name: str, value: Any, wanted: str) -> ConfigError:
    return ConfigError(f"config has {name} {shortened(value)}: give {wanted}.")
