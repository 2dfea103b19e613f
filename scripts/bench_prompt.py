"""Time a persona's prompt: read at once, and stepped call by call.

Prints JSON: seconds of both on a random model, and their ratio. The prompt is 51 frames
of voice and 80 words (about 120 tokens), as PersonaPlex gets them.

    .venv/bin/python scripts/bench_prompt.py --size 1B
    .venv/bin/python scripts/bench_prompt.py --size tiny --frames 20 --tokens 20
"""

import argparse
import json
import platform
import time

import mlx.core as mx
import numpy as np

from moshi_mlx.models import Lm, LmConfig, LmGen
from moshi_mlx.models.prompt import Frames, read_prompt
from moshi_mlx.utils.sampling import Sampler

SIZES = {  # dim, heads, layers; depth dim, heads, layers
    "tiny": (256, 4, 4, 128, 2, 2),
    "1B": (2048, 16, 16, 1024, 16, 6),
    "7B": (4096, 32, 32, 1024, 16, 6),
}


def model(size: str, dtype: mx.Dtype) -> Lm:
    """A random model with PersonaPlex's streams: 8 own, 8 foreseen."""
    dim, heads, layers, depth, depth_heads, depth_layers = SIZES[size]
    config = {
        **{"dim": dim, "num_heads": heads, "num_layers": layers, "hidden_scale": 4.125},
        **{"context": 3000, "gating": "silu", "norm": "rms_norm_f32", "card": 2048},
        **{"positional_embedding": "rope", "causal": True, "n_q": 16, "dep_q": 16},
        **{"foreseen_codebooks": 8, "delays": [0] + 2 * [0, *[1] * 7]},
        **{"depformer_dim": depth, "depformer_num_heads": depth_heads},
        **{"depformer_num_layers": depth_layers, "depformer_gating": "silu"},
        **{"depformer_dim_feedforward": round(4.125 * depth)},
        **{"depformer_multi_linear": True, "depformer_weights_per_step": True},
        **{"depformer_pos_emb": "none", "text_card": 32000},
    }
    lm = Lm(LmConfig.from_config_dict(config))
    lm.set_dtype(dtype)
    mx.eval(lm.parameters())
    return lm


def prompt(frames: int, tokens: int) -> Frames:
    """A voice of random codes, silence, random text, silence."""
    rng, count = np.random.default_rng(0), frames + tokens + 12
    text = np.full((1, count), 3)
    text[0, frames + 6 : frames + 6 + tokens] = rng.integers(4, 32000, tokens)
    codes = rng.integers(0, 2048, (16, count))
    return Frames(np.concatenate([text, codes]).astype(np.int32))


def timed(lm: Lm, whole: Frames, at_once: bool) -> float:
    """Seconds until the first live frame may come."""
    greedy = Sampler(temp=0)
    gen = LmGen(lm, text_sampler=greedy, audio_sampler=greedy)
    began = time.perf_counter()
    if at_once:
        read_prompt(gen, whole)
    else:
        # As NVIDIA's code: each call runs the depth transformer as well.
        for t in range(len(whole)):
            gen.step(mx.array(whole.tokens[None, 9:, t]))
    mx.eval(gen.streams.tokens)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description="Time a persona's prompt.")
    parser.add_argument("--size", choices=list(SIZES), default="1B")
    parser.add_argument("--frames", type=int, default=51, help="of the voice")
    parser.add_argument("--tokens", type=int, default=120, help="of the persona")
    parser.add_argument("--dtype", default="float32", help="float32, bfloat16 ...")
    args = parser.parse_args()
    lm, whole = (
        model(args.size, getattr(mx, args.dtype)),
        prompt(args.frames, args.tokens),
    )
    timed(lm, prompt(4, 4), True)
    timed(lm, prompt(4, 4), False)  # compiles, and readies the network
    at_once, stepped = timed(lm, whole, True), timed(lm, whole, False)
    figures = {
        **{"size": args.size, "dtype": args.dtype, "calls": len(whole)},
        **{"at_once_s": round(at_once, 3), "stepped_s": round(stepped, 3)},
        "ratio": round(at_once / stepped, 4),
        "device": f"{platform.machine()} {mx.default_device()}",
    }
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
