"""Put what was trained together as a checkpoint in Kyutai's own PyTorch format.

    python export.py moshi --out nano-moshi    # and stt, tts
    python export.py codec --out checkpoints/codec

Language models are rounded to bfloat16, their codec stays in float32. ``codec`` alone,
with its heads, is what training can go on from: both in float16.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

NAMES = {  # key of config.json: name in the folder
    "moshi_name": "model.safetensors",
    "mimi_name": "mimi-nano.safetensors",
    "mimi_config_name": "mimi_config.json",
    "tokenizer_name": "tokenizer_nano.model",
}
SAMPLING = {
    "moshi": {"temp": 0.5, "temp_text": 0.3, "top_k": 250, "top_k_text": 25},
    "tts": {"temp": 0.1},
}


def export_codec(codec: Path, out: Path) -> None:
    weights = load_file(codec / "mimi.safetensors")
    save_file(
        {name: x.half() if x.is_floating_point() else x for name, x in weights.items()},
        out / "mimi.safetensors",
    )
    heads = torch.load(codec / "heads.pt")
    torch.save({name: x.half() for name, x in heads.items()}, out / "heads.pt")
    shutil.copy(codec / "mimi_config.json", out)


def export_lm(what: str, lm: Path, codec: Path, codes: Path, out: Path) -> None:
    shutil.copy(codec / "mimi.safetensors", out / NAMES["mimi_name"])
    shutil.copy(codec / "mimi_config.json", out / NAMES["mimi_config_name"])
    shutil.copy(codes / "tokenizer.model", out / NAMES["tokenizer_name"])
    weights = load_file(lm / "model.safetensors")
    weights = {name: tensor.bfloat16() for name, tensor in weights.items()}
    save_file(weights, out / NAMES["moshi_name"])
    config = json.loads((lm / "config.json").read_text()) | NAMES
    if what in SAMPLING:
        config["lm_gen_config"] = SAMPLING[what]
    if what == "tts":
        config["tts_config"]["voice"] = "heart"  # the usual one
    (out / "config.json").write_text(json.dumps(config, indent=1))
    for voice in lm.glob("*@*.safetensors"):
        shutil.copy(voice, out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["codec", "moshi", "stt", "tts"])
    parser.add_argument("--codec", type=Path, default=Path("codec"))
    parser.add_argument("--codes", type=Path, default=Path("codes"))
    parser.add_argument("--lm", type=Path, help="folder of the language model")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.what == "codec":
        export_codec(args.codec, args.out)
    else:
        lm = args.lm or Path(args.what)
        export_lm(args.what, lm, args.codec, args.codes, args.out)
    for file in sorted(args.out.iterdir()):
        print(file.name, file.stat().st_size)


if __name__ == "__main__":
    main()
