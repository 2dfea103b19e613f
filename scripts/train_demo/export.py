"""Put both stages together as a checkpoint in Kyutai's own PyTorch format.

    python export.py --codec codec_dec --lm lm --out nano-moshi

The language model is rounded to bfloat16, the codec stays in float32.
"""

import argparse
import json
import shutil
from pathlib import Path

from moshi.models import loaders
from safetensors.torch import load_file, save_file
from shards import DATA

FILES = {  # argument of Kyutai's loader: name in the folder
    "config_path": "config.json",
    "moshi_weights": "model.safetensors",
    "mimi_weights": "mimi-nano.safetensors",
    "mimi_config_path": "mimi_config.json",
    "tokenizer": "tokenizer_nano.model",
}
SAMPLING = {"temp": 0.5, "temp_text": 0.3, "top_k": 250, "top_k_text": 25}


def load_checkpoint(folder: Path) -> loaders.CheckpointInfo:
    """What was exported, through Kyutai's own loader."""
    paths = {argument: folder / name for argument, name in FILES.items()}
    return loaders.CheckpointInfo.from_hf_repo("local/nano-moshi", **paths)


def export(codec: Path, lm: Path, out: Path) -> None:
    out.mkdir(exist_ok=True)
    shutil.copy(codec / "mimi.safetensors", out / FILES["mimi_weights"])
    shutil.copy(codec / "mimi_config.json", out / FILES["mimi_config_path"])
    shutil.copy(DATA / "tokenizer.model", out / FILES["tokenizer"])
    weights = load_file(lm / "model.safetensors")
    weights = {name: tensor.bfloat16() for name, tensor in weights.items()}
    save_file(weights, out / FILES["moshi_weights"])
    config = json.loads((lm / "lm_config.json").read_text())
    config |= {
        "model_type": "moshi",
        "moshi_name": FILES["moshi_weights"],
        "mimi_name": FILES["mimi_weights"],
        "mimi_config_name": FILES["mimi_config_path"],
        "tokenizer_name": FILES["tokenizer"],
        "lm_gen_config": SAMPLING,
    }
    (out / FILES["config_path"]).write_text(json.dumps(config, indent=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--codec", type=Path, default=Path("codec_dec"))
    parser.add_argument("--lm", type=Path, default=Path("lm"))
    parser.add_argument("--out", type=Path, default=Path("nano-moshi"))
    args = parser.parse_args()
    export(args.codec, args.lm, args.out)
    for file in sorted(args.out.iterdir()):
        print(file.name, file.stat().st_size)


if __name__ == "__main__":
    main()
