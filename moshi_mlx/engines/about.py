"""A model in a few words, for ``repr``."""

from ..checkpoint.cost import cost
from ..models.lm import Lm


def about(lm: Lm) -> str:
    """Parameters, bits and bytes: "1.0 B parameters, 8.5 bits each, 1.1 GB"."""
    found = cost(lm)
    many, unit = found.parameters / 1e6, "M"
    if many >= 1000:
        many, unit = many / 1000, "B"
    return (
        f"{many:.3g} {unit} parameters, {found.bits_per_weight:.3g} bits each, "
        f"{found.nbytes / 1e9:.2g} GB"
    )
