"""One model's tensors under the names of another program."""

import mlx.core as mx

from tests.tiny import Config, Weights, weight_schedule


def as_candle(weights: Weights, config: Config) -> Weights:
    """What the Rust importer writes: one transformer per codebook."""
    schedule = weight_schedule(config)
    sets = max(schedule) + 1
    out = {k: w for k, w in weights.items() if not k.startswith(("dep", "linears"))}
    for k, s in enumerate(schedule):
        new = f"depformer.{k}."
        table = "depformer_text_emb." if k == 0 else f"depformer_emb.{k - 1}."
        renamed = {f"depformer_in.{s}.": "linear_in.", f"linears.{k}.": "linear_out."}
        renamed |= {table: "emb."}
        for name, w in weights.items():
            for old, part in renamed.items():
                if name.startswith(old):
                    out[new + part + name.removeprefix(old)] = w
            if not name.startswith("depformer.layers."):
                continue
            inner = new + "transformer." + name.removeprefix("depformer.")
            if ".self_attn." in name:
                out[inner] = mx.split(w, sets)[s]
            elif f".gating.{s}." in name:
                out[inner.replace(f"gating.{s}.", "gating.")] = w
            elif ".norm" in name:
                out[inner] = w
    return out
