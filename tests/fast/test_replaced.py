"""What a layer derives from its weights is no parameter, and follows them."""

from typing import Any

import mlx.core as mx
import mlx.nn as nn

from tests import tiny


def test_every_replacement_is_noticed_and_derived_arrays_are_none():
    def change(lm: Any, way: str) -> None:
        layers, gate = lm.transformer.layers, lm.transformer.layers[1].gating
        match way:
            case "weight":
                gate.linear_out.weight = gate.linear_out.weight + 1
            case "layer":
                gate.linear_out = nn.Linear(*reversed(gate.linear_out.weight.shape))
            case "stack":
                lm.transformer.layers = [*layers[1:], layers[0]]
            case "list":
                layers.append(layers[0])
            case "bias":
                lm.out_norm.bias = mx.zeros(lm.out_norm.weight.shape)
            case "derived":
                lm.out_norm._derived = mx.zeros(3)

    for way in ("weight", "layer", "stack", "list", "bias", "derived"):
        lm = tiny.lm()
        first = lm.ready()
        assert lm.ready() is first
        change(lm, way)
        assert (lm.ready() is first) == (way == "derived"), way
