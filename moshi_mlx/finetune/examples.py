"""Micro-batches whose rows have conditions, or a start that is not learnt."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import mlx.core as mx

from ..errors import ConfigError
from ..models.prompt import Frames
from ..modules.conditioner import (
    ConditionAttributes,
    ConditionProvider,
    ConditionTensor,
    LutConditioner,
)

Told = Mapping[str, str | None]  # text conditions by name


class Examples(NamedTuple):
    """A micro-batch with everything that its codes do not say.

    Attributes:
        codes: ``[B, 1 + n_q, T]``, text first, not delayed.
        start: int32 ``[B]``, the first learnt frame of each row.
        told: int32 ``[B]``, the number of each row's conditions.
        embedded: ``[B, N, D]``, which rows read instead of their first tokens, in as
            many steps as ``embedded_steps [B]`` says; None if no row has any.
    """

    codes: mx.array
    start: mx.array
    told: mx.array
    embedded: mx.array | None = None
    embedded_steps: mx.array | None = None


def embedded_of(
    prompts: Sequence[Frames | None],
) -> tuple[mx.array, mx.array] | tuple[None, None]:
    """The embedded voices that rows begin with, as ``Examples`` has them."""
    parts = [None if prompt is None else prompt.embedded for prompt in prompts]
    found = [part for part in parts if part is not None]
    if not found:
        return None, None
    steps = [0 if part is None else len(part) for part in parts]
    longest, nothing = max(steps), mx.zeros((0, found[0].shape[1]))
    rows = [
        mx.pad(nothing if part is None else part, [(0, longest - count), (0, 0)])
        for part, count in zip(parts, steps, strict=True)
    ]
    return mx.stack(rows), mx.array(steps, mx.int32)


Batch: TypeAlias = Any  # an array of codes, if all is learnt, or ``Examples``


class Conditions:
    """The text conditions that recordings name, each different set once.

    Args:
        provider: the model's; None for one without conditions.
        default: the conditions of a recording that names none.
    """

    def __init__(self, provider: ConditionProvider | None, default: Told):
        self._provider = provider
        self._default = dict(default)
        self.known: list[dict[str, str | None]] = []

    def number(self, told: Told, where: str) -> int:
        """The number of a recording's conditions.

        Args:
            where: the source, for messages.

        Raises: ConfigError for a condition that the model does not have.
        """
        if self._provider is None:
            return 0
        whole = {**self._default, **told}
        try:
            for name, value in whole.items():
                self._provider.condition_tensor(name, value)
        except (ValueError, AttributeError) as error:
            raise ConfigError(f"{where}: {error}") from error
        if whole not in self.known:
            self.known.append(whole)
        return self.known.index(whole)

    @property
    def attributes(self) -> list[ConditionAttributes]:
        """All sets, by number; empty if no recording names any."""
        if not any(self.known):
            return []
        return [ConditionAttributes(dict(told)) for told in self.known]


def condition_of_rows(
    provider: ConditionProvider | None,
    attributes: Sequence[ConditionAttributes],
    told: mx.array | None,
) -> ConditionTensor | None:
    """The summed condition ``[B, D]`` of rows; None if they have none.

    Args:
        told: the number of each row's attributes.
    """
    if provider is None or not attributes or told is None:
        return None
    summed, _ = provider.fuse(attributes)
    return None if summed is None else ConditionTensor(summed.tensor[told])


def default_conditions(
    provider: ConditionProvider | None, description: str | None
) -> Told:
    """A model's default conditions when it runs."""
    has = provider is not None and isinstance(
        provider.conditioners.get("description"), LutConditioner
    )
    return {"description": description} if has and description else {}
