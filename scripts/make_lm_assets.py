"""Golden data of guidance and of rows on their own, where Kyutai's files leave gaps.

Run by hand, with Kyutai's PyTorch package in the interpreter:

    pip install moshi==0.2.13
    NO_TORCH_COMPILE=1 python scripts/make_lm_assets.py tests/data/lm_guided

Written are a small random model (a delayed text stream, a summed condition) and what
``LMGen`` gives for it, greedily, in fp32 on CPU:

- ``no_text``, ``masked``, ``both``: guidance 2 for two rows, with the null half seeing
  no text, nothing until a step of its own per row, or neither; ``plain`` guides the
  same rows with all inputs. ``[B, 1 + own, T]``.
- ``rows``: three rows that start, pause (``active [B, T]``) and are reset (``reset``,
  before the step) on their own; -2 where a row has nothing to say.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch  # pyright: ignore[reportMissingImports]
from moshi.conditioners import (  # pyright: ignore[reportMissingImports]
    ConditionAttributes,
    dropout_all_conditions,
)
from moshi.models import LMGen  # pyright: ignore[reportMissingImports]
from moshi.models.loaders import (  # pyright: ignore[reportMissingImports]
    get_moshi_lm,
)
from safetensors.torch import save_file  # pyright: ignore[reportMissingImports]

CONFIG: dict[str, Any] = {
    "dim": 32,
    "text_card": 40,
    "existing_text_padding_id": 3,
    "n_q": 6,
    "dep_q": 3,
    "card": 24,
    "num_heads": 4,
    "num_layers": 2,
    "hidden_scale": 4.125,
    "causal": True,
    "layer_scale": None,
    "context": 7,
    "max_period": 10000,
    "gating": "silu",
    "norm": "rms_norm_f32",
    "positional_embedding": "rope",
    "depformer_dim": 16,
    "depformer_dim_feedforward": 66,
    "depformer_num_heads": 2,
    "depformer_num_layers": 2,
    "depformer_multi_linear": True,
    "depformer_weights_per_step": True,
    "depformer_pos_emb": "none",
    "delays": [1, 0, 2, 1, 0, 2, 1],
    "conditioners": {
        "mood": {
            "type": "lut",
            "lut": {
                "n_bins": 2,
                "dim": 4,
                "tokenizer": "noop",
                "possible_values": ["sad", "glad"],
            },
        }
    },
    "fuser": {"sum": ["mood"], "cross": []},
}
STEPS = 30
GUIDED: dict[str, dict[str, Any]] = {
    "plain": {},
    "no_text": {"cfg_is_no_text": True},
    "masked": {"cfg_is_masked_until": [4, 11]},
    "both": {"cfg_is_no_text": True, "cfg_is_masked_until": [4, 11]},
}


def make_model() -> Any:
    torch.manual_seed(11)
    lm = get_moshi_lm(None, json.loads(json.dumps(CONFIG)), dtype=torch.float32)
    for name, weight in lm.named_parameters():
        if not name.endswith("alpha"):
            torch.nn.init.normal_(weight.data, std=1.5 * weight.shape[-1] ** -0.5)
    return lm.eval()


def released_names(lm: Any) -> dict[str, torch.Tensor]:
    """The state under the names of released files: weight sets joined by rows."""
    found: dict[str, torch.Tensor] = {}
    for name, weight in lm.state_dict().items():
        for part, whole in (("in_projs", "in_proj_weight"), ("out_projs", "out_proj")):
            if f".{part}." in name:
                end = whole if whole.endswith("weight") else f"{whole}.weight"
                name = f"{name.split(f'.{part}.')[0]}.{end}"
        same = name in found  # state_dict keeps the order of the sets
        found[name] = torch.cat([found[name], weight]) if same else weight
    return {name: weight.contiguous() for name, weight in found.items()}


def conditions(lm: Any, guided: bool, rows: int) -> Any:
    attributes = [ConditionAttributes({"mood": "glad"}, {}) for _ in range(rows)]
    if guided:
        attributes += dropout_all_conditions(attributes)
    return lm.condition_provider.prepare_and_provide(attributes)


def guided(lm: Any, frames: torch.Tensor, options: dict[str, Any]) -> torch.Tensor:
    gen = LMGen(
        lm,
        use_sampling=False,
        cfg_coef=2.0,
        condition_tensors=conditions(lm, True, len(frames)),
        **options,
    )
    columns = []
    with gen.streaming(len(frames)):
        for t in range(STEPS):
            out = gen.step(frames[:, :, t : t + 1])
            nothing = torch.full((len(frames), 1 + CONFIG["dep_q"], 1), -2)
            columns.append(nothing if out is None else out)
    return torch.cat(columns, dim=2)


def rows(
    lm: Any, frames: torch.Tensor, active: torch.Tensor, reset: torch.Tensor
) -> torch.Tensor:
    gen = LMGen(
        lm,
        use_sampling=False,
        support_out_of_sync=True,
        condition_tensors=conditions(lm, False, len(frames)),
    )
    columns = []
    with gen.streaming(len(frames)):
        for t in range(STEPS):
            if reset[:, t].any():
                gen.reset_streaming(reset[:, t])
            gen.set_exec_mask(active[:, t])
            columns.append(gen.step(frames[:, :, t : t + 1]))
    return torch.cat(columns, dim=2)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lm = make_model()
    other = CONFIG["n_q"] - CONFIG["dep_q"]
    frames = torch.randint(0, CONFIG["card"], (3, other, STEPS))
    active = torch.rand(3, STEPS) < 0.75
    reset = torch.zeros(3, STEPS, dtype=torch.bool)
    reset[0, 12] = reset[2, 19] = reset[0, 20] = True
    io = {name: guided(lm, frames[:2], opts) for name, opts in GUIDED.items()}
    io |= {"rows": rows(lm, frames, active, reset), "user_codes": frames}
    io = {name: codes.to(torch.int32).contiguous() for name, codes in io.items()}
    io |= {"active": active.to(torch.uint8), "reset": reset.to(torch.uint8)}
    save_file(io, folder / "io.safetensors")
    save_file(released_names(lm), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
