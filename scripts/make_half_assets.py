"""Golden data of half precision: how far PyTorch's bfloat16 strays from its float32.

Run by hand, with Kyutai's PyTorch package in the interpreter:

    pip install moshi==0.2.13
    NO_TORCH_COMPILE=1 python scripts/make_half_assets.py tests/data/lm_half

Writes a random model of 12 layers whose weights are bfloat16 numbers, a sequence of
codes, and the model's logits for it in float32 (``text_logits``, ``audio_logits``).
config.json also holds, as ``bfloat16_kl``, the mean divergence KL(float32 || bfloat16)
of PyTorch's own bfloat16 logits, in nats, for text and for audio.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch  # pyright: ignore[reportMissingImports]
from make_lm_assets import released_names
from moshi.models.loaders import (  # pyright: ignore[reportMissingImports]
    get_moshi_lm,
)
from safetensors.torch import save_file  # pyright: ignore[reportMissingImports]

CONFIG: dict[str, Any] = {
    "dim": 64,
    "text_card": 60,
    "existing_text_padding_id": 3,
    "n_q": 8,
    "dep_q": 4,
    "card": 48,
    "num_heads": 2,
    "num_layers": 12,
    "hidden_scale": 4.125,
    "causal": True,
    "layer_scale": None,
    "context": 64,
    "max_period": 10000,
    "gating": "silu",
    "norm": "rms_norm_f32",
    "positional_embedding": "rope",
    "depformer_dim": 64,
    "depformer_dim_feedforward": 256,
    "depformer_num_heads": 2,
    "depformer_num_layers": 3,
    "depformer_multi_linear": True,
    "depformer_weights_per_step": True,
    "depformer_pos_emb": "none",
    "delays": [0, 0, 1, 1, 1, 0, 1, 1, 1],
}
ROWS, STEPS = 8, 60


def make_model(dtype: torch.dtype) -> Any:
    """The same numbers in either type: float32 weights are rounded to bfloat16."""
    torch.manual_seed(7)
    lm = get_moshi_lm(None, json.loads(json.dumps(CONFIG)), dtype=torch.float32)
    for name, weight in lm.named_parameters():
        if not name.endswith("alpha"):
            torch.nn.init.normal_(weight.data, std=1.5 * weight.shape[-1] ** -0.5)
        weight.data = weight.data.to(torch.bfloat16).float()
    return lm.to(dtype).eval()


def logits(lm: Any, codes: torch.Tensor) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        out = lm(codes)
    return {
        "text_logits": out.text_logits.float().nan_to_num(),
        "audio_logits": out.logits.float().nan_to_num(),
        "text_mask": out.text_mask,
        "audio_mask": out.mask,
    }


def divergence(exact: dict[str, Any], found: dict[str, Any], kind: str) -> float:
    """Mean KL(exact || found) in nats where the mask says that a token is predicted."""
    mask = exact[f"{kind}_mask"]
    p, q = (torch.log_softmax(x[f"{kind}_logits"].double(), -1) for x in (exact, found))
    return (p.exp() * (p - q)).sum(-1)[mask].mean().item()


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    exact_lm = make_model(torch.float32)
    text = torch.randint(4, CONFIG["text_card"], (ROWS, 1, STEPS))
    audio = torch.randint(0, CONFIG["card"], (ROWS, CONFIG["n_q"], STEPS))
    codes = torch.cat([text, audio], dim=1)
    exact, half = logits(exact_lm, codes), logits(make_model(torch.bfloat16), codes)
    kl = {kind: divergence(exact, half, kind) for kind in ("text", "audio")}
    io = {name: x for name, x in exact.items() if name.endswith("logits")}
    io["codes"] = codes.to(torch.int32)
    save_file(
        {name: x.contiguous() for name, x in io.items()}, folder / "io.safetensors"
    )
    weights = {n: w.to(torch.bfloat16) for n, w in released_names(exact_lm).items()}
    save_file(weights, folder / "model.safetensors")
    config = {**CONFIG, "bfloat16_kl": kl}
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    print(kl)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
