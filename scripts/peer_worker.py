"""One contestant of compare_peers.py: loads once, then times frames when it is told to.

Runs in the venv of the package that it times, so that it imports nothing else of ours.
Reads lines "TASK COUNT" and answers each with a JSON list of milliseconds, one a frame.
Tasks: codec (encode and decode 80 ms), lm (a step), lm8 (a step of 8 conversations);
codec_first and lm_first begin a new stream beside the others and time its first frame.

    python peer_worker.py NAME MIMI_FILE
"""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

FRAME = 1920
CODEBOOKS = 8
# 32 layers as Moshi 7B has, but 64 wide: what is left is the cost of a layer as such.
LM: dict[str, Any] = {
    "dim": 64,
    "text_card": 32000,
    "existing_text_padding_id": 3,
    "n_q": 16,
    "dep_q": 8,
    "card": 2048,
    "num_heads": 4,
    "num_layers": 32,
    "hidden_scale": 4.125,
    "causal": True,
    "layer_scale": None,
    "context": 3000,
    "max_period": 10000,
    "gating": "silu",
    "norm": "rms_norm_f32",
    "positional_embedding": "rope",
    "depformer_dim": 64,
    "depformer_dim_feedforward": 264,
    "depformer_num_heads": 4,
    "depformer_num_layers": 6,
    "depformer_layer_scale": None,
    "depformer_multi_linear": True,
    "depformer_context": 8,
    "depformer_max_period": 10000,
    "depformer_gating": "silu",
    "depformer_pos_emb": "none",
    "depformer_weights_per_step": True,
    "delays": [0] + 2 * [0, 1, 1, 1, 1, 1, 1, 1],
}
Frame = Callable[[], None]  # one frame, its result waited for
Task = Callable[[], Frame]  # begins a new stream

rng = np.random.default_rng(0)


def sound(batch: int = 1) -> np.ndarray:
    return 0.1 * rng.standard_normal((batch, 1, FRAME)).astype(np.float32)


def heard(batch: int = 1) -> np.ndarray:
    return rng.integers(0, LM["card"], (batch, CODEBOOKS)).astype(np.int32)


def ours(mimi_file: str) -> dict[str, Task]:
    """This package, native codec."""
    import mlx.core as mx

    from moshi_mlx.codec import make_codec
    from moshi_mlx.models import Lm, LmConfig, LmGen, Mimi, mimi_202407
    from moshi_mlx.utils import Sampler

    mx.set_default_device(mx.cpu)
    mimi = Mimi(mimi_202407(CODEBOOKS)).load_pytorch_weights(mimi_file)
    lm = Lm(LmConfig.from_config_dict(LM))
    mx.eval(lm.parameters())

    def codec() -> Frame:
        engine = make_codec("native", mimi=mimi)
        return lambda: consume(engine.decode_step(engine.encode_step(sound())))

    def steps(batch: int) -> Frame:
        text, audio = Sampler(0.7, top_p=0, top_k=25), Sampler(0.8, top_p=0, top_k=250)
        gen = LmGen(lm, None, text, audio, batch_size=batch, seed=0)

        def frame() -> None:
            gen.step(mx.array(heard(batch)))
            mx.eval(gen.tokens)
            gen.last_audio_tokens()

        return frame

    return {"codec": codec, "lm": lambda: steps(1), "lm8": lambda: steps(8)}


def before(mimi_file: str) -> dict[str, Task]:
    """An older version of this package, from the folder in PYTHONPATH."""
    check_folder()
    return ours(mimi_file)


def check_folder() -> None:
    """Fail where the package that is timed is not the one in PYTHONPATH."""
    import moshi_mlx

    folder = str(Path(moshi_mlx.__file__).parents[1])
    assert folder == os.environ["PYTHONPATH"], f"this is the package in {folder}"


def ours_slow_blas(mimi_file: str) -> dict[str, Task]:
    """This package on the BLAS that MLX's wheel brings."""
    os.environ |= {"MOSHI_MLX_NO_OPENBLAS": "1", "MOSHI_MLX_NO_PRODUCTS": "1"}
    return ours(mimi_file)


def rustymimi(mimi_file: str) -> dict[str, Task]:
    """Kyutai's codec in Rust."""
    tokenizer = import_module("rustymimi").Tokenizer

    def codec() -> Frame:
        engine = tokenizer(mimi_file, num_codebooks=CODEBOOKS)
        return lambda: consume(engine.decode_step(engine.encode_step(sound())))

    return {"codec": codec}


def mlx03(mimi_file: str) -> dict[str, Task]:
    """moshi_mlx 0.3.0."""
    import mlx.core as mx

    from moshi_mlx.models import Lm, LmConfig, LmGen, mimi_202407
    from moshi_mlx.models.mimi import Mimi
    from moshi_mlx.utils import Sampler

    mx.set_default_device(mx.cpu)
    mimi = Mimi(mimi_202407(CODEBOOKS))
    mimi.load_pytorch_weights(mimi_file, strict=False)
    lm = Lm(LmConfig.from_config_dict(LM))
    mx.eval(lm.parameters(), mimi.parameters())

    def codec() -> Frame:
        mimi.reset_all()

        def frame() -> None:
            codes = mimi.encode_step(mx.array(sound()))
            mx.eval(codes)
            consume(np.array(mimi.decode_step(codes)))

        return frame

    def steps() -> Frame:
        for cache in lm.transformer_cache:
            cache.reset()
        text, audio = Sampler(0.7, top_k=25), Sampler(0.8, top_k=250)
        gen = LmGen(lm, 100_000, text, audio)

        def frame() -> None:
            told = gen.step(mx.array(heard()))
            own = gen.last_audio_tokens()
            mx.eval(told, [] if own is None else own)

        return frame

    return {"codec": codec, "lm": steps}


def torch(mimi_file: str) -> dict[str, Task]:
    """PyTorch moshi."""
    os.environ["NO_TORCH_COMPILE"] = "1"  # it compiles for CUDA only
    import torch  # pyright: ignore[reportMissingImports]
    from moshi.models import LMGen, loaders  # pyright: ignore[reportMissingImports]

    mimi = loaders.get_mimi(mimi_file, num_codebooks=CODEBOOKS)
    lm = loaders.get_moshi_lm(None, LM, dtype=torch.float32)
    entered: list[Any] = []

    def stream(module: Any) -> None:
        for context in [c for c in entered if c[0] is module]:
            context[1].__exit__(None, None, None)
            entered.remove(context)
        entered.append((module, module.streaming(1)))
        entered[-1][1].__enter__()

    def codec() -> Frame:
        stream(mimi)

        def frame() -> None:
            with torch.inference_mode():
                mimi.decode(mimi.encode(torch.from_numpy(sound())))

        return frame

    gen = LMGen(lm)

    def steps() -> Frame:
        stream(gen)

        def frame() -> None:
            with torch.inference_mode():
                gen.step(torch.from_numpy(heard()).long()[..., None])

        return frame

    return {"codec": codec, "lm": steps}


def torch_1_thread(mimi_file: str) -> dict[str, Task]:
    """PyTorch moshi on one thread, as where other programs take the other cores."""
    import torch as pytorch  # pyright: ignore[reportMissingImports]

    pytorch.set_num_threads(1)
    return torch(mimi_file)


def consume(pcm: np.ndarray) -> None:
    """Fail where nothing was computed."""
    assert pcm.shape[-1] == FRAME, pcm.shape


ENTRANTS = (ours, before, ours_slow_blas, rustymimi, mlx03, torch, torch_1_thread)
CONTESTANTS = {entrant.__name__: entrant for entrant in ENTRANTS}


def timed(frame: Frame) -> float:
    begun = time.perf_counter()
    frame()
    return 1000 * (time.perf_counter() - begun)


def main(contestants: Mapping[str, Callable[[str], dict[str, Task]]]) -> None:
    """Answer until the input ends; names of contestants come from the command line."""
    name, mimi_file = sys.argv[1:3]
    out = sys.stdout
    sys.stdout = sys.stderr  # what libraries print is not an answer
    tasks = contestants[name](mimi_file)
    running = {task: begin() for task, begin in tasks.items()}
    for frame in running.values():
        for _ in range(8):
            frame()
    print(json.dumps(sorted(tasks)), file=out, flush=True)
    for line in sys.stdin:
        task, count = line.split()
        if task.endswith("_first"):
            answer = [timed(tasks[task.removesuffix("_first")]())]
        else:
            answer = [timed(running[task]) for _ in range(int(count))]
        print(json.dumps(answer), file=out, flush=True)


if __name__ == "__main__":
    main(CONTESTANTS)
