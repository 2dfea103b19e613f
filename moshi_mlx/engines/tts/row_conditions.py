"""The conditions of a batch of speeches, whose voices may differ in length."""

from collections.abc import Sequence

import mlx.core as mx

from ...errors import ConfigError
from ...modules.attention import Condition, Masked
from ...modules.conditioner import (
    ConditionAttributes,
    ConditionTensor,
    dropout_all_conditions,
)
from .model import SpeechModel


def frames_of(attributes: ConditionAttributes) -> int:
    """Frames of a row's voices."""
    return sum(condition.tensor.shape[1] for condition in attributes.tensor.values())


def fused(
    tts: SpeechModel,
    attributes: Sequence[ConditionAttributes],
    rows: int,
    coef: float,
    apart: bool,
) -> tuple[ConditionTensor | None, Condition | None]:
    """Summed and attended conditions, with their null half under guidance.

    Args:
        tts: the model and its settings.
        attributes: of each row; empty for none.
        rows: number of rows.
        coef: guidance.
        apart: hide from each row what fills its voice up to the longest one.

    Raises: ConfigError for guidance that the model has learnt as a condition, and for
        another number of attributes.
    """
    provider = tts.lm.condition_provider
    if coef != 1.0 and tts.valid_cfg_conditionings:
        raise ConfigError(
            "this model learnt guidance as a condition: set tts.cfg_coef = 1 and "
            "give the coefficient to make_condition_attributes instead."
        )
    if not attributes or provider is None:
        return None, None
    if len(attributes) != rows:
        raise ConfigError(
            f"{len(attributes)} condition attributes were given for {rows} "
            "scripts: give one each."
        )
    if coef != 1.0:
        attributes = [*attributes, *dropout_all_conditions(attributes)]
    total, cross = provider.fuse(attributes)
    lengths = [frames_of(one) for one in attributes]
    if cross is None or not apart or len(set(lengths)) == 1:
        return total, cross
    seen = mx.arange(cross.shape[1]) < mx.array(lengths)[:, None]
    return total, Masked(cross, seen)
