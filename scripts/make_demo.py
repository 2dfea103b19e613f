"""Make the small models that ship in the package from their PyTorch checkpoints.

    python scripts/make_demo.py --moshi nano-moshi [--stt nano-stt --tts nano-tts] \\
        [--moshi-bits 8 --stt-bits 6 --tts-bits 6 --depth-bits 8] [--report]

All share one codec, in 16 bits, and one tokenizer: ``config.json`` is Moshi's,
``stt.json`` and ``tts.json`` belong to the others. The recipe of the checkpoints is in
scripts/train_demo. ``--report`` says how far each is from its full precision, on the
questions that ship.
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from moshi_mlx.bench.sequences import sequences, shipped_recordings
from moshi_mlx.checkpoint.build import load_lm, load_mimi
from moshi_mlx.checkpoint.info import CheckpointInfo
from moshi_mlx.checkpoint.quality import compare, computing, predict
from moshi_mlx.checkpoint.quantize import Choice, Recipe, quantize
from moshi_mlx.checkpoint.save import save
from moshi_mlx.engines.duplex.load import load_moshi
from moshi_mlx.models.lm import Lm
from moshi_mlx.models.mimi import Mimi
from moshi_mlx.modules.quantization import EuclideanCodebook
from moshi_mlx.utils.json_text import read_json
from moshi_mlx.utils.tensor_files import Weights

CODEC = "mimi.safetensors"
CONFIGS = {"moshi": "config.json", "stt": "stt.json", "tts": "tts.json"}


def recipe(bits: int, depth_bits: int | None) -> Recipe:
    """As many bits for every layer, but for those of the depth transformer.

    In groups of 64 where a layer's width allows it, else of 32.
    """

    def choose(path: str, layer: nn.Module) -> Choice:
        width = layer["weight"].shape[-1]
        deep = path.startswith("depformer") and depth_bits is not None
        return Choice(64 if width % 64 == 0 else 32, (deep and depth_bits) or bits)

    return choose


def codec_weights(mimi: Mimi) -> Weights:
    """The codec in 16 bits. A codebook keeps its vectors instead of sums and counts."""
    for book in mimi.modules():
        if isinstance(book, EuclideanCodebook):
            book.embedding_sum = book.embedding
            book.cluster_usage = mx.ones(book.cluster_usage.shape)
    weights: Weights = dict(tree_flatten(mimi.parameters()))
    return {name: w.astype(mx.float16) for name, w in weights.items()}


def trained(info: CheckpointInfo) -> Lm:
    """The language model, in the precision of what is not quantised."""
    lm = load_lm(info, as_stored=True)
    lm.set_dtype(mx.bfloat16)
    return lm


def pack(kind: str, source: Path, folder: Path, chosen: Recipe) -> None:
    """Quantise one model into the family's folder."""
    info = CheckpointInfo.find(source)
    lm = trained(info)
    kept = quantize(lm, recipe=chosen).kept
    for name, reason in kept.items():
        print(f"{kind}: {name} stays as it is: {reason}")
    with tempfile.TemporaryDirectory() as made:
        save(
            made,
            lm,
            info.config,
            mimi=codec_weights(load_mimi(info, num_codebooks=8)),
            mimi_config=info.mimi_config,
            tokenizer=info.tokenizer,
        )
        config = read_json(Path(made) / "config.json")
        weights = "model.safetensors" if kind == "moshi" else f"{kind}.safetensors"
        shutil.move(Path(made) / config["moshi_name"], folder / weights)
        config["moshi_name"] = weights
        (folder / CONFIGS[kind]).write_text(json.dumps(config, indent=1) + "\n")
        for name in (CODEC, "mimi_config.json", info.tokenizer.name):
            share(Path(made) / name, folder / name, fresh=kind == "moshi")
    for voice in source.glob("*@*.safetensors"):
        shutil.copy(voice, folder)


def share(made: Path, there: Path, fresh: bool) -> None:
    """Keep one file for all models; refuse a model that came with another."""
    if fresh:
        shutil.move(made, there)
    elif made.read_bytes() != there.read_bytes():
        raise SystemExit(f"{made.name} is not the one that Moshi has: train it anew.")


def report(kind: str, source: Path, chosen: Recipe) -> str:
    """How far the quantised model's predictions are from full precision's."""
    info = CheckpointInfo.find(source)
    moshi = load_moshi(info=info)
    heard = sequences(moshi, shipped_recordings())
    full = predict(moshi.lm, heard)
    small = trained(info)
    quantize(small, recipe=chosen)
    quality = compare(full, predict(computing(small), heard))
    words = f"{kind}: text {quality.text.kl:.4f} nats, {quality.text.top1:.1%} the same"
    if quality.audio_kl is None:
        return words
    return f"{words}; audio {quality.audio_kl:.4f} nats, {quality.audio_top1:.1%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for kind in CONFIGS:
        needed = kind == "moshi"
        parser.add_argument(f"--{kind}", type=Path, required=needed, help="checkpoint")
        parser.add_argument(f"--{kind}-bits", type=int, default=8)
    parser.add_argument("--depth-bits", type=int, help="of the depth transformers")
    parser.add_argument("--out", type=Path, default=Path("moshi_mlx/demo"))
    parser.add_argument("--report", action="store_true")
    args = vars(parser.parse_args())
    folder = args["out"]
    folder.mkdir(parents=True, exist_ok=True)
    for kind in CONFIGS:
        if (source := args[kind]) is None:
            continue
        chosen = recipe(args[f"{kind}_bits"], args["depth_bits"])
        pack(kind, source, folder, chosen)
        if args["report"]:
            print(report(kind, source, chosen), flush=True)
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    for file in files:
        print(f"{file.stat().st_size / 1e6:8.2f} MB  {file.relative_to(folder)}")
    print(f"{sum(file.stat().st_size for file in files) / 1e6:8.2f} MB  in all")


if __name__ == "__main__":
    main()
