"""Names and shapes of tensors are an interface: quantised models, and the codec.

tests/data/names/0.3.0.json lists what moshi_mlx 0.3.0 called its tensors (on MLX
0.32.4): the name with its numbers as ``*``, the shape, and how many there are. ``.q4``
and ``.q8`` are presets after ``nn.quantize``, as Kyutai publishes them. The plain
presets are in tests/models/test_released_keys.py.
"""

import json
import re
from collections import Counter

import mlx.nn as nn
import pytest
from mlx.utils import tree_flatten

from moshi_mlx import models
from moshi_mlx.models.mimi import Mimi, mimi_202407
from tests.tiny import DATA

NAMES = json.loads((DATA / "names" / "0.3.0.json").read_text())
QUANTISED = {"q4": (32, 4), "q8": (64, 8)}  # group size, bits


def pattern(name: str) -> str:
    return re.sub(r"(?<=\.)\d+(?=\.)", "*", name)


def build(preset: str) -> nn.Module:
    """The full-size network; nothing is computed, so it takes no memory."""
    if found := re.fullmatch(r"mimi_202407\((\d+)\)", preset):
        return Mimi(mimi_202407(int(found[1])))
    name, quantised = preset.split(".")
    lm = models.Lm(getattr(models, name)())
    nn.quantize(lm, *QUANTISED[quantised])
    return lm


@pytest.mark.parametrize("preset", NAMES)
def test_tensors_are_named_as_in_0_3_0(preset):
    tensors = tree_flatten(build(preset).parameters(), destination={})
    assert isinstance(tensors, dict)
    found = Counter((pattern(name), array.shape) for name, array in tensors.items())
    wanted = {(name, tuple(shape)): count for name, shape, count in NAMES[preset]}
    assert dict(found) == wanted
