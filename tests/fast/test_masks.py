"""On a GPU, masks of rows that are apart are laid out once a frame for all layers."""

from collections.abc import Callable
from typing import Any

import mlx.core as mx

from moshi_mlx.fast import ops
from moshi_mlx.models import Lm, LmConfig
from tests.tiny import BASE, greedy


def masks_and_tokens(monkeypatch, steps: list[list[bool]]) -> tuple[list[Any], Any]:
    """Masks that attention was given in the last step, and the tokens of all."""
    attention: Callable[..., mx.array] = mx.fast.scaled_dot_product_attention
    seen: list[Any] = []

    def watched(*args: Any, mask: Any = None, **kwargs: Any) -> mx.array:
        seen.append(mask)
        return attention(*args, mask=mask, **kwargs)

    mx.random.seed(0)
    gen = greedy(Lm(LmConfig.from_config_dict(BASE)), batch_size=2)
    tokens = []
    with monkeypatch.context() as patch:
        patch.setattr(mx.fast, "scaled_dot_product_attention", watched)
        for active in steps:
            seen.clear()
            heard = mx.zeros((2, gen.model.cfg.other_codebooks), mx.int32)
            tokens.append(gen.step(heard, active=active)[0].tolist())
    return [mask for mask in seen if mask is not None], tokens


APART = [[True, True]] * 2 + [[True, False]] * 3 + [[True, True]]


def test_rows_that_are_apart_share_one_whole_mask_in_all_layers(monkeypatch):
    monkeypatch.setattr(ops, "on_gpu", lambda: True)
    masks, tokens = masks_and_tokens(monkeypatch, APART)
    layers = BASE["num_layers"]
    assert len(masks) == layers > 1
    assert len({id(mask) for mask in masks}) == 1
    assert masks[0].shape == (2, BASE["num_heads"], 1, 6)
    assert masks[0].tolist()[1][0][0] == [True] * 3 + [False] * 3
    monkeypatch.setattr(ops, "on_gpu", lambda: False)
    assert masks_and_tokens(monkeypatch, APART)[1] == tokens


def test_rows_that_are_together_need_no_mask(monkeypatch):
    monkeypatch.setattr(ops, "on_gpu", lambda: True)
    assert masks_and_tokens(monkeypatch, [[True, True]] * 4)[0] == []
